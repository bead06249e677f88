//! The main table of IPv4 routes from /proc, for sandboxes that refuse netlink. Rules and other tables are not in it.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;

const PATH: &str = "/proc/net/route";

/// A table of the whole internet has some 100 MB. The default route, whose prefix is the lowest, comes first.
const TABLE_LEN_MAX: u64 = 1 << 20;

/// linux/route.h: the entry has a next hop.
const RTF_GATEWAY: u32 = 0x2;

/// An entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Next hop; `None`: on-link.
    pub gateway: Option<Ipv4Addr>,
    /// Name of the interface.
    pub interface: CString,
    destination: Ipv4Addr,
    mask: Ipv4Addr,
    metric: u32,
}

/// The entry for an address, of those that count; `None`: there is none, or the table cannot be read.
pub fn find(address: Ipv4Addr, counts: impl Fn(&Entry) -> bool) -> Option<Entry> {
    let mut table = Vec::new();
    File::open(PATH).ok()?.take(TABLE_LEN_MAX).read_to_end(&mut table).ok()?;
    find_in(&table, address, counts)
}

/// The first of the lowest metric among those with the longest prefix.
fn find_in(table: &[u8], address: Ipv4Addr, counts: impl Fn(&Entry) -> bool) -> Option<Entry> {
    let entries = table.split(|&byte| byte == b'\n').filter_map(read_line);
    let fitting = entries.filter(|entry| address & entry.mask == entry.destination && counts(entry));
    fitting.min_by_key(|entry| (Reverse(entry.mask), entry.metric))
}

/// Interface, destination, gateway, flags, two counts, metric, mask and more. The kernel prints addresses as numbers that have their
/// octets in memory.
fn read_line(line: &[u8]) -> Option<Entry> {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b'\t').collect();
    let text = |index: usize| std::str::from_utf8(words.get(index)?).ok();
    let hex = |index| u32::from_str_radix(text(index)?, 16).ok();
    let address = |index| Some(Ipv4Addr::from(hex(index)?.to_ne_bytes()));
    let gateway = address(2)?;
    Some(Entry {
        gateway: (hex(3)? & RTF_GATEWAY != 0).then_some(gateway),
        interface: CString::new(words[0]).ok()?,
        destination: address(1)?,
        mask: address(7)?,
        metric: text(6)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A line as the kernel prints it.
    fn line(interface: &str, to: [u8; 4], via: [u8; 4], mask: [u8; 4], metric: u32) -> String {
        let number = u32::from_ne_bytes;
        let flags = if via == [0; 4] { 1 } else { 3 };
        let (to, via, mask) = (number(to), number(via), number(mask));
        format!("{interface}\t{to:08X}\t{via:08X}\t{flags:04X}\t0\t0\t{metric}\t{mask:08X}\t0\t0\t0       \n")
    }

    fn table() -> String {
        [
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT       \n"
                .to_owned(),
            line("wlan0", [0, 0, 0, 0], [192, 168, 2, 1], [0, 0, 0, 0], 600),
            line("eth0", [0, 0, 0, 0], [192, 168, 1, 1], [0, 0, 0, 0], 100),
            line("eth1", [0, 0, 0, 0], [192, 168, 3, 1], [0, 0, 0, 0], 100),
            line("eth0", [192, 168, 1, 0], [0, 0, 0, 0], [255, 255, 255, 0], 100),
            line("tun0", [10, 0, 0, 0], [0, 0, 0, 0], [255, 0, 0, 0], 0),
            line("eth0", [10, 1, 2, 0], [192, 168, 1, 9], [255, 255, 254, 0], 50),
        ]
        .concat()
    }

    fn found(to: [u8; 4]) -> Option<(Option<Ipv4Addr>, String)> {
        found_among(|_| true, to)
    }

    fn found_among(counts: impl Fn(&Entry) -> bool, to: [u8; 4]) -> Option<(Option<Ipv4Addr>, String)> {
        let entry = find_in(table().as_bytes(), to.into(), counts)?;
        Some((entry.gateway, entry.interface.into_string().expect("ASCII")))
    }

    #[test]
    fn finds_the_default_route_of_the_lowest_metric() {
        let gateway = Ipv4Addr::new(192, 168, 1, 1);
        assert_eq!(found([198, 51, 100, 1]), Some((Some(gateway), "eth0".to_owned())));
    }

    #[test]
    fn prefers_the_longest_prefix_whatever_the_metric() {
        assert_eq!(found([192, 168, 1, 7]), Some((None, "eth0".to_owned())));
        assert_eq!(found([10, 9, 9, 9]), Some((None, "tun0".to_owned())));
        let gateway = Ipv4Addr::new(192, 168, 1, 9);
        assert_eq!(found([10, 1, 3, 255]), Some((Some(gateway), "eth0".to_owned())));
    }

    #[test]
    fn finds_the_best_route_of_an_interface() {
        let found_by =
            |name: &str, to| found_among(|entry| entry.interface.as_bytes() == name.as_bytes(), to);
        let gateway = Ipv4Addr::new(192, 168, 2, 1);
        assert_eq!(found_by("wlan0", [198, 51, 100, 1]), Some((Some(gateway), "wlan0".to_owned())));
        assert_eq!(found_by("tun0", [10, 1, 2, 3]), Some((None, "tun0".to_owned())));
        assert_eq!(found_by("tun0", [198, 51, 100, 1]), None);
        assert_eq!(found_by("eth", [198, 51, 100, 1]), None);
    }

    #[test]
    fn finds_nothing_in_an_empty_table() {
        let title = table().lines().next().expect("a title").to_owned();
        for text in ["", "\n\n", &title] {
            assert_eq!(find_in(text.as_bytes(), Ipv4Addr::LOCALHOST, |_| true), None);
        }
    }

    proptest! {
        #[test]
        fn survives_any_text(text in "([0-9A-F]{0,8}[\t\n]){0,60}") {
            let _ = find_in(text.as_bytes(), Ipv4Addr::LOCALHOST, |_| true);
        }
    }
}
