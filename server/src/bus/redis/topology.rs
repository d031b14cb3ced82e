//! Where the slots of a Redis Cluster are.
//!
//! Owns: asking a server whether it is part of a cluster, and reading its answer. Refuses to know: who publishes what.

use super::Channel;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, Value,
};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which endpoint serves which slots.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Topology {
    /// The first slot of each stretch, its last one, and the address of its master. One server has one stretch.
    stretches: BTreeMap<u16, (u16, String)>,
    /// What the connections to these addresses are made with.
    infos: Vec<Endpoint>,
    cluster: bool,
}

#[derive(Clone)]
struct Endpoint {
    address: String,
    info: ConnectionInfo,
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl Topology {
    pub(super) fn is_cluster(&self) -> bool {
        self.cluster
    }

    /// The address that carries a channel.
    pub(super) fn address(&self, channel: Channel) -> Option<&str> {
        let slot = if self.cluster { channel.slot() } else { 0 };
        let (_, (last, address)) = self.stretches.range(..=slot).next_back()?;
        (slot <= *last).then_some(address)
    }

    pub(super) fn endpoints(&self) -> HashMap<String, ConnectionInfo> {
        self.infos.iter().map(|endpoint| (endpoint.address.clone(), endpoint.info.clone())).collect()
    }
}

/// How to connect to a URL, with pushes.
pub(super) fn info(url: &str) -> redis::RedisResult<ConnectionInfo> {
    let info = url.into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings))
}

/// Asks the servers that are known, then those that are configured, until one answers.
///
/// # Errors
/// The last one's, when none does.
pub(super) async fn look(urls: &[String], known: &[String]) -> redis::RedisResult<Topology> {
    let configured = urls.iter().map(|url| info(url)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = configured.first() else { return Ok(Topology::default()) };
    // With the first one's password and TLS: a cluster's servers share them.
    let known = known.iter().filter_map(|address| at(first, address));
    let mut failure = None;
    for info in known.chain(configured.iter().cloned()) {
        match ask(&info).await {
            Ok(topology) => return Ok(topology),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or_else(|| Ok(Topology::default()), Err)
}

/// The same server settings at another address.
fn at(info: &ConnectionInfo, address: &str) -> Option<ConnectionInfo> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let addr = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    Some(info.clone().set_addr(addr))
}

async fn ask(info: &ConnectionInfo) -> redis::RedisResult<Topology> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    let mut connection = Client::open(info.clone())?.get_multiplexed_async_connection_with_config(&config).await?;
    match redis::cmd("CLUSTER").arg("SLOTS").query_async::<Value>(&mut connection).await {
        Ok(slots) => Ok(cluster(info, &slots)),
        // A server that is no part of a cluster says so.
        Err(error) if error.is_io_error() || error.is_timeout() => Err(error),
        Err(_) => {
            let address = info.addr().to_string();
            let stretches = BTreeMap::from([(0, (u16::MAX, address.clone()))]);
            Ok(Topology { stretches, infos: vec![Endpoint { address, info: info.clone() }], cluster: false })
        }
    }
}

/// Reads `CLUSTER SLOTS`: stretches of slots with first, last, and the master's host and port first among its servers.
fn cluster(info: &ConnectionInfo, slots: &Value) -> Topology {
    let mut topology = Topology { cluster: true, ..Topology::default() };
    let Value::Array(stretches) = slots else { return topology };
    let asked = match info.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    };
    for stretch in stretches {
        let Value::Array(parts) = stretch else { continue };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &parts[..] else { continue };
        let [host, Value::Int(port), ..] = &master[..] else { continue };
        // An empty host stands for the one that was asked.
        let host: String = redis::from_redis_value_ref(host)
            .ok()
            .filter(|host: &String| !host.is_empty())
            .unwrap_or_else(|| asked.clone());
        let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(*last)) else { continue };
        let address = format!("{host}:{port}");
        let Some(info) = at(info, &address) else { continue };
        if !topology.infos.iter().any(|endpoint| endpoint.address == address) {
            topology.infos.push(Endpoint { address: address.clone(), info });
        }
        topology.stretches.insert(first, (last, address));
    }
    topology
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(first: i64, last: i64, port: i64) -> Value {
        let master = Value::Array(vec![Value::BulkString(b"10.0.0.1".to_vec()), Value::Int(port)]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master])
    }

    #[test]
    fn a_channel_goes_to_the_master_of_its_slot_and_nowhere_when_nobody_has_it() {
        let info = info("redis://:geheim@10.0.0.9:7000").unwrap();
        let slot = i64::from(Channel::Everybody.slot());
        let whole = cluster(&info, &Value::Array(vec![stretch(0, slot - 1, 7001), stretch(slot, 16_383, 7002)]));
        assert_eq!(whole.address(Channel::Everybody), Some("10.0.0.1:7002"));
        assert_eq!(whole.endpoints().len(), 2);
        assert_eq!(whole.endpoints()["10.0.0.1:7002"].redis_settings().password(), Some("geheim"));
        let torn = cluster(&info, &Value::Array(vec![stretch(0, slot - 1, 7001), stretch(slot + 1, 16_383, 7002)]));
        assert_eq!(torn.address(Channel::Everybody), None);
    }
}
