//! By which interface gateways are looked for. Nothing else in the library knows that a program may name one.

#![forbid(unsafe_code)]

use super::Route;
#[cfg(netlink)]
use super::platform;
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route};
use socket2::Socket;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The interface by which gateways are looked for: by default that of the route to them, else the one of a name, which is looked up
/// anew each time, since interfaces come and go.
///
/// A name costs code only where one can be given: the C library, which never calls [`Uplink::named`], has none of it (nor of the
/// branches: `Machine::HAS_UPLINK`).
#[derive(Clone, Default)]
pub struct Uplink(Option<Arc<dyn Interface>>);

/// An interface that is named.
pub(super) trait Interface: Send + Sync {
    fn name(&self) -> &str;
    /// Its number; `None`: it is not there.
    fn find_index(&self) -> io::Result<Option<u32>>;
    /// As [`Uplink::find_route`].
    fn find_route(&self, toward: Option<IpAddr>) -> io::Result<Option<Route>>;
    /// As [`Uplink::find_ipv6_addresses`].
    fn find_ipv6_addresses(&self, zone: Option<&str>) -> io::Result<Ipv6Addresses>;
    /// As [`Uplink::find_ipv6_route`].
    fn find_ipv6_route(
        &self,
        source: Ipv6Addr,
        interface: u32,
        toward: Option<Ipv6Addr>,
    ) -> io::Result<Option<Ipv6Route>>;
    /// As [`Uplink::bind`].
    fn bind(&self, socket: &Socket, remote: IpAddr) -> io::Result<()>;
    /// As [`Uplink::connect`].
    fn connect(&self, to: SocketAddr) -> io::Result<Socket>;
    /// As [`Uplink::direct`].
    fn direct(&self, socket: &Socket, interface: u32) -> io::Result<()>;
}

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceError {
    /// No interface can have it.
    BadName,
    /// Interfaces cannot be chosen on this system.
    Unsupported,
}

impl Uplink {
    /// That of the best route.
    pub const fn best_route() -> Uplink {
        Uplink(None)
    }

    /// The interface of this name, whether it is there or not.
    ///
    /// # Errors
    ///
    /// No interface can have the name, or the system is neither Linux nor Android.
    pub fn named(name: &str) -> Result<Uplink, InterfaceError> {
        #[cfg(netlink)]
        return platform::named_interface(name)
            .map(|named| Uplink(Some(Arc::new(named))))
            .ok_or(InterfaceError::BadName);
        #[cfg(not(netlink))]
        {
            let _ = name;
            Err(InterfaceError::Unsupported)
        }
    }

    /// The name; `None`: none is named.
    pub fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|named| named.name())
    }

    /// Whether the interface that is named is not there.
    pub fn is_missing(&self) -> bool {
        self.0.as_ref().is_some_and(|named| matches!(named.find_index(), Ok(None)))
    }

    /// [`find_route`](super::find_route), by this interface.
    ///
    /// # Errors
    ///
    /// The lookup failed: it is unknown whether there is a route.
    pub fn find_route(&self, toward: Option<IpAddr>) -> io::Result<Option<Route>> {
        match &self.0 {
            None => super::find_route(toward),
            Some(named) => named.find_route(toward),
        }
    }

    /// [`find_ipv6_addresses`](super::find_ipv6_addresses), with this interface in the place of that of the route. A zone has to name
    /// the same one.
    ///
    /// # Errors
    ///
    /// The system could not be asked.
    pub fn find_ipv6_addresses(&self, zone: Option<&str>) -> io::Result<Ipv6Addresses> {
        match &self.0 {
            None => super::find_ipv6_addresses(zone),
            Some(named) => named.find_ipv6_addresses(zone),
        }
    }

    /// [`find_ipv6_route`](super::find_ipv6_route), by this interface; `None` also if the source is on another one.
    ///
    /// # Errors
    ///
    /// The lookup failed: it is unknown whether there is a route.
    pub fn find_ipv6_route(
        &self,
        source: Ipv6Addr,
        interface: u32,
        toward: Option<Ipv6Addr>,
    ) -> io::Result<Option<Ipv6Route>> {
        match &self.0 {
            None => super::find_ipv6_route(source, interface, toward),
            Some(named) => named.find_ipv6_route(source, interface, toward),
        }
    }

    /// Has what a socket that is going to be connected to `remote` sends go out of the interface that is named, whatever other routes
    /// there are.
    pub(super) fn bind(&self, socket: &Socket, remote: IpAddr) -> io::Result<()> {
        match &self.0 {
            None => Ok(()),
            Some(named) => named.bind(socket, remote),
        }
    }

    /// A TCP socket that is being connected by the interface that is named; `None`: none is.
    pub(super) fn connect(&self, to: SocketAddr) -> Option<io::Result<Socket>> {
        self.0.as_ref().map(|named| named.connect(to))
    }

    /// As [`Uplink::bind`] for an unconnected socket; `interface`: that of the route.
    pub(super) fn direct(&self, socket: &Socket, interface: u32) -> io::Result<()> {
        match &self.0 {
            None => Ok(()),
            Some(named) => named.direct(socket, interface),
        }
    }
}
