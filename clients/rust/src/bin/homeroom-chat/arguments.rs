//! The command line.
//!
//! Owns: flags and their words. Refuses to know: what they lead to.

use clap::Parser;
use std::path::PathBuf;

/// Homeroom in a terminal: the line between home and school.
///
/// Sign in once with a link or a code from the school; the sign-in is kept on this computer.
#[derive(Debug, Parser)]
#[command(name = "homeroom-chat", version)]
pub struct Arguments {
    /// The server's URL; taken from the link, or from the last sign-in, when left out.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Sign in with a one-time link from the school.
    #[arg(long, conflicts_with_all = ["name", "code"])]
    pub link: Option<String>,
    /// Sign in with a name and a one-time code.
    #[arg(long, requires = "code")]
    pub name: Option<String>,
    /// The eight letters that go with the name.
    #[arg(long, requires = "name")]
    pub code: Option<String>,
    /// Sign out and forget the sign-in.
    #[arg(long, conflicts_with_all = ["say", "tail", "rooms"])]
    pub sign_out: bool,

    /// Plain mode: list the places where you can read and write, one JSON object a line.
    #[arg(long, conflicts_with_all = ["say", "tail"])]
    pub rooms: bool,
    /// Plain mode: say something, print the acknowledgement as JSON, and end.
    #[arg(long, value_name = "TEXT", conflicts_with = "tail")]
    pub say: Option<String>,
    /// Where to say it: a part of the place's title as `--rooms` gives it, or a conversation's id.
    #[arg(long, value_name = "PLACE", requires = "say")]
    pub to: Option<String>,
    /// How long to wait for the acknowledgement, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub wait: u64,
    /// Plain mode: print what happens, one JSON object a line, from where the last one stopped; until Ctrl-C.
    #[arg(long)]
    pub tail: bool,

    /// Believe only servers whose certificate leads to one of this PEM file's, where a school has an authority of its own.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE")]
    pub roots: Option<PathBuf>,

    /// Which sign-in to use, where several people share a computer account.
    #[arg(long, default_value = "default", value_parser = profile)]
    pub profile: String,
    /// Where sign-ins and unsent messages are kept; by default the user's state folder.
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

/// A profile names a folder, so it must not lead elsewhere.
fn profile(text: &str) -> Result<String, String> {
    let sound = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    if sound { Ok(text.to_owned()) } else { Err("use letters, digits, - and _".to_owned()) }
}

/// The server that a whole link leads to.
pub fn server_of(link: &str) -> Option<&str> {
    link.split_once("/i/").map(|(server, _)| server).filter(|server| server.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        assert!(Arguments::try_parse_from(["x", "--profile", "../other"]).is_err());
        assert_eq!(server_of("http://127.0.0.1:8080/i/abc"), Some("http://127.0.0.1:8080"));
        assert_eq!(server_of("abc"), None);
    }
}
