use super::*;
use std::collections::BTreeSet;

fn pcp(code: u16) -> Reason {
    Reason::Result { protocol: Protocol::Pcp, code }
}

fn natpmp(code: u16) -> Reason {
    Reason::Result { protocol: Protocol::NatPmp, code }
}

fn upnp(code: i64) -> Reason {
    Reason::Upnp { code }
}

#[test]
fn a_refusal_is_told_with_its_meaning_name_and_code() {
    for (reason, text) in [
        (natpmp(2), "the gateway does not let this host map ports (Not Authorized/Refused, code 2)"),
        (
            natpmp(3),
            "the gateway cannot map ports: its internet connection is down (Network Failure, code 3)",
        ),
        (natpmp(4), "the gateway has no room for another mapping (Out of resources, code 4)"),
        (natpmp(77), "the gateway refuses (code 77)"),
        (pcp(7), "the gateway cannot map ports: its internet connection is down (NETWORK_FAILURE, code 7)"),
        (pcp(8), "the gateway has no room for another mapping (NO_RESOURCES, code 8)"),
        (pcp(10), "the gateway has given this host as many mappings as it may have (USER_EX_QUOTA, code 10)"),
        (pcp(200), "the gateway refuses (code 200)"),
        (upnp(606), "the gateway does not let this host map ports (Action not authorized, code 606)"),
        (
            upnp(718),
            "the gateway has the external port mapped for another host (ConflictInMappingEntry, code 718)",
        ),
        (upnp(728), "the gateway has no room for another mapping (NoPortMapsAvailable, code 728)"),
        (upnp(701), "the gateway has no room for another pinhole (PinholeSpaceExhausted, code 701)"),
        (upnp(702), "the gateway's firewall is off (FirewallDisabled, code 702)"),
        (
            upnp(703),
            "the gateway lets this host open no ports: its owner may allow that in its settings (InboundPinholeNotAllowed, code 703)",
        ),
        (upnp(704), "the gateway does not have the pinhole (NoSuchEntry, code 704)"),
        (upnp(-911), "the gateway refuses (code -911)"),
        (Reason::NoDescription { status: None }, "the description of its device was not to be had"),
        (
            Reason::NoDescription { status: Some(404) },
            "the description of its device was not to be had: HTTP status 404",
        ),
    ] {
        assert_eq!(reason.to_string(), text);
    }
    assert!(upnp(403).to_string().contains("its owner may allow that"));
    assert!(pcp(2).to_string().contains("left by an earlier run of the program"));
    assert!(pcp(11).to_string().contains("cannot provide the external address or port"));
}

#[test]
fn the_standards_names_are_known_by_their_codes() {
    let named = |codes: std::ops::RangeInclusive<i64>| -> BTreeSet<&str> {
        codes.filter_map(|code| upnp(code).code_name()).collect()
    };
    // UDA 2.0 §3.2.5, WANIPConnection:1 §2.4 and :2 §2.5, WANIPv6FirewallControl:1 §2.5: each error has a name of its own.
    assert_eq!(named(400..=499).len(), 3);
    assert_eq!(named(500..=699).len(), 8);
    assert_eq!(named(700..=799).len(), 15);
    assert_eq!(pcp(13).code_name(), Some("EXCESSIVE_REMOTE_PEERS"));
    assert_eq!(natpmp(1).code_name(), Some("Unsupported Version"));
    assert_eq!(Reason::Silence.code_name(), None);
}

#[test]
fn what_is_no_refusal_is_told_in_a_sentence_of_its_own() {
    let all = [
        Reason::NoRoute,
        Reason::Shortage,
        Reason::NoRandomness,
        Reason::Silence,
        Reason::PortClosed,
        Reason::Firewall,
        Reason::Unreachable,
        Reason::Unsupported,
        Reason::Http { status: 500 },
        Reason::Unreadable,
        Reason::EmptyGrant,
        Reason::NoAddress { address: Some([0, 0, 0, 0].into()) },
        Reason::NoAddress { address: None },
        Reason::NotGlobal { address: [0xfd00, 0, 0, 0, 0, 0, 0, 1].into() },
        Reason::OtherSource,
        Reason::PortsTaken,
        Reason::NatBetween,
        Reason::Vanished,
    ];
    let texts: BTreeSet<String> = all.iter().map(Reason::to_string).collect();
    assert_eq!(texts.len(), all.len());
    assert!(texts.iter().all(|text| !text.is_empty() && !text.contains("code")));
    assert!(Reason::Http { status: 501 }.to_string().contains("501"));
    assert!(Reason::NoAddress { address: Some([0, 0, 0, 0].into()) }.to_string().contains("0.0.0.0"));
}
