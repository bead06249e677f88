//! What the findings mean, and what to do.

use super::{Findings, Surroundings, Tried, Way};
use crate::exit::Exit;
use plum_engine::Reason;
use plum_engine::addresses::{Scope, scope_of};
use serde::Serialize;
use std::fmt::Display;
use std::net::IpAddr;

/// The overall result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
    /// This machine does not let the questions be sent.
    Firewalled,
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
    /// The address that others reach this machine at, if that is known.
    pub external_address: Option<IpAddr>,
    /// What it means, in a sentence.
    pub message: String,
    /// What to do about it, where there is something to do.
    pub advice: Option<String>,
    /// What else is remarkable, a sentence each.
    pub notes: Vec<String>,
    /// With more time it might be another.
    #[serde(skip)]
    pub is_unfinished: bool,
}

impl Verdict {
    pub fn exit(&self) -> Exit {
        match self.kind {
            Kind::Ready | Kind::Direct | Kind::DoubleNat | Kind::CarrierNat => Exit::Done,
            _ if self.is_unfinished => Exit::Unfinished,
            Kind::NotConnected | Kind::Refused | Kind::Firewalled => Exit::Failed,
            Kind::NoAnswer | Kind::Unreachable | Kind::NoNetwork => Exit::NoGateway,
        }
    }
}

/// The verdict on the findings.
pub fn judge(findings: &Findings) -> Verdict {
    let (kind, message, advice) = match &findings.way {
        None => (
            Kind::NoNetwork,
            "This machine has no route to the internet.".to_owned(),
            Some("Connect it to a network, or name a gateway with --gateway.".to_owned()),
        ),
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
        _ => usable(findings).map_or((None, None), |(protocol, external)| (Some(protocol), external)),
    };
    let is_unfinished = findings.unfinished.is_some();
    Verdict { kind, protocol, external_address, message, advice, notes: notes(findings), is_unfinished }
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
    let natpmp = findings.natpmp.answer().and_then(|natpmp| natpmp.external_address).map(IpAddr::from);
    let upnp = findings.upnp.answer().and_then(|upnp| upnp.chosen()?.1.external_address);
    // The library's order.
    if findings.pcp.answer().is_some_and(|pcp| pcp.is_usable) {
        return Some(("PCP".into(), natpmp.or(upnp)));
    }
    if natpmp.is_some() {
        return Some(("NAT-PMP".into(), natpmp));
    }
    upnp.map(|address| ("UPnP-IGD".into(), Some(address)))
}

fn judge_usable(
    findings: &Findings,
    way: &Way,
    protocol: &str,
    external: Option<IpAddr>,
) -> (Kind, String, Option<String>) {
    let what = if findings.mapping.is_some() { "were mapped for a trial" } else { "can be mapped" };
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
            (Kind::Ready, format!("Ports {what} by {protocol}: the external address is {address}."), None)
        }
        None => (
            Kind::Ready,
            format!("Ports {what} by {protocol}, which tells the external address only with a mapping."),
            Some("--try-map makes one, and removes it again.".into()),
        ),
    }
}

fn judge_unusable(findings: &Findings, way: &Way) -> (Kind, String, Option<String>) {
    let gateway = gateway(way);
    if let Some(Tried::Failed { reason }) = &findings.mapping {
        let advice = "Look at the gateway's settings for port mapping; -v shows what it answers.".to_owned();
        return (Kind::Refused, format!("A trial mapping could not be made: {reason}."), Some(advice));
    }
    let pcp = findings.pcp.answer();
    let natpmp = findings.natpmp.answer();
    let upnp = findings.upnp.answer();
    let service = upnp.and_then(|upnp| Some(upnp.chosen()?.1));
    if natpmp.is_some_and(|natpmp| natpmp.is_network_failure)
        || service.is_some_and(|service| service.is_without_address)
    {
        return (
            Kind::NotConnected,
            format!("{} has no connection to the internet: it has no external address.", upper(&gateway)),
            Some("Look at its connection (the cable, the access data, its log).".into()),
        );
    }
    if pcp.is_some_and(|pcp| pcp.is_address_mismatch) {
        return (
            Kind::Refused,
            format!("Another NAT stands between this machine and {gateway}, which therefore maps nothing."),
            Some(surroundings(findings, way).unwrap_or_else(|| {
                "Connect this machine to the network of that gateway itself (a second router in between can be made an \
                 access point)."
                    .into()
            })),
        );
    }
    let refusals: Vec<String> = [
        pcp.filter(|pcp| pcp.version >= 2).map(|pcp| format!("PCP says {}", pcp.result)),
        natpmp.and_then(|natpmp| natpmp.result.as_ref()).map(|result| format!("NAT-PMP says {result}")),
        upnp.and_then(|upnp| {
            let reason = match service {
                Some(service) => service.external_address_error.clone()?,
                None => {
                    upnp.unreadable.first().cloned().unwrap_or_else(|| "its services do not answer".into())
                }
            };
            Some(format!("UPnP-IGD: {reason}"))
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !refusals.is_empty() {
        return (
            Kind::Refused,
            format!("{} answers, but maps no ports ({}).", upper(&gateway), refusals.join("; ")),
            Some(format!(
                "Allow port mapping to this machine ({}) in its settings, or forward the port by hand there.",
                way.internal_address
            )),
        );
    }
    judge_silence(findings, way, &gateway)
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
        let is_elsewhere = |&(device, _): &(&super::Device, _)| Some(device.address) != way.gateway;
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
mod tests;
