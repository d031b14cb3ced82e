//! A server as a process of its own, to be signalled, stopped and waited for.
//!
//! Owns: the demo school for it (a server puts out of its rooms whom the roster does not know), starting one on a database, and that
//! it ends with the test. Refuses to know: what is tested.

use crate::node::{Ground, connect, repository, token};
use homeroom::db::Location;
use homeroom::identity;
use homeroom::log::places;
use homeroom_protocol::RoomId;
use serde_json::json;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A teacher and a mother who are in the same class, signed in.
pub struct Demo {
    pub room: RoomId,
    pub teachers: String,
    pub anas: String,
}

impl Demo {
    /// Imports the demo school.
    pub async fn import(ground: &Ground) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_homeroom"));
        command.env_clear().args(["import", "demo/school", "--data-dir"]).arg(ground.folder.path());
        if let Location::Postgres(url) = &ground.location {
            command.args(["--database-url", url]);
        }
        let imported = command.current_dir(repository()).stdout(Stdio::null()).status().await.unwrap();
        assert!(imported.success());
        let db = ground.open().await;
        let find = async |name| identity::find(&db, name).await.unwrap()[0];
        let (teacher, ana) = (find("james.okafor").await, find("ana.silva").await);
        let rooms = async |person| places::of_person(&db, person).await.unwrap().into_iter().map(|place| place.room);
        let of_ana: Vec<RoomId> = rooms(ana).await.collect();
        let room = rooms(teacher).await.find(|room| of_ana.contains(room)).unwrap();
        let (teachers, anas) = (token(&db, teacher).await, token(&db, ana).await);
        db.close().await;
        Self { room, teachers, anas }
    }
}

pub struct Process {
    pub address: SocketAddr,
    child: Child,
}

impl Process {
    /// Starts one on the ground's database; returns when it listens.
    pub async fn start(ground: &Ground, arguments: &[&str]) -> Self {
        Self::start_with(ground, arguments, &[]).await
    }

    /// The same, with some variables in its surroundings, which are empty otherwise.
    pub async fn start_with(ground: &Ground, arguments: &[&str], surroundings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_homeroom"));
        command.env_clear().args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(ground.folder.path());
        if let Location::Postgres(url) = &ground.location {
            command.args(["--database-url", url]);
        }
        command.args(arguments).envs(surroundings.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap().expect("the server says where it listens");
            if let Some(address) = line.strip_prefix("listening on http://") {
                return Self { address: address.parse().unwrap(), child };
            }
        }
    }

    /// Sends a signal: TERM, STOP, CONT, …
    pub fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Bytes of memory that it holds.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().expect("it runs"))).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1_024
    }

    /// Waits for its end, so long at most.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        tokio::time::timeout(within, self.child.wait()).await.expect("it leaves in time").unwrap()
    }

    /// A session that is caught up in one room.
    pub async fn session(&self, token: &str) -> crate::node::Socket {
        let mut socket = connect(self.address).await;
        socket.say(json!({ "type": "hello", "token": token })).await;
        socket.hear("caught_up").await;
        socket
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
