//! `plum unmap`: removes mappings that programs have left behind.

use crate::exit::{Exit, Failure};
use crate::inquiry::Asker;
use crate::network::{Protocol, Questions, route_toward};
use crate::removal::{Outcome, Report, Sight, Target};
use crate::spec::{self, Port, Spec, transport_name};
use crate::table::Entry;
use clap::Args;
use plum_engine::io::Socket;
use plum_wire::Transport;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Instant;

/// Remove mappings at the gateway
///
/// Removes what is mapped to ports of this machine: by UPnP the entries that the gateway lists, by NAT-PMP what NAT-PMP has made, and then
/// asks PCP what is left. A mapping made by PCP can be removed only by the program that made it, which knows its nonce, unless the gateway removes it by
/// another protocol, as most do; else it ends with its lifetime, some hours after that program; so does a pinhole for IPv6. A running program makes its
/// mapping anew when it looks or renews. (plum map removes its mappings by itself.) Each port gets one line: "removed" if a mapping was seen and is gone, "is not mapped" if none
/// is there now, "is still mapped", or "may still be mapped".
#[derive(Args, Debug)]
#[command(after_help = crate::exit::help())]
pub struct Arguments {
    #[arg(required_unless_present_any = ["all", "row"], value_name = "PORT", value_parser = spec::parse_removal, help = "What to remove, as in 8080 or 6881/udp:16881", long_help = spec::HELP_OF_REMOVAL)]
    ports: Vec<Spec>,

    /// Remove all mappings to this machine: what `plum list` marks as its own, and what NAT-PMP has made
    ///
    /// Shows first what will be removed. Mappings by PCP that the gateway does not list by UPnP cannot be found; then the exit code is 1. Mappings of running
    /// programs are removed, too.
    #[arg(long, conflicts_with_all = ["ports", "row", "others"])]
    all: bool,

    /// With --all, show what would be removed, and remove nothing
    #[arg(long, requires = "all", conflicts_with_all = ["ports", "row"])]
    dry_run: bool,

    /// Remove a row of `plum list`, named by its first column, as in 18080/tcp
    #[arg(long, value_name = "EXTERNAL/TRANSPORT", value_parser = spec::parse_removal)]
    row: Vec<Spec>,

    /// By UPnP, remove mappings to other hosts of the network, too
    #[arg(long)]
    others: bool,

    /// Ask by this protocol only
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,

    /// Print a JSON object for each port, one a line (docs/json.md of the source explains the fields)
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    questions: Questions,
}

/// PCP asks for the nonce, UPnP for a number that only the program was told.
const NO_REMOVAL_OF_PINHOLES: &str =
    "only the program that opened a pinhole for IPv6 can remove it: it ends with its lifetime, within hours";

/// What came of the ports so far.
struct Progress {
    json: bool,
    heard: bool,
    all_done: bool,
}

impl Progress {
    fn tell(&mut self, report: &Report) -> io::Result<()> {
        let outcome = report.outcome();
        self.heard |= outcome != Outcome::NoAnswer;
        self.all_done &= outcome.is_done();
        let mut out = io::stdout();
        match outcome {
            // Said of all ports at once, in the end.
            Outcome::NoAnswer if !self.heard => Ok(()),
            _ if self.json => writeln!(out, "{}", report.json()),
            _ => writeln!(out, "{report}"),
        }
    }

    fn end(&self, target: &Target) -> Result<Exit, Failure> {
        if !self.heard {
            let message = "no gateway answers by UPnP, PCP or NAT-PMP (plum probe tells more)";
            return Err(Failure::new(Exit::NoGateway, message));
        }
        if target.is_cut {
            let message = "the time was over before every protocol had answered (--timeout gives more)";
            return Err(Failure::new(Exit::Unfinished, message));
        }
        Ok(match self.all_done {
            true => Exit::Done,
            false if target.until <= Instant::now() => Exit::Unfinished,
            false => Exit::Failed,
        })
    }
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let mut target = find(&arguments)?;
    let mut progress = Progress { json: arguments.json, heard: false, all_done: true };
    if arguments.all {
        return remove_all(&mut target, progress, arguments.dry_run);
    }
    remove_rows(&mut target, &mut progress, &arguments.row)?;
    remove_ports(&mut target, &mut progress, arguments.ports.iter().flat_map(Spec::ports))?;
    progress.end(&target)
}

fn remove_ports(
    target: &mut Target,
    progress: &mut Progress,
    ports: impl Iterator<Item = Port>,
) -> Result<(), Failure> {
    let mut ports = ports.peekable();
    while let Some(port) = ports.next_if(|_| Instant::now() < target.until) {
        progress.tell(&target.remove(port)?)?;
    }
    match ports.next() {
        Some(next) if progress.heard => Err(nothing_done(next, ports.count())),
        _ => Ok(()),
    }
}

fn nothing_done(next: Port, more: usize) -> Failure {
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    Failure::new(
        Exit::Unfinished,
        format!("the time was over: nothing was done about {next}{rest} (--timeout gives more)"),
    )
}

fn remove_rows(target: &mut Target, progress: &mut Progress, rows: &[Spec]) -> Result<(), Failure> {
    for row in rows.iter().flat_map(Spec::ports) {
        let report = match target.remove_row(row.transport, row.internal)? {
            Some(report) => report,
            None => Report {
                upnp: Sight::Absent,
                ..Report::new(Port { internal: 0, external: Some(row.internal), ..row })
            },
        };
        progress.tell(&report)?;
    }
    Ok(())
}

/// Removes all that is mapped to this machine.
fn remove_all(target: &mut Target, mut progress: Progress, is_dry: bool) -> Result<Exit, Failure> {
    let listed = target.listed();
    let plan = listed.as_deref().unwrap_or_default();
    if is_dry || !progress.json {
        let is_known_empty = plan.is_empty() && listed.is_ok() && target.upnp.is_some();
        if is_known_empty && !progress.json {
            writeln!(io::stdout(), "The UPnP list has no mapping to this machine.")?;
        }
        show_plan(plan, target.natpmp, progress.json)?;
    }
    if !is_dry {
        remove_ports(target, &mut progress, plan.iter().map(|(port, _)| *port))?;
        for transport in [Transport::Tcp, Transport::Udp] {
            let mut report = target.remove_unlisted(transport)?;
            report.are_others_listed = !plan.is_empty();
            if report.outcome() != Outcome::NoAnswer {
                progress.tell(&report)?;
            }
        }
    }
    let speaks_pcp = target.speaks_pcp()?;
    progress.heard |= target.upnp.is_some() || speaks_pcp;
    let exit = if is_dry && progress.heard { Exit::Done } else { progress.end(target)? };
    let has_upnp = target.upnp.is_some();
    let hidden = match (&listed, target.table()) {
        (Ok(_), Ok(table)) => {
            table.incomplete.as_ref().map(|why| format!("the list may not be complete: {why}"))
        }
        (Err(why), _) if has_upnp => Some(format!("the gateway does not show its mappings: {why}")),
        _ if speaks_pcp => Some("no gateway lists what PCP has mapped: it ends with its lifetime".to_owned()),
        _ => None,
    };
    match hidden {
        Some(what) => Err(Failure::new(Exit::Failed, format!("there may be more: {what}"))),
        None => Ok(exit),
    }
}

/// A port that `--dry-run` would remove.
#[derive(Serialize)]
struct Planned {
    outcome: &'static str,
    transport: &'static str,
    internal_port: u16,
    external_ports: Vec<u16>,
}

fn show_plan(plan: &[(Port, Vec<Entry>)], natpmp: bool, json: bool) -> io::Result<()> {
    let mut out = io::stdout();
    for (port, rows) in plan {
        if json {
            let planned = Planned {
                outcome: "would-remove",
                transport: transport_name(port.transport),
                internal_port: port.internal,
                external_ports: rows.iter().map(|row| row.external_port).collect(),
            };
            serde_json::to_writer(&mut out, &planned)?;
            writeln!(out)?;
            continue;
        }
        for row in rows {
            let external = row.external_port;
            let description =
                if row.description.is_empty() { String::new() } else { format!(" ({})", row.description) };
            writeln!(out, "{port} is mapped to external port {external}{description}")?;
        }
    }
    if natpmp && !json {
        let beside = if plan.is_empty() { "" } else { " too, listed or not" };
        writeln!(out, "What NAT-PMP has mapped to this machine is removed{beside}.")?;
    }
    Ok(())
}

/// The gateway, its protocols, and the deadline.
fn find(arguments: &Arguments) -> Result<Target, Failure> {
    let whom = arguments.questions.whom(true)?;
    let route = route_toward(&whom, NO_REMOVAL_OF_PINHOLES)?;
    let sockets: &[Socket] = match arguments.protocol {
        Protocol::Any => &[Socket::Pcp, Socket::NatPmp, Socket::Ssdp],
        Protocol::Pcp => &[Socket::Pcp, Socket::NatPmp],
        Protocol::Upnp => &[Socket::Ssdp],
    };
    let mut asker = Asker::new(&whom, route, sockets)?;
    let mut upnp = None;
    if arguments.protocol != Protocol::Pcp {
        upnp =
            asker.find_service(whom.until.min(Instant::now() + whom.patience))?.map(|(_, service)| service);
    }
    let has_server = arguments.protocol != Protocol::Upnp && asker.inquiry().gateway().is_some();
    let mut target = Target::new(asker, route.local, whom.until);
    (target.upnp, target.pcp, target.natpmp) = (upnp, has_server, has_server);
    target.others = arguments.others;
    Ok(target)
}
