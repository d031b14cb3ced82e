//! Programs of this machine that end with this process.
//!
//! Owns: starting them, reading from what they print where they listen, and asking for a page. Refuses to know: which program it is.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a server may take until it listens: a recovery of its database is part of it.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A program that ends with this process, and that the terminal's signals do not reach; on one processor if so wished.
pub(super) fn bound(program: &Path, core: Option<usize>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).process_group(0);
    if let Some(core) = core {
        command.args(["taskset", "-c"]).arg(core.to_string());
    }
    command.arg(program);
    command
}

/// Where a server listens on this machine.
pub(super) struct Ports {
    pub service: u16,
    pub metrics: Option<u16>,
}

/// Starts a server and reads its ports from the lines that say where it listens; nothing when it does not say it.
pub(super) async fn until_ready(mut command: Command) -> std::io::Result<Option<(Child, Ports)>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let Some(stdout) = child.stdout.take() else { return Ok(None) };
    let mut lines = BufReader::new(stdout).lines();
    let ports = timeout(READY_WITHIN, async {
        let port = |of: &str| of.split(['/', ' ']).next().and_then(|port| port.parse().ok());
        let mut metrics = None;
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some((_, of)) = line.split_once("metrics on http://127.0.0.1:") {
                metrics = port(of);
            } else if let Some((_, of)) = line.split_once("listening on ") {
                let (_, of) = of.split_once("://127.0.0.1:")?;
                return port(of).map(|service| Ports { service, metrics });
            }
        }
        None
    });
    let Ok(Some(ports)) = ports.await else { return Ok(None) };
    // Whatever else it prints must not fill the pipe. Ends with the server.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(Some((child, ports)))
}

/// A page of a server on this machine, with its head.
pub(super) async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}
