//! The options for the gateway, the protocols and the times.

use crate::exit::{Exit, Failure};
use crate::inquiry::Whom;
use clap::{Args, ValueEnum};
use plum::{Builder, Error, Gateway, Level, Obstacle, Protocols};
use plum_engine::io::Route;
use plum_engine::protocols::SILENCE;
use plum_runtime::net::{InterfaceError, Uplink};
use std::io::Write;
use std::time::{Duration, Instant};

/// How long all of a command that asks a gateway may take: a table of some thousand mappings at a usual gateway.
const DEFAULT_TIME: Duration = Duration::from_secs(60);

/// In effect for ever, and small enough to be added to any point in time.
const LONGEST_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What `plum unmap` asks by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// PCP, NAT-PMP, UPnP-IGD: the first of these that answers
    #[default]
    Any,
    /// PCP and NAT-PMP, which is its forerunner
    Pcp,
    /// UPnP-IGD
    Upnp,
}

/// The protocols that the library may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Allowed {
    /// PCP, NAT-PMP, UPnP-IGD: the first of these that answers
    #[default]
    Any,
    /// PCP and NAT-PMP, which is its forerunner
    Pcp,
    /// PCP without NAT-PMP
    PcpOnly,
    /// NAT-PMP without PCP
    NatPmp,
    /// UPnP-IGD
    Upnp,
}

impl From<Allowed> for Protocols {
    fn from(allowed: Allowed) -> Protocols {
        match allowed {
            Allowed::Any => Protocols::Any,
            Allowed::Pcp => Protocols::Pcp,
            Allowed::PcpOnly => Protocols::PcpOnly,
            Allowed::NatPmp => Protocols::NatPmpOnly,
            Allowed::Upnp => Protocols::Upnp,
        }
    }
}

/// The options of every command that speaks to a gateway.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub struct Network {
    /// Use this protocol only
    #[arg(long, value_enum, default_value_t)]
    pub protocol: Allowed,

    /// Ask this gateway in place of the one of the default route: ADDR, ADDR:PORT or [ADDR]:PORT, with a zone as in
    /// [fe80::1%eth0]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub gateway: Option<Gateway>,

    /// Look for the gateway by this interface in place of that of the default route, as in eth1 (Linux and Android)
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,

    /// How long finding a gateway may take [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub discover_timeout: Option<Duration>,

    /// How long one mapping may take at a gateway that was found [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub mapping_timeout: Option<Duration>,

    /// How often the gateway, and what could not be mapped, is looked at again [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub recheck: Option<Duration>,

    /// Log what happens to standard error; -vv: also decisions; -vvv: also packets
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Network {
    /// Whether the gateway is named, by the option or the environment.
    pub fn names_gateway(&self) -> bool {
        matches!(named_gateway(self.gateway.as_ref()), Ok(Some(_)))
    }

    /// The library with these settings.
    pub fn builder(&self) -> Result<Builder, Failure> {
        let mut builder = Builder::new().protocols(self.protocol.into());
        // The library itself ignores a value that names no gateway.
        if let Some(gateway) = named_gateway(self.gateway.as_ref())? {
            builder = builder.gateway(gateway);
        }
        if let Some(name) = &self.interface {
            builder = builder.interface(name);
        }
        if let Some(timeout) = self.discover_timeout {
            builder = builder.discover_timeout(timeout);
        }
        if let Some(timeout) = self.mapping_timeout {
            builder = builder.mapping_timeout(timeout);
        }
        if let Some(interval) = self.recheck {
            builder = builder.recheck_interval(interval);
        }
        let level = match self.verbose {
            0 => return Ok(builder),
            1 => Level::Info,
            2 => Level::Debug,
            _ => Level::Verbose,
        };
        Ok(builder.log(level, |level, message| {
            // If the log cannot be written, the command goes on without it.
            let _ = writeln!(anstream::stderr(), "{:<7} {message}", format!("{level:?}").to_uppercase());
        }))
    }
}

/// The options of the commands that ask a gateway once.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub struct Questions {
    /// Ask this gateway in place of the one of the default route: ADDR, ADDR:PORT or [ADDR]:PORT, with a zone as in
    /// [fe80::1%eth0]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub gateway: Option<Gateway>,

    /// Look for the gateway by this interface in place of that of the default route, as in eth1 (Linux and Android)
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,

    /// How long all of it may take [default: 60s, of which 10s to find a gateway; 3.75s where nobody answers]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub timeout: Option<Duration>,
}

impl Questions {
    /// The gateway to ask, and for how long from now on. `leaves_half`: half of a short time is for what is done after finding a gateway.
    pub fn whom(&self, leaves_half: bool) -> Result<Whom, Failure> {
        let span = |usual| self.timeout.map_or(usual, |timeout| timeout.min(LONGEST_TIME));
        // As long as the library takes to find a gateway.
        let patience = span(Duration::from_secs(10));
        Ok(Whom {
            named: named_gateway(self.gateway.as_ref())?,
            uplink: uplink(self.interface.as_deref())?,
            silence: SILENCE.min(if leaves_half { patience / 2 } else { patience }),
            patience,
            until: Instant::now() + span(DEFAULT_TIME),
        })
    }
}

/// The IPv4 route toward a gateway, without which a command can do nothing; `pinholes`: why not by IPv6.
pub fn route_toward(whom: &Whom, pinholes: &str) -> Result<Route, Failure> {
    if whom.is_ipv6() {
        return Err(Failure::new(Exit::Failed, pinholes));
    }
    let by = whom.uplink.name().map_or_else(String::new, |name| format!(" by {name}"));
    let message = || format!("there is no IPv4 route to a gateway{by}: connect to a network ({pinholes})");
    whom.route().ok_or_else(|| Failure::new(Exit::NoGateway, message()))
}

/// The interface by which a gateway is asked; one that is named has to be there.
fn uplink(name: Option<&str>) -> Result<Uplink, Failure> {
    let Some(name) = name else { return Ok(Uplink::default()) };
    let uplink = Uplink::named(name).map_err(|error| match error {
        InterfaceError::BadName => Error::BadInterface(name.to_owned()),
        InterfaceError::Unsupported => Error::InterfaceUnsupported,
    })?;
    if uplink.is_missing() {
        return Err(Error::NotMapped(Obstacle::NoInterface { interface: name.to_owned() }).into());
    }
    Ok(uplink)
}

/// The gateway that is named, by the option or by the environment variable that the library reads, too.
fn named_gateway(option: Option<&Gateway>) -> Result<Option<Gateway>, Failure> {
    match (option, std::env::var_os("PLUM_GATEWAY")) {
        (Some(gateway), _) => Ok(Some(gateway.clone())),
        (None, Some(text)) if !text.is_empty() => Ok(Some(text.to_string_lossy().parse()?)),
        (None, _) => Ok(None),
    }
}

/// A span of time of a command line: `90s`, `5m`, `2h 30m`, never zero.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it has to be longer than 0".into()),
        Ok(span) => Ok(span),
        Err(error) => Err(format!("{error}; write it as in 90s, 5m or 2h 30m")),
    }
}
