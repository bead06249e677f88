//! Requests: what a mapping is to be like.

use super::{Error, Transport};
use plum_engine::descriptions::Description;
use plum_engine::io::{Suggestion, Wanted};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

const MAX_LIFETIME_SECS: u64 = u32::MAX as u64;

/// A request for a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Request {
    pub(super) transport: Transport,
    pub(super) internal_port: u16,
    external_port: u16,
    external_address: Option<IpAddr>,
    is_exact: bool,
    /// 0: without end.
    #[cfg_attr(feature = "serde", serde(default))]
    lifetime_secs: Option<u32>,
    #[cfg_attr(feature = "serde", serde(default, with = "described"))]
    description: Option<Description>,
}

impl Request {
    /// A mapping to this port of this machine.
    pub const fn new(transport: Transport, internal_port: u16) -> Request {
        Request {
            transport,
            internal_port,
            external_port: 0,
            external_address: None,
            is_exact: false,
            lifetime_secs: None,
            description: None,
        }
    }

    /// A mapping to this TCP port of this machine.
    pub const fn tcp(internal_port: u16) -> Request {
        Request::new(Transport::Tcp, internal_port)
    }

    /// A mapping to this UDP port of this machine.
    pub const fn udp(internal_port: u16) -> Request {
        Request::new(Transport::Udp, internal_port)
    }

    /// The suggested external port; the gateway may assign another. 0 or not set: the internal port is suggested.
    #[must_use]
    pub const fn external_port(mut self, port: u16) -> Request {
        self.external_port = port;
        self
    }

    /// This external port or none: if the gateway assigns another, that is removed there again, and the mapping fails
    /// ([`Obstacle::Refused`](super::Obstacle::Refused)); if a mapping of the session has this internal port at another external port already, or no gateway
    /// is needed and the ports differ, it fails with [`Obstacle::OtherPort`](super::Obstacle::OtherPort). The library keeps trying.
    ///
    /// ```
    /// use plum::{Builder, Request};
    /// use std::time::Duration;
    /// # let server = plum_gateway::server::Server::start_on_own_address(|_| {})?;
    /// # let gateway = server.address();
    ///
    /// let plum = Builder::new().gateway(gateway).start()?;
    /// let web = plum.map(Request::tcp(8080).exact_external_port(443))?;
    /// assert_eq!(web.wait(Duration::from_secs(10))?.address.port(), 443);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn exact_external_port(mut self, port: u16) -> Request {
        self.is_exact = true;
        self.external_port(port)
    }

    /// A pinhole for IPv6 in place of a mapping of IPv4: to an address of this machine that the library chooses, through the
    /// gateway's firewall. The address is a stable one where there is any; when it goes, the pinhole moves to another.
    ///
    /// The external address and port are then those of this machine, as a rule. A request by IPv4 and one by IPv6 may have
    /// the same port.
    ///
    /// ```
    /// use plum::{Builder, Request};
    /// # let server = plum_gateway::server::Server::start_on_own_address(|_| {})?;
    ///
    /// let plum = Builder::new().start()?;
    /// # let plum = Builder::new().gateway(server.address()).start()?;
    /// let by_ipv4 = plum.map(Request::tcp(8080))?;
    /// let by_ipv6 = plum.map(Request::tcp(8080).ipv6())?;
    /// assert!(by_ipv6.is_ipv6() && !by_ipv4.is_ipv6());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn ipv6(self) -> Request {
        self.ipv6_address(Ipv6Addr::UNSPECIFIED)
    }

    /// A [pinhole](Request::ipv6) to this address of this machine, or to the one that a live pinhole with this external
    /// address leads to. With another address the mapping fails, until the machine has it.
    ///
    /// ```
    /// use plum::Request;
    ///
    /// let request = Request::udp(4242).ipv6_address("2600::17".parse()?);
    /// # assert_ne!(request, Request::udp(4242).ipv6());
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub const fn ipv6_address(mut self, address: Ipv6Addr) -> Request {
        self.external_address = Some(IpAddr::V6(address));
        self
    }

    /// The suggested external address, for gateways with several. (An IPv6 address is taken as by
    /// [`ipv6_address`](Request::ipv6_address).)
    #[must_use]
    pub const fn external_address(mut self, address: IpAddr) -> Request {
        self.external_address = Some(address);
        self
    }

    /// The lifetime that is asked for, in whole seconds (a fraction is another second), from 1 to 4294967295 s. Not set: two hours, for a
    /// pinhole one.
    ///
    /// The gateway decides, and [`Mapping::renewal`](super::Mapping::renewal) tells: many grant a day at most (RFC 6887 §15) or two minutes at least, a firewall
    /// a day, some UPnP gateways one hour only or entries without end only, which are taken then. The mapping is renewed as long as it
    /// is wanted, whatever its lifetime, each day at the latest; so the lifetime matters for what remains after the program: when it
    /// crashes, and with [`Builder::leave_mappings`](super::Builder::leave_mappings).
    ///
    /// Mappings of one transport and internal port share the lifetime that the first of them asks for.
    ///
    /// ```
    /// use plum::{Builder, Request};
    /// use std::time::Duration;
    /// # let server = plum_gateway::server::Server::start_on_own_address(|_| {})?;
    /// # let gateway = server.address();
    ///
    /// let plum = Builder::new().gateway(gateway).start()?;
    /// let web = plum.map(Request::tcp(8080).lifetime(Duration::from_secs(600)))?;
    /// web.wait(Duration::from_secs(10))?;
    /// let renewal = web.renewal().expect("it is made");
    /// assert!(renewal.expires_in.is_some_and(|left| left <= Duration::from_secs(600)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn lifetime(mut self, lifetime: Duration) -> Request {
        let secs = lifetime.as_secs().saturating_add((lifetime.subsec_nanos() > 0) as u64);
        self.lifetime_secs = Some(match secs {
            0 => 1,
            1..=MAX_LIFETIME_SECS => secs as u32,
            _ => u32::MAX,
        });
        self
    }

    /// A mapping that does not end: a UPnP entry with lease 0. PCP and NAT-PMP have none, so they are not asked; a UPnP gateway that takes
    /// leases only grants one, as [`Mapping::renewal`](super::Mapping::renewal) tells. There are no such pinholes for IPv6 ([`Error::PermanentPinhole`]).
    #[must_use]
    pub const fn permanent(mut self) -> Request {
        self.lifetime_secs = Some(0);
        self
    }

    /// What the mapping is called in the gateway's table, where its owner sees it: the description of a UPnP entry. Not set: `libplum`.
    /// PCP, NAT-PMP and the firewall of IPv6 have no place for it.
    ///
    /// It has 1 to 63 bytes of UTF-8 without control characters; white space around it is left out. Gateways may cut it, and some
    /// take ASCII only. Mappings of one transport and internal port share the description of the first.
    ///
    /// ```
    /// use plum::{Builder, Protocols, Request};
    /// use std::time::Duration;
    /// # let server = plum_gateway::server::Server::start_on_own_address(|_| {})?;
    /// # let gateway = server.address();
    ///
    /// let plum = Builder::new().gateway(gateway).protocols(Protocols::Upnp).start()?;
    /// let web = plum.map(Request::tcp(8080).description("Photos & more")?)?;
    /// web.wait(Duration::from_secs(10))?;
    /// # server.with_core(|core| assert!(core.table().iter().all(|entry| entry.description == "Photos & more")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadDescription`].
    pub fn description(mut self, text: &str) -> Result<Request, Error> {
        let description = Description::new(text).ok_or_else(|| Error::BadDescription(text.to_owned()))?;
        self.description = Some(description);
        Ok(self)
    }

    /// Whether a pinhole for IPv6 is asked for.
    pub(super) fn is_ipv6(self) -> bool {
        self.external_address.is_some_and(|address| address.to_canonical().is_ipv6())
    }

    pub(super) fn wanted(self) -> Result<Wanted, Error> {
        if self.is_exact && self.external_port == 0 {
            return Err(Error::PortZero);
        }
        if self.lifetime_secs == Some(0) && self.is_ipv6() {
            return Err(Error::PermanentPinhole);
        }
        Ok(Wanted {
            transport: self.transport,
            internal_port: NonZeroU16::new(self.internal_port).ok_or(Error::PortZero)?,
            wish: Suggestion {
                address: self.external_address,
                port: NonZeroU16::new(self.external_port),
                is_exact: self.is_exact,
                lifetime_secs: self.lifetime_secs,
                ..Suggestion::default()
            },
            description: self.description,
        })
    }
}

/// A description as text.
#[cfg(feature = "serde")]
mod described {
    use super::Description;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        description: &Option<Description>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        description.as_ref().map(Description::as_str).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Description>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        let read =
            |text: String| Description::new(&text).ok_or_else(|| D::Error::custom("a bad description"));
        text.map(read).transpose()
    }
}
