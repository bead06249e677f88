//! The findings on a terminal.

use super::verdict::{Kind, Verdict};
use super::{Device, Finding, Findings, Service, Tried};
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
        pcp(out, findings)?;
        natpmp(out, findings)?;
        upnp(out, findings, details)?;
        tried(out, findings)?;
        let external =
            verdict.external_address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        row(out, "External", style(verdict.kind), &external, None)?;
        writeln!(out)?;
    }
    let verdict_style = style(verdict.kind).bold();
    writeln!(out, "{verdict_style}{}{verdict_style:#}", verdict.message)?;
    if let Some(advice) = &verdict.advice {
        writeln!(out, "{advice}")?;
    }
    for note in &verdict.notes {
        writeln!(out, "{POOR}Note:{POOR:#} {note}")?;
    }
    out.flush()
}

fn style(kind: Kind) -> Style {
    match kind {
        Kind::Ready | Kind::Direct => GOOD,
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

fn up(epoch_secs: Option<u32>) -> String {
    epoch_secs.map_or_else(String::new, |secs| format!(", up {}", span(Duration::from_secs(secs.into()))))
}

fn pcp(out: &mut impl Write, findings: &Findings) -> io::Result<()> {
    let Finding::Answered { took, answer: pcp } = &findings.pcp else {
        return absent(out, "PCP", &findings.pcp);
    };
    let (style, what) = if pcp.version < 2 {
        (QUIET, format!("not spoken (the answer is of version {})", pcp.version))
    } else if pcp.is_usable {
        (GOOD, format!("version {}{}", pcp.version, up(pcp.epoch_secs)))
    } else {
        (POOR, format!("refuses: {}{}", pcp.result, up(pcp.epoch_secs)))
    };
    row(out, "PCP", style, &what, Some(*took))
}

fn natpmp(out: &mut impl Write, findings: &Findings) -> io::Result<()> {
    let Finding::Answered { took, answer: natpmp } = &findings.natpmp else {
        return absent(out, "NAT-PMP", &findings.natpmp);
    };
    let up = up(natpmp.epoch_secs);
    let (style, what) = match (&natpmp.result, natpmp.external_address) {
        (None, _) => (QUIET, "not spoken (the answer is PCP's)".to_owned()),
        (_, Some(address)) => (GOOD, format!("external address {address}{up}")),
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

fn tried(out: &mut impl Write, findings: &Findings) -> io::Result<()> {
    match &findings.mapping {
        None => Ok(()),
        Some(Tried::Made { protocol, external_address, external_port, took, removed }) => {
            let end = if *removed { ", removed" } else { ", removal not confirmed" };
            let external = std::net::SocketAddr::new(*external_address, *external_port);
            row(out, "Trial", GOOD, &format!("{external} by {protocol}{end}"), Some(*took))
        }
        Some(Tried::Failed { reason }) => row(out, "Trial", BAD, reason, None),
    }
}
