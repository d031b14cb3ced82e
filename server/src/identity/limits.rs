//! Limits on signing in, per address and per name.
//!
//! Owns: how often somebody may try. Refuses to know: whether a try was right.

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;

/// Tries a minute from one address: a school's families may share one.
const PER_ADDRESS: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// Tries a minute for one name.
const PER_NAME: NonZeroU32 = NonZeroU32::new(6).unwrap();

/// How often somebody may try to sign in.
///
/// Keys are hashed into 65,536 places, so that nobody who invents addresses or names makes this grow: two who share a place
/// share its tries. Which ones do is secret, and another matter after each start.
pub struct Limits {
    addresses: DefaultKeyedRateLimiter<u16>,
    names: DefaultKeyedRateLimiter<u16>,
    hasher: RandomState,
    clock: DefaultClock,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            addresses: RateLimiter::keyed(Quota::per_minute(PER_ADDRESS)),
            names: RateLimiter::keyed(Quota::per_minute(PER_NAME)),
            hasher: RandomState::new(),
            clock: DefaultClock::default(),
        }
    }
}

impl Limits {
    /// Takes one try.
    ///
    /// # Errors
    /// The milliseconds to wait, when none is left.
    pub fn take(&self, address: Option<IpAddr>, name: Option<&str>) -> Result<(), u32> {
        let wait = |not_until: governor::NotUntil<_>| {
            u32::try_from(not_until.wait_time_from(self.clock.now()).as_millis()).unwrap_or(u32::MAX)
        };
        if let Some(address) = address {
            self.addresses.check_key(&self.place(network(address))).map_err(wait)?;
        }
        if let Some(name) = name {
            self.names.check_key(&self.place(name.trim().to_lowercase())).map_err(wait)?;
        }
        Ok(())
    }

    fn place(&self, key: impl Hash) -> u16 {
        let [a, b, ..] = self.hasher.hash_one(key).to_le_bytes();
        u16::from_le_bytes([a, b])
    }
}

/// An IPv4 address, or the /64 network of an IPv6 one, which is one subscriber.
fn network(address: IpAddr) -> [u8; 8] {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0, 0, 0, 4, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            [a, b, c, d, e, f, g, h]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seventh_try_for_a_name_has_to_wait_and_another_name_has_not() {
        let limits = Limits::default();
        for _ in 0..PER_NAME.get() {
            limits.take(None, Some("ana")).unwrap();
        }
        let wait = limits.take(None, Some("ana")).unwrap_err();
        assert!(wait > 0 && wait <= 60_000, "{wait}");
        assert!(limits.take(None, Some(" Ana")).is_err(), "the same name, typed otherwise");
        limits.take(None, Some("ben")).unwrap();
    }

    #[test]
    fn inventing_addresses_and_names_does_not_grow_the_memory() {
        let limits = Limits::default();
        for number in 0..200_000_u64 {
            let address = std::net::Ipv6Addr::from(u128::from(number) << 64);
            let _full = limits.take(Some(address.into()), Some(&number.to_string()));
        }
        assert!(limits.addresses.len() <= 65_536 && limits.names.len() <= 65_536);
    }

    #[test]
    fn one_subscriber_of_ipv6_is_one_address() {
        let limits = Limits::default();
        for host in 0..u16::try_from(PER_ADDRESS.get()).unwrap() {
            let address: IpAddr = format!("2001:db8::{host:x}").parse().unwrap();
            limits.take(Some(address), None).unwrap();
        }
        assert!(limits.take(Some("2001:db8::ffff".parse().unwrap()), None).is_err());
        assert!(limits.take(Some("2001:db8:1::1".parse().unwrap()), None).is_ok());
    }
}
