use super::super::ipv6::{Ipv6, NextHop, State};
use super::super::{Choice, Device, Failed, Finding, Natpmp, Pcp, Service, Upnp};
use super::*;
use std::time::Duration;

const TOOK: Duration = Duration::from_millis(7);

fn silent() -> Findings {
    Findings {
        way: Some(Way {
            interface: Some("eth0".into()),
            interface_index: 2,
            internal_address: "192.168.1.5".parse().unwrap(),
            is_public: false,
            gateway: Some("192.168.1.1".parse().unwrap()),
            gateway_is_absent: false,
            gateway_is_named: false,
        }),
        pcp: Finding::Silent,
        natpmp: Finding::Silent,
        upnp: Finding::Silent,
        ..Findings::default()
    }
}

pub fn answered<T>(answer: T) -> Finding<T> {
    Finding::Answered { took: TOOK, answer }
}

pub fn pcp(result: &str) -> Finding<Pcp> {
    answered(Pcp {
        version: 2,
        result: Some(result.into()),
        map_result: Some(result.into()),
        is_usable: result == "Success",
        is_address_mismatch: result == "AddressMismatch",
        epoch_secs: Some(9),
    })
}

/// The library would use this protocol.
pub fn by(protocol: &str) -> Choice {
    Choice { protocol: Some(protocol.into()), failures: Vec::new() }
}

fn natpmp(result: &str, address: Option<&str>) -> Finding<Natpmp> {
    answered(Natpmp {
        result: Some(result.into()),
        map_result: Some("Success".into()),
        is_usable: address.is_some(),
        external_address: address.map(|text| text.parse().unwrap()),
        is_network_failure: result == "NetworkFailure",
        epoch_secs: Some(9),
    })
}

fn upnp_at(device: &str, address: Option<&str>) -> Finding<Upnp> {
    let service = Service {
        name: "WANIPConnection:1",
        control_url: "http://192.168.1.1/ctl".into(),
        is_alive: true,
        connection_status: Some("Connected".into()),
        is_connected: true,
        external_address: address.map(|text| text.parse().unwrap()),
        external_address_error: address.is_none().then(|| "it says that it has none".into()),
        is_without_address: address.is_none(),
        nat_enabled: None,
        took: TOOK,
        is_chosen: true,
    };
    let device = Device {
        address: device.parse().unwrap(),
        location: "http://192.168.1.1/".into(),
        friendly_name: "Router".into(),
        manufacturer: String::new(),
        model_name: String::new(),
        igd_version: Some(1),
        found: TOOK,
        services: vec![service],
    };
    answered(Upnp { devices: vec![device], unreadable: Vec::new() })
}

fn upnp(address: Option<&str>) -> Finding<Upnp> {
    upnp_at("192.168.1.1", address)
}

fn not_sent<T>(reason: Reason) -> Finding<T> {
    Finding::NotSent { reason }
}

#[track_caller]
fn check(findings: &Findings, kind: Kind, exit: Exit, says: &[&str]) -> Verdict {
    let verdict = judge(findings);
    assert_eq!((verdict.kind, verdict.exit()), (kind, exit), "{verdict:?}");
    let text = format!(
        "{} {} {}",
        verdict.message,
        verdict.advice.clone().unwrap_or_default(),
        verdict.notes.join(" ")
    );
    for word in says {
        assert!(text.contains(word), "{word:?} is missing: {text}");
    }
    verdict
}

#[test]
fn the_protocol_that_the_library_would_use_is_named() {
    let all = Findings {
        pcp: pcp("Success"),
        natpmp: natpmp("Success", Some("203.0.113.7")),
        upnp: upnp(Some("203.0.113.8")),
        ..silent()
    };
    for (protocol, address) in
        [("PCP", "203.0.113.7"), ("NAT-PMP", "203.0.113.7"), ("UPnP-IGD", "203.0.113.8")]
    {
        let findings = Findings { choice: by(protocol), ..all.clone() };
        let verdict = check(&findings, Kind::Ready, Exit::Done, &[&format!("by {protocol}"), address]);
        assert_eq!((verdict.protocol.as_deref(), verdict.notes.len()), (Some(protocol), 1));
    }
    check(&all, Kind::Refused, Exit::Failed, &["maps no ports"]);
}

#[test]
fn a_connection_that_is_down_is_told_whatever_would_map() {
    let mut findings = Findings {
        natpmp: natpmp("Success", Some("203.0.113.7")),
        upnp: upnp(Some("203.0.113.7")),
        choice: by("NAT-PMP"),
        ..silent()
    };
    check(&findings, Kind::Ready, Exit::Done, &["can be mapped by NAT-PMP"]);
    let Finding::Answered { answer, .. } = &mut findings.upnp else { panic!("it has answered") };
    let service = &mut answer.devices[0].services[0];
    (service.connection_status, service.is_connected) = (Some("Unconfigured".into()), false);
    let says = ["no connection", "WANIPConnection:1: Unconfigured", "would be mapped by NAT-PMP"];
    let verdict = check(&findings, Kind::NotConnected, Exit::Failed, &says);
    assert_eq!(verdict.protocol.as_deref(), Some("NAT-PMP"));
    // What a device says that is not the gateway decides nothing about the gateway's mappings.
    let Finding::Answered { answer, .. } = &mut findings.upnp else { panic!("it has answered") };
    answer.devices[0].address = "192.168.1.254".parse().unwrap();
    check(&findings, Kind::Ready, Exit::Done, &["can be mapped by NAT-PMP"]);
    // A status of a vendor's own is none that says so.
    let Finding::Answered { answer, .. } = &mut findings.upnp else { panic!("it has answered") };
    answer.devices[0].address = "192.168.1.1".parse().unwrap();
    answer.devices[0].services[0].connection_status = Some("Bridged".into());
    check(&findings, Kind::Ready, Exit::Done, &["can be mapped by NAT-PMP"]);

    let natpmp = natpmp("NetworkFailure", None);
    let findings = Findings { pcp: pcp("Success"), natpmp, choice: by("PCP"), ..silent() };
    check(&findings, Kind::NotConnected, Exit::Failed, &["NAT-PMP: NetworkFailure", "by PCP"]);
}

#[test]
fn pcp_alone_tells_no_external_address_but_with_a_mapping() {
    let mut findings = Findings { pcp: pcp("Success"), choice: by("PCP"), ..silent() };
    let verdict = check(&findings, Kind::Ready, Exit::Done, &["only with a mapping", "--try-map"]);
    assert_eq!(verdict.external_address, None);
    findings.mapping = Some(Tried::Made {
        protocol: "PCP".into(),
        external_address: "203.0.113.7".parse().unwrap(),
        external_port: 4000,
        took: TOOK,
        removed: true,
    });
    let verdict = check(&findings, Kind::Ready, Exit::Done, &["203.0.113.7", "trial"]);
    assert_eq!(verdict.advice, None, "nothing is left to be tried");
    findings.mapping = Some(Tried::Failed { reason: "no room".into() });
    check(&findings, Kind::Refused, Exit::Failed, &["no room"]);
}

#[test]
fn a_trial_mapping_that_may_be_left_behind_is_told_of() {
    let mapping = Some(Tried::Made {
        protocol: "PCP".into(),
        external_address: "203.0.113.7".parse().unwrap(),
        external_port: 4000,
        took: TOOK,
        removed: false,
    });
    let findings = Findings { pcp: pcp("Success"), mapping, ..silent() };
    check(&findings, Kind::Ready, Exit::Done, &["external UDP port 4000", "not confirm"]);
}

#[test]
fn a_private_external_address_is_double_nat() {
    for address in ["192.168.178.20", "10.0.0.9", "172.16.3.4"] {
        let natpmp = natpmp("Success", Some(address));
        let findings = Findings { natpmp, choice: by("NAT-PMP"), ..silent() };
        check(&findings, Kind::DoubleNat, Exit::Done, &[address, "outer box"]);
    }
}

#[test]
fn a_carriers_external_address_is_carrier_grade_nat() {
    for address in ["100.64.0.1", "100.127.255.254", "192.0.0.2"] {
        let mut findings = Findings { upnp: upnp(Some(address)), choice: by("UPnP-IGD"), ..silent() };
        check(&findings, Kind::CarrierNat, Exit::Done, &[address, "provider", "IPv6 or a relay"]);
        findings.public_ipv6 = Some("2a00:1450::1".parse().unwrap());
        check(&findings, Kind::CarrierNat, Exit::Done, &["2a00:1450::1"]);
    }
    for address in ["100.63.0.1", "100.128.0.1"] {
        let findings = Findings { upnp: upnp(Some(address)), choice: by("UPnP-IGD"), ..silent() };
        check(&findings, Kind::Ready, Exit::Done, &[address]);
    }
}

#[test]
fn a_public_address_of_this_machine_needs_no_mapping() {
    let mut findings = Findings { upnp: upnp(Some("203.0.113.7")), ..silent() };
    let way = findings.way.as_mut().unwrap();
    (way.internal_address, way.is_public) = ("8.8.4.4".parse().unwrap(), true);
    let verdict = check(&findings, Kind::Direct, Exit::Done, &["8.8.4.4", "no port has to be mapped"]);
    assert_eq!(verdict.protocol.as_deref(), Some("direct"));
    assert_eq!(verdict.external_address, Some("8.8.4.4".parse().unwrap()));
}

#[test]
fn nobody_who_answers_is_told_with_the_remedy() {
    let says =
        ["192.168.1.1 answers none of PCP, NAT-PMP and UPnP", "Switch on UPnP", "192.168.1.5", "by hand"];
    check(&silent(), Kind::NoAnswer, Exit::NoGateway, &says);
    let closed =
        Findings { pcp: Finding::Closed { took: TOOK }, natpmp: Finding::Closed { took: TOOK }, ..silent() };
    check(&closed, Kind::NoAnswer, Exit::NoGateway, &says);
    let mut on_link = silent();
    on_link.way.as_mut().unwrap().gateway = None;
    check(&on_link, Kind::NoAnswer, Exit::NoGateway, &["no next hop", "--gateway"]);
    check(&Findings::default(), Kind::NoNetwork, Exit::NoGateway, &["no route", "Connect"]);
}

#[test]
fn without_ipv4_the_verdict_is_about_ipv6() {
    let ipv6 = Ipv6 {
        state: State::Asked,
        address: "2600::17".parse().ok(),
        next_hop: Some(NextHop::Router),
        gateway: "fe80::1".parse().ok(),
        pcp: pcp("Success"),
        choice: by("PCP"),
        ..Ipv6::default()
    };
    let findings = Findings { ipv6, ..Findings::default() };
    let says = ["This machine has no IPv4 route; IPv6 pinholes by PCP, to 2600::17."];
    let verdict = check(&findings, Kind::Ipv6Only, Exit::Done, &says);
    assert_eq!(
        (verdict.protocol.as_deref(), verdict.external_address),
        (Some("PCP"), "2600::17".parse().ok())
    );

    let says = ["no IPv4 route", "fe80::1 answers neither PCP nor UPnP", "settings"];
    let choice = Choice::default();
    let ipv6 = Ipv6 { pcp: Finding::Silent, choice: choice.clone(), ..findings.ipv6.clone() };
    check(&Findings { ipv6, ..findings.clone() }, Kind::NoAnswer, Exit::NoGateway, &says);
    let ipv6 = Ipv6 { pcp: pcp("NotAuthorized"), choice, ..findings.ipv6.clone() };
    check(
        &Findings { ipv6, ..findings.clone() },
        Kind::Refused,
        Exit::Failed,
        &["no IPv4 route", "PCP says"],
    );
    let ipv6 = Ipv6 { gateway_is_named: true, ..findings.ipv6.clone() };
    check(
        &Findings { ipv6, ..findings.clone() },
        Kind::Ipv6Only,
        Exit::Done,
        &["is asked by IPv6 alone; IPv6 pinholes"],
    );
    let ipv6 = Ipv6 { state: State::NoAddress, ..Ipv6::default() };
    check(&Findings { ipv6, ..findings.clone() }, Kind::NoNetwork, Exit::NoGateway, &["no route"]);

    // With a way by IPv4 it stands beside.
    let natpmp = natpmp("Success", Some("203.0.113.7"));
    let both = Findings { natpmp, choice: by("NAT-PMP"), ipv6: findings.ipv6, ..silent() };
    let verdict = check(&both, Kind::Ready, Exit::Done, &["by NAT-PMP"]);
    assert_eq!(verdict.ipv6_verdict.protocol, Some("PCP"));
}

#[test]
fn what_stands_in_between_is_the_remedy() {
    for (surroundings, word) in [
        (Surroundings::Vpn, "looks like a VPN"),
        (Surroundings::Container, "--network host"),
        (Surroundings::Wsl, "mirrored"),
    ] {
        let mut findings = Findings { surroundings: Some(surroundings), ..silent() };
        check(&findings, Kind::NoAnswer, Exit::NoGateway, &[word]);
        (findings.natpmp, findings.choice) = (natpmp("Success", Some("10.1.1.1")), by("NAT-PMP"));
        check(&findings, Kind::DoubleNat, Exit::Done, &[word]);
        findings.way.as_mut().unwrap().gateway_is_named = true;
        assert!(!judge(&findings).advice.unwrap().contains(word));
    }
}

#[test]
fn what_this_machine_does_not_send_is_its_own_firewalls() {
    let denied = Reason::Firewall;
    let findings =
        Findings { pcp: not_sent(denied), natpmp: not_sent(denied), upnp: not_sent(denied), ..silent() };
    check(&findings, Kind::Firewalled, Exit::Failed, &["firewall", "5351"]);
    let gone = Reason::Unreachable;
    let findings = Findings { pcp: not_sent(gone), natpmp: not_sent(gone), ..silent() };
    check(&findings, Kind::Unreachable, Exit::NoGateway, &["Nobody has the address", "192.168.1.1"]);
    let mut absent = silent();
    absent.way.as_mut().unwrap().gateway_is_absent = true;
    check(&absent, Kind::Unreachable, Exit::NoGateway, &["Nobody has the address", "switched on"]);
}

#[test]
fn a_gateway_that_refuses_is_quoted() {
    let findings = Findings {
        pcp: pcp("NotAuthorized"),
        natpmp: natpmp("NotAuthorized", None),
        upnp: answered(Upnp { devices: Vec::new(), unreadable: vec!["http://x/: no answer in time".into()] }),
        ..silent()
    };
    let says =
        ["PCP says NotAuthorized", "NAT-PMP says NotAuthorized", "no answer in time", "Allow port mapping"];
    check(&findings, Kind::Refused, Exit::Failed, &says);
    // NAT-PMP has told an address, and would map a port of the NAT in between.
    let protocol = |protocol: &str| Failed { protocol: protocol.into(), reason: Reason::NatBetween };
    let failures = vec![protocol("PCP"), protocol("NAT-PMP")];
    let mut mismatch = Findings {
        pcp: pcp("AddressMismatch"),
        natpmp: natpmp("Success", Some("203.0.113.7")),
        choice: Choice { protocol: None, failures },
        ..silent()
    };
    check(&mismatch, Kind::Refused, Exit::Failed, &["Another NAT", "AddressMismatch"]);
    (mismatch.upnp, mismatch.choice.protocol) = (upnp(Some("203.0.113.7")), Some("UPnP-IGD".into()));
    check(&mismatch, Kind::Ready, Exit::Done, &["by UPnP-IGD", "another NAT stands before it"]);
}

#[test]
fn a_gateway_without_connection_is_told_of() {
    for findings in [
        Findings { natpmp: natpmp("NetworkFailure", None), ..silent() },
        Findings { upnp: upnp(None), ..silent() },
    ] {
        check(&findings, Kind::NotConnected, Exit::Failed, &["no connection to the internet"]);
    }
}

#[test]
fn what_does_not_fit_together_is_noted() {
    let findings = Findings {
        natpmp: natpmp("Success", Some("203.0.113.7")),
        upnp: upnp(Some("203.0.113.8")),
        choice: by("NAT-PMP"),
        ..silent()
    };
    let says = ["differ", "203.0.113.7 by NAT-PMP", "203.0.113.8 by UPnP-IGD"];
    check(&findings, Kind::Ready, Exit::Done, &says);
    let upnp = upnp_at("192.168.1.254", Some("203.0.113.7"));
    let elsewhere = Findings { upnp, choice: by("UPnP-IGD"), ..silent() };
    check(&elsewhere, Kind::Ready, Exit::Done, &["192.168.1.254", "leads to 192.168.1.1"]);
}
