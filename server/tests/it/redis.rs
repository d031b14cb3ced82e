//! Redis servers of the tests' own.
//!
//! Owns: starting them on free ports without files, one or a cluster of three, stopping, killing and pausing them by their
//! process; each ends with the value that stands for it, and when the tests end, however they do.
//! Refuses to know: what is tested.

use crate::node::free_port;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server.
pub struct Redis {
    pub port: u16,
    cluster: bool,
    folder: TempDir,
    server: Option<Child>,
}

impl Redis {
    pub async fn start() -> Self {
        Self::start_as(false).await
    }

    async fn start_as(cluster: bool) -> Self {
        let mut redis = Self { port: free_port(), cluster, folder: tempfile::tempdir().unwrap(), server: None };
        redis.run().await;
        redis
    }

    /// Starts it again on its port, with nothing of what it knew, but for its place in a cluster.
    pub async fn run(&mut self) {
        // `setpriv --pdeathsig` ends it with this process, however that ends.
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "redis-server",
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.args(["--port", &self.port.to_string()]).current_dir(&self.folder);
        if self.cluster {
            command.args(["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]);
        }
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.server = Some(server);
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.ask(&["PING"]).await.is_err() {
            assert!(Instant::now() < deadline, "redis-server did not start on port {}", self.port);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _gone = server.kill();
            let _gone = server.wait();
        }
    }

    /// Stops it where it is, as a machine that hangs would; `false` lets it go on.
    pub fn pause(&self, paused: bool) {
        let id = self.server.as_ref().unwrap().id().to_string();
        let signal = if paused { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// What it answers to a command.
    pub async fn ask(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(Duration::from_secs(5)));
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query_async(&mut connection).await
    }

    pub async fn text(&self, words: &[&str]) -> String {
        redis::from_redis_value(self.ask(words).await.unwrap()).unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three masters that share the slots.
pub struct Cluster(pub Vec<Redis>);

impl Cluster {
    pub async fn start() -> Self {
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Redis::start_as(true).await);
        }
        for (server, slots) in servers.iter().zip([(0, 5_460), (5_461, 10_922), (10_923, 16_383)]) {
            server.ask(&["CLUSTER", "ADDSLOTSRANGE", &slots.0.to_string(), &slots.1.to_string()]).await.unwrap();
            server.ask(&["CLUSTER", "MEET", "127.0.0.1", &servers[0].port.to_string()]).await.unwrap();
        }
        let cluster = Self(servers);
        cluster.until_whole().await;
        cluster
    }

    /// Waits until every server that runs finds the cluster whole.
    pub async fn until_whole(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        for server in self.0.iter().filter(|server| server.server.is_some()) {
            while !server.text(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok") {
                assert!(Instant::now() < deadline, "the cluster did not come together");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    pub fn urls(&self) -> Vec<String> {
        self.0.iter().map(Redis::url).collect()
    }

    /// Gives a slot to another master, as resharding does in the end.
    pub async fn move_slot(&self, slot: u16, to: usize) {
        let id = self.0[to].text(&["CLUSTER", "MYID"]).await;
        let slot = slot.to_string();
        // The new owner first, so that the others believe it.
        self.0[to].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await.unwrap();
        self.0[to].ask(&["CLUSTER", "BUMPEPOCH"]).await.unwrap();
        for server in &self.0 {
            server.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await.unwrap();
        }
    }
}
