//! `plum status`: the gateway's connection to the internet.

use crate::exit::{Exit, Failure};
use crate::inquiry::{Asker, Inquiry, is_usable};
use crate::network::{Questions, route_toward};
use crate::text::clean;
use crate::upnp::{Values, service_name};
use crate::view::span;
use anstyle::{AnsiColor, Style};
use clap::Args;
use plum_engine::io::Socket;
use plum_engine::upnp::{Outcome, Service};
use plum_wire::soap;
use serde::Serialize;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// Show the gateway's connection to the internet: state, address, rates, traffic
///
/// As far as the gateway tells: by UPnP-IGD all of it, by NAT-PMP the external address, by PCP and NAT-PMP for how long the server has
/// known its mappings (the epoch). Ends with 1 where the gateway says that it is not connected.
#[derive(Args, Debug)]
#[command(after_help = crate::exit::help())]
pub struct Arguments {
    /// Print one JSON object (docs/json.md of the source explains its fields)
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    questions: Questions,
}

/// All that is told, and what `--json` prints.
#[derive(Debug, Default, Serialize)]
struct Status {
    /// `None`: nobody says so, or the opposite.
    is_connected: Option<bool>,
    external_address: Option<IpAddr>,
    connection_status: Option<String>,
    last_connection_error: Option<String>,
    uptime_secs: Option<u64>,
    connection_type: Option<String>,
    access_type: Option<String>,
    link_status: Option<String>,
    max_bit_rate_down: Option<u64>,
    max_bit_rate_up: Option<u64>,
    bytes_received: Option<u64>,
    bytes_sent: Option<u64>,
    packets_received: Option<u64>,
    packets_sent: Option<u64>,
    pcp_epoch_secs: Option<u32>,
    natpmp_epoch_secs: Option<u32>,
    gateway: Option<IpAddr>,
    name: Option<String>,
    service: Option<&'static str>,
}

const NO_IPV6: &str = "no protocol tells about a connection by IPv6: plum probe tells about the firewall";

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let whom = arguments.questions.whom(false)?;
    let route = route_toward(&whom, NO_IPV6)?;
    let mut asker = Asker::new(&whom, route, &[Socket::Pcp, Socket::NatPmp, Socket::Ssdp])?;
    let service = asker.ask_for_status(whom.until.min(Instant::now() + whom.patience));
    let mut status = Status { gateway: asker.inquiry().gateway(), ..Status::default() };
    if let Some(service) = &service {
        let link = asker.ask_for_link(service, whom.until);
        status.note_link(&link);
        status.note_service(asker.inquiry(), service);
    }
    status.note_servers(asker.inquiry());
    if service.is_none() && status.pcp_epoch_secs.or(status.natpmp_epoch_secs).is_none() {
        let name = match status.gateway {
            Some(address) => format!("the gateway {address}"),
            None => "the gateway".to_owned(),
        };
        let message = format!("{name} answers none of UPnP, NAT-PMP and PCP (plum probe tells more)");
        return Err(Failure::new(Exit::NoGateway, message));
    }
    if arguments.json {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &status).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        status.show(&mut anstream::stdout().lock())?;
    }
    Ok(if status.is_connected == Some(false) { Exit::Failed } else { Exit::Done })
}

/// An out argument; `None`: missing or empty.
fn word(values: &Values, name: &str) -> Option<String> {
    soap::get(values, name).map(|text| clean(text.trim())).filter(|text| !text.is_empty())
}

fn number(values: &Values, name: &str) -> Option<u64> {
    word(values, name)?.parse().ok()
}

impl Status {
    fn note_service(&mut self, inquiry: &Inquiry, service: &Service) {
        self.service = Some(service_name(service));
        for (device, _) in inquiry.devices() {
            if device.number == service.device {
                self.gateway = Some(device.location.address.ip());
                self.name = device.about.as_ref().map(|about| clean(&about.friendly_name));
            }
        }
        let said = |action| inquiry.said(service, action).unwrap_or_default();
        let info = said("GetStatusInfo");
        self.connection_status = word(&info, "NewConnectionStatus");
        self.last_connection_error = word(&info, "NewLastConnectionError");
        self.uptime_secs = number(&info, "NewUptime");
        self.connection_type = word(&said("GetConnectionTypeInfo"), "NewConnectionType");
        let address = Outcome::Done(said("GetExternalIPAddress")).external_address();
        self.external_address = address.filter(|&address| is_usable(address));
        self.is_connected = self.connection_status.as_ref().map(|_| Outcome::Done(info).is_connected());
    }

    fn note_link(&mut self, values: &Values) {
        self.access_type = word(values, "NewWANAccessType");
        self.link_status = word(values, "NewPhysicalLinkStatus");
        self.max_bit_rate_down = number(values, "NewLayer1DownstreamMaxBitRate");
        self.max_bit_rate_up = number(values, "NewLayer1UpstreamMaxBitRate");
        self.bytes_received = number(values, "NewTotalBytesReceived");
        self.bytes_sent = number(values, "NewTotalBytesSent");
        self.packets_received = number(values, "NewTotalPacketsReceived");
        self.packets_sent = number(values, "NewTotalPacketsSent");
    }

    /// What PCP and NAT-PMP add.
    fn note_servers(&mut self, inquiry: &Inquiry) {
        self.pcp_epoch_secs = inquiry.pcp_epoch_secs();
        let Some((epoch_secs, is_down)) = inquiry.natpmp_status() else { return };
        self.natpmp_epoch_secs = Some(epoch_secs);
        let address = inquiry.natpmp_address().filter(|&address| is_usable(address));
        self.external_address = self.external_address.or(address);
        let is_up = address.is_some().then_some(true).or(is_down.then_some(false));
        self.is_connected = self.is_connected.or(is_up);
    }

    fn show(&self, out: &mut impl Write) -> io::Result<()> {
        let secs = |secs: u64| span(Duration::from_secs(secs));
        let gateway = match (&self.name, self.gateway) {
            (Some(name), Some(address)) => format!("\"{name}\" at {address}"),
            (_, address) => address.map_or_else(|| "unknown".to_owned(), |address| address.to_string()),
        };
        row(out, "Gateway", Style::new(), &gateway)?;
        let (style, state) = match self.is_connected {
            Some(true) => (GOOD, "connected"),
            Some(false) => (BAD, "not connected"),
            None => (Style::new(), "unknown"),
        };
        let mut state = state.to_owned();
        if let Some(uptime) = self.uptime_secs.filter(|_| self.is_connected == Some(true)) {
            state += &format!(" for {}", secs(uptime));
        }
        if let (Some(service), Some(status)) = (self.service, &self.connection_status) {
            state += &format!(" ({service}: {status}");
            let error = self.last_connection_error.as_ref().filter(|error| *error != "ERROR_NONE");
            state += &error.map_or_else(String::new, |error| format!(", {error}"));
            state += ")";
        }
        row(out, "Internet", style, &state)?;
        let external = self.external_address.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        row(out, "External", Style::new(), &external)?;
        let link = [&self.access_type, &self.link_status, &self.connection_type].into_iter().flatten();
        let rates = [(self.max_bit_rate_down, "down"), (self.max_bit_rate_up, "up")].into_iter();
        let rates = rates.filter_map(|(rate, way)| rate.filter(|&rate| rate > 0).map(|rate| (rate, way)));
        let rates = rates.map(|(rate, way)| format!("{} {way}", scaled(rate, "bit/s")));
        list(out, "Link", &link.cloned().chain(rates).collect::<Vec<_>>())?;
        let traffic = [
            ("received", self.bytes_received, self.packets_received),
            ("sent", self.bytes_sent, self.packets_sent),
        ];
        let traffic = traffic.into_iter().filter_map(|(way, bytes, packets)| {
            let packets = packets.map_or_else(String::new, |packets| format!(" in {packets} packets"));
            bytes.map(|bytes| format!("{way} {}{packets}", scaled(bytes, "B")))
        });
        list(out, "Traffic", &traffic.collect::<Vec<_>>())?;
        for (name, epoch) in [("PCP", self.pcp_epoch_secs), ("NAT-PMP", self.natpmp_epoch_secs)] {
            if let Some(epoch) = epoch {
                row(out, name, Style::new(), &format!("up {}", secs(epoch.into())))?;
            }
        }
        out.flush()
    }
}

/// `Name       what`
fn row(out: &mut impl Write, name: &str, style: Style, what: &str) -> io::Result<()> {
    writeln!(out, "{BOLD}{name:<10}{BOLD:#} {style}{what}{style:#}")
}

/// A row of several, if there are any.
fn list(out: &mut impl Write, name: &str, parts: &[String]) -> io::Result<()> {
    if parts.is_empty() { Ok(()) } else { row(out, name, Style::new(), &parts.join(", ")) }
}

/// `2.3 GB`, `100 Mbit/s`: with a decimal prefix, and a digit behind the point below ten.
fn scaled(value: u64, unit: &str) -> String {
    let prefixes = ["", "k", "M", "G", "T", "P", "E"];
    let (mut rest, mut prefix) = (value as f64, 0);
    // What would be rounded to a thousand has the next prefix.
    while rest >= 999.5 && prefix + 1 < prefixes.len() {
        (rest, prefix) = (rest / 1000.0, prefix + 1);
    }
    let digits = usize::from(prefix > 0 && rest < 9.95);
    format!("{rest:.digits$} {}{unit}", prefixes[prefix])
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn numbers_have_prefixes() {
        for (value, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_940, "9.9 kB"),
            (9_960, "10 kB"),
            (999_400, "999 kB"),
            (999_600, "1.0 MB"),
            (2_345_678_901, "2.3 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(scaled(value, "B"), text);
        }
    }
}
