//! `plum unmap`: removes mappings that programs have left behind.

use crate::exit::{Exit, Failure};
use crate::natpmp::{self, Deletion};
use crate::network::{Protocol, Questions};
use crate::spec::{self, Port, Spec, transport_name};
use crate::text::clean;
use crate::upnp::{self, ActionError, Service};
use clap::Args;
use plum_wire::soap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Instant;

/// UPnP's NoSuchEntryInArray (WANIPConnection:1 §2.4.17): there is no such mapping.
const NO_SUCH_ENTRY: i64 = 714;

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

/// What became of a port by one protocol.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It is mapped no more, as the gateway says in these words.
    Gone(String),
    /// It is, or may be, still mapped: why.
    Left(String),
    /// The protocol is not spoken there.
    NotSpoken,
}

/// The gateway, by the protocols that it is to be asked by.
struct Target {
    natpmp: Option<SocketAddr>,
    upnp: Option<(Service, IpAddr)>,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let until = arguments.questions.deadline();
    let mut target = find(&arguments, until)?;
    let (mut heard, mut all_gone) = (false, true);
    let mut out = std::io::stdout();
    let mut ports = arguments.ports.iter().flat_map(Spec::ports).peekable();
    while let Some(port) = ports.next_if(|_| Instant::now() < until) {
        let mut outcomes = Vec::new();
        if let Some((service, local)) = &target.upnp {
            outcomes.push(by_upnp(service, *local, port, arguments.others, until));
        }
        if let Some(gateway) = target.natpmp {
            let outcome = by_natpmp(gateway, port, until)?;
            // A gateway that is silent about one port is not asked about the others: each would take as long.
            target.natpmp = target.natpmp.filter(|_| outcome != Outcome::NotSpoken);
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

/// Finds out whom to ask.
fn find(arguments: &Arguments, until: Instant) -> Result<Target, Failure> {
    let named = arguments.questions.named_gateway()?;
    let address = named.map(|gateway| gateway.address);
    let route = plum_runtime::net::look_up_route(address).ok_or_else(|| {
        Failure::new(Exit::NoGateway, "there is no route to a gateway: connect to a network")
    })?;
    let gateway = address.or(route.gateway);
    let natpmp = gateway.filter(|_| arguments.protocol != Protocol::Upnp).map(|address| {
        SocketAddr::new(address, named.and_then(|gateway| gateway.port).unwrap_or(natpmp::PORT))
    });
    let mut upnp = None;
    if arguments.protocol != Protocol::Pcp {
        let until = until.min(Instant::now() + arguments.questions.patience());
        // Half of a short time is for NAT-PMP.
        let silence = arguments.questions.silence().min(arguments.questions.patience() / 2);
        let mut devices = upnp::find(address, silence, until)?;
        if let Some((device, service)) = upnp::choose(&devices, gateway, until) {
            upnp = Some((devices.swap_remove(device).services.swap_remove(service), route.local));
        }
    }
    Ok(Target { natpmp, upnp })
}

fn by_natpmp(gateway: SocketAddr, port: Port, until: Instant) -> Result<Outcome, Failure> {
    let Some(internal) = NonZeroU16::new(port.internal) else { return Ok(Outcome::NotSpoken) };
    Ok(match natpmp::delete(gateway, port.transport, internal, until)? {
        // RFC 6886 §3.4: it is a success, too, if there was none.
        Deletion::Deleted => Outcome::Gone("is mapped no more by NAT-PMP".into()),
        Deletion::Refused(result) => Outcome::Left(format!("the gateway refuses by NAT-PMP: {result:?}")),
        Deletion::SpeaksPcp => Outcome::Left(
            "by PCP only the program that made a mapping can remove it; it ends with its lifetime".into(),
        ),
        Deletion::Silent => Outcome::NotSpoken,
    })
}

fn by_upnp(service: &Service, local: IpAddr, port: Port, others: bool, until: Instant) -> Outcome {
    let external = port.external_or_same();
    let external_text = external.to_string();
    let protocol = transport_name(port.transport).to_ascii_uppercase();
    let entry = [("NewRemoteHost", ""), ("NewExternalPort", &external_text), ("NewProtocol", &protocol)];
    // Gateways let any host delete any mapping.
    match service.call("GetSpecificPortMappingEntry", &entry, until) {
        Ok(values) => {
            let client = clean(soap::get(&values, "NewInternalClient").unwrap_or_default());
            if !others && client.parse() != Ok(local) {
                return Outcome::Left(format!(
                    "external port {external} is mapped to {client}, not to this machine: --others removes it"
                ));
            }
        }
        Err(ActionError::Refused { code: NO_SUCH_ENTRY, .. }) => {
            return Outcome::Gone(format!("is not mapped by UPnP: the external port {external} is free"));
        }
        // Some cannot tell: the deletion will show.
        Err(_) if others => {}
        Err(error) => {
            return Outcome::Left(format!(
                "the gateway does not say whose it is ({error}): --others removes it"
            ));
        }
    }
    match service.call("DeletePortMapping", &entry, until) {
        Ok(_) => Outcome::Gone(format!("removed by UPnP: the external port {external} is free")),
        Err(ActionError::Refused { code: NO_SUCH_ENTRY, .. }) => {
            Outcome::Gone(format!("is not mapped by UPnP: the external port {external} is free"))
        }
        Err(error) => Outcome::Left(format!("by UPnP: {error}")),
    }
}
