//! Redis fails over to a replica that repeats the past, and back.
//!
//! Owns: a replica for that time, what it heard, and saying it again. Refuses to know: what the news mean.

use crate::Failure;
use crate::cluster::redis::Redis;
use crate::cluster::{Cluster, ClusterError};
use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{Client, RedisError, RedisResult};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long the replica listens before it takes over, from the first news on: a replica is sent them a second after it follows.
const HEARS: Duration = Duration::from_millis(300);
/// News that it remembers; the oldest are kept.
const REMEMBERS: usize = 500;
/// How long a replica may take to follow, and nodes to find the one that took over.
const FINDS_WITHIN: Duration = Duration::from_secs(5);

/// News as they were said once: the channel and the bytes.
type Past = Vec<(String, Vec<u8>)>;

/// The first one dies; after `short` the nodes' ways lead to its replica, which says again what it has heard; then back to the first
/// one, which knows nothing and is told the same.
///
/// # Errors
/// When a Redis does not come up or does not answer.
pub async fn to_a_replica_and_back(cluster: &mut Cluster, short: Duration) -> Result<(), Failure> {
    let mut replica = Redis::start(cluster.folder(), "replica").await.map_err(ClusterError::from)?;
    let past = follow(&replica, cluster.redis.port()).await.map_err(broken)?;
    if past.is_empty() {
        return Err(Failure::Broken("a replica of Redis heard nothing".to_owned()));
    }
    cluster.redis.kill().await;
    replica.tell(&["REPLICAOF", "NO", "ONE"]).await;
    sleep(short).await;
    turn_to(cluster, replica.port());
    repeat(&replica, &past).await.map_err(broken)?;
    sleep(short).await;
    cluster.redis.run().await.map_err(ClusterError::from)?;
    turn_to(cluster, cluster.redis.port());
    repeat(&cluster.redis, &past).await.map_err(broken)?;
    replica.kill().await;
    Ok(())
}

fn broken(error: RedisError) -> Failure {
    Failure::Broken(format!("Redis can't be failed over: {error}"))
}

fn turn_to(cluster: &Cluster, port: u16) {
    cluster.ways.iter().for_each(|ways| ways.redis.turn_to(port));
}

async fn connect(redis: &Redis) -> RedisResult<MultiplexedConnection> {
    Client::open(redis.url())?.get_multiplexed_async_connection().await
}

/// Makes it a replica, and listens to what it is told of.
async fn follow(replica: &Redis, of: u16) -> RedisResult<Past> {
    let mut connection = connect(replica).await?;
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(of).exec_async(&mut connection).await?;
    until(|| async {
        let mut connection = connection.clone();
        let info: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await?;
        Ok(info.contains("master_link_status:up"))
    })
    .await?;
    let mut listening = Client::open(replica.url())?.get_async_pubsub().await?;
    listening.psubscribe("homeroom:*").await?;
    let mut news = listening.into_on_message();
    let mut deadline = Instant::now() + FINDS_WITHIN;
    let mut past = Past::new();
    while let Ok(Some(message)) = timeout_at(deadline, news.next()).await {
        if past.is_empty() {
            deadline = Instant::now() + HEARS;
        }
        if past.len() < REMEMBERS {
            past.push((message.get_channel_name().to_owned(), message.get_payload_bytes().to_vec()));
        }
    }
    Ok(past)
}

/// Says it again, once somebody listens.
async fn repeat(redis: &Redis, past: &Past) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    until(|| async {
        let mut connection = connection.clone();
        let channels: Vec<String> =
            redis::cmd("PUBSUB").arg("CHANNELS").arg("homeroom:*").query_async(&mut connection).await?;
        Ok(!channels.is_empty())
    })
    .await?;
    let mut pipeline = redis::pipe();
    for (channel, bytes) in past {
        pipeline.publish(channel, bytes).ignore();
    }
    pipeline.exec_async(&mut connection).await
}

async fn until<F: Future<Output = RedisResult<bool>>>(mut is_so: impl FnMut() -> F) -> RedisResult<()> {
    let deadline = Instant::now() + FINDS_WITHIN;
    while !is_so().await? && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
