//! Redis: each server that is named, and whether news come through.
//!
//! Owns: what Homeroom asks of a Redis. Refuses to know: the loop that uses it (see `bus::redis`), but for letting it run once.

use super::{Finding, PATIENCE, milliseconds};
use crate::bus::redis::{Redis, without_secrets};
use crate::bus::{Bus, News, Typing};
use crate::log::sight::Thread;
use homeroom_protocol::{Address, PersonId, RoomId};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use std::time::{Duration, Instant};

/// The oldest that speaks RESP3, and the one that has sharded pub/sub and that the tests run.
const OLDEST: u32 = 6;
const TESTED: u32 = 7;
/// A subscriber that Redis cuts off at less than this loses news whenever many speak; below that, whenever anybody does.
const SMALL_BUFFER: u64 = 8 << 20;
const NO_BUFFER: u64 = 1 << 20;

/// A server that answered.
struct Server {
    is_cluster: bool,
}

pub(super) async fn examine(urls: &[String]) -> Vec<Finding> {
    if urls.is_empty() {
        let found = "none is named: enough for one node; several hear of each other a quarter of a second late";
        return vec![Finding::ok("redis", found)];
    }
    let mut findings = Vec::new();
    let mut servers = Vec::new();
    for url in urls {
        match endpoint(url).await {
            Ok((server, of_server)) => {
                servers.push(server);
                findings.extend(of_server);
            }
            Err(unreachable) => findings.push(unreachable),
        }
    }
    if urls.len() > 1 && servers.iter().any(|server| !server.is_cluster) {
        let found = "several servers are named, and not all are of a cluster: only one of them is used";
        let advice = "name one server, or servers of one Redis Cluster (cluster-enabled yes)";
        findings.push(Finding::broken("redis.cluster", found, advice));
    }
    if !servers.is_empty() {
        findings.push(news(urls).await);
    }
    findings
}

async fn endpoint(url: &str) -> Result<(Server, Vec<Finding>), Finding> {
    let place = match Client::open(url) {
        Ok(client) => client.get_connection_info().addr().to_string(),
        Err(_) => {
            return Err(Finding::broken("redis", "a URL can't be read", "write it as redis://:password@host:port"));
        }
    };
    let unreachable = |why: String| {
        let advice =
            "is it running, are host, port and password in redis_urls right? Until it answers, news take longer";
        Finding::broken("redis", format!("{place}: {why}"), advice)
    };
    let began = Instant::now();
    let answered = tokio::time::timeout(PATIENCE, connect(url)).await;
    let (mut on, info) = match answered {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => return Err(unreachable(without_secrets(&error))),
        Err(_) => return Err(unreachable("it does not answer".to_owned())),
    };
    let found = format!("{place} answers, connected in {}", milliseconds(began.elapsed()));
    let mut findings = vec![Finding::ok("redis", found), version(&place, &info)];
    let is_cluster = field(&info, "cluster_enabled") == Some("1");
    if is_cluster {
        let state: Result<String, RedisError> = redis::cmd("CLUSTER").arg("INFO").query_async(&mut on).await;
        findings.push(cluster(&place, &state.unwrap_or_default()));
    } else if field(&info, "role") == Some("slave") {
        let found = format!("{place} is a replica: what is published there stays there");
        findings.push(Finding::broken("redis.role", found, "name its primary in redis_urls"));
    }
    let limits: Result<Vec<String>, RedisError> =
        redis::cmd("CONFIG").arg(&["GET", "client-output-buffer-limit"]).query_async(&mut on).await;
    findings.push(buffer(&place, limits.ok().as_deref().and_then(<[String]>::last)));
    Ok((Server { is_cluster }, findings))
}

/// Connects, and has it tell of itself.
async fn connect(url: &str) -> Result<(MultiplexedConnection, String), RedisError> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    let mut on = Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?;
    let info = redis::cmd("INFO").query_async(&mut on).await?;
    Ok((on, info))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn version(place: &str, info: &str) -> Finding {
    let check = "redis.version";
    let version = field(info, "redis_version").unwrap_or("of an unknown version");
    let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    let found = format!("{place}: Redis {version}");
    match major {
        0..OLDEST => Finding::broken(check, found, format!("upgrade it: {OLDEST} is the oldest that will do")),
        OLDEST..TESTED => Finding::attention(check, found, format!("upgrade it when you can: {TESTED} is tested")),
        _ => Finding::ok(check, found),
    }
}

fn cluster(place: &str, state: &str) -> Finding {
    let check = "redis.cluster";
    match field(state, "cluster_state") {
        Some("ok") => Finding::ok(check, format!("{place}: part of a cluster that is whole")),
        other => {
            let found = format!("{place}: part of a cluster that is {}", other.unwrap_or("unknown"));
            Finding::broken(check, found, "`redis-cli --cluster check` says which slots nobody has")
        }
    }
}

/// `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`: the hard limit of subscribers, in bytes.
fn buffer(place: &str, limits: Option<&String>) -> Finding {
    let check = "redis.buffer";
    let advice = "set `client-output-buffer-limit pubsub 32mb 8mb 60`";
    let mut words =
        limits.map(String::as_str).unwrap_or_default().split_whitespace().skip_while(|word| *word != "pubsub");
    let Some(hard) = words.nth(1).and_then(|word| word.parse::<u64>().ok()) else {
        let found = format!("{place} does not say when it cuts subscribers off");
        return Finding::attention(check, found, format!("{advice}, if it is not that already"));
    };
    let found = format!("{place} cuts a subscriber off that is {} KiB behind", hard >> 10);
    match hard {
        0 => Finding::attention(check, format!("{place} never cuts a subscriber off"), advice),
        1..NO_BUFFER => Finding::broken(check, found, advice),
        NO_BUFFER..SMALL_BUFFER => Finding::attention(check, found, advice),
        _ => Finding::ok(check, found),
    }
}

/// Whether what one node says reaches another one: two ends of the real bus, and a room that nobody else holds.
async fn news(urls: &[String]) -> Finding {
    let check = "redis.news";
    let (here, _unheard) = Redis::start(urls, Default::default());
    let (there, mut heard) = Redis::start(urls, Default::default());
    let room = RoomId::new();
    there.hold(room);
    let conversation = Address::Announcements.conversation(room);
    let typing = Typing { room, conversation, thread: Thread::Announcements, person: PersonId::new() };
    let came = async {
        loop {
            let began = Instant::now();
            here.publish(News::Typing(typing));
            // Before the subscription is confirmed nothing comes: said again until it does.
            let heard = tokio::time::timeout(Duration::from_millis(100), heard.recv()).await;
            if matches!(heard, Ok(Some(News::Typing(heard))) if heard.room == room) {
                return began.elapsed();
            }
        }
    };
    match tokio::time::timeout(PATIENCE, came).await {
        Ok(took) => Finding::ok(check, format!("what one node publishes reaches another in {}", milliseconds(took))),
        Err(_) => {
            let found = "what one node publishes reaches no other";
            let advice =
                "let this user publish and subscribe (ACL: &homeroom:* +publish +subscribe and the sharded forms)";
            Finding::broken(check, found, advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn an_old_version_is_broken() {
        let state = |number: &str| version("r", &format!("# Server\r\nredis_version:{number}\r\n")).state;
        assert_eq!(["5.0.1", "6.2.0", "7.0.15"].map(state), [State::Broken, State::Attention, State::Ok]);
    }

    #[test]
    fn a_buffer_that_holds_nothing_is_broken() {
        let state = |bytes: &str| buffer("r", Some(&format!("normal 0 0 0 slave 1 1 1 pubsub {bytes} 1 60"))).state;
        assert_eq!(
            ["33554432", "4194304", "4096", "0"].map(state),
            [State::Ok, State::Attention, State::Broken, State::Attention]
        );
        assert_eq!(buffer("r", None).state, State::Attention);
    }
}
