//! Loopback addresses for tests that run at the same time.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// An address in 127.0.0.0/8 that this process has not been given before (for the first 254 calls), and that
/// no other process running now is likely to be given: never one of 127.0.0.0/16, where everyone is.
///
/// PLUM_TEST_LOOPBACK names one for all in its stead, for systems that have one alone (Wine 8 takes the others for any
/// address): then no two gateways can run at once.
pub fn unique_loopback() -> Ipv4Addr {
    if let Some(address) = std::env::var("PLUM_TEST_LOOPBACK").ok().and_then(|text| text.parse().ok()) {
        return address;
    }
    loopback(std::process::id(), TAKEN.fetch_add(1, Ordering::Relaxed))
}

fn loopback(process: u32, taken: u32) -> Ipv4Addr {
    let [.., low] = process.to_be_bytes();
    // Never 0 and never 255: 127.255.255.255 is a broadcast address.
    let high = (1 + process / 256 % 250) as u8;
    let last = (1 + taken % 254) as u8;
    Ipv4Addr::new(127, high, low, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn addresses_of_many_processes_and_calls_differ() {
        let of = |process| (0..254).map(move |taken| loopback(process, taken));
        let addresses: BTreeSet<Ipv4Addr> = (100..400).flat_map(of).collect();
        assert_eq!(addresses.len(), 300 * 254);
        assert!(addresses.iter().all(|a| a.is_loopback() && a.octets()[1] != 0 && a.octets()[3] != 255));
    }

    #[test]
    fn process_gets_another_each_time() {
        assert_ne!(unique_loopback(), unique_loopback());
    }
}
