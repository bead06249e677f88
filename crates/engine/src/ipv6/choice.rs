//! Which IPv6 address of this machine mappings lead to.

use super::{Ipv6Addresses, LocalAddress};
use crate::addresses::is_public;
use crate::io::Source;
use crate::reason::Reason;
use std::cmp::Reverse;
use std::net::Ipv6Addr;

/// The address to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Address(Source),
    /// The only candidates are tentative: a notice of the system follows.
    Wait,
    None,
}

/// Chooses an address on the interface of the route to the internet. The present one stays while it is usable. A stable
/// address is better than a temporary one (RFC 8981), since announced addresses must last; of several the one whose
/// preferred lifetime is longest, then the lowest. A unique local address (RFC 4193) is chosen only without a global
/// one: a prefix translator may stand in the way (RFC 6296).
pub fn choose(addresses: &Ipv6Addresses, present: Option<Source>) -> Choice {
    let Some(interface) = addresses.interface else { return Choice::None };
    let of = |is_wanted: fn(Ipv6Addr) -> bool| -> Vec<&LocalAddress> {
        addresses.list.iter().filter(|a| a.interface == interface && is_wanted(a.address)).collect()
    };
    let present = present.filter(|present| present.interface == interface).map(|present| present.address);
    let (global, local) = (of(|address| is_public(address.into())), of(|address| address.is_unique_local()));
    let candidates = if global.is_empty() { local } else { global };
    match best_of(&candidates, present) {
        Some(address) => Choice::Address(Source { address, interface }),
        None if candidates.is_empty() => Choice::None,
        None => Choice::Wait,
    }
}

/// The best of several addresses; `None`: one that is tentative is waited for.
fn best_of(candidates: &[&LocalAddress], present: Option<Ipv6Addr>) -> Option<Ipv6Addr> {
    let is_ready = |candidate: &&&LocalAddress| !candidate.is_tentative;
    let is_usable = |candidate: &&&LocalAddress| is_ready(candidate) && !candidate.is_deprecated;
    let is_present = |candidate: &&&LocalAddress| Some(candidate.address) == present;
    let rank = |candidate: &&&LocalAddress| {
        (candidate.is_temporary, Reverse(candidate.preferred_secs), candidate.address)
    };
    let best = |wanted: &dyn Fn(&&&LocalAddress) -> bool| {
        let present = candidates.iter().find(|candidate| wanted(candidate) && is_present(candidate));
        present.or_else(|| candidates.iter().filter(|candidate| wanted(candidate)).min_by_key(rank))
    };
    let is_kept = |candidate: &&&LocalAddress| is_ready(candidate) && is_present(candidate);
    let is_waited_for = candidates.iter().any(|candidate| candidate.is_tentative && !candidate.is_deprecated);
    // Where all are deprecated, the present one is kept.
    let found = best(&is_usable).or_else(|| best(&is_kept));
    let found = if is_waited_for { found } else { found.or_else(|| best(&is_ready)) };
    found.map(|candidate| candidate.address)
}

/// Whether a mapping can lead to an address that the program names.
///
/// # Errors
///
/// Why not.
pub fn is_usable_target(address: Ipv6Addr) -> Result<(), Reason> {
    if is_public(address.into()) || address.is_unique_local() {
        Ok(())
    } else {
        Err(Reason::NotReachable { address: address.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERFACE: u32 = 2;

    fn address(text: &str) -> LocalAddress {
        LocalAddress {
            address: text.parse().unwrap(),
            interface: INTERFACE,
            is_temporary: false,
            is_deprecated: false,
            is_tentative: false,
            preferred_secs: 1800,
        }
    }

    fn chosen(list: &[LocalAddress], present: Option<&str>) -> Option<String> {
        let addresses = Ipv6Addresses { list: list.to_vec(), interface: Some(INTERFACE) };
        let present = present.map(|text| Source { address: text.parse().unwrap(), interface: INTERFACE });
        match choose(&addresses, present) {
            Choice::Address(source) => Some(source.address.to_string()),
            Choice::Wait => Some("wait".into()),
            Choice::None => None,
        }
    }

    #[test]
    fn a_stable_address_is_better_than_a_temporary_one() {
        let temporary = LocalAddress { is_temporary: true, preferred_secs: 9999, ..address("2600::1") };
        assert_eq!(chosen(&[temporary, address("2600::2")], None).as_deref(), Some("2600::2"));
        assert_eq!(chosen(&[temporary], None).as_deref(), Some("2600::1"));
    }

    #[test]
    fn the_longest_preferred_lifetime_wins_then_the_lowest_address() {
        let long = LocalAddress { preferred_secs: u32::MAX, ..address("2600::9") };
        assert_eq!(chosen(&[address("2600::1"), long], None).as_deref(), Some("2600::9"));
        assert_eq!(chosen(&[address("2600::5"), address("2600::4")], None).as_deref(), Some("2600::4"));
    }

    #[test]
    fn the_present_address_stays_while_it_is_usable() {
        let both = [address("2600::1"), address("2600::2")];
        assert_eq!(chosen(&both, Some("2600::2")).as_deref(), Some("2600::2"));
        let old = LocalAddress { is_deprecated: true, ..address("2600::2") };
        assert_eq!(chosen(&[address("2600::1"), old], Some("2600::2")).as_deref(), Some("2600::1"));
    }

    #[test]
    fn the_present_address_is_kept_where_every_one_is_deprecated() {
        let old = |text| LocalAddress { is_deprecated: true, ..address(text) };
        assert_eq!(chosen(&[old("2600::1"), old("2600::2")], Some("2600::2")).as_deref(), Some("2600::2"));
    }

    #[test]
    fn tentative_addresses_are_waited_for() {
        let tentative = LocalAddress { is_tentative: true, ..address("2600::1") };
        assert_eq!(chosen(&[tentative], None).as_deref(), Some("wait"));
        assert_eq!(chosen(&[tentative, address("fd00::1")], None).as_deref(), Some("wait"));
        assert_eq!(chosen(&[tentative, address("2600::2")], None).as_deref(), Some("2600::2"));
        let old = LocalAddress { is_deprecated: true, ..address("2600::2") };
        assert_eq!(chosen(&[tentative, old], None).as_deref(), Some("wait"));
        assert_eq!(chosen(&[tentative, old], Some("2600::2")).as_deref(), Some("2600::2"));
    }

    #[test]
    fn a_unique_local_address_is_used_only_without_a_global_one() {
        assert_eq!(chosen(&[address("fd00::1"), address("2600::1")], None).as_deref(), Some("2600::1"));
        assert_eq!(chosen(&[address("fd00::1")], None).as_deref(), Some("fd00::1"));
    }

    #[test]
    fn teredo_6to4_link_local_and_other_interfaces_are_no_candidates() {
        let elsewhere = LocalAddress { interface: 3, ..address("2600::1") };
        let list = [address("2001::1"), address("2002:c000:204::1"), address("fe80::1"), elsewhere];
        assert_eq!(chosen(&list, None), None);
    }

    #[test]
    fn the_program_may_name_global_and_unique_local_addresses_only() {
        for text in ["2600::1", "fd00::1"] {
            assert!(is_usable_target(text.parse().unwrap()).is_ok(), "{text}");
        }
        for text in ["::1", "fe80::1", "ff02::1", "2001::1", "2002::1", "2001:db8::1"] {
            assert!(is_usable_target(text.parse().unwrap()).is_err(), "{text}");
        }
    }
}
