//! What the findings about IPv6 mean.

use super::super::{Pcp, Tried};
use super::{Ipv6, NextHop, State};
use serde::Serialize;
use std::net::{IpAddr, Ipv6Addr};

/// The overall result for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Pinholes can be opened.
    Ready,
    /// Nothing stands in the way.
    Direct,
    /// The gateway allows this machine no pinholes.
    NotAllowed,
    /// The gateway answers, and opens none.
    Refused,
    NoAnswer,
    NoAddress,
    NoRoute,
    /// Nothing was asked.
    NotAsked,
}

/// The findings about IPv6 in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    #[serde(rename = "verdict")]
    pub kind: Kind,
    /// What the library would use: `PCP`, `UPnP-IGD`, `direct`.
    pub protocol: Option<&'static str>,
    /// What it means; `None`: nothing was asked.
    pub message: Option<String>,
    /// What to do about it.
    pub advice: Option<String>,
}

/// The verdict on the findings.
pub fn judge(found: &Ipv6) -> Verdict {
    let without = |kind, message: &str, advice: &str| Verdict {
        kind,
        protocol: None,
        message: Some(message.to_owned()),
        advice: Some(advice.to_owned()),
    };
    match found.state {
        State::Unknown | State::OtherFamily => {
            Verdict { kind: Kind::NotAsked, protocol: None, message: None, advice: None }
        }
        State::NoRoute => without(
            Kind::NoRoute,
            &format!("this machine has no IPv6 route to the internet{}.", found.by_uplink()),
            "Switch IPv6 on in the gateway, if the provider has it.",
        ),
        State::NoAddress => without(
            Kind::NoAddress,
            "this machine has no global address.",
            "Look whether the gateway announces a prefix.",
        ),
        State::Tentative => without(
            Kind::NoAddress,
            "this machine's addresses are still being checked for duplicates.",
            "Ask again in some seconds.",
        ),
        State::Asked => judge_answers(found),
    }
}

/// What to do where the gateway refuses.
const ALLOW: &str = "Allow this machine to open ports by itself, in the gateway's settings.";

/// What a pinhole to a unique local address (RFC 4193) is worth.
const NO_GLOBAL_ADDRESS: &str = "Nobody on the internet reaches this unique local address unless the gateway translates it: look whether the gateway announces a \
     global prefix.";

fn judge_answers(found: &Ipv6) -> Verdict {
    let address = target(found);
    let usable = |kind, protocol, message| Verdict {
        kind,
        protocol: Some(protocol),
        message: Some(message),
        advice: None,
    };
    let direct =
        |reason: &str| usable(Kind::Direct, "direct", format!("{address} is reached directly: {reason}."));
    let advice = found.address.filter(Ipv6Addr::is_unique_local).map(|_| NO_GLOBAL_ADDRESS.to_owned());
    let ready = |protocol| Verdict {
        advice,
        ..usable(Kind::Ready, protocol, format!("pinholes to {address} can be opened by {protocol}."))
    };
    let firewall = found.firewall.answer();
    if found.next_hop == Some(NextHop::OnLink) && !found.gateway_is_named {
        return direct("there is no gateway in between");
    }
    match (&found.mapping, found.choice.protocol.as_deref()) {
        (Some(Tried::Made { protocol, .. }), _) if protocol == "direct" => {
            return direct(&format!("the firewall of {} is off", gateway(found)));
        }
        (Some(Tried::Made { protocol, .. }), _) => {
            let message = format!("a pinhole to {address} was opened for a trial by {protocol}.");
            return usable(Kind::Ready, if protocol == "PCP" { "PCP" } else { "UPnP-IGD" }, message);
        }
        (Some(Tried::Failed { .. }), _) | (None, None) => {}
        (None, Some("PCP")) => return ready("PCP"),
        (None, Some(_)) if firewall.is_some_and(|told| told.firewall_enabled == Some(false)) => {
            return direct(&format!("the firewall of {} is off", gateway(found)));
        }
        (None, Some(_)) => return ready("UPnP-IGD"),
    }
    judge_refusal(found)
}

fn judge_refusal(found: &Ipv6) -> Verdict {
    let (gateway, address) = (gateway(found), target(found));
    let verdict = |kind, message, advice: &str| Verdict {
        kind,
        protocol: None,
        message: Some(message),
        advice: Some(advice.to_owned()),
    };
    let firewall = found.firewall.answer();
    if firewall.is_some_and(|told| told.inbound_pinhole_allowed == Some(false)) {
        return verdict(Kind::NotAllowed, format!("{gateway} allows no pinholes."), ALLOW);
    }
    if found.choice.is_nat_between() {
        return verdict(
            Kind::Refused,
            format!(
                "an address translator stands between this machine and {gateway} (PCP: AddressMismatch)."
            ),
            "Connect this machine to the network of that gateway itself.",
        );
    }
    if let Some(Tried::Failed { reason }) = &found.mapping {
        return verdict(Kind::Refused, format!("a trial pinhole could not be opened: {reason}."), ALLOW);
    }
    let is_refusal = |result: &&String| *result != "Success";
    let refusal = |pcp: &Pcp| {
        let said = [&pcp.map_result, &pcp.result].into_iter().flatten().find(is_refusal).cloned();
        said.map_or_else(|| "PCP: no answer about pinholes".to_owned(), |said| format!("PCP says {said}"))
    };
    let refusals: Vec<String> = [
        found.pcp.answer().filter(|pcp| pcp.version >= 2).map(refusal),
        firewall.map(|told| {
            format!("UPnP-IGD: {}", told.error.as_deref().unwrap_or("it does not tell the firewall's state"))
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    if refusals.is_empty() {
        let message =
            format!("{gateway} answers neither PCP nor UPnP, so no pinhole can be opened to {address}.");
        return verdict(
            Kind::NoAnswer,
            message,
            "Allow PCP, or UPnP with pinholes, in the gateway's settings.",
        );
    }
    let message = format!("{gateway} answers, but opens no pinholes ({}).", refusals.join("; "));
    verdict(Kind::Refused, message, ALLOW)
}

/// The address that a pinhole would lead to.
fn target(found: &Ipv6) -> String {
    found.address.map_or_else(|| "this machine".to_owned(), |address| address.to_string())
}

fn gateway(found: &Ipv6) -> String {
    match found.gateway {
        Some(IpAddr::V6(gateway)) => format!("the gateway {gateway}"),
        _ => "the gateway".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Choice, Failed, Finding};
    use super::super::Firewall;
    use super::*;
    use crate::probe::verdict::tests::{answered, by, pcp};
    use plum_engine::Reason;
    use std::time::Duration;

    fn asked() -> Ipv6 {
        Ipv6 {
            state: State::Asked,
            address: "2600::17".parse().ok(),
            next_hop: Some(NextHop::Router),
            gateway: "fe80::1".parse().ok(),
            pcp: Finding::Silent,
            firewall: Finding::Silent,
            ..Ipv6::default()
        }
    }

    fn firewall(firewall_enabled: Option<bool>, inbound_pinhole_allowed: Option<bool>) -> Finding<Firewall> {
        answered(Firewall {
            address: "fe80::1".parse().unwrap(),
            friendly_name: "Router".into(),
            control_url: "http://[fe80::1]/ctl".into(),
            firewall_enabled,
            inbound_pinhole_allowed,
            error: firewall_enabled.is_none().then(|| "error 501".into()),
        })
    }

    #[track_caller]
    fn check(found: &Ipv6, kind: Kind, protocol: Option<&str>, says: &[&str]) {
        let verdict = judge(found);
        assert_eq!((verdict.kind, verdict.protocol), (kind, protocol), "{verdict:?}");
        let text = format!("{} {}", verdict.message.unwrap_or_default(), verdict.advice.unwrap_or_default());
        for word in says {
            assert!(text.contains(word), "{word:?} is missing: {text}");
        }
    }

    #[test]
    fn pcp_is_used_before_firewall_control() {
        let both = Ipv6 { pcp: pcp("Success"), firewall: firewall(Some(true), Some(true)), ..asked() };
        for protocol in ["PCP", "UPnP-IGD"] {
            let found = Ipv6 { choice: by(protocol), ..both.clone() };
            check(&found, Kind::Ready, Some(protocol), &["2600::17", &format!("by {protocol}")]);
        }
    }

    #[test]
    fn a_unique_local_address_has_its_caveat() {
        let found =
            Ipv6 { address: "fd00::17".parse().ok(), pcp: pcp("Success"), choice: by("PCP"), ..asked() };
        check(&found, Kind::Ready, Some("PCP"), &["fd00::17", "unless the gateway translates it"]);
        let found = Ipv6 { address: "2600::17".parse().ok(), ..found };
        assert_eq!(judge(&found).advice, None);
    }

    #[test]
    fn a_firewall_that_is_off_needs_no_pinhole() {
        let off = Ipv6 { firewall: firewall(Some(false), Some(false)), choice: by("UPnP-IGD"), ..asked() };
        check(&off, Kind::Direct, Some("direct"), &["2600::17", "is off"]);
        let off = Ipv6 { pcp: pcp("Success"), choice: by("PCP"), ..off };
        check(&off, Kind::Ready, Some("PCP"), &["2600::17"]);
    }

    #[test]
    fn a_trial_decides() {
        let found = Ipv6 { pcp: pcp("Success"), choice: by("PCP"), ..asked() };
        let tried = |protocol: &str| Tried::Made {
            protocol: protocol.into(),
            external_address: "2600::17".parse().unwrap(),
            external_port: 4000,
            took: Duration::from_millis(7),
            removed: true,
        };
        let made = Ipv6 { mapping: Some(tried("UPnP-IGD")), ..found.clone() };
        check(&made, Kind::Ready, Some("UPnP-IGD"), &["for a trial by UPnP-IGD"]);
        let direct = Ipv6 { mapping: Some(tried("direct")), ..found.clone() };
        check(&direct, Kind::Direct, Some("direct"), &["is off"]);
        let failed = Tried::Failed { reason: "no room".into() };
        let failed = Ipv6 { mapping: Some(failed), ..found };
        check(&failed, Kind::Refused, None, &["no room", "settings"]);
    }

    #[test]
    fn a_translator_in_between_is_told() {
        let failures = vec![Failed { protocol: "PCP".into(), reason: Reason::NatBetween }];
        let choice = Choice { protocol: None, failures };
        let found = Ipv6 { pcp: pcp("AddressMismatch"), choice, ..asked() };
        check(&found, Kind::Refused, None, &["translator", "AddressMismatch"]);
    }

    #[test]
    fn only_a_link_with_other_hosts_needs_no_gateway() {
        for (next_hop, kind) in [
            (NextHop::OnLink, Kind::Direct),
            (NextHop::PointToPoint, Kind::NoAnswer),
            (NextHop::Unknown, Kind::NoAnswer),
        ] {
            let protocol = (kind == Kind::Direct).then_some("direct");
            let found = Ipv6 { next_hop: Some(next_hop), gateway: None, ..asked() };
            check(&found, kind, protocol, &["2600::17"]);
        }
        let named = Ipv6 { next_hop: Some(NextHop::OnLink), gateway_is_named: true, ..asked() };
        check(&named, Kind::NoAnswer, None, &["fe80::1"]);
    }

    #[test]
    fn what_the_gateway_does_not_allow_is_told_with_the_remedy() {
        let found = Ipv6 { firewall: firewall(Some(true), Some(false)), ..asked() };
        check(&found, Kind::NotAllowed, None, &["fe80::1", "allows no pinholes", "settings"]);
        let found = Ipv6 { pcp: pcp("NotAuthorized"), firewall: firewall(None, None), ..asked() };
        check(&found, Kind::Refused, None, &["PCP says NotAuthorized", "UPnP-IGD: error 501"]);
        check(&asked(), Kind::NoAnswer, None, &["fe80::1", "neither PCP nor UPnP", "settings"]);
    }

    #[test]
    fn without_address_or_route_nothing_is_asked() {
        for (state, kind, word) in [
            (State::NoRoute, Kind::NoRoute, "no IPv6 route"),
            (State::NoAddress, Kind::NoAddress, "no global address"),
            (State::Tentative, Kind::NoAddress, "some seconds"),
            (State::Unknown, Kind::NotAsked, ""),
            (State::OtherFamily, Kind::NotAsked, ""),
        ] {
            check(&Ipv6 { state, ..Ipv6::default() }, kind, None, &[word]);
        }
    }
}
