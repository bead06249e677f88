//! The odd gateways in groups, for gateways that are odd in several ways at once: one of each group may be drawn.
//!
//! A trait comes in variants, which differ in an error code or a reply: a number chooses one, whatever it is.

use super::{HTML, InternalPort, LEASE_REFUSALS, Replies, UNKNOWN};
use crate::core::{AssignedPort, Framing, Gateway, Igd, Reply, Times, WanKind};
use std::time::Duration;

/// A way of being odd.
#[derive(Clone, Copy)]
pub struct Trait {
    /// What it is called in a trace. Empty: nothing odd.
    pub name: &'static str,
    /// Makes a gateway so, in the variant of this number.
    pub make_odd: fn(&mut Gateway, usize),
    /// Whether it leaves a way to a mapping by UPnP, and to its deletion.
    pub is_passable: bool,
}

const fn odd(name: &'static str, make_odd: fn(&mut Gateway, usize)) -> Trait {
    Trait { name, make_odd, is_passable: true }
}

/// One that may leave no way.
const fn closed(name: &'static str, make_odd: fn(&mut Gateway, usize)) -> Trait {
    Trait { name, make_odd, is_passable: false }
}

/// Nothing odd.
const PLAIN: Trait = odd("", |_, _| {});

/// The variant of a number.
fn variant<T: Copy>(variants: &[T], number: usize) -> T {
    variants[number % variants.len()]
}

/// How control URLs were seen to answer what they do not know.
fn unknown(number: usize) -> Replies {
    variant(UNKNOWN, number).1
}

fn pcp_is_silent(gateway: &mut Gateway) {
    gateway.faults.silence.pcp = Times::Always;
}

fn natpmp_is_silent(gateway: &mut Gateway) {
    gateway.faults.silence.natpmp = Times::Always;
}

/// Why PCP and NAT-PMP map nothing that stays.
pub const DATAGRAMS: &[Trait] = &[
    odd("5351 closed", |gateway, _| super::closes_pcp_port(gateway)),
    odd("5351 dropped", |gateway, _| super::drops_pcp_port(gateway)),
    odd("NAT-PMP maps nothing", |gateway, _| {
        pcp_is_silent(gateway);
        super::natpmp_maps_nothing(gateway);
    }),
    odd("PCP and NAT-PMP refuse", |gateway, n| {
        super::pcp_refuses(gateway, variant(&[8, 2, 5, 7, 10, 11, 13], n));
        super::natpmp_refuses(gateway, variant(&[4, 2, 3, 5, 77], n / 7));
    }),
    odd("PCP and NAT-PMP grant nothing", |gateway, _| {
        super::pcp_grants_no_lifetime(gateway);
        super::natpmp_grants_nothing(gateway);
    }),
    odd("NAT-PMP cuts ports", |gateway, _| {
        super::pcp_denies_itself(gateway, 2, 8);
        super::natpmp_cuts_ports(gateway);
    }),
    odd("NAT-PMP tells no address", |gateway, _| {
        super::pcp_denies_itself(gateway, 0, 8);
        super::natpmp_tells_no_address(gateway);
    }),
    odd("PCP is late", |gateway, _| {
        natpmp_is_silent(gateway);
        super::pcp_answers_late(gateway, Duration::from_secs(3), 120);
    }),
    odd("PCP acts late", |gateway, _| {
        natpmp_is_silent(gateway);
        super::pcp_acts_late(gateway, Duration::from_secs(3), 120);
    }),
    odd("PCP maps without a word", |gateway, _| {
        natpmp_is_silent(gateway);
        super::pcp_maps_without_a_word(gateway);
    }),
];

/// What is odd with PCP alone: NAT-PMP is what it was.
pub const PCP: &[Trait] = &[
    odd("PCP refuses", |gateway, n| super::pcp_refuses(gateway, variant(&[2, 5, 7, 8, 10, 11, 13], n))),
    odd("PCP refuses in the header alone", |gateway, n| {
        super::pcp_refuses_in_the_header_alone(gateway, variant(&[2, 7, 8], n));
    }),
    odd("PCP grants no lifetime", |gateway, _| super::pcp_grants_no_lifetime(gateway)),
    odd("PCP grants no port", |gateway, _| super::pcp_grants_no_port(gateway)),
    odd("PCP grants no address", |gateway, n| {
        super::pcp_grants_address(gateway, variant(&[[0, 0, 0, 0], [224, 0, 0, 1], [127, 0, 0, 1]], n));
    }),
    odd("PCP grants an IPv6 address", |gateway, _| super::pcp_grants_ipv6_address(gateway)),
    odd("PCP denies itself", |gateway, n| {
        super::pcp_denies_itself(gateway, variant(&[0, 1, 2], n), variant(&[8, 24], n / 3));
    }),
    odd("PCP keeps busy ports", |gateway, n| {
        super::keeps_busy_ports(gateway, variant(&[5, 120, 1000], n));
    }),
    odd("PCP refuses deletions", |gateway, n| super::pcp_refuses_deletions(gateway, variant(&[2, 8], n))),
];

/// What is odd with NAT-PMP alone: PCP is what it was.
pub const NATPMP: &[Trait] = &[
    odd("NAT-PMP refuses", |gateway, n| super::natpmp_refuses(gateway, variant(&[2, 3, 4, 5, 77], n))),
    odd("NAT-PMP grants nothing", |gateway, _| super::natpmp_grants_nothing(gateway)),
    odd("NAT-PMP grants no port", |gateway, _| super::natpmp_grants_no_port(gateway)),
    closed("NAT-PMP of a VPN provider", |gateway, n| {
        super::vpn_provider(gateway, variant(&[InternalPort::Zero, InternalPort::External], n));
    }),
];

/// Services and descriptions.
pub const SERVICES: &[Trait] = &[
    PLAIN,
    odd("WANIPConnection:2", |gateway, _| gateway.set_igd(Some(Igd::v2()))),
    odd("WANPPPConnection", |gateway, _| gateway.set_igd(Some(Igd::with(1, &[WanKind::Ppp1])))),
    odd("first service down", |gateway, _| super::first_service_is_down(gateway)),
    odd("first service 404", |gateway, _| super::first_service_gets(gateway, || Reply::http(404, ""))),
    odd("first description 404", |gateway, _| {
        super::first_description_gets(gateway, || Reply::http(404, ""));
    }),
    odd("AddAny hangs", |gateway, _| super::add_any_hangs(gateway)),
    odd("AddAny makes and hangs", |gateway, _| super::add_any_makes_and_hangs(gateway)),
    odd("first device down", |gateway, _| super::first_device_is_down(gateway)),
    closed("AddAny is late", |gateway, _| super::add_any_is_late(gateway, Duration::from_secs(3))),
    closed("refuses everything", |gateway, n| super::answers_everything(gateway, unknown(n))),
];

/// Looks at entries.
pub const LOOKS: &[Trait] = &[
    PLAIN,
    odd("looks show port 0", |gateway, _| super::looks_show(gateway, InternalPort::Zero)),
    odd("looks show the external port", |gateway, _| super::looks_show(gateway, InternalPort::External)),
    odd("looks are closed", |gateway, _| super::looks_get(gateway, Reply::close)),
    odd("looks hang", |gateway, _| super::looks_get(gateway, Reply::nothing)),
    odd("looks get 404", |gateway, _| super::looks_get(gateway, || Reply::http(404, ""))),
    odd("looks get 402", |gateway, _| super::looks_get(gateway, || Reply::code(402))),
    closed("looks deny entries", |gateway, _| super::looks_deny_entries(gateway)),
    closed("looks show another host", |gateway, _| super::looks_show_another_host(gateway)),
];

/// Leases.
pub const LEASES: &[Trait] = &[
    PLAIN,
    odd("leases get an error", |gateway, n| {
        super::leases_get_code(gateway, variant(&LEASE_REFUSALS, n));
    }),
    odd("leases are closed", |gateway, _| super::leases_are_refused(gateway, Reply::close)),
    odd("leases get HTTP 500", |gateway, _| super::leases_are_refused(gateway, || Reply::http(500, ""))),
    odd("leases up to an hour", |gateway, n| {
        super::leases_up_to_an_hour(gateway, variant(&[501, 402], n));
    }),
    odd("leases are not extended", |gateway, _| super::leases_are_not_extended(gateway)),
    odd("leases vanish", |gateway, _| super::leases_vanish(gateway)),
    odd("leases are not made", |gateway, _| super::leases_are_not_made(gateway)),
];

/// From here on only a look shows what becomes of [`LEASES`].
pub const HIDDEN_LEASES: usize = 6;

/// External ports.
pub const PORTS: &[Trait] = &[
    PLAIN,
    odd("606 below 1024", |gateway, _| super::ports_are_refused(gateway, 1..=1023, 606)),
    odd("718 below 1024", |gateway, _| super::ports_are_refused(gateway, 1..=1023, 718)),
    odd("entries are not replaced", |gateway, _| super::entries_are_not_replaced(gateway)),
    // Together with odd leases this one would take more requests than one attempt has: the last.
    odd("40000 to 49999 alone", |gateway, _| super::only_ports_of(gateway, 40_000..=49_999, 606)),
];

/// Replies to additions, and the connections that they come on.
pub const REPLIES: &[Trait] = &[
    PLAIN,
    odd("HTML", |gateway, _| super::addition_says(gateway, HTML)),
    odd("no body", |gateway, _| super::addition_says(gateway, "")),
    odd("cut off", |gateway, _| super::addition_is_cut_off(gateway)),
    odd("one connection", |gateway, _| super::one_connection_at_a_time(gateway)),
    odd("a second connection refused", |gateway, _| super::refuses_a_second_connection(gateway)),
    odd("connections stay open", |gateway, _| super::connection_stays_open(gateway)),
    odd("chunks", |gateway, _| gateway.faults.http.framing = Framing::Chunked),
    odd("another element", |gateway, _| super::addition_says(gateway, super::OTHER_ELEMENT)),
    odd("half an envelope", |gateway, _| super::addition_says(gateway, super::HALF_ENVELOPE)),
    closed("additions are not answered", |gateway, _| super::addition_is_not_answered(gateway)),
    closed("additions take time", |gateway, _| {
        super::additions_take_time(gateway, Duration::from_secs(3));
    }),
];

/// The external address.
pub const ADDRESSES: &[Trait] = &[
    closed("address is unknown", |gateway, n| super::address_gets(gateway, unknown(n))),
    closed("address is no IPv4 one", |gateway, n| {
        super::address_is(gateway, variant(&["2001:db8::7", "", "0.0.0.0", "224.0.0.1", "nonsense"], n));
    }),
];

/// Deletions.
pub const REMOVALS: &[Trait] =
    &[closed("removals are unknown", |gateway, n| super::removal_gets(gateway, None, unknown(n)))];

/// What concerns nothing of the above.
pub const OTHERS: &[Trait] = &[
    PLAIN,
    odd("LOCATION with a name", |gateway, _| super::location_names(gateway, "router.invalid")),
    odd("no BOOTID", |gateway, _| gateway.faults.no_boot_id = true),
    odd("other ports", |gateway, _| gateway.faults.assigned_port = AssignedPort::Offset(1000)),
    odd("two tables", |gateway, _| gateway.faults.tables_apart = true),
    closed("answers no search", |gateway, _| super::answers_no_search(gateway)),
    odd("own description comes late", |gateway, _| {
        super::own_description_comes_late(gateway, Duration::from_millis(50));
    }),
];

/// All groups.
pub const GROUPS: &[&[Trait]] =
    &[DATAGRAMS, PCP, NATPMP, SERVICES, LOOKS, LEASES, PORTS, REPLIES, ADDRESSES, REMOVALS, OTHERS];
