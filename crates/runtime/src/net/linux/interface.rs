//! One interface of a name: the routes and addresses that are its own, and sockets that send by it.

#![forbid(unsafe_code)]

use super::super::uplink::Interface;
use super::super::{Route, find_route_with, interfaces, is_shortage, portable, tcp};
use super::{ipv6, main_table, route, set_unicast_interface};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route};
use socket2::{SockRef, Socket};
use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// linux/if.h: IFNAMSIZ, without the NUL.
const NAME_LEN_MAX: usize = 15;

/// An interface by its name, which may be there or not.
struct Named(String);

/// The interface of a name; `None`: no interface can have it.
pub fn named_interface(name: &str) -> Option<impl Interface + use<>> {
    // net/core/dev.c: dev_valid_name(). Control characters, which the kernel takes, are in no real name.
    let is_wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let is_name = (1..=NAME_LEN_MAX).contains(&name.len()) && ![".", ".."].contains(&name);
    (is_name && !name.contains(is_wrong)).then(|| Named(name.to_owned()))
}

impl Named {
    /// The address that the kernel would choose on the interface, with the next hop from the main table, if that can be read and has
    /// one.
    fn find_route_without_netlink(&self, index: u32, toward: IpAddr) -> io::Result<Option<Route>> {
        let socket = portable::open(toward)?;
        match SockRef::from(&socket).bind_device(Some(self.0.as_bytes())) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            other => other?,
        }
        let Some(local) = portable::source_toward(&socket, toward)? else { return Ok(None) };
        let entry = match toward {
            IpAddr::V4(toward) => {
                main_table::find(toward, |entry| entry.interface.as_bytes() == self.0.as_bytes())
            }
            IpAddr::V6(_) => None,
        };
        let gateway = entry.and_then(|entry| entry.gateway).map(IpAddr::from);
        Ok(Some(Route { gateway, local, interface: index }))
    }
}

impl Interface for Named {
    fn name(&self) -> &str {
        &self.0
    }

    fn find_index(&self) -> io::Result<Option<u32>> {
        let name = CString::new(&*self.0)?;
        let index = interfaces::index_of(&name);
        let error = io::Error::last_os_error();
        // POSIX has the second one.
        let is_none = [libc::ENODEV, libc::ENXIO].map(Some).contains(&error.raw_os_error());
        if index.is_some() || is_none { Ok(index) } else { Err(error) }
    }

    fn find_route(&self, toward: Option<IpAddr>) -> io::Result<Option<Route>> {
        let Some(index) = self.find_index()? else { return Ok(None) };
        find_route_with(toward, |toward| match route::find_route_by(index, toward) {
            // A sandbox refuses netlink.
            Err(error) if !is_shortage(&error) => self.find_route_without_netlink(index, toward),
            other => other,
        })
    }

    fn find_ipv6_addresses(&self, zone: Option<&str>) -> io::Result<Ipv6Addresses> {
        let index = self.find_index()?;
        // A link-local gateway on another interface is not reached by this one.
        let is_its = |_: &u32| zone.is_none_or(|zone| interfaces::of_zone(zone) == index);
        ipv6::find_ipv6_addresses_beside(index.filter(is_its))
    }

    fn find_ipv6_route(
        &self,
        source: Ipv6Addr,
        interface: u32,
        toward: Option<Ipv6Addr>,
    ) -> io::Result<Option<Ipv6Route>> {
        if self.find_index()? != Some(interface) {
            return Ok(None);
        }
        ipv6::find_ipv6_route_by(source, interface, toward)
    }

    fn bind(&self, socket: &Socket, remote: IpAddr) -> io::Result<()> {
        let by = self.find_route(Some(remote))?.map(|route| route.interface);
        if by.is_none() || by != self.find_index()? {
            return Ok(());
        }
        match socket.bind_device(Some(self.0.as_bytes())) {
            // Before Linux 5.7 programs without privileges may not: then the packets take the way of the best route, which is the
            // same one unless two networks have the same addresses.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        }
    }

    fn connect(&self, to: SocketAddr) -> io::Result<Socket> {
        let socket = tcp::open(to)?;
        self.bind(&socket, to.ip())?;
        tcp::connect(&socket, to)?;
        Ok(socket)
    }

    fn direct(&self, socket: &Socket, interface: u32) -> io::Result<()> {
        match self.find_index()? == Some(interface) {
            true => set_unicast_interface(socket, interface),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_an_interface_can_have() {
        for name in ["eth0", "wlp2s0", "enx0123456789ab", "br-1234", "eth0.7", "...", "ü"] {
            assert!(named_interface(name).is_some_and(|named| named.name() == name), "{name}");
        }
        for name in
            ["", ".", "..", "sixteen-letters!", "a/b", "eth0:1", "eth 0", "eth0\n", "a\0b", "a\u{2003}b"]
        {
            assert!(named_interface(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_has_no_route() {
        let named = named_interface("no-such-one").expect("a name");
        assert_eq!(named.find_index().expect("the kernel answers"), None);
        assert_eq!(named.find_route(None).expect("the kernel answers"), None);
    }
}
