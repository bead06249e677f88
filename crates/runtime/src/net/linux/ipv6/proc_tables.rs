//! IPv6 addresses and routes from /proc, for sandboxes that refuse netlink. Rules are not in it, nor lifetimes.

#![forbid(unsafe_code)]

use super::messages::{IFA_F_PERMANENT, is_in_prefix, local_address};
use plum_engine::ipv6::LocalAddress;
use std::cmp::Reverse;
use std::fs::File;
use std::io::Read;
use std::net::Ipv6Addr;

const ADDRESSES: &str = "/proc/net/if_inet6";
const ROUTES: &str = "/proc/net/ipv6_route";

/// As much of a table as is read. That of a host has some KiB.
const TABLE_LEN_MAX: u64 = 1 << 20;

/// linux/route.h: the route is in use, has a next hop, refuses packets (linux/ipv6_route.h for the last).
const RTF_UP: u32 = 0x1;
const RTF_GATEWAY: u32 = 0x2;
const RTF_REJECT: u32 = 0x200;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `None`: there is no next hop, which is no proof: a rule may select another table.
    pub gateway: Option<Ipv6Addr>,
    pub interface: String,
    destination: (Ipv6Addr, u8),
    source: (Ipv6Addr, u8),
    metric: u32,
}

/// All addresses but those of the loopback interface; `None`: the table cannot be read.
pub fn addresses() -> Option<Vec<LocalAddress>> {
    Some(read(ADDRESSES)?.lines().filter_map(read_address).collect())
}

/// The routes in use toward an address from another, the best first; none if the table cannot be read.
pub fn routes(toward: Ipv6Addr, source: Option<Ipv6Addr>) -> Vec<Entry> {
    routes_in(&read(ROUTES).unwrap_or_default(), toward, source)
}

fn read(path: &str) -> Option<String> {
    let mut table = Vec::new();
    File::open(path).ok()?.take(TABLE_LEN_MAX).read_to_end(&mut table).ok()?;
    Some(String::from_utf8_lossy(&table).into_owned())
}

fn routes_in(table: &str, toward: Ipv6Addr, source: Option<Ipv6Addr>) -> Vec<Entry> {
    let fits = |entry: &Entry| {
        let of_source = source.unwrap_or(Ipv6Addr::UNSPECIFIED);
        is_in_prefix(toward, entry.destination.0, entry.destination.1)
            && is_in_prefix(of_source, entry.source.0, entry.source.1)
    };
    let mut entries: Vec<Entry> = table.lines().filter_map(read_route).filter(fits).collect();
    entries.sort_by_key(|entry| (Reverse(entry.destination.1), Reverse(entry.source.1), entry.metric));
    entries
}

/// Address, interface, prefix length, scope, flags (the lower 8 bits), name.
fn read_address(line: &str) -> Option<LocalAddress> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let flags = hex(&words, 4)?;
    // Without an end, or not known: then it is taken for short.
    let preferred_secs = if flags & IFA_F_PERMANENT == 0 { 0 } else { u32::MAX };
    local_address(address(&words, 0)?, hex(&words, 1)?, flags, preferred_secs)
}

/// Destination, source (each with its prefix length), next hop, metric, two counts, flags, name. `None`: not in use.
fn read_route(line: &str) -> Option<Entry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let prefix = |at| Some((address(&words, at)?, u8::try_from(hex(&words, at + 1)?).ok()?));
    let flags = hex(&words, 8)?;
    if flags & RTF_UP == 0 || flags & RTF_REJECT != 0 {
        return None;
    }
    let gateway = address(&words, 4)?;
    Some(Entry {
        gateway: (flags & RTF_GATEWAY != 0).then_some(gateway),
        interface: (*words.get(9)?).to_owned(),
        destination: prefix(0)?,
        source: prefix(2)?,
        metric: hex(&words, 5)?,
    })
}

fn hex(words: &[&str], at: usize) -> Option<u32> {
    u32::from_str_radix(words.get(at)?, 16).ok()
}

fn address(words: &[&str], at: usize) -> Option<Ipv6Addr> {
    let word = words.get(at).filter(|word| word.len() == 32)?;
    u128::from_str_radix(word, 16).ok().map(Ipv6Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the kernel prints them: the default routes of two interfaces, of which one is of a source prefix; a refusal.
    const TABLE: &str = "\
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000002 00000064 00000001 00000000 00450003     eth1
00000000000000000000000000000000 00 26000000000000070000000000000000 40 fe800000000000000000000000000003 00000400 00000001 00000000 00450003     eth2
26000000000000070000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
20010db8000000000000000000000000 20 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 00200201       lo
";

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn found(toward: &str, source: Option<&str>) -> Vec<(Option<Ipv6Addr>, String)> {
        let entries = routes_in(TABLE, ip(toward), source.map(ip));
        entries.into_iter().map(|entry| (entry.gateway, entry.interface)).collect()
    }

    #[test]
    fn the_best_route_is_that_of_the_lowest_metric() {
        let hop = |last: u16| Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last));
        let (eth0, eth1) = ((hop(1), "eth0".to_owned()), (hop(2), "eth1".to_owned()));
        assert_eq!(found("2001:db8::1", None), [eth1.clone(), eth0.clone()], "a refusal is no route");
        assert_eq!(found("2000::1", Some("2600:0:0:7::1"))[0], (hop(3), "eth2".to_owned()));
        assert_eq!(found("2000::1", Some("2600:0:0:8::1")), [eth1, eth0]);
        assert_eq!(found("2600:0:0:7::9", None)[0], (None, "eth0".to_owned()));
    }

    #[test]
    fn reads_addresses_with_their_flags() {
        let line = |interface: &str, flags: &str| {
            read_address(&format!("26000000000000070000000000000001 {interface} 40 00 {flags}     eth0"))
        };
        let stable = line("02", "80").unwrap();
        assert_eq!((stable.address, stable.interface), (ip("2600:0:0:7::1"), 2));
        assert!(!stable.is_temporary && !stable.is_tentative && stable.preferred_secs == u32::MAX);
        assert!(line("02", "01").unwrap().is_temporary);
        assert!(line("02", "a0").unwrap().is_deprecated);
        assert!(line("0a", "40").is_some_and(|address| address.is_tentative && address.interface == 10));
        assert_eq!(line("02", "c8"), None, "it failed duplicate address detection");
        assert_eq!(line("01", "80"), None, "loopback");
    }

    #[test]
    fn finds_nothing_in_an_empty_table() {
        assert_eq!(routes_in("", ip("2000::1"), None), []);
        assert_eq!(routes_in("\n \nfe80 0", ip("2000::1"), None), []);
    }

    proptest! {
        #[test]
        fn survives_any_text(text in "([0-9a-f]{0,33}[ \n]){0,60}") {
            let _ = routes_in(&text, Ipv6Addr::LOCALHOST, None);
            let _ = text.lines().filter_map(read_address).count();
        }
    }
}
