//! The expected state of a mapping by the rules: the requests of docs/protocols.md are sent to copies of the gateways.

use crate::agreement::{Place, is_spoken, transport};
use crate::checked_engine::CheckedEngine;
use crate::reference::{Answer, Asked, ReferenceGateway};
use crate::world::World;
use plum_engine::driver::Key;
use plum_engine::io::Protocol;
use plum_gateway::core::{Gateway, WanKind};
use std::net::SocketAddr;

/// The expected state of a mapping that is made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// It is made, by this protocol.
    Granted(Protocol),
    /// It is made, if not by a better protocol then by this one.
    GrantedAtLast(Protocol),
    /// All refuse it, or there is nobody to ask.
    Failed,
    /// That is not for us to say.
    Unclear,
}

/// The expected reply of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExpectedReply {
    Grants,
    Refuses,
    Unclear,
}

/// docs/protocols.md, the ladder: PCP, then NAT-PMP, then every UPnP service; whatever a rung refuses is asked of the next.
pub fn expectation(world: &World<CheckedEngine>, place: &Place, key: Key) -> Expectation {
    if place.direct {
        return Expectation::Granted(Protocol::Direct);
    }
    let next_hop = place.nodes_of(world, Protocol::Pcp).next();
    let mut is_unclear = false;
    for protocol in [Protocol::Pcp, Protocol::NatPmp, Protocol::UpnpIgd] {
        if !place.allowed.permits(protocol) {
            continue;
        }
        let word = match (protocol, next_hop) {
            (Protocol::Pcp | Protocol::NatPmp, _) if place.mismatch => ExpectedReply::Unclear,
            (Protocol::Pcp | Protocol::NatPmp, Some((_, gateway))) if !is_spoken(gateway, protocol) => {
                ExpectedReply::Refuses
            }
            // Whether there was room when it was refused, and its next try is still to come, we cannot tell.
            (Protocol::Pcp | Protocol::NatPmp, Some((_, gateway))) if is_small(gateway) => {
                ExpectedReply::Unclear
            }
            (Protocol::Pcp, Some((n, gateway))) => {
                expected_by_pcp(gateway, &place.reference(world, n), place, asked(key))
            }
            (Protocol::NatPmp, Some((n, _))) => expected_by_natpmp(&place.reference(world, n), asked(key)),
            (Protocol::UpnpIgd, _) => upnp_word(world, place, asked(key)),
            _ => ExpectedReply::Refuses,
        };
        match word {
            ExpectedReply::Grants if is_unclear => return Expectation::GrantedAtLast(protocol),
            ExpectedReply::Grants => return Expectation::Granted(protocol),
            ExpectedReply::Refuses => {}
            ExpectedReply::Unclear => is_unclear = true,
        }
    }
    if is_unclear { Expectation::Unclear } else { Expectation::Failed }
}

/// The first request for a mapping. (The external ports that stories wish are among those that UPnP tries next.)
fn asked(key: Key) -> Asked {
    let port = key.internal_port.get();
    Asked { transport: transport(key.transport), internal_port: port, external_port: port, lifetime: 7200 }
}

pub(crate) fn is_small(gateway: &Gateway) -> bool {
    gateway.config().max_mappings < 65_536
}

fn expected_by_pcp(
    gateway: &Gateway,
    reference: &ReferenceGateway<'_>,
    place: &Place,
    asked: Asked,
) -> ExpectedReply {
    // RFC 6887 §11.3: an entry with another nonce than ours is nobody's to renew; which one is ours we cannot tell.
    let internal = SocketAddr::new(place.local, asked.internal_port);
    if gateway.table().of_internal(asked.transport, internal).any(|entry| entry.nonce.is_some()) {
        return ExpectedReply::Unclear;
    }
    match reference.asks_pcp(asked) {
        Answer::Grant(_) => ExpectedReply::Grants,
        // docs/protocols.md, PCP: ADDRESS_MISMATCH puts NAT-PMP out, too.
        Answer::Refusal(12) => ExpectedReply::Unclear,
        Answer::Refusal(_) | Answer::Nothing => ExpectedReply::Refuses,
    }
}

fn expected_by_natpmp(reference: &ReferenceGateway<'_>, asked: Asked) -> ExpectedReply {
    match reference.grants_by_natpmp(asked) {
        Some(true) => ExpectedReply::Grants,
        Some(false) => ExpectedReply::Refuses,
        // docs/protocols.md, NAT-PMP: an answer without a port counts if exactly one request of that transport is open.
        None => ExpectedReply::Unclear,
    }
}

fn upnp_word(world: &World<CheckedEngine>, place: &Place, asked: Asked) -> ExpectedReply {
    let mut word = ExpectedReply::Refuses;
    for (n, gateway) in place.nodes_of(world, Protocol::UpnpIgd) {
        if !is_spoken(gateway, Protocol::UpnpIgd) {
            continue;
        }
        let reference = place.reference(world, n);
        // A device that answers no search is known by its announcements, if it has made any.
        if is_small(gateway) || place.has_taught || !reference.answers_a_search() {
            word = ExpectedReply::Unclear;
            continue;
        }
        for service in reference.services() {
            match service_word(gateway, &reference, place, service, asked) {
                ExpectedReply::Grants => return ExpectedReply::Grants,
                ExpectedReply::Unclear => word = ExpectedReply::Unclear,
                ExpectedReply::Refuses => {}
            }
        }
    }
    word
}

/// docs/protocols.md, which external port: the wish, or else the internal port; then one of each of these, at random. What
/// comes after them may be beyond the twelve requests of a walk.
const PORTS: [[u16; 3]; 3] = [[49_152, 57_000, 65_535], [40_000, 45_000, 49_999], [20_000, 25_000, 29_999]];

/// docs/protocols.md, faults: the lease that is asked for, none, an hour.
const LEASES: [u32; 3] = [7200, 0, 3600];

fn service_word(
    gateway: &Gateway,
    reference: &ReferenceGateway<'_>,
    place: &Place,
    service: (usize, WanKind),
    asked: Asked,
) -> ExpectedReply {
    let internal = SocketAddr::new(place.local, asked.internal_port);
    let grants = |external_port: u16| {
        // What the ledger has for another mapping is not asked for.
        let is_taken = |entry: &plum_gateway::core::TableEntry| entry.internal != internal;
        let is_free = !gateway.table().get(asked.transport, external_port).is_some_and(is_taken);
        is_free
            && LEASES
                .into_iter()
                .any(|lifetime| reference.grants_by_upnp(service, Asked { external_port, lifetime, ..asked }))
    };
    let is_granted =
        grants(asked.external_port) || PORTS.iter().any(|some| some.iter().all(|&port| grants(port)));
    match (is_granted, reference.address_of(service)) {
        (true, Some(_)) => ExpectedReply::Grants,
        (true, None) if reference.may_tell_its_address() => ExpectedReply::Unclear,
        _ => ExpectedReply::Refuses,
    }
}
