//! What the findings mean, and what to do.

use super::ipv6::{Ipv6, verdict as ipv6};
use super::{Device, Findings, Service, Surroundings, Tried, Way};
use crate::exit::Exit;
use plum_engine::Reason;
use plum_engine::addresses::{Scope, scope_of};
use serde::Serialize;
use std::fmt::Display;
use std::net::IpAddr;

/// The overall result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Ports can be mapped.
    Ready,
    /// No mapping is needed.
    Direct,
    /// Ports can be mapped at a gateway that is behind another one.
    DoubleNat,
    /// Ports can be mapped at a gateway that has no address of its own on the internet.
    CarrierNat,
    /// The gateway has no connection to the internet.
    NotConnected,
    /// The gateway answers, and maps nothing.
    Refused,
    /// No gateway answers.
    NoAnswer,
    /// No host has the gateway's address.
    Unreachable,
    /// A firewall of this machine lets no question out.
    Firewalled,
    /// There is no way to the internet by IPv4, but by IPv6 hosts on the internet can reach this machine.
    Ipv6Only,
    /// There is no way to the internet.
    NoNetwork,
}

/// The findings in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    #[serde(rename = "verdict")]
    pub kind: Kind,
    /// What the library would use: `PCP`, `NAT-PMP`, `UPnP-IGD`, `direct`.
    pub protocol: Option<String>,
    /// The address that others would reach this machine at if ports can be mapped; `None`: it is not known.
    pub external_address: Option<IpAddr>,
    /// What it means, in a sentence.
    pub message: String,
    /// What to do about it, where there is something to do.
    pub advice: Option<String>,
    /// What else is remarkable, a sentence each.
    pub notes: Vec<String>,
    pub ipv6_verdict: ipv6::Verdict,
    /// With more time it might be another.
    #[serde(skip)]
    pub is_unfinished: bool,
}

impl Verdict {
    pub fn exit(&self) -> Exit {
        match self.kind {
            Kind::Ready | Kind::Direct | Kind::DoubleNat | Kind::CarrierNat | Kind::Ipv6Only => Exit::Done,
            _ if self.is_unfinished => Exit::Unfinished,
            Kind::NotConnected | Kind::Refused | Kind::Firewalled => Exit::Failed,
            Kind::NoAnswer | Kind::Unreachable | Kind::NoNetwork => Exit::NoGateway,
        }
    }
}

/// The verdict on the findings.
pub fn judge(findings: &Findings) -> Verdict {
    let ipv6_verdict = ipv6::judge(&findings.ipv6);
    let (kind, message, advice) = match &findings.way {
        None => judge_ipv6_only(&findings.ipv6, &ipv6_verdict),
        Some(way) if way.is_public => (
            Kind::Direct,
            format!(
                "This machine has the public address {}: no port has to be mapped.",
                way.internal_address
            ),
            Some(
                "If it cannot be reached all the same, look for a firewall, here or at the provider.".into(),
            ),
        ),
        Some(way) => match usable(findings) {
            Some((protocol, external)) => judge_usable(findings, way, &protocol, external),
            None => judge_unusable(findings, way),
        },
    };
    let (protocol, external_address) = match (&findings.way, kind) {
        (Some(way), Kind::Direct) => (Some("direct".to_owned()), Some(way.internal_address)),
        (None, Kind::Ipv6Only) => {
            (ipv6_verdict.protocol.map(str::to_owned), findings.ipv6.address.map(IpAddr::V6))
        }
        // A gateway that maps nothing may tell its address all the same.
        _ => usable(findings)
            .map_or_else(|| (None, told(findings, false)), |(protocol, external)| (Some(protocol), external)),
    };
    let is_unfinished = findings.unfinished.is_some();
    let notes = notes(findings);
    Verdict { kind, protocol, external_address, message, advice, notes, ipv6_verdict, is_unfinished }
}

/// Where there is no way by IPv4.
fn judge_ipv6_only(found: &Ipv6, verdict: &ipv6::Verdict) -> (Kind, String, Option<String>) {
    use ipv6::Kind as ByIpv6;
    let kind = match verdict.kind {
        ByIpv6::Ready | ByIpv6::Direct => Kind::Ipv6Only,
        ByIpv6::NotAllowed | ByIpv6::Refused => Kind::Refused,
        ByIpv6::NoAnswer => Kind::NoAnswer,
        ByIpv6::NoAddress | ByIpv6::NoRoute | ByIpv6::NotAsked => {
            return (
                Kind::NoNetwork,
                format!("This machine has no route to the internet{}.", found.by_uplink()),
                Some("Connect it to a network, or name a gateway with --gateway.".to_owned()),
            );
        }
    };
    let beginning = match found.gateway_is_named {
        true => "The gateway that is named is asked by IPv6 alone".to_owned(),
        false => format!("This machine has no IPv4 route{}", found.by_uplink()),
    };
    let by_ipv6 = match (verdict.kind, verdict.protocol, found.address) {
        (ByIpv6::Ready, Some(protocol), Some(address)) => {
            format!("IPv6 pinholes by {protocol}, to {address}.")
        }
        _ => format!("by IPv6, {}", verdict.message.as_deref().unwrap_or_default()),
    };
    (kind, format!("{beginning}; {by_ipv6}"), verdict.advice.clone())
}

/// The protocol that the library would use, and the external address, if any is known.
fn usable(findings: &Findings) -> Option<(String, Option<IpAddr>)> {
    match &findings.mapping {
        Some(Tried::Made { protocol, external_address, .. }) => {
            return Some((protocol.clone(), Some(*external_address)));
        }
        Some(Tried::Failed { .. }) => return None,
        None => {}
    }
    let protocol = findings.choice.protocol.clone()?;
    let external = told(findings, protocol == "UPnP-IGD");
    Some((protocol, external))
}

/// The external address that the gateway tells, by the first protocol that has one.
fn told(findings: &Findings, is_upnp_first: bool) -> Option<IpAddr> {
    let natpmp = findings.natpmp.answer().and_then(|natpmp| natpmp.external_address).map(IpAddr::from);
    let upnp = findings.upnp.answer().and_then(|upnp| upnp.chosen()?.1.external_address);
    if is_upnp_first { upnp.or(natpmp) } else { natpmp.or(upnp) }
}

/// What the gateway itself says about its connection, if that is down.
fn unconnected(findings: &Findings) -> Option<String> {
    let gateway = findings.way.as_ref().and_then(|way| way.gateway);
    let devices = findings.upnp.answer().map_or(&[][..], |upnp| &upnp.devices);
    // Services of another device say nothing about the gateway, unless its mappings are the ones that would be made.
    let is_asked = |device: &&Device| {
        Some(device.address) == gateway || findings.choice.protocol.as_deref() == Some("UPnP-IGD")
    };
    let services: Vec<&Service> =
        devices.iter().filter(is_asked).flat_map(|device| &device.services).collect();
    if services.iter().any(|service| service.is_connected) {
        return None;
    }
    let natpmp = findings.natpmp.answer().filter(|natpmp| natpmp.is_network_failure);
    let pcp = findings.pcp.answer().and_then(|pcp| pcp.map_result.as_deref());
    let mut words = Vec::new();
    words.extend(pcp.filter(|&result| result == "NetworkFailure").map(|result| format!("PCP: {result}")));
    words.extend(natpmp.and_then(|natpmp| natpmp.result.as_ref()).map(|result| match result.as_str() {
        "Success" => "NAT-PMP: no external address".to_owned(),
        result => format!("NAT-PMP: {result}"),
    }));
    words.extend(services.iter().filter_map(|service| {
        let status = service.connection_status.as_deref()?;
        let is_down = UNCONNECTED.iter().any(|word| word.eq_ignore_ascii_case(status));
        is_down.then(|| format!("{}: {status}", service.name))
    }));
    (!words.is_empty()).then(|| words.join("; "))
}

/// NewConnectionStatus of connections that carry nothing (WANIPConnection:1 and WANPPPConnection:1 §2.2).
const UNCONNECTED: [&str; 6] =
    ["Unconfigured", "Connecting", "Authenticating", "PendingDisconnect", "Disconnecting", "Disconnected"];

fn judge_usable(
    findings: &Findings,
    way: &Way,
    protocol: &str,
    external: Option<IpAddr>,
) -> (Kind, String, Option<String>) {
    let what = if findings.mapping.is_some() { "were mapped for a trial" } else { "can be mapped" };
    if let Some(words) = unconnected(findings) {
        let would = if findings.mapping.is_some() { "were mapped for a trial" } else { "would be mapped" };
        return (
            Kind::NotConnected,
            format!(
                "{} has no connection to the internet, by its own word ({words}): ports {would} by {protocol}, and are of no \
                 use until it has.",
                upper(&gateway(way))
            ),
            Some(LOOK_AT_CONNECTION.into()),
        );
    }
    match external {
        Some(address) if is_carrier(address) => {
            let message = format!(
                "Ports {what} by {protocol}, but the external address {address} is one of the provider's carrier-grade NAT: \
                 nobody on the internet reaches it."
            );
            let ipv6 = findings
                .public_ipv6
                .map_or_else(String::new, |own| format!(" (this machine has the public one {own})"));
            let advice = format!(
                "Ask the provider for a public IPv4 address, or use IPv6{ipv6} or a relay: no setting of your own helps."
            );
            (Kind::CarrierNat, message, Some(advice))
        }
        Some(address) if scope_of(address) == Scope::Private => {
            let message = format!(
                "Ports {what} by {protocol}, but the external address {address} is a private one: another NAT box stands \
                 between this gateway and the internet."
            );
            let advice = match surroundings(findings, way) {
                Some(advice) => advice,
                None => format!(
                    "Configure the outer box, in whose network {address} is: make it a bridge (modem mode), or forward \
                     ports or everything (\"DMZ\", \"exposed host\") to {address} there."
                ),
            };
            (Kind::DoubleNat, message, Some(advice))
        }
        Some(address) => {
            let message = format!("Ports {what} by {protocol}: the external address is {address}.");
            // The gateway may refuse a mapping yet, or grant one that is of no use.
            let advice =
                "This was seen without a mapping; --try-map makes sure by one, and removes it again.";
            (Kind::Ready, message, findings.mapping.is_none().then(|| advice.into()))
        }
        None => (
            Kind::Ready,
            format!("Ports {what} by {protocol}, which tells the external address only with a mapping."),
            Some("--try-map makes one, and removes it again.".into()),
        ),
    }
}

/// What to do about a gateway without connection.
const LOOK_AT_CONNECTION: &str = "Look at its connection (the cable, the access data, its log).";

fn judge_unusable(findings: &Findings, way: &Way) -> (Kind, String, Option<String>) {
    let gateway = gateway(way);
    if findings.choice.is_nat_between() {
        return (
            Kind::Refused,
            format!(
                "Another NAT stands between this machine and {gateway}, which therefore maps nothing (PCP: AddressMismatch)."
            ),
            Some(surroundings(findings, way).unwrap_or_else(|| {
                "Connect this machine to the network of that gateway itself (a second router in between can be made an \
                 access point)."
                    .into()
            })),
        );
    }
    let service = findings.upnp.answer().and_then(|upnp| Some(upnp.chosen_or_first()?.1));
    if let Some(words) = unconnected(findings).or_else(|| {
        service
            .filter(|service| service.is_without_address)
            .map(|service| format!("{}: no address", service.name))
    }) {
        return (
            Kind::NotConnected,
            format!("{} has no connection to the internet ({words}).", upper(&gateway)),
            Some(LOOK_AT_CONNECTION.into()),
        );
    }
    if let Some(Tried::Failed { reason }) = &findings.mapping {
        let advice = "Look at the gateway's settings for port mapping; -v shows what it answers.".to_owned();
        return (Kind::Refused, format!("A trial mapping could not be made: {reason}."), Some(advice));
    }
    let refusals = refusals(findings);
    if refusals.is_empty() {
        return judge_silence(findings, way, &gateway);
    }
    (
        Kind::Refused,
        format!("{} answers, but maps no ports ({}).", upper(&gateway), refusals.join("; ")),
        Some(format!(
            "Allow port mapping to this machine ({}) in its settings, or forward the port by hand there.",
            way.internal_address
        )),
    )
}

/// What protocols that answer say instead of mapping.
fn refusals(findings: &Findings) -> Vec<String> {
    let silent_map = |protocol| format!("{protocol}: no answer to requests for mappings");
    let pcp = findings.pcp.answer().filter(|pcp| pcp.version >= 2);
    let natpmp = findings.natpmp.answer().filter(|natpmp| natpmp.result.is_some());
    let is_good = |result: &&String| *result != "Success";
    let pcp = pcp.map(|pcp| match (&pcp.map_result, pcp.result.as_ref().filter(is_good)) {
        (_, Some(result)) => format!("PCP says {result}"),
        (Some(result), None) => format!("PCP says {result}"),
        (None, None) => silent_map("PCP"),
    });
    let natpmp = natpmp.map(|natpmp| match (&natpmp.map_result, natpmp.result.as_ref().filter(is_good)) {
        (_, Some(result)) => format!("NAT-PMP says {result}"),
        (Some(result), None) => format!("NAT-PMP says {result}"),
        (None, None) => silent_map("NAT-PMP"),
    });
    let upnp = findings.upnp.answer().and_then(|upnp| {
        let reason = match upnp.chosen_or_first() {
            Some((_, service)) => service.external_address_error.clone()?,
            None => upnp.unreadable.first()?.clone(),
        };
        Some(format!("UPnP-IGD: {reason}"))
    });
    [pcp, natpmp, upnp].into_iter().flatten().collect()
}

fn judge_silence(findings: &Findings, way: &Way, gateway: &str) -> (Kind, String, Option<String>) {
    let not_sent = [findings.pcp.not_sent(), findings.natpmp.not_sent(), findings.upnp.not_sent()];
    if not_sent.contains(&Some(Reason::Firewall)) {
        return (
            Kind::Firewalled,
            "This machine does not let the questions out (\"operation not permitted\").".into(),
            Some(
                "Its own firewall is the likely cause: let UDP to port 5351 of the gateway and to port 1900 pass \
                 (nft list ruleset, or iptables -L OUTPUT, shows the rules)."
                    .into(),
            ),
        );
    }
    if way.gateway_is_absent || not_sent.contains(&Some(Reason::Unreachable)) {
        return (
            Kind::Unreachable,
            format!("Nobody has the address of {gateway}."),
            Some(
                "Look whether it is switched on, and whether this machine's route or --gateway is right."
                    .into(),
            ),
        );
    }
    let message = match way.gateway {
        Some(_) => format!("{} answers none of PCP, NAT-PMP and UPnP.", upper(gateway)),
        None => "The route to the internet has no next hop that could be asked, and nobody answers by UPnP."
            .into(),
    };
    let advice = surroundings(findings, way).unwrap_or_else(|| match way.gateway {
        Some(_) => format!(
            "Switch on UPnP (or NAT-PMP, or PCP) in its settings, or forward the port to {} by hand there. If it is on, \
             a firewall on this machine may keep the answers out.",
            way.internal_address
        ),
        None => "Name the gateway with --gateway.".into(),
    });
    (Kind::NoAnswer, message, Some(advice))
}

/// What else is remarkable.
fn notes(findings: &Findings) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(what) = findings.unfinished {
        notes.push(format!("The time was over before {what}: --timeout gives more."));
    }
    let Some(way) = &findings.way else { return notes };
    let upnp = findings.upnp.answer();
    let mut addresses: Vec<(&str, IpAddr)> = Vec::new();
    if let Some(Tried::Made { protocol, external_address, .. }) = &findings.mapping {
        addresses.push((protocol, *external_address));
    }
    if let Some(address) = findings.natpmp.answer().and_then(|natpmp| natpmp.external_address) {
        addresses.push(("NAT-PMP", address.into()));
    }
    if let Some(address) = upnp.and_then(|upnp| upnp.chosen()?.1.external_address) {
        addresses.push(("UPnP-IGD", address));
    }
    if addresses.windows(2).any(|pair| pair[0].1 != pair[1].1) {
        let told: Vec<String> =
            addresses.iter().map(|(protocol, address)| format!("{address} by {protocol}")).collect();
        notes.push(format!(
            "The external addresses differ ({}): there are several connections, or one answer is wrong.",
            told.join(", ")
        ));
    }
    if let Some(upnp) = upnp {
        let is_elsewhere = |&(device, _): &(&Device, _)| Some(device.address) != way.gateway;
        if let (Some((device, _)), Some(gateway)) = (upnp.chosen().filter(is_elsewhere), way.gateway) {
            notes.push(format!(
                "The UPnP gateway is {}, the default route leads to {gateway}: only if that one forwards to the other, \
                 mappings by UPnP are of use.",
                device.address
            ));
        }
        if upnp.chosen().is_some_and(|(_, service)| service.nat_enabled == Some(false)) {
            notes.push("The UPnP gateway says that its NAT is switched off.".into());
        }
    }
    if findings.choice.is_nat_between() && findings.choice.protocol.is_some() {
        notes.push(
            "By PCP the gateway says that another NAT stands before it (AddressMismatch): mappings by UPnP-IGD may lead to \
             nobody."
                .into(),
        );
    }
    if let Some(Tried::Made { external_port, removed: false, .. }) = &findings.mapping {
        notes.push(format!(
            "The gateway did not confirm that the trial mapping (external UDP port {external_port}) is removed: it ends \
             with its lifetime, within two hours."
        ));
    }
    notes
}

/// What to do where the gateway is not the router that counts.
fn surroundings(findings: &Findings, way: &Way) -> Option<String> {
    let interface = way.interface.as_deref().unwrap_or("the interface");
    let advice = match findings.surroundings? {
        _ if way.gateway_is_named => return None,
        Surroundings::Vpn => format!(
            "The way to the internet leads through {interface}, which looks like a VPN: ports are opened by its provider, if \
             at all. To open them at the router at home, name it with --gateway."
        ),
        Surroundings::Wsl => {
            "This is Windows' subsystem for Linux, behind Windows' own NAT: use its mirrored network \
             (networkingMode=mirrored), or run plum on Windows."
                .into()
        }
        Surroundings::Container => {
            "This is a container, behind the NAT of its host: use the host's network (--network \
             host), or name the router with --gateway and publish the port on the host."
                .into()
        }
    };
    Some(advice)
}

/// An address of a provider's NAT.
fn is_carrier(address: IpAddr) -> bool {
    scope_of(address) == Scope::CarrierNat
}

fn gateway(way: &Way) -> String {
    way.gateway.map_or_else(|| "the gateway".to_owned(), |address| format!("the gateway {address}"))
}

/// With a capital letter.
fn upper(text: &(impl Display + ?Sized)) -> String {
    let text = text.to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
pub(super) mod tests;
