//! What is kept on this computer: the sign-in, unsent messages, and where the plain mode stopped.
//!
//! Owns: the files, readable by their owner only. Refuses to know: what is in the outbox (the library's own file).

use homeroom_client::Progress;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A sign-in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Login {
    /// The server's address.
    pub server: String,
    /// The bearer token.
    pub token: String,
}

/// Why something kept can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error("no folder for this user is known; give one with --folder")]
    NoFolder,
    #[error("{} can't be used", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} holds something else than expected", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
}

/// The folder of one profile.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// Opens or makes it.
    pub fn open(folder: Option<&Path>, profile: &str) -> Result<Self, KeptError> {
        let state = || {
            let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            let home = || std::env::home_dir().map(|home| home.join(".local/state"));
            state.or_else(home).map(|state| state.join("homeroom-chat"))
        };
        let base = folder.map(Path::to_owned).or_else(state).ok_or(KeptError::NoFolder)?;
        let folder = base.join(profile);
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).map_err(|source| KeptError::Io { path: folder.clone(), source })?;
        Ok(Self { folder })
    }

    /// The outbox file.
    pub fn outbox(&self) -> PathBuf {
        self.folder.join("outbox.jsonl")
    }

    /// The sign-in, if there is one.
    pub fn login(&self) -> Result<Option<Login>, KeptError> {
        self.read("login.json")
    }

    /// Keeps a sign-in.
    pub fn save(&self, login: &Login) -> Result<(), KeptError> {
        self.write("login.json", login)
    }

    /// Forgets the sign-in, and what belonged to it.
    pub fn forget(&self) -> Result<(), KeptError> {
        for name in ["login.json", "progress.json", "outbox.jsonl"] {
            let path = self.folder.join(name);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(KeptError::Io { path, source }),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Where the plain mode stopped.
    pub fn progress(&self) -> Result<Progress, KeptError> {
        Ok(self.read("progress.json")?.unwrap_or_default())
    }

    /// Keeps where the plain mode stopped.
    pub fn save_progress(&self, progress: &Progress) -> Result<(), KeptError> {
        self.write("progress.json", progress)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, KeptError> {
        let path = self.folder.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| KeptError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeptError::Io { path, source }),
        }
    }

    /// Writes beside it and renames, so that a crash leaves the old one or the new one.
    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), KeptError> {
        let path = self.folder.join(name);
        let beside = self.folder.join(format!("{name}.new"));
        let written = (|| {
            let mut file = private(&beside)?;
            file.write_all(&serde_json::to_vec(value)?)?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)
        })();
        written.map_err(|source| KeptError::Io { path, source })
    }
}

/// A fresh file that only its owner can read.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_is_kept_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::open(Some(folder.path()), "default").unwrap();
        assert!(kept.login().unwrap().is_none());
        kept.save(&Login { server: "http://127.0.0.1:1".into(), token: "secret".into() }).unwrap();
        assert_eq!(kept.login().unwrap().unwrap().token, "secret");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(folder.path().join("default/login.json")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        kept.forget().unwrap();
        assert!(kept.login().unwrap().is_none());
    }
}
