//! Asks the gateway of the IPv6 route, by PCP and by firewall control. Nothing is opened.

use super::super::ask::{interface_name, read_pcp};
use super::{Address, Finding, Firewall, Ipv6, NextHop, State};
use crate::exit::Failure;
use crate::inquiry::{Asker, Inquiry, Origin, Whom};
use crate::text::clean;
use crate::upnp::{parse_bool, url_text};
use plum_engine::addresses::is_public;
use plum_engine::io::{Protocol, Socket, Source};
use plum_engine::ipv6::{Choice, Ipv6Addresses, Ipv6Route, LocalAddress, NextHop as Hop, choose};
use plum_wire::soap;
use std::net::IpAddr;
use std::time::Instant;

/// Asks the gateway, if there are an address and a route.
pub fn look_around(whom: &Whom) -> Result<Ipv6, Failure> {
    let named = whom.named.as_ref();
    if named.is_some() && !whom.is_ipv6() {
        return Ok(Ipv6 { state: State::OtherFamily, ..Ipv6::default() });
    }
    let zone = named.and_then(|gateway| gateway.zone.as_deref());
    let Ok(addresses) = whom.uplink.find_ipv6_addresses(zone) else { return Ok(Ipv6::default()) };
    let mut found = Ipv6 {
        addresses: addresses.list.iter().filter(|known| !is_of_link(known)).map(describe_address).collect(),
        interface: addresses.interface.and_then(interface_name),
        gateway_is_named: named.is_some(),
        ..Ipv6::default()
    };
    let source = match (addresses.interface, choose(&addresses, None)) {
        (None, _) => return Ok(Ipv6 { state: State::NoRoute, ..found }),
        (_, Choice::None) => return Ok(Ipv6 { state: State::NoAddress, ..found }),
        (_, Choice::Wait) => return Ok(Ipv6 { state: State::Tentative, ..found }),
        (_, Choice::Address(source)) => source,
    };
    found.address = Some(source.address);
    found.reason = Some(reason_for(source, &addresses));
    let toward = named.and_then(|gateway| match gateway.address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    });
    match whom.uplink.find_ipv6_route(source.address, source.interface, toward) {
        Ok(Some(route)) => ask(whom, source, &route, found),
        Ok(None) => Ok(Ipv6 { state: State::NoRoute, ..found }),
        Err(_) => {
            let (next_hop, interface) = (Hop::Unknown, source.interface);
            let route = Ipv6Route { next_hop, interface, link_local: None, other_routers: Vec::new() };
            ask(whom, source, &route, found)
        }
    }
}

fn is_of_link(known: &LocalAddress) -> bool {
    known.address.is_unicast_link_local()
}

fn describe_address(known: &LocalAddress) -> Address {
    Address {
        address: known.address,
        interface_index: known.interface,
        is_temporary: known.is_temporary,
        is_deprecated: known.is_deprecated,
        is_tentative: known.is_tentative,
        preferred_secs: Some(known.preferred_secs).filter(|&secs| secs != u32::MAX),
    }
}

/// The reason why the library would choose this address.
fn reason_for(source: Source, addresses: &Ipv6Addresses) -> &'static str {
    let is_it = |known: &&LocalAddress| known.address == source.address;
    let Some(chosen) = addresses.list.iter().find(is_it) else { return "the only one" };
    let is_like_it = |known: &&LocalAddress| {
        known.interface == chosen.interface
            && is_public(known.address.into()) == is_public(chosen.address.into())
            && !known.is_tentative
            && !known.is_deprecated
            && known.is_temporary == chosen.is_temporary
    };
    match chosen {
        _ if !is_public(chosen.address.into()) => "unique local: there is no global one",
        LocalAddress { is_deprecated: true, .. } => "deprecated: there is no other",
        LocalAddress { is_temporary: true, .. } => "temporary: there is no stable one",
        _ if addresses.list.iter().filter(is_like_it).count() > 1 => "stable, and lasts longest",
        _ => "stable",
    }
}

fn ask(whom: &Whom, source: Source, route: &Ipv6Route, mut found: Ipv6) -> Result<Ipv6, Failure> {
    let sockets = [Socket::Pcp, Socket::Ssdp, Socket::LinkSsdp];
    let mut asker = Asker::new(whom, Origin::ipv6(source, route), &sockets)?;
    asker.ask_everybody(whom.until.min(Instant::now() + whom.patience))?;
    found.choice = asker.choose(&Protocol::ASKING).into();
    let inquiry = asker.inquiry();
    found.state = State::Asked;
    found.next_hop = Some(match route.next_hop {
        Hop::Router(_) => NextHop::Router,
        Hop::OnLink => NextHop::OnLink,
        Hop::PointToPoint => NextHop::PointToPoint,
        Hop::Unknown => NextHop::Unknown,
    });
    found.gateway = inquiry.gateway();
    found.other_routers.clone_from(&route.other_routers);
    found.pcp = read_pcp(inquiry);
    found.firewall = read_firewall(inquiry);
    Ok(found)
}

/// The first firewall control that says something, else the first.
fn read_firewall(inquiry: &Inquiry) -> Finding<Firewall> {
    let mut silent = None;
    for (device, _) in inquiry.devices() {
        for service in inquiry.services(device) {
            let said = inquiry.said(service, "GetFirewallStatus");
            let value = |name| parse_bool(soap::get(said.as_ref().ok()?, name)?.trim());
            let answer = Firewall {
                address: device.location.address.ip(),
                friendly_name: clean(device.about.as_ref().map_or("", |about| &about.friendly_name)),
                control_url: url_text(&service.named.url),
                firewall_enabled: value("FirewallEnabled"),
                inbound_pinhole_allowed: value("InboundPinholeAllowed"),
                error: said.as_ref().err().map(|error| clean(&error.to_string())),
            };
            let took = inquiry.told_at(service).map_or_else(|| inquiry.elapsed(), |at| inquiry.took(at));
            let finding = Finding::Answered { took, answer };
            match said {
                Ok(_) => return finding,
                Err(_) => silent = silent.or(Some(finding)),
            }
        }
    }
    let unsent = || inquiry.unsent_search.map_or(Finding::Silent, |reason| Finding::NotSent { reason });
    silent.unwrap_or_else(unsent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn address(text: &str) -> LocalAddress {
        LocalAddress {
            address: text.parse().unwrap(),
            interface: 2,
            is_temporary: false,
            is_deprecated: false,
            is_tentative: false,
            preferred_secs: 1800,
        }
    }

    #[test]
    fn the_reason_is_that_of_the_choice() {
        let temporary = LocalAddress { is_temporary: true, ..address("2600::1") };
        let deprecated = LocalAddress { is_deprecated: true, ..address("2600::2") };
        let lasting = LocalAddress { preferred_secs: u32::MAX, ..address("2600::3") };
        for (list, chosen, reason) in [
            (&[temporary, address("2600::9"), address("fd00::1")][..], "2600::9", "stable"),
            (&[lasting, address("2600::9")], "2600::3", "stable, and lasts longest"),
            (&[temporary, deprecated], "2600::1", "temporary: there is no stable one"),
            (&[deprecated], "2600::2", "deprecated: there is no other"),
            (&[address("fd00::1")], "fd00::1", "unique local: there is no global one"),
        ] {
            let addresses = Ipv6Addresses { list: list.to_vec(), interface: Some(2) };
            let Choice::Address(source) = choose(&addresses, None) else { panic!("none is chosen") };
            let chosen: Ipv6Addr = chosen.parse().unwrap();
            assert_eq!((source.address, reason_for(source, &addresses)), (chosen, reason));
        }
    }
}
