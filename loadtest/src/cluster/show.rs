//! `make cluster`: a whole Homeroom to click through.
//!
//! Owns: the demo school in it, the links, and one stream of all nodes' logs. Refuses to know: how the parts are started.

use super::{Cluster, ClusterError};
use crate::{Failure, Surroundings};
use std::path::PathBuf;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader, SeekFrom};
use tokio::signal::unix::{SignalKind, signal};

/// How it is shown.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// Where HAProxy listens; 0 takes a free port.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The school to import.
    #[arg(long, default_value = "demo/school")]
    school: PathBuf,
    /// Who is invited, one a line: sign-in name, a tab, and words for people.
    #[arg(long, default_value = "demo/people.txt")]
    people: PathBuf,
}

/// Starts it, prints links, and shows the logs until it is interrupted.
///
/// # Errors
/// When it does not come up, or does not leave.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let asked = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(asked);
    println!("Starting PostgreSQL, Redis, {} nodes and HAProxy on this machine …", options.nodes);
    let starting = Cluster::start(&surroundings.server, options.nodes.into(), options.port, &[]);
    let mut cluster = tokio::select! {
        cluster = starting => cluster?,
        // What was started ends with what is dropped here.
        () = &mut asked => return Ok(()),
    };
    let shown = tokio::select! {
        shown = show(&cluster, options) => shown,
        () = &mut asked => Ok(()),
    };
    println!("\nStopping …");
    cluster.stop().await?;
    shown
}

async fn show(cluster: &Cluster, options: &Options) -> Result<(), Failure> {
    let Some(first) = cluster.nodes.first() else { return Ok(()) };
    first.import(&options.school).await.map_err(ClusterError::from)?;
    println!("\nHomeroom: http://127.0.0.1:{}", cluster.haproxy.port());
    println!("Click, each in a browser (or private window) of its own. A link works once.");
    for line in std::fs::read_to_string(&options.people)?.lines() {
        let Some((username, label)) = line.split_once('\t').filter(|_| !line.starts_with('#')) else { continue };
        if let Ok(invited) = first.invite(&[username.to_owned()]).await
            && let Some(invitation) = invited.first()
        {
            println!("\n  {label}\n    {}", invitation.link);
        }
    }
    println!("\nOther things to try: kill -9 one of these, and watch.");
    for (number, node) in cluster.nodes.iter().enumerate() {
        println!("  node{}: process {}, {}", number + 1, node.process().unwrap_or(0), node.listens_on());
    }
    println!("\nCtrl-C stops all of it and leaves nothing behind.\n");
    let streams =
        cluster.nodes.iter().enumerate().map(|(number, node)| follow(node.log(), format!("node{}", number + 1)));
    futures_util::future::try_join_all(streams).await?;
    Ok(())
}

/// Shows a log from its end on.
async fn follow(log: PathBuf, name: String) -> Result<(), Failure> {
    let mut file = tokio::fs::File::open(log).await?;
    file.seek(SeekFrom::End(0)).await?;
    let mut reader = BufReader::new(file);
    let mut line = String::new();
    loop {
        if reader.read_line(&mut line).await? == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        } else if line.ends_with('\n') {
            print!("{name} | {line}");
            line.clear();
        }
    }
}
