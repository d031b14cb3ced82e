//! Where a roster lies: a folder, or a zip.
//!
//! Owns: finding its files, unpacking a zip within bounds, and reading the manifest.
//! Refuses to know: what the rows mean.

use super::files::{File, Mode, Version};
use super::{BadRow, ImportError};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest file that is unpacked: a row for each of ten million people.
const UNPACKED: u64 = 4 << 30;
/// A file that unpacks to more than so many times its size is no roster.
const RATIO: u64 = 200;
/// The largest manifest.
const MANIFEST: u64 = 1 << 20;

/// A roster's files, and what its manifest says of them.
pub struct Source {
    folder: PathBuf,
    /// The standard's version.
    pub version: Version,
    modes: HashMap<File, Mode>,
    /// What was unpacked is deleted with this.
    _unpacked: Option<tempfile::TempDir>,
}

impl Source {
    /// Opens a folder or zip and reads its manifest.
    ///
    /// # Errors
    /// [`ImportError`] that says what is missing.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let (folder, unpacked) = if path.is_dir() {
            (path.to_owned(), None)
        } else {
            let unpacked = unpack(path)?;
            (unpacked.path().to_owned(), Some(unpacked))
        };
        let manifest = read_manifest(&folder)?;
        let version = match manifest.get("oneroster.version").map(String::as_str) {
            Some("1.1") | None => Version::V1_1,
            Some("1.2") => Version::V1_2,
            Some(other) => return Err(ImportError::Version(other.chars().take(20).collect())),
        };
        let mut modes = HashMap::new();
        let mut bad = Vec::new();
        for file in File::ALL {
            let said = manifest.get(&format!("file.{}", file.name())).map(|mode| mode.to_ascii_lowercase());
            let mode = match said.as_deref() {
                Some("bulk") => Mode::Bulk,
                Some("delta") => Mode::Delta,
                Some("absent") | None => Mode::Absent,
                Some(other) => {
                    bad.push(BadRow::of_file(
                        "manifest.csv",
                        &format!("file.{}", file.name()),
                        other,
                        "is not one of bulk, delta, absent",
                    ));
                    Mode::Absent
                }
            };
            if mode != Mode::Absent && !folder.join(format!("{}.csv", file.name())).is_file() {
                let name = format!("{}.csv", file.name());
                bad.push(BadRow::of_file(&name, "", "", "is named in the manifest but is not there"));
            }
            modes.insert(file, mode);
        }
        if !bad.is_empty() {
            return Err(ImportError::Bad { total: bad.len() as u64, rows: bad });
        }
        if modes.values().all(|mode| *mode == Mode::Absent) {
            return Err(ImportError::Nothing);
        }
        Ok(Self { folder, version, modes, _unpacked: unpacked })
    }

    /// Whether a file says everything, what changed, or is not there.
    #[must_use]
    pub fn mode(&self, file: File) -> Mode {
        self.modes.get(&file).copied().unwrap_or(Mode::Absent)
    }

    /// A file, to be read.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn file(&self, file: File) -> io::Result<fs::File> {
        fs::File::open(self.folder.join(format!("{}.csv", file.name())))
    }
}

fn read_manifest(folder: &Path) -> Result<HashMap<String, String>, ImportError> {
    let file = fs::File::open(folder.join("manifest.csv")).map_err(|_| ImportError::NoManifest)?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file.take(MANIFEST));
    let mut manifest = HashMap::new();
    for row in reader.records() {
        let row = row.map_err(|error| ImportError::Unreadable(format!("manifest.csv: {error}")))?;
        if let (Some(name), Some(value)) = (row.get(0), row.get(1)) {
            manifest.insert(name.trim().trim_start_matches('\u{feff}').to_owned(), value.trim().to_owned());
        }
    }
    Ok(manifest)
}

/// Unpacks the files that a roster has, wherever in the zip they lie, and nothing else.
fn unpack(path: &Path) -> Result<tempfile::TempDir, ImportError> {
    let refuse = |why: String| ImportError::Unreadable(format!("{}: {why}", path.display()));
    let file = fs::File::open(path).map_err(|error| refuse(error.to_string()))?;
    let mut archive =
        zip::ZipArchive::new(file).map_err(|error| refuse(format!("is neither a folder nor a zip ({error})")))?;
    let folder = tempfile::tempdir().map_err(|error| refuse(error.to_string()))?;
    let names: Vec<String> = std::iter::once("manifest".to_owned())
        .chain(File::ALL.iter().map(|file| file.name().to_owned()))
        .map(|name| format!("{name}.csv"))
        .collect();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| refuse(error.to_string()))?;
        // Only the last part of a name counts, and only names that are ours: no path leads out of the folder.
        let full = entry.name().map_err(|error| refuse(error.to_string()))?;
        let last = full.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        let Some(name) = names.iter().find(|name| name.eq_ignore_ascii_case(&last)) else { continue };
        let most = UNPACKED.min(entry.compressed_size().saturating_mul(RATIO).max(1 << 20));
        let target = folder.path().join(name);
        if target.exists() {
            return Err(refuse(format!("holds two files called {name}")));
        }
        let mut out = fs::File::create(&target).map_err(|error| refuse(error.to_string()))?;
        let written =
            io::copy(&mut (&mut entry).take(most + 1), &mut out).map_err(|error| refuse(error.to_string()))?;
        if written > most {
            return Err(refuse(format!("{name} unpacks to far more than a roster holds")));
        }
    }
    Ok(folder)
}
