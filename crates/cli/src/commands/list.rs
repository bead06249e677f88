//! `plum list`: the mappings that a UPnP gateway has.

use crate::exit::{Exit, Failure};
use crate::inquiry::Asker;
use crate::network::{Questions, route_toward};
use crate::table::{self, Entry, Table};
use crate::upnp::service_name;
use crate::view::span;
use anstyle::Style;
use clap::Args;
use plum_engine::io::Socket;
use serde::Serialize;
use std::io::{self, Write};
use std::time::{Duration, Instant};

const BOLD: Style = Style::new().bold();
const OWN: Style = anstyle::AnsiColor::Green.on_default();
const QUIET: Style = Style::new().dimmed();

/// Show the mappings of a UPnP gateway
///
/// The table has what any program has mapped, by whatever protocol, as far as the gateway shows them by UPnP: by its list (WANIPConnection:2), else entry by entry. Free places
/// of its table are left out. PCP and NAT-PMP have no list, and pinholes for IPv6 have none by any protocol. (plum unmap removes mappings, and tells
/// of one port what PCP and NAT-PMP show.)
#[derive(Args, Debug)]
#[command(after_help = crate::exit::help())]
pub struct Arguments {
    /// Print one JSON object (docs/json.md of the source explains its fields)
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    questions: Questions,
}

/// Neither PCP nor WANIPv6FirewallControl:1 has a request for it.
const NO_LIST_OF_PINHOLES: &str = "pinholes for IPv6 cannot be listed: no protocol has a list of them";

/// All that `--json` prints.
#[derive(Serialize)]
struct Object<'a> {
    gateway: std::net::IpAddr,
    name: &'a str,
    service: &'static str,
    #[serde(flatten)]
    table: &'a Table,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let whom = arguments.questions.whom(false)?;
    let until = whom.until;
    let route = route_toward(&whom, NO_LIST_OF_PINHOLES)?;
    let mut asker = Asker::new(&whom, route, &[Socket::Ssdp])?;
    let Some((device, service)) = asker.find_service(until.min(Instant::now() + whom.patience))? else {
        let gateway = asker.inquiry().gateway();
        let who = match gateway {
            Some(address) => format!("the gateway {address} does not answer by UPnP"),
            None => "no gateway answers by UPnP".to_owned(),
        };
        return Err(Failure::new(
            Exit::NoGateway,
            format!(
                "{who}, and PCP and NAT-PMP have no list of mappings: switch UPnP on in its settings, or look for the list \
                 there (plum probe tells more)"
            ),
        ));
    };
    let table = table::read(&mut asker, &service, route.local, until).map_err(|error| {
        let exit = if until <= Instant::now() { Exit::Unfinished } else { Exit::Failed };
        Failure::new(exit, format!("the gateway does not show its mappings: {error}"))
    })?;
    let name = crate::text::clean(&device.about.unwrap_or_default().friendly_name);
    let address = device.location.address.ip();
    if arguments.json {
        let mut out = io::stdout().lock();
        let object = Object { gateway: address, name: &name, service: service_name(&service), table: &table };
        serde_json::to_writer(&mut out, &object).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        show(&mut anstream::stdout().lock(), &format!("\"{name}\" at {address}"), &table)?;
    }
    Ok(if table.is_cut { Exit::Unfinished } else { Exit::Done })
}

fn show(out: &mut impl Write, gateway: &str, table: &Table) -> io::Result<()> {
    if table.mappings.is_empty() {
        writeln!(out, "The gateway {gateway} has no mappings.")?;
    } else {
        let rows: Vec<[String; 4]> = table.mappings.iter().map(columns).collect();
        let head = ["EXTERNAL", "LEADS TO", "ENDS IN", "DESCRIPTION"].map(str::to_owned);
        let width = |column: usize| {
            rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths = [width(0), width(1), width(2)];
        let line = |row: &[String; 4]| {
            let [external, target, ends, description] = row;
            let [a, b, c] = widths;
            format!("{external:<a$}  {target:<b$}  {ends:<c$}  {description}").trim_end().to_owned()
        };
        writeln!(out, "{BOLD}{}{BOLD:#}", line(&head))?;
        for (entry, row) in table.mappings.iter().zip(&rows) {
            let style = match entry {
                Entry { enabled: Some(false), .. } => QUIET,
                Entry { is_this_machine: true, .. } => OWN,
                _ => Style::new(),
            };
            writeln!(out, "{style}{}{style:#}", line(row))?;
        }
    }
    if let Some(reason) = &table.incomplete {
        let what = if table.is_cut { "The list is not complete" } else { "There may be more" };
        writeln!(out, "{what}: {reason}.")?;
    }
    out.flush()
}

fn columns(entry: &Entry) -> [String; 4] {
    let port = entry.external_port;
    let transport = entry.transport.to_ascii_lowercase();
    let port = if port == 0 { "every port".to_owned() } else { port.to_string() };
    let external = if transport.is_empty() { port } else { format!("{port}/{transport}") };
    let external = match entry.remote_host.as_deref() {
        Some(remote) => format!("{external} from {remote}"),
        None => external,
    };
    let ends = match entry.lease_left_secs {
        Some(0) => "never".to_owned(),
        Some(secs) => span(Duration::from_secs(secs.into())),
        None => "unknown".to_owned(),
    };
    let mut marks = Vec::new();
    if entry.is_this_machine {
        marks.push("this machine");
    }
    if entry.enabled == Some(false) {
        marks.push("switched off");
    }
    let marks = if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) };
    let target = format!("{}:{}{marks}", entry.internal_client, entry.internal_port);
    [external, target, ends, entry.description.clone()]
}
