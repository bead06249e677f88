//! The findings on a terminal.

use super::ipv6::{Address, Firewall, Ipv6, NextHop, State};
use super::verdict::{Kind, Verdict};
use super::{Device, Finding, Findings, Pcp, Service, Tried};
use crate::view::span;
use anstyle::{AnsiColor, Style};
use std::io::{self, Write};
use std::time::Duration;

const GOOD: Style = AnsiColor::Green.on_default();
const POOR: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const QUIET: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Writes what was found and what it means; `details`: all that is known.
pub fn write(out: &mut impl Write, findings: &Findings, verdict: &Verdict, details: bool) -> io::Result<()> {
    if let Some(way) = &findings.way {
        let name = way.interface.as_deref().unwrap_or("unknown");
        let index = if details { format!(" (index {})", way.interface_index) } else { String::new() };
        row(out, "Interface", Style::new(), &format!("{name}{index}"), None)?;
        let kind = if way.is_public { " (public)" } else { "" };
        row(out, "Internal", Style::new(), &format!("{}{kind}", way.internal_address), None)?;
        let gateway = way.gateway.map_or_else(|| "no next hop".to_owned(), |address| address.to_string());
        let named = if way.gateway_is_named { " (named)" } else { "" };
        row(out, "Gateway", Style::new(), &format!("{gateway}{named}"), None)?;
        pcp(out, "PCP", &findings.pcp)?;
        natpmp(out, findings)?;
        upnp(out, findings, details)?;
        tried(out, findings.mapping.as_ref())?;
        let external =
            verdict.external_address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        row(out, "External", style(verdict.kind), &external, None)?;
    }
    let has_ipv6 = ipv6(out, &findings.ipv6, details)?;
    if findings.way.is_some() || has_ipv6 {
        writeln!(out)?;
    }
    let verdict_style = style(verdict.kind).bold();
    writeln!(out, "{verdict_style}{}{verdict_style:#}", verdict.message)?;
    if let Some(advice) = &verdict.advice {
        writeln!(out, "{advice}")?;
    }
    // Without a way by IPv4 the verdict is about IPv6.
    let by_ipv6 = verdict.ipv6_verdict.message.as_ref().filter(|_| findings.way.is_some());
    if let Some(message) = by_ipv6 {
        let advice =
            verdict.ipv6_verdict.advice.as_ref().map(|advice| format!(" {advice}")).unwrap_or_default();
        writeln!(out, "{BOLD}IPv6:{BOLD:#} {message}{advice}")?;
    }
    for note in &verdict.notes {
        writeln!(out, "{POOR}Note:{POOR:#} {note}")?;
    }
    out.flush()
}

fn style(kind: Kind) -> Style {
    match kind {
        Kind::Ready | Kind::Direct | Kind::Ipv6Only => GOOD,
        Kind::DoubleNat | Kind::CarrierNat => POOR,
        _ => BAD,
    }
}

/// `Name       what                                      12.3 ms`
fn row(out: &mut impl Write, name: &str, style: Style, what: &str, took: Option<Duration>) -> io::Result<()> {
    write!(out, "{BOLD}{name:<10}{BOLD:#} {style}{what}{style:#}")?;
    if let Some(took) = took {
        let room = 52_usize.saturating_sub(what.chars().count()).max(1);
        let millis = format!("{:.1} ms", took.as_secs_f64() * 1e3);
        write!(out, "{:room$}{QUIET}{millis:>10}{QUIET:#}", "")?;
    }
    writeln!(out)
}

/// What all protocols that do not answer have in common.
fn absent<T>(out: &mut impl Write, name: &str, finding: &Finding<T>) -> io::Result<()> {
    match finding {
        Finding::Answered { .. } => Ok(()),
        Finding::NotAsked => row(out, name, QUIET, "not asked: there is no next hop", None),
        Finding::Closed { took } => row(out, name, QUIET, "not there (port closed)", Some(*took)),
        Finding::Silent => row(out, name, QUIET, "no answer", None),
        Finding::NotSent { reason } => row(out, name, BAD, &format!("not asked: {reason}"), None),
    }
}

/// What a server says, or that it is silent about mappings.
fn refuses(result: Option<&String>) -> String {
    result.map_or_else(|| "no answer about mappings".to_owned(), |result| format!("refuses: {result}"))
}

fn up(epoch_secs: Option<u32>) -> String {
    epoch_secs.map_or_else(String::new, |secs| format!(", up {}", span(Duration::from_secs(secs.into()))))
}

fn pcp(out: &mut impl Write, name: &str, finding: &Finding<Pcp>) -> io::Result<()> {
    let Finding::Answered { took, answer: pcp } = finding else {
        return absent(out, name, finding);
    };
    let (style, what) = if pcp.version < 2 {
        (QUIET, format!("not spoken (the answer is of version {})", pcp.version))
    } else if pcp.is_usable {
        (GOOD, format!("version {}{}", pcp.version, up(pcp.epoch_secs)))
    } else {
        let refusal =
            [&pcp.map_result, &pcp.result].into_iter().flatten().find(|&result| result != "Success");
        (POOR, format!("{}{}", refuses(refusal), up(pcp.epoch_secs)))
    };
    row(out, name, style, &what, Some(*took))
}

/// Returns whether there was anything to write.
fn ipv6(out: &mut impl Write, found: &Ipv6, details: bool) -> io::Result<bool> {
    let Some(address) = found.address else {
        let what = match found.state {
            State::NoRoute => "no route",
            State::NoAddress => "no global address",
            State::Tentative => "addresses are being checked",
            State::Unknown | State::OtherFamily | State::Asked => return Ok(false),
        };
        row(out, "IPv6", QUIET, what, None)?;
        return Ok(true);
    };
    let interface = found.interface.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
    let reason = found.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    row(out, "IPv6", Style::new(), &format!("{address}{interface}{reason}"), None)?;
    if details {
        for other in found.addresses.iter().filter(|other| other.address != address) {
            writeln!(out, "{:11}{QUIET}not {}{}{QUIET:#}", "", other.address, marks(other))?;
        }
    }
    let named = if found.gateway_is_named { " (named)" } else { "" };
    let gateway = match (found.gateway, found.next_hop) {
        (Some(gateway), _) => format!("{gateway}{named}"),
        (None, Some(NextHop::OnLink)) => "none: hosts are reached on the link".to_owned(),
        (None, Some(NextHop::PointToPoint)) => "none: the link is point-to-point".to_owned(),
        (None, Some(NextHop::Router | NextHop::Unknown)) => "unknown".to_owned(),
        (None, None) => return Ok(true),
    };
    row(out, "Gateway", Style::new(), &gateway, None)?;
    for other in &found.other_routers {
        row(out, "", QUIET, &format!("{other} is another"), None)?;
    }
    pcp(out, "PCP (IPv6)", &found.pcp)?;
    firewall(out, &found.firewall, details)?;
    tried(out, found.mapping.as_ref())?;
    Ok(true)
}

/// Why an address was not chosen, as far as it shows that.
fn marks(address: &Address) -> String {
    let marks = [
        (address.is_tentative, "tentative"),
        (address.is_deprecated, "deprecated"),
        (address.is_temporary, "temporary"),
    ];
    let marks: Vec<&str> = marks.into_iter().filter_map(|(is_so, mark)| is_so.then_some(mark)).collect();
    if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) }
}

fn firewall(out: &mut impl Write, finding: &Finding<Firewall>, details: bool) -> io::Result<()> {
    let Finding::Answered { took, answer } = finding else {
        return absent(out, "Firewall", finding);
    };
    let allowed = match answer.inbound_pinhole_allowed {
        Some(true) => "pinholes by UPnP-IGD allowed",
        Some(false) => "no pinholes by UPnP-IGD allowed",
        None => "it is not told whether pinholes are allowed",
    };
    let (style, what) = match (answer.firewall_enabled, &answer.error) {
        (_, Some(error)) => (POOR, error.clone()),
        (Some(false), _) => (GOOD, "off".to_owned()),
        (Some(true), _) => {
            let style = if answer.inbound_pinhole_allowed == Some(true) { GOOD } else { POOR };
            (style, format!("on, {allowed}"))
        }
        (None, None) => (POOR, allowed.to_owned()),
    };
    row(out, "Firewall", style, &what, Some(*took))?;
    if details {
        writeln!(out, "{:11}{QUIET}\"{}\" at {}{QUIET:#}", "", answer.friendly_name, answer.control_url)?;
    }
    Ok(())
}

fn natpmp(out: &mut impl Write, findings: &Findings) -> io::Result<()> {
    let Finding::Answered { took, answer: natpmp } = &findings.natpmp else {
        return absent(out, "NAT-PMP", &findings.natpmp);
    };
    let up = up(natpmp.epoch_secs);
    let (style, what) = match (&natpmp.result, natpmp.external_address) {
        (None, _) => (QUIET, "not spoken (the answer is PCP's)".to_owned()),
        (_, Some(address)) if natpmp.is_usable => (GOOD, format!("external address {address}{up}")),
        (_, Some(address)) => {
            let refusal = natpmp.map_result.as_ref().filter(|&result| result != "Success");
            let refuses = if findings.choice.is_nat_between() {
                "behind another NAT".to_owned()
            } else {
                refuses(refusal)
            };
            (POOR, format!("external address {address}, {refuses}{up}"))
        }
        (Some(_), None) if natpmp.is_network_failure => (POOR, format!("no external address{up}")),
        (Some(result), None) => (POOR, format!("refuses: {result}{up}")),
    };
    row(out, "NAT-PMP", style, &what, Some(*took))
}

fn upnp(out: &mut impl Write, findings: &Findings, details: bool) -> io::Result<()> {
    let Finding::Answered { answer: upnp, .. } = &findings.upnp else {
        return absent(out, "UPnP-IGD", &findings.upnp);
    };
    let services = upnp.devices.iter().map(|device| device.services.len()).sum::<usize>();
    for device in &upnp.devices {
        let name = format!("\"{}\" at {}", device.friendly_name, device.address);
        row(out, "UPnP-IGD", GOOD, &name, Some(device.found))?;
        writeln!(out, "{:11}{}", "", model(device))?;
        if details {
            writeln!(out, "{:11}{QUIET}{}{QUIET:#}", "", device.location)?;
        }
        for service in &device.services {
            let (style, what) = standing(service);
            row(out, "", style, &what, Some(service.took))?;
            if details {
                let nat = match service.nat_enabled {
                    Some(true) => ", NAT on",
                    Some(false) => ", NAT off",
                    None => "",
                };
                writeln!(out, "{:11}{QUIET}{}{nat}{QUIET:#}", "", service.control_url)?;
            }
            if service.is_chosen && services > 1 {
                writeln!(out, "{:11}{QUIET}(libplum would use this one){QUIET:#}", "")?;
            }
        }
    }
    for reason in &upnp.unreadable {
        row(out, "UPnP-IGD", POOR, &format!("no description: {reason}"), None)?;
    }
    Ok(())
}

/// `AVM FRITZ!Box 7590, IGD 2`
fn model(device: &Device) -> String {
    let known = [device.manufacturer.as_str(), device.model_name.as_str()];
    let model: Vec<&str> = known.into_iter().filter(|part| !part.is_empty()).collect();
    let version = match device.igd_version {
        Some(version) => format!("IGD {version}"),
        None => "not called a gateway, but with its services".to_owned(),
    };
    if model.is_empty() { version } else { format!("{}, {version}", model.join(" ")) }
}

fn standing(service: &Service) -> (Style, String) {
    let name = service.name;
    let status = service.connection_status.as_deref().unwrap_or("does not answer");
    match (service.external_address, &service.external_address_error) {
        (Some(address), _) => {
            (if service.is_connected { GOOD } else { POOR }, format!("{name} {status}, {address}"))
        }
        (None, Some(error)) if service.is_alive => (POOR, format!("{name} {status}, no address: {error}")),
        (None, _) => (BAD, format!("{name} {status}")),
    }
}

fn tried(out: &mut impl Write, mapping: Option<&Tried>) -> io::Result<()> {
    match mapping {
        None => Ok(()),
        Some(Tried::Made { protocol, external_address, external_port, took, removed }) => {
            let end = if *removed { ", removed" } else { ", removal not confirmed" };
            let external = std::net::SocketAddr::new(*external_address, *external_port);
            row(out, "Trial", GOOD, &format!("{external} by {protocol}{end}"), Some(*took))
        }
        Some(Tried::Failed { reason }) => row(out, "Trial", BAD, reason, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::judge;
    use super::super::verdict::tests::{answered, by, pcp};
    use super::*;

    #[test]
    fn ipv6_has_rows_of_its_own() {
        let firewall = Firewall {
            address: "fe80::1".parse().unwrap(),
            friendly_name: "Router".into(),
            control_url: "http://[fe80::1]/ctl".into(),
            firewall_enabled: Some(true),
            inbound_pinhole_allowed: Some(false),
            error: None,
        };
        let other = Address {
            address: "2600::99".parse().unwrap(),
            interface_index: 2,
            is_temporary: true,
            is_deprecated: true,
            is_tentative: false,
            preferred_secs: Some(0),
        };
        let ipv6 = Ipv6 {
            uplink: None,
            state: State::Asked,
            interface: Some("eth0".into()),
            address: "2600::17".parse().ok(),
            reason: Some("stable"),
            addresses: vec![other],
            next_hop: Some(NextHop::Router),
            gateway: "fe80::1".parse().ok(),
            gateway_is_named: false,
            other_routers: vec!["fe80::2".parse().unwrap()],
            pcp: pcp("Success"),
            firewall: answered(firewall),
            choice: by("PCP"),
            mapping: None,
        };
        let findings = Findings { ipv6, ..Findings::default() };
        let mut out = Vec::new();
        write(&mut anstream::StripStream::new(&mut out), &findings, &judge(&findings), true).unwrap();
        let output = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = output.lines().collect();
        let [address, unchosen, gateway, another, pcp, firewall, device, "", verdict] = lines[..] else {
            panic!("{output}")
        };
        assert_eq!(address, "IPv6       2600::17 on eth0 (stable)");
        assert_eq!(unchosen, "           not 2600::99 (deprecated, temporary)");
        assert_eq!((gateway, another), ("Gateway    fe80::1", "           fe80::2 is another"));
        assert!(pcp.starts_with("PCP (IPv6) version 2, up 9 s ") && pcp.ends_with(" 7.0 ms"), "{pcp}");
        assert!(firewall.starts_with("Firewall   on, no pinholes by UPnP-IGD allowed "), "{firewall}");
        assert_eq!(device, "           \"Router\" at http://[fe80::1]/ctl");
        assert_eq!(verdict, "This machine has no IPv4 route; IPv6 pinholes by PCP, to 2600::17.");
    }
}
