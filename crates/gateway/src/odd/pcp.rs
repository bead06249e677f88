//! PCP servers.

use super::on;
use crate::core::{Gateway, Kind, Reply, Times};
use std::time::Duration;

/// Refuses every MAP with this result code: carriers' servers that serve other customers (2), routers without a WAN address (7),
/// with a full or missing table (8), with quotas (10), with addresses that are shared (11).
pub fn pcp_refuses(gateway: &mut Gateway, code: u8) {
    on(gateway, Kind::PcpMap, move |_| Reply::code(code.into()));
}

fn edit_grants(gateway: &mut Gateway, edit: fn(&mut [u8])) {
    on(gateway, Kind::PcpMap, move |_| {
        Reply::edited(move |bytes| {
            // RFC 6887 §11.1: a MAP reply has 60 octets.
            if let Some(reply) = bytes.get_mut(..60) {
                edit(reply);
            }
        })
        .without_effect()
    });
}

/// Says success with lifetime 0, and maps nothing.
pub fn pcp_grants_no_lifetime(gateway: &mut Gateway) {
    edit_grants(gateway, |reply| reply[4..8].fill(0));
}

/// Says success with external port 0, and maps nothing.
pub fn pcp_grants_no_port(gateway: &mut Gateway) {
    edit_grants(gateway, |reply| reply[42..44].fill(0));
}

/// Says success with this external address, and maps nothing of use: routers whose WAN is down, or that answer for another
/// interface.
pub fn pcp_grants_address(gateway: &mut Gateway, address: [u8; 4]) {
    on(gateway, Kind::PcpMap, move |_| {
        Reply::edited(move |bytes| {
            if let Some(octets) = bytes.get_mut(56..60) {
                octets.copy_from_slice(&address);
            }
        })
    });
}

/// Says success with an external IPv6 address to who asked for an IPv4 one.
pub fn pcp_grants_ipv6_address(gateway: &mut Gateway) {
    edit_grants(gateway, |reply| {
        reply[44..60].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7])
    });
}

/// Does not know PCP, and says UNSUPP_VERSION in so many octets, with this version number. Version 2 and 8 octets: old daemons
/// that answer in NAT-PMP's form, and copy the version of the request.
pub fn pcp_denies_itself(gateway: &mut Gateway, version: u8, octets: usize) {
    for kind in [Kind::PcpMap, Kind::PcpDelete, Kind::PcpAnnounce] {
        on(gateway, kind, move |request| {
            let opcode = if request.kind == Kind::PcpAnnounce { 0x80 } else { 0x81 };
            let epoch = u32::try_from(request.at.as_secs()).unwrap_or(u32::MAX).to_be_bytes();
            let mut bytes = [&[version, opcode, 0, 1][..], &epoch].concat();
            bytes.resize(octets, 0);
            Reply::bytes(bytes).without_effect()
        });
    }
}

/// Refuses every MAP with this result code, in an answer that ends with the common header (RFC 6887 §7.2).
pub fn pcp_refuses_in_the_header_alone(gateway: &mut Gateway, code: u8) {
    on(gateway, Kind::PcpMap, move |_| {
        Reply::edited(move |bytes| {
            if let Some(result) = bytes.get_mut(3) {
                *result = code;
            }
            bytes.truncate(24);
        })
        .without_effect()
    });
}

/// Answers the first MAP this much late, with a short lifetime, when others may have made the mapping: a router that is busy
/// with its first packets. It acts at once.
pub fn pcp_answers_late(gateway: &mut Gateway, delay: Duration, lifetime: u32) {
    gateway.faults.max_lifetime = Some(lifetime);
    late(gateway, move || Reply::usual().after(delay));
}

/// The same, but it acts late too.
pub fn pcp_acts_late(gateway: &mut Gateway, wait: Duration, lifetime: u32) {
    gateway.faults.max_lifetime = Some(lifetime);
    late(gateway, move || Reply::late(wait));
}

/// Maps by PCP, and its answers are lost: a firewall that lets only requests through.
pub fn pcp_maps_without_a_word(gateway: &mut Gateway) {
    on(gateway, Kind::PcpMap, |_| Reply::nothing().with_effect());
}

/// Replies so to the first MAP of each port, and not at all to its repetitions meanwhile.
fn late(gateway: &mut Gateway, first: impl Fn() -> Reply + Send + 'static) {
    let mut seen = Vec::new();
    on(gateway, Kind::PcpMap, move |request| {
        let port = request.internal_port;
        let known = seen.iter().find(|(known, _)| *known == port).map(|&(_, at)| at);
        match known {
            None => {
                seen.push((port, request.at));
                first()
            }
            // Retransmissions of one discovery are lost; later requests are answered.
            Some(at) if request.at < at + Duration::from_secs(4) => Reply::nothing(),
            Some(_) => Reply::usual(),
        }
    });
}

/// Keeps a deleted port that carries traffic for this many seconds, and says so (RFC 6887 §15).
pub fn keeps_busy_ports(gateway: &mut Gateway, secs: u32) {
    gateway.faults.deletion_leaves = Some(secs);
}

/// Refuses deletions by PCP with this result code: daemons with one table for all protocols, once another of them has taken the
/// entry out (8) or over (2).
pub fn pcp_refuses_deletions(gateway: &mut Gateway, code: u8) {
    on(gateway, Kind::PcpDelete, move |_| Reply::code(code.into()));
}

/// Has UPnP alone; what comes to UDP 5351 is dropped by its firewall.
pub fn drops_pcp_port(gateway: &mut Gateway) {
    gateway.faults.silence.pcp = Times::Always;
    gateway.faults.silence.natpmp = Times::Always;
}

/// Has UPnP alone; UDP 5351 is closed.
pub fn closes_pcp_port(gateway: &mut Gateway) {
    gateway.faults.closed.pcp = true;
    gateway.faults.closed.natpmp = true;
}

/// Loses its WAN: it refuses what is new and what is renewed with NETWORK_FAILURE, counts its epoch anew, and keeps its rules.
/// miniupnpd.
pub fn loses_its_wan(gateway: &mut Gateway) {
    gateway.set_epoch(0);
    refuses_while_the_wan_is_down(gateway);
}

/// Refuses mappings and renewals while its WAN is down.
pub fn refuses_while_the_wan_is_down(gateway: &mut Gateway) {
    on(gateway, Kind::PcpMap, |_| Reply::code(7));
    on(gateway, Kind::NatPmpMap, |_| Reply::code(3));
    super::on_additions(gateway, |_| Reply::code(501));
}
