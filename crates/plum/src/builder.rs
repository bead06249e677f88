//! The settings of a session.

use super::log::{Callback, Subscription};
use super::{Error, Level, Protocols, Session};
use plum_engine::io::OnCleanup;
use plum_runtime::client::{NamedGateway, Settings, parse_gateway};
use plum_runtime::net::{InterfaceError, Uplink};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The gateway to be asked, where it is not the one of the default route: its address, and the UDP port of PCP and NAT-PMP
/// if that is not 5351.
///
/// As text `ADDR`, `ADDR:PORT`, `[ADDR]` or `[ADDR]:PORT`, where a link-local IPv6 address may have a zone, as in
/// `[fe80::1%eth0]` or `fe80::1%2`. An IPv4 gateway is asked for mappings by IPv4 only, an IPv6 one for [pinholes](super::Request::ipv6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Gateway {
    /// Its address; neither unspecified, multicast, broadcast nor reserved (240.0.0.0/4).
    pub address: IpAddr,
    /// The UDP port of PCP and NAT-PMP; `None`: 5351.
    pub port: Option<u16>,
    /// The interface of a link-local IPv6 address, by name or number; `None`: that of the default route.
    pub zone: Option<String>,
}

impl From<IpAddr> for Gateway {
    fn from(address: IpAddr) -> Gateway {
        Gateway { address, port: None, zone: None }
    }
}

impl From<SocketAddr> for Gateway {
    fn from(address: SocketAddr) -> Gateway {
        let zone = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id().to_string()),
            _ => None,
        };
        Gateway { address: address.ip(), port: Some(address.port()), zone }
    }
}

impl FromStr for Gateway {
    type Err = Error;

    fn from_str(text: &str) -> Result<Gateway, Error> {
        match parse_gateway(text) {
            Ok(NamedGateway { address, port, zone }) => Ok(Gateway { address, port, zone }),
            Err(_) => Err(Error::BadGateway(text.to_owned())),
        }
    }
}

impl fmt::Display for Gateway {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.zone.as_ref().map(|zone| format!("%{zone}")).unwrap_or_default();
        match (self.address, self.port) {
            (address, None) => write!(f, "{address}{zone}"),
            (IpAddr::V4(address), Some(port)) => write!(f, "{address}:{port}"),
            (IpAddr::V6(address), Some(port)) => write!(f, "[{address}{zone}]:{port}"),
        }
    }
}

/// The settings of a session; [`Builder::start`] makes it.
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    protocols: Protocols,
    discover_timeout: Option<Duration>,
    mapping_timeout: Option<Duration>,
    recheck_interval: Option<Duration>,
    gateway: Option<Gateway>,
    interface: Option<String>,
    leaves_mappings: bool,
    log: Option<Subscription>,
}

impl Builder {
    /// The default settings: all protocols, the gateway of the default route (or the one that the environment variable
    /// `PLUM_GATEWAY` names), no log.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Which protocols may be used. Default: all.
    pub fn protocols(mut self, protocols: Protocols) -> Builder {
        self.protocols = protocols;
        self
    }

    /// The longest that finding a gateway may take. Default: 10 s. At least a millisecond, at most 24 days.
    pub fn discover_timeout(mut self, timeout: Duration) -> Builder {
        self.discover_timeout = Some(timeout);
        self
    }

    /// The longest that one mapping may take at a known gateway. Default: 10 s. At least a millisecond, at most 24 days.
    pub fn mapping_timeout(mut self, timeout: Duration) -> Builder {
        self.mapping_timeout = Some(timeout);
        self
    }

    /// How often the gateway is checked and failed mappings are tried again (changes of the network are noticed at
    /// once). Default: 5 min. At least 100 ms, at most 24 days.
    pub fn recheck_interval(mut self, interval: Duration) -> Builder {
        self.recheck_interval = Some(interval);
        self
    }

    /// The gateway to be asked, in place of the one of the default route or of `PLUM_GATEWAY`.
    pub fn gateway(mut self, gateway: impl Into<Gateway>) -> Builder {
        self.gateway = Some(gateway.into());
        self
    }

    /// The interface by which the gateway is looked for and asked, in place of that of the best route, as in `eth1`: on a machine
    /// with several uplinks it chooses one, for IPv4 and for [pinholes](super::Request::ipv6). Linux and Android only.
    ///
    /// A name has 1 to 15 bytes, without white space, `/` and `:`. The interface need not be there: it is looked up by its name each time,
    /// and while it is away mappings fail with [`Obstacle::NoInterface`](super::Obstacle::NoInterface). A [`gateway`](Builder::gateway)
    /// that is named too is asked by this interface.
    ///
    /// What the program answers to hosts on the internet is sent by the system's own routes. They have to lead by this interface too: on
    /// Linux by a rule for its address (`ip rule`).
    pub fn interface(mut self, name: impl Into<String>) -> Builder {
        self.interface = Some(name.into());
        self
    }

    /// The end of the session, by [`Session::close`] or a drop, leaves on the gateway what is mapped: there it ends with its
    /// [lifetime](super::Request::lifetime), which nobody renews. What was asked for and is not mapped is removed, as is a mapping that is
    /// dropped before the session.
    ///
    /// ```
    /// use plum::{Builder, Request};
    /// use std::time::Duration;
    /// # let server = plum_gateway::server::Server::start_on_own_address(|_| {})?;
    /// # let gateway = server.address();
    ///
    /// let plum = Builder::new().gateway(gateway).leave_mappings().start()?;
    /// let web = plum.map(Request::tcp(8080).lifetime(Duration::from_secs(3600)))?;
    /// web.wait(Duration::from_secs(10))?;
    /// plum.close()?;
    /// # assert_eq!(server.with_core(|core| core.table().len()), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leave_mappings(mut self) -> Builder {
        self.leaves_mappings = true;
        self
    }

    /// Where messages of this level and above go. Default: nowhere.
    ///
    /// The callback gets one message a call, without newline, from one thread at a time, and may be slow at the library's
    /// cost. Sessions and mappings may be made and dropped in it, but a session cannot be started. The log is the process's:
    /// the callback gets the messages of all its sessions, and while another session ends some may be lost.
    pub fn log(mut self, level: Level, callback: impl Fn(Level, &str) + Send + Sync + 'static) -> Builder {
        let callback: Callback = Arc::new(callback);
        self.log = Some(Subscription { level, callback });
        self
    }

    /// Starts a session: a thread that sends nothing before the first mapping is asked for.
    ///
    /// # Errors
    ///
    /// [`Error::NotStarted`]: the system gives no thread, no descriptor or no randomness, or the caller is a log callback.
    /// [`Error::BadGateway`]: no host has the address or port of the gateway, or its zone stands beside an address that is not link-local.
    /// [`Error::BadInterface`]: no interface can have the name. [`Error::InterfaceUnsupported`]: the system is neither Linux nor Android.
    pub fn start(self) -> Result<Session, Error> {
        let mut settings = Settings {
            library: concat!("libplum ", env!("CARGO_PKG_VERSION")),
            discover_timeout_millis: millis(self.discover_timeout),
            mapping_timeout_millis: millis(self.mapping_timeout),
            recheck_interval_millis: millis(self.recheck_interval),
            allowed: self.protocols,
            on_cleanup: if self.leaves_mappings { OnCleanup::Keep } else { OnCleanup::Remove },
            ..Settings::default()
        };
        match self.gateway {
            None => settings.read_gateway(),
            Some(gateway) => {
                let Gateway { address, port, zone } = gateway.clone();
                let named = NamedGateway { address, port, zone };
                if !named.is_possible() {
                    return Err(Error::BadGateway(gateway.to_string()));
                }
                settings.set_gateway(named);
            }
        }
        let uplink = match self.interface {
            None => Uplink::default(),
            Some(name) => Uplink::named(&name).map_err(|error| match error {
                InterfaceError::BadName => Error::BadInterface(name),
                InterfaceError::Unsupported => Error::InterfaceUnsupported,
            })?,
        };
        Session::start(settings, uplink, self.log)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("protocols", &self.protocols)
            .field("discover_timeout", &self.discover_timeout)
            .field("mapping_timeout", &self.mapping_timeout)
            .field("recheck_interval", &self.recheck_interval)
            .field("gateway", &self.gateway)
            .field("interface", &self.interface)
            .field("leaves_mappings", &self.leaves_mappings)
            .field("log_level", &self.log.as_ref().map(|log| log.level))
            .finish()
    }
}

/// A span as the settings have it: 0 is the default, so that less than a millisecond is one.
fn millis(span: Option<Duration>) -> i32 {
    span.map_or(0, |span| i32::try_from(span.as_millis()).unwrap_or(i32::MAX).max(1))
}
