//! The control socket: how `homeroom import`, `invite`, `sign-out` and `backup` reach the server that holds the database.
//!
//! Owns: the requests and answers (one JSON object a line), serving them, and doing the same work without a server.
//! Refuses to know: how answers are shown.
//!
//! The socket lies in the data folder and is its owner's alone. There is one writer: while a server runs it does the work,
//! and open pages see the change.

use crate::db::Db;
use crate::identity;
use crate::live::Node;
use crate::log::Log;
use crate::roster::{self, BadRow, ImportError, ImportOptions, Progress, Report};
use homeroom_protocol::{PersonId, Role, Timestamp};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

/// The longest request.
const REQUEST: u64 = 64 * 1024;
/// Requests at once.
const AT_ONCE: usize = 4;
/// Lines of an answer that wait to be sent; progress beyond that is left out.
const ANSWERS: usize = 64;

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Import a roster.
    Import {
        /// From where; absolute.
        path: PathBuf,
        /// How.
        options: ImportOptions,
    },
    /// Make one-time links and codes.
    Invite {
        /// `sourcedId`s or sign-in names.
        people: Vec<String>,
        /// Everybody who is staff or guardian somewhere.
        roles: Vec<Role>,
    },
    /// End all sign-ins of these people.
    SignOut {
        /// `sourcedId`s or sign-in names.
        people: Vec<String>,
    },
    /// Write a copy of the database.
    Backup {
        /// Where to; absolute.
        file: PathBuf,
    },
    /// Who is there.
    Status,
}

/// A line of the answer. All but `Progress` is the last.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It goes on.
    Progress(Progress),
    /// The import is done.
    Imported(Report),
    /// Nothing was imported: rows are bad.
    BadRows {
        /// The first of them.
        rows: Vec<BadRow>,
        /// How many there are.
        total: u64,
    },
    /// The invitations.
    Invited {
        /// One each.
        invitations: Vec<Invited>,
    },
    /// How many sign-ins were ended.
    SignedOut {
        /// That many.
        count: usize,
    },
    /// The copy is written and was checked.
    BackedUp {
        /// Its size in bytes.
        bytes: u64,
    },
    /// The server is there.
    Status {
        /// How many people the roster has.
        people: i64,
    },
    /// It could not be done.
    Failed {
        /// What happened and what to do.
        message: String,
    },
}

/// An invitation as it is handed out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Invited {
    /// Whose.
    pub person: PersonId,
    /// Their name.
    pub name: String,
    /// The sign-in name that goes with the code.
    pub username: String,
    /// The one-time link.
    pub link: String,
    /// The one-time code.
    pub code: String,
    /// When both run out.
    pub expires_at: Timestamp,
}

/// What the work is done with.
#[derive(Clone)]
pub struct Hands {
    /// The database.
    pub db: Db,
    /// Its one writer of rooms.
    pub log: Log,
    /// The live part, where a server runs.
    pub node: Option<Arc<Node>>,
    /// What links begin with.
    pub base_url: String,
}

/// Where the control socket lies.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Serves the control socket until its task is ended. The caller holds the folder's lock, so a socket that is there is stale.
///
/// # Errors
/// When the socket can't be made.
pub fn serve(data_dir: &Path, hands: Hands) -> io::Result<impl Future<Output = ()> + use<>> {
    let path = path(data_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(async move {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let hands = hands.clone();
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, &hands).await {
                            tracing::debug!(%error, "a control connection ended");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}

async fn converse(stream: UnixStream, hands: &Hands) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(REQUEST));
    tokio::time::timeout(Duration::from_secs(10), reader.read_line(&mut line)).await??;
    let request = serde_json::from_str(&line);
    let (answers, mut lines) = mpsc::channel::<Answer>(ANSWERS);
    let work = async {
        let answer = match request {
            Ok(request) => {
                let progress = answers.clone();
                // Progress that does not fit is left out; the next one says more.
                perform(hands, request, &move |at| drop(progress.try_send(Answer::Progress(at)))).await
            }
            Err(error) => Answer::Failed { message: format!("the request can't be read: {error}") },
        };
        // The asker may have gone; what was done stands.
        let _gone = answers.send(answer).await;
        drop(answers);
    };
    let send = async {
        while let Some(answer) = lines.recv().await {
            let mut line = serde_json::to_string(&answer).unwrap_or_default();
            line.push('\n');
            if write.write_all(line.as_bytes()).await.is_err() {
                lines.close();
            }
        }
    };
    tokio::join!(work, send);
    Ok(())
}

/// Asks the server that holds the folder; `None` when there is none.
///
/// # Errors
/// When the server ends the conversation without an answer.
pub async fn ask(
    data_dir: &Path,
    request: &Request,
    mut on_progress: impl FnMut(Progress),
) -> io::Result<Option<Answer>> {
    let Ok(stream) = UnixStream::connect(path(data_dir)).await else { return Ok(None) };
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    write.write_all(line.as_bytes()).await?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Answer::Progress(progress) => on_progress(progress),
            answer => return Ok(Some(answer)),
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server stopped before it was done"))
}

/// Does what is asked.
pub async fn perform(hands: &Hands, request: Request, progress: &(dyn Fn(Progress) + Send + Sync)) -> Answer {
    let failed = |error: &dyn std::error::Error| {
        tracing::warn!(%error, "a request of the command line failed");
        Answer::Failed { message: crate::cli::chain(error) }
    };
    match request {
        Request::Import { path, options } => {
            match roster::import(&hands.db, &hands.log, &path, &options, progress).await {
                Ok(report) => Answer::Imported(report),
                Err(ImportError::Bad { rows, total }) => Answer::BadRows { rows, total },
                Err(error) => failed(&error),
            }
        }
        Request::Invite { people, roles } => match invite(hands, people, roles).await {
            Ok(Ok(invitations)) => Answer::Invited { invitations },
            Ok(Err(unknown)) => {
                Answer::Failed { message: format!("the roster has nobody with the sourcedId or username {unknown:?}") }
            }
            Err(error) => failed(&error),
        },
        Request::SignOut { people } => match sign_out(hands, people).await {
            Ok(Ok(count)) => Answer::SignedOut { count },
            Ok(Err(unknown)) => {
                Answer::Failed { message: format!("the roster has nobody with the sourcedId or username {unknown:?}") }
            }
            Err(error) => failed(&error),
        },
        Request::Backup { file } => match crate::backup::backup(&hands.db, &file).await {
            Ok(bytes) => Answer::BackedUp { bytes },
            Err(error) => failed(&error),
        },
        Request::Status => {
            let counted = crate::fetch_optional!(hands.db.reads(), (i64,), "SELECT COUNT(*) FROM person WHERE enabled");
            match counted {
                Ok(row) => Answer::Status { people: row.map_or(0, |(people,)| people) },
                Err(error) => failed(&error),
            }
        }
    }
}

async fn invite(
    hands: &Hands,
    people: Vec<String>,
    roles: Vec<Role>,
) -> Result<Result<Vec<Invited>, String>, sqlx::Error> {
    let mut ids = Vec::new();
    for words in people {
        let found = identity::find(&hands.db, &words).await?;
        if found.is_empty() {
            return Ok(Err(words));
        }
        ids.extend(found);
    }
    for role in roles {
        ids.extend(identity::of_role(&hands.db, role).await?);
    }
    let mut invitations = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(invitation) = identity::invite(&hands.db, id).await? {
            invitations.push(Invited {
                person: invitation.person,
                name: invitation.name,
                username: invitation.username,
                link: format!("{}/i/{}", hands.base_url, invitation.secret.reveal()),
                code: invitation.code.reveal().to_owned(),
                expires_at: invitation.expires_at,
            });
        }
    }
    Ok(Ok(invitations))
}

async fn sign_out(hands: &Hands, people: Vec<String>) -> Result<Result<usize, String>, sqlx::Error> {
    let mut count = 0;
    for words in people {
        let found = identity::find(&hands.db, &words).await?;
        if found.is_empty() {
            return Ok(Err(words));
        }
        for person in found {
            let logins = identity::sign_out_everywhere(&hands.db, person).await?;
            count += logins.len();
            if let Some(node) = &hands.node {
                logins.into_iter().for_each(|login| node.signed_out(login));
            }
        }
    }
    Ok(Ok(count))
}
