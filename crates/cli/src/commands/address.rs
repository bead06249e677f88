//! `plum address`: the external address, for scripts.

use crate::exit::{Exit, Failure};
use crate::inquiry::{Asker, Told, Whom};
use crate::network::{Questions, route_toward};
use crate::probe::{Tried, try_mapping};
use clap::Args;
use plum_engine::addresses::{Scope, is_public, scope_of};
use plum_engine::io::Socket;
use plum_engine::ipv6::{Choice, choose};
use serde::Serialize;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Print the external address, and nothing else
///
/// Asks by NAT-PMP and UPnP-IGD at the same time, and ends with the first answer. Where the gateway speaks PCP alone, which tells the
/// address only with a mapping, it makes one of a free port and removes it. An address that hosts on the internet cannot reach is
/// printed too, with a warning on standard error.
#[derive(Args, Debug)]
#[command(after_help = crate::exit::help())]
pub struct Arguments {
    /// Print the IPv6 address of this machine to which a pinhole would lead; no gateway is asked
    #[arg(long)]
    ipv6: bool,

    /// Print one JSON object (docs/json.md of the source explains its fields)
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    questions: Questions,
}

/// All that `--json` prints.
#[derive(Serialize)]
struct Object {
    external_address: IpAddr,
    /// `PCP`, `NAT-PMP`, `UPnP-IGD`; `direct`: it is the address of this machine.
    protocol: String,
    /// `public`, `carrier-nat`, `private`.
    scope: &'static str,
    gateway: Option<IpAddr>,
    took_ms: f64,
}

/// The address, what has told it, and the gateway that was asked.
struct Found {
    address: IpAddr,
    protocol: String,
    gateway: Option<IpAddr>,
    took: Duration,
}

/// Why there is none by IPv6 at a gateway.
const NO_IPV6: &str = "by IPv6 no address is translated: --ipv6 prints that of this machine";

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let whom = arguments.questions.whom(true)?;
    let found = if arguments.ipv6 { find_ipv6(&whom)? } else { find(&whom)? };
    let (scope, warning) = scope(found.address);
    let mut out = io::stdout().lock();
    if arguments.json {
        let object = Object {
            external_address: found.address,
            protocol: found.protocol,
            scope,
            gateway: found.gateway,
            took_ms: (found.took.as_secs_f64() * 1e6).round() / 1e3,
        };
        serde_json::to_writer(&mut out, &object).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", found.address)?;
    }
    out.flush()?;
    if let Some(warning) = warning {
        warn(&format!("{} {warning}", found.address));
    }
    Ok(Exit::Done)
}

fn warn(message: &str) {
    // Standard error is closed: the warning cannot be given.
    let _ = writeln!(anstream::stderr(), "plum: {message}");
}

/// The word for the scope of an address, and what is wrong with it.
fn scope(address: IpAddr) -> (&'static str, Option<&'static str>) {
    match scope_of(address) {
        Scope::CarrierNat => (
            "carrier-nat",
            Some("is an address of the provider's carrier-grade NAT: nobody on the internet reaches it"),
        ),
        Scope::Private if address.is_ipv6() => {
            ("private", Some("is no global address: nobody on the internet reaches it"))
        }
        Scope::Private => {
            ("private", Some("is a private address: another NAT stands between the gateway and the internet"))
        }
        Scope::Public | Scope::Unusable => ("public", None),
    }
}

fn find(whom: &Whom) -> Result<Found, Failure> {
    let route = route_toward(whom, NO_IPV6)?;
    if is_public(route.local) && whom.named.is_none() {
        let (address, took) = (route.local, Duration::ZERO);
        return Ok(Found { address, protocol: "direct".into(), gateway: None, took });
    }
    let mut asker = Asker::new(whom, route, &[Socket::NatPmp, Socket::Pcp, Socket::Ssdp])?;
    let told = asker.find_address(whom.until.min(Instant::now() + whom.patience));
    let inquiry = asker.inquiry();
    let (gateway, elapsed, is_cut) = (inquiry.gateway(), inquiry.elapsed(), inquiry.is_cut());
    let name = gateway.map_or_else(|| "the gateway".to_owned(), |address| format!("the gateway {address}"));
    match told {
        Told::Address { address, protocol, took } => {
            Ok(Found { address, protocol: protocol.to_string(), gateway, took })
        }
        Told::None => Err(Failure::new(
            Exit::Failed,
            format!(
                "{name} tells no external address: its internet connection is down (plum status tells more)"
            ),
        )),
        Told::OnlyWithMapping => {
            drop(asker);
            by_mapping(whom, gateway, &name, elapsed)
        }
        Told::Silence if is_cut => Err(Failure::new(
            Exit::Unfinished,
            format!("{name} has not answered in time (--timeout gives more)"),
        )),
        Told::Silence => Err(Failure::new(
            Exit::NoGateway,
            format!(
                "{name} does not answer: switch on NAT-PMP, UPnP or PCP in its settings (plum probe tells more)"
            ),
        )),
    }
}

/// By a mapping that is removed at once.
fn by_mapping(whom: &Whom, gateway: Option<IpAddr>, name: &str, elapsed: Duration) -> Result<Found, Failure> {
    match try_mapping(whom, false)? {
        Tried::Made { protocol, external_address, external_port, took, removed } => {
            if !removed {
                warn(&format!(
                    "the gateway did not confirm that the mapping of external UDP port {external_port} is removed: it ends with \
                     its lifetime, within two hours"
                ));
            }
            Ok(Found { address: external_address, protocol, gateway, took: elapsed + took })
        }
        Tried::Failed { reason } => Err(Failure::new(
            if whom.until <= Instant::now() { Exit::Unfinished } else { Exit::Failed },
            format!("{name} speaks PCP alone, which tells the address only with a mapping: {reason}"),
        )),
    }
}

/// The address that the library would open.
fn find_ipv6(whom: &Whom) -> Result<Found, Failure> {
    let zone = whom.named.as_ref().and_then(|gateway| gateway.zone.as_deref());
    let addresses = whom.uplink.find_ipv6_addresses(zone)?;
    let missing = |message: &str| Err(Failure::new(Exit::NoGateway, message));
    match choose(&addresses, None) {
        _ if addresses.interface.is_none() => missing("this machine has no IPv6 route to the internet"),
        Choice::Address(source) => Ok(Found {
            address: source.address.into(),
            protocol: "direct".into(),
            gateway: None,
            took: Duration::ZERO,
        }),
        Choice::Wait => missing("this machine's IPv6 addresses are still being checked for duplicates"),
        Choice::None => missing("this machine has no global IPv6 address"),
    }
}
