//! `homeroom-chat`: Homeroom in a terminal.
//!
//! Owns: the command line, and the choice between the pages and the plain mode. Refuses to know: the protocol; all of
//! it is the library's.

mod arguments;
mod compose;
mod kept;
mod model;
mod place;
mod plain;
mod screen;
mod terminal;

use arguments::Arguments;
use clap::Parser;
use homeroom_client::{Client, ErrorCode, Http, HttpError, Options, ServerAddress, Trust};
use kept::{Kept, Login};
use std::process::ExitCode;

/// Why the program could not go on.
#[derive(Debug, thiserror::Error)]
enum ChatError {
    #[error("nobody is signed in here; use --server URL with --link LINK, or with --name NAME --code CODE")]
    NobodySignedIn,
    #[error("say which server: --server URL")]
    NoServer,
    #[error("the server gave no token")]
    NoToken,
    #[error("your sign-in has run out; sign in again with --link, or with --name and --code")]
    SignedOut,
    #[error("no place to write matches {0:?}; --rooms lists all of them")]
    NoSuchPlace(String),
    #[error("{0:?} could be several places:\n{1}")]
    Ambiguous(String, String),
    #[error("the server did not take it within {0} s; it stays in the outbox and is sent next time")]
    NotYet(u64),
    #[error("that address can't be used")]
    Address(#[from] homeroom_client::NotAnAddress),
    #[cfg(feature = "tls")]
    #[error("{} can't be read", path.display())]
    Roots { path: std::path::PathBuf, source: std::io::Error },
    #[cfg(feature = "tls")]
    #[error("the roots can't be used")]
    NotRoots(#[from] homeroom_client::NotRoots),
    #[error("the server did not do it")]
    Http(#[from] HttpError),
    #[error("what is kept on this computer can't be used")]
    Kept(#[from] kept::KeptError),
    #[error("the client could not be started")]
    Start(#[from] homeroom_client::StartError),
    #[error("it was not sent")]
    Send(#[from] homeroom_client::SendError),
    #[error("the terminal can't be used")]
    Terminal(#[from] std::io::Error),
    #[error("an answer could not be written as JSON")]
    Json(#[from] serde_json::Error),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(Box::pin(run(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Says what went wrong and why, one cause a line.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}

async fn run(arguments: Arguments) -> Result<(), ChatError> {
    let kept = Kept::open(arguments.folder.as_deref(), &arguments.profile)?;
    let login = sign_in(&arguments, &kept).await?;
    signed_in(&arguments, &kept, &login).await.map_err(|error| match error {
        ChatError::Http(HttpError::Refused { fault, .. }) if fault.code == ErrorCode::Unauthenticated => {
            ChatError::SignedOut
        }
        other => other,
    })
}

async fn signed_in(arguments: &Arguments, kept: &Kept, login: &Login) -> Result<(), ChatError> {
    let server = ServerAddress::parse(&login.server)?;
    let trust = trust_of(arguments)?;
    let http = Http::trusting(server.clone(), &trust)?.with_token(&login.token);
    if arguments.sign_out {
        http.sign_out().await?;
        kept.forget()?;
        println!("signed out");
        return Ok(());
    }
    if arguments.rooms {
        return plain::rooms(&http).await;
    }
    let mut options = Options::new(server, &login.token);
    options.trust = trust;
    if arguments.tail {
        // It says nothing, so it leaves the outbox to another program of the same person.
        options.progress = kept.progress()?;
    } else {
        options.outbox_file = Some(kept.outbox());
    }
    let (client, updates) = Client::start(options)?;
    if let Some(text) = &arguments.say {
        let target = arguments.to.as_deref().unwrap_or("announcements");
        return plain::say(&http, &client, updates, target, text, arguments.wait).await;
    }
    if arguments.tail {
        return plain::tail(&client, updates, kept).await;
    }
    terminal::run(http, client, updates).await
}

/// Whose certificates are believed.
fn trust_of(arguments: &Arguments) -> Result<Trust, ChatError> {
    #[cfg(feature = "tls")]
    if let Some(path) = &arguments.roots {
        let roots = std::fs::read(path).map_err(|source| ChatError::Roots { path: path.clone(), source })?;
        return Ok(Trust::only(&roots)?);
    }
    #[cfg(not(feature = "tls"))]
    let _nobody = arguments;
    Ok(Trust::system())
}

/// Uses up a link or a code if one is given, else takes the sign-in that is kept here.
async fn sign_in(arguments: &Arguments, kept: &Kept) -> Result<Login, ChatError> {
    let saved = kept.login()?;
    let server = arguments
        .server
        .clone()
        .or_else(|| arguments.link.as_deref().and_then(arguments::server_of).map(str::to_owned))
        .or_else(|| saved.as_ref().map(|login| login.server.clone()));
    let http = || -> Result<(Http, String), ChatError> {
        let server = ServerAddress::parse(server.as_deref().ok_or(ChatError::NoServer)?)?;
        Ok((Http::trusting(server.clone(), &trust_of(arguments)?)?, server.to_string()))
    };
    let (signed_in, server) = match (&arguments.link, &arguments.name, &arguments.code) {
        (Some(link), ..) => {
            let (http, server) = http()?;
            (http.sign_in_with_link(link).await?, server)
        }
        (None, Some(name), Some(code)) => {
            let (http, server) = http()?;
            (http.sign_in_with_code(name, code).await?, server)
        }
        _ => return saved.ok_or(ChatError::NobodySignedIn),
    };
    let login = Login { server, token: signed_in.token.ok_or(ChatError::NoToken)? };
    kept.save(&login)?;
    Ok(login)
}
