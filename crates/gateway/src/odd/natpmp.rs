//! NAT-PMP servers.

use super::on;
use crate::core::{Gateway, Kind, Reply, Request};
use std::time::Duration;

/// Answers the address request, and no mapping request: cable modems whose firmware maps by UPnP alone.
pub fn natpmp_maps_nothing(gateway: &mut Gateway) {
    on(gateway, Kind::NatPmpMap, |_| Reply::nothing());
}

/// Answers the address request, and refuses every mapping with this result code: routers with port mapping by NAT-PMP switched
/// off (2), without a WAN address of NAT-PMP's liking (3), or whose table is the UPnP daemon's (4).
pub fn natpmp_refuses(gateway: &mut Gateway, code: u16) {
    on(gateway, Kind::NatPmpMap, move |_| Reply::code(code.into()));
}

/// Reads ports into 8 bits: it maps other ports than it was asked for, and says so. Small DSL modems.
pub fn natpmp_cuts_ports(gateway: &mut Gateway) {
    on(gateway, Kind::NatPmpMap, |_| {
        Reply::edited(|bytes| {
            if let Some([internal, _, external, _]) = bytes.get_mut(8..12) {
                (*internal, *external) = (0, 0);
            }
        })
        .without_effect()
    });
}

/// Says success with lifetime 0 and maps nothing: daemons whose firewall call fails.
pub fn natpmp_grants_nothing(gateway: &mut Gateway) {
    on(gateway, Kind::NatPmpMap, |_| {
        Reply::edited(|bytes| bytes.iter_mut().skip(12).for_each(|octet| *octet = 0)).without_effect()
    });
}

/// Says success with external port 0 and maps nothing.
pub fn natpmp_grants_no_port(gateway: &mut Gateway) {
    on(gateway, Kind::NatPmpMap, |_| {
        Reply::edited(|bytes| bytes.iter_mut().skip(10).take(2).for_each(|octet| *octet = 0)).without_effect()
    });
}

/// What stands in a reply in place of the internal port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InternalPort {
    /// 0.
    Zero,
    /// The external port.
    External,
}

/// A server of a VPN provider at the far end of a tunnel: NAT-PMP alone, another external port than suggested, and a reply that
/// does not name the internal port.
pub fn vpn_provider(gateway: &mut Gateway, named: InternalPort) {
    gateway.set_igd(None);
    gateway.faults.silence.pcp = crate::core::Times::Always;
    gateway.faults.assigned_port = crate::core::AssignedPort::Offset(20_000);
    let is_map = |request: &Request| matches!(request.kind, Kind::NatPmpMap | Kind::NatPmpDelete);
    gateway.add_script(move |request| {
        if !is_map(request) {
            return Reply::usual();
        }
        Reply::edited(move |bytes| {
            if let Some([a, b, c, d]) = bytes.get_mut(8..12) {
                (*a, *b) = match named {
                    InternalPort::Zero => (0, 0),
                    InternalPort::External => (*c, *d),
                };
            }
        })
    });
}

/// Replies so to mapping requests, which it does not carry out.
pub fn natpmp_answers(gateway: &mut Gateway, bytes: &'static [u8]) {
    on(gateway, Kind::NatPmpMap, move |_| Reply::bytes(bytes).without_effect());
}

/// Maps, and does not answer the request for its address: what the mapping is reached at is not known.
pub fn natpmp_tells_no_address(gateway: &mut Gateway) {
    on(gateway, Kind::NatPmpAddress, |_| Reply::nothing());
}

/// Restarts between its grant and its answer of the address: the one comes after `grant` and tells an epoch of 1000 s, the other
/// comes after it and tells 0, as do all that follow.
pub fn natpmp_restarts_after_a_grant(gateway: &mut Gateway, grant: Duration) {
    let mut has_granted = false;
    let tell = |bytes: &mut Vec<u8>, epoch: u32| {
        // RFC 6886 §3.2 and §3.3: both kinds of reply have it there.
        if let Some(seconds) = bytes.get_mut(4..8) {
            seconds.copy_from_slice(&epoch.to_be_bytes());
        }
    };
    gateway.add_script(move |request| match (request.kind, has_granted) {
        (Kind::NatPmpMap, false) => {
            has_granted = true;
            Reply::edited(move |bytes| tell(bytes, 1000)).after(grant)
        }
        (Kind::NatPmpAddress, false) => Reply::nothing(),
        (Kind::NatPmpAddress, true) => Reply::edited(move |bytes| tell(bytes, 0)).after(grant),
        (Kind::NatPmpMap, true) => Reply::edited(move |bytes| tell(bytes, 0)),
        _ => Reply::usual(),
    });
}
