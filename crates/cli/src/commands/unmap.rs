//! `plum unmap`: removes mappings that programs have left behind.

use crate::exit::{Exit, Failure};
use crate::inquiry::Asker;
use crate::network::{Protocol, Questions, route_toward};
use crate::spec::{self, Port, Spec};
use crate::text::clean;
use crate::upnp::ActionError;
use clap::Args;
use plum_engine::io::Socket;
use plum_engine::upnp::code::NO_SUCH_ENTRY;
use plum_engine::upnp::{Action, Service};
use plum_engine::{Reason, driver};
use plum_wire::natpmp::ResultCode;
use plum_wire::soap;
use std::io::Write;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Instant;

/// Remove mappings at the gateway
///
/// UPnP removes by external port, NAT-PMP by port of this machine. A mapping made by PCP can be removed only by the program that made
/// it, which knows its nonce, unless the gateway keeps one table for PCP and NAT-PMP, as most do; else it ends with its lifetime,
/// some hours after that program. A running program makes its mapping anew. (plum map removes its mappings by itself.)
#[derive(Args, Debug)]
#[command(after_help = crate::exit::help())]
pub struct Arguments {
    #[arg(required = true, value_name = "PORT", help = "What to remove, as in 8080 or 6881/udp:16881", long_help = spec::HELP_OF_REMOVAL)]
    ports: Vec<Spec>,

    /// By UPnP, remove mappings to other hosts of the network, too
    #[arg(long)]
    others: bool,

    /// Ask by this protocol only
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,

    #[command(flatten)]
    questions: Questions,
}

/// The result for a port by one protocol.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The port is not mapped any more; the result in words.
    Gone(String),
    /// The port is still mapped, or may be; the reason.
    Left(String),
    /// The protocol is not spoken there.
    NotSpoken,
}

/// The gateway, and the protocols by which to ask it.
struct Target {
    asker: Asker,
    /// Whether NAT-PMP is to be asked.
    natpmp: bool,
    upnp: Option<Service>,
    /// The address of this machine.
    local: IpAddr,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let (mut target, until) = find(&arguments)?;
    let (mut heard, mut all_gone) = (false, true);
    let mut out = std::io::stdout();
    let mut ports = arguments.ports.iter().flat_map(Spec::ports).peekable();
    while let Some(port) = ports.next_if(|_| Instant::now() < until) {
        let mut outcomes = Vec::new();
        if let Some(service) = target.upnp.clone() {
            outcomes.push(target.by_upnp(&service, port, arguments.others, until));
        }
        if target.natpmp {
            let outcome = target.by_natpmp(port, until)?;
            // A gateway that is silent about one port is not asked about the others: each would take as long.
            target.natpmp = outcome != Outcome::NotSpoken;
            outcomes.push(outcome);
        }
        heard |= outcomes.iter().any(|outcome| *outcome != Outcome::NotSpoken);
        let mut gone = false;
        for outcome in &outcomes {
            match outcome {
                Outcome::Gone(how) => {
                    gone = true;
                    writeln!(out, "{port} {how}")?;
                }
                Outcome::Left(why) => writeln!(out, "{port} not removed: {why}")?,
                Outcome::NotSpoken => {}
            }
        }
        all_gone &= gone && !outcomes.iter().any(|outcome| matches!(outcome, Outcome::Left(_)));
    }
    if !heard {
        return Err(Failure::new(
            Exit::NoGateway,
            "no gateway answers by NAT-PMP or UPnP (plum probe tells more)",
        ));
    }
    if let Some(next) = ports.next() {
        let rest = match ports.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return Err(Failure::new(
            Exit::Unfinished,
            format!("the time was over: nothing was done about {next}{rest} (--timeout gives more)"),
        ));
    }
    Ok(match all_gone {
        true => Exit::Done,
        false if until <= Instant::now() => Exit::Unfinished,
        false => Exit::Failed,
    })
}

/// The gateway, its protocols, and the deadline.
fn find(arguments: &Arguments) -> Result<(Target, Instant), Failure> {
    let whom = arguments.questions.whom(true)?;
    let route = route_toward(&whom)?;
    let sockets: &[Socket] = match arguments.protocol {
        Protocol::Any => &[Socket::NatPmp, Socket::Ssdp],
        Protocol::Pcp => &[Socket::NatPmp],
        Protocol::Upnp => &[Socket::Ssdp],
    };
    let mut asker = Asker::new(&whom, route, sockets)?;
    let mut upnp = None;
    if arguments.protocol != Protocol::Pcp {
        upnp =
            asker.find_service(whom.until.min(Instant::now() + whom.patience))?.map(|(_, service)| service);
    }
    let natpmp = arguments.protocol != Protocol::Upnp && asker.inquiry().gateway().is_some();
    Ok((Target { asker, natpmp, upnp, local: route.local }, whom.until))
}

impl Target {
    fn by_natpmp(&mut self, port: Port, until: Instant) -> Result<Outcome, Failure> {
        let Some(internal) = NonZeroU16::new(port.internal) else { return Ok(Outcome::NotSpoken) };
        Ok(match self.asker.delete(port.transport, internal, until) {
            // RFC 6886 §3.4: it is a success, too, if there was none.
            driver::DeletionOutcome::Deleted | driver::DeletionOutcome::DeletedIn(_) => {
                Outcome::Gone("is mapped no more by NAT-PMP".into())
            }
            driver::DeletionOutcome::NotConfirmed(Reason::Unsupported | Reason::Result { code: 1, .. }) => {
                Outcome::Left(
                    "by PCP only the program that made a mapping can remove it; it ends with its lifetime"
                        .into(),
                )
            }
            driver::DeletionOutcome::NotConfirmed(Reason::Result { code, .. }) => {
                let result = ResultCode::from(code);
                Outcome::Left(format!("the gateway refuses by NAT-PMP: {result:?}"))
            }
            driver::DeletionOutcome::NotConfirmed(
                reason @ (Reason::Firewall | Reason::Unreachable | Reason::Shortage),
            ) => return Err(Failure::new(Exit::Failed, reason.to_string())),
            driver::DeletionOutcome::NotConfirmed(_) => Outcome::NotSpoken,
        })
    }

    fn by_upnp(&mut self, service: &Service, port: Port, others: bool, until: Instant) -> Outcome {
        let external = port.external_or_same();
        // Gateways let any host delete any mapping.
        match self.asker.call(service, Action::read_entry(port.transport, external), until) {
            Ok(values) => {
                let client = clean(soap::get(&values, "NewInternalClient").unwrap_or_default());
                if !others && client.parse() != Ok(self.local) {
                    return Outcome::Left(format!(
                        "external port {external} is mapped to {client}, not to this machine: --others removes it"
                    ));
                }
            }
            Err(ActionError::Refused { code: NO_SUCH_ENTRY, .. }) => {
                return Outcome::Gone(format!("is not mapped by UPnP: the external port {external} is free"));
            }
            // Some gateways cannot answer this; the deletion shows it.
            Err(_) if others => {}
            Err(error) => {
                return Outcome::Left(format!(
                    "the gateway does not say whose it is ({error}): --others removes it"
                ));
            }
        }
        match self.asker.call(service, Action::delete(port.transport, external), until) {
            Ok(_) => Outcome::Gone(format!("removed by UPnP: the external port {external} is free")),
            Err(ActionError::Refused { code: NO_SUCH_ENTRY, .. }) => {
                Outcome::Gone(format!("is not mapped by UPnP: the external port {external} is free"))
            }
            Err(error) => Outcome::Left(format!("by UPnP: {error}")),
        }
    }
}
