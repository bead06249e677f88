//! What should become of a mapping by the rules: the requests that docs/protocols.md has sent for it are asked of twins of the
//! gateways.

use crate::agreement::{Place, is_spoken, transport};
use crate::twin::{Answer, Asked, Twin};
use crate::watched::Watched;
use crate::world::World;
use plum_engine::driver::Key;
use plum_engine::io::{Allowed, Protocol};
use plum_gateway::core::{Gateway, WanKind};
use std::net::SocketAddr;

/// What should become of a mapping that is made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It is made, by this protocol.
    Granted(Protocol),
    /// It is made, if not by a better protocol then by this one.
    GrantedAtLast(Protocol),
    /// All refuse it, or there is nobody to ask.
    Failed,
    /// That is not for us to say.
    Unclear,
}

/// What one protocol would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Grants,
    Refuses,
    Unclear,
}

/// docs/protocols.md, the ladder: PCP, then NAT-PMP, then every UPnP service; whatever a rung refuses is asked of the next.
pub fn outlook(world: &World<Watched>, place: &Place, key: Key) -> Outlook {
    if place.direct {
        return Outlook::Granted(Protocol::Direct);
    }
    let next_hop = place.nodes_of(world, Protocol::Pcp).next();
    let mut is_unclear = false;
    for protocol in [Protocol::Pcp, Protocol::NatPmp, Protocol::UpnpIgd] {
        let is_allowed = match place.allowed {
            Allowed::Any => true,
            Allowed::Pcp => protocol != Protocol::UpnpIgd,
            Allowed::Upnp => protocol == Protocol::UpnpIgd,
        };
        if !is_allowed {
            continue;
        }
        let word = match (protocol, next_hop) {
            (Protocol::Pcp | Protocol::NatPmp, _) if place.mismatch => Word::Unclear,
            (Protocol::Pcp | Protocol::NatPmp, Some((_, gateway))) if !is_spoken(gateway, protocol) => {
                Word::Refuses
            }
            // Whether there was room when it was refused, and its next try is still to come, we cannot tell.
            (Protocol::Pcp | Protocol::NatPmp, Some((_, gateway))) if is_small(gateway) => Word::Unclear,
            (Protocol::Pcp, Some((n, gateway))) => {
                pcp_word(gateway, &place.twin(world, n), place, asked(key))
            }
            (Protocol::NatPmp, Some((n, _))) => natpmp_word(&place.twin(world, n), asked(key)),
            (Protocol::UpnpIgd, _) => upnp_word(world, place, asked(key)),
            _ => Word::Refuses,
        };
        match word {
            Word::Grants if is_unclear => return Outlook::GrantedAtLast(protocol),
            Word::Grants => return Outlook::Granted(protocol),
            Word::Refuses => {}
            Word::Unclear => is_unclear = true,
        }
    }
    if is_unclear { Outlook::Unclear } else { Outlook::Failed }
}

/// The first request for a mapping. (The external ports that stories wish are among those that UPnP tries next.)
fn asked(key: Key) -> Asked {
    let port = key.internal_port.get();
    Asked { transport: transport(key.transport), internal_port: port, external_port: port, lifetime: 7200 }
}

fn is_small(gateway: &Gateway) -> bool {
    gateway.config().max_mappings < 65_536
}

fn pcp_word(gateway: &Gateway, twin: &Twin<'_>, place: &Place, asked: Asked) -> Word {
    // RFC 6887 §11.3: an entry with another nonce than ours is nobody's to renew; which one is ours we cannot tell.
    let internal = SocketAddr::new(place.local, asked.internal_port);
    if gateway.table().of_internal(asked.transport, internal).any(|entry| entry.nonce.is_some()) {
        return Word::Unclear;
    }
    match twin.asks_pcp(asked) {
        Answer::Grant => Word::Grants,
        // docs/protocols.md, PCP: ADDRESS_MISMATCH puts NAT-PMP out, too.
        Answer::Refusal(12) => Word::Unclear,
        Answer::Refusal(_) | Answer::Nothing => Word::Refuses,
    }
}

fn natpmp_word(twin: &Twin<'_>, asked: Asked) -> Word {
    match twin.grants_by_natpmp(asked) {
        Some(true) => Word::Grants,
        Some(false) => Word::Refuses,
        // docs/protocols.md, NAT-PMP: an answer without a port counts if exactly one request of that transport is open.
        None => Word::Unclear,
    }
}

fn upnp_word(world: &World<Watched>, place: &Place, asked: Asked) -> Word {
    let mut word = Word::Refuses;
    for (n, gateway) in place.nodes_of(world, Protocol::UpnpIgd) {
        if !is_spoken(gateway, Protocol::UpnpIgd) {
            continue;
        }
        let twin = place.twin(world, n);
        // A device that answers no search is known by its announcements, if it has made any.
        if is_small(gateway) || place.has_taught || !twin.answers_a_search() {
            word = Word::Unclear;
            continue;
        }
        for service in twin.services() {
            match service_word(gateway, &twin, place, service, asked) {
                Word::Grants => return Word::Grants,
                Word::Unclear => word = Word::Unclear,
                Word::Refuses => {}
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
    twin: &Twin<'_>,
    place: &Place,
    service: (usize, WanKind),
    asked: Asked,
) -> Word {
    let internal = SocketAddr::new(place.local, asked.internal_port);
    let grants = |external_port: u16| {
        // What the ledger has for another mapping is not asked for.
        let is_taken = |entry: &plum_gateway::core::Mapping| entry.internal != internal;
        let is_free = !gateway.table().get(asked.transport, external_port).is_some_and(is_taken);
        is_free
            && LEASES
                .into_iter()
                .any(|lifetime| twin.grants_by_upnp(service, Asked { external_port, lifetime, ..asked }))
    };
    let is_granted =
        grants(asked.external_port) || PORTS.iter().any(|some| some.iter().all(|&port| grants(port)));
    match (is_granted, twin.address_of(service)) {
        (true, Some(_)) => Word::Grants,
        (true, None) if twin.may_tell_its_address() => Word::Unclear,
        _ => Word::Refuses,
    }
}
