//! Linux, and Android as far as it lets programs.

pub mod clock;
mod interface;
mod ipv6;
mod main_table;
mod netlink;
mod route;
mod watch;

pub(super) use interface::named_interface;
pub(super) use ipv6::is_on_link;
pub use ipv6::{find_ipv6_addresses, find_ipv6_route};
pub use route::find_hardware_address;
pub use watch::Watch;

use super::{Route, interfaces, is_shortage, portable};

use socket2::{Domain, InterfaceIndexOrAddress, Socket};
use std::ffi::CStr;
#[cfg(target_os = "linux")]
use std::ffi::c_char;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

/// Looks up the route toward an address. No packet is sent. `None`: there is none.
///
/// # Errors
///
/// The kernel could not be asked, or had no memory for an answer: whether there is a route is not known.
pub fn find_route(address: IpAddr) -> io::Result<Option<Route>> {
    match route::find_route(address) {
        // A sandbox refuses netlink.
        Err(error) if !is_shortage(&error) => find_route_without_netlink(address),
        other => other,
    }
}

/// The source address that the kernel would choose, with the next hop and interface from the main table, if it can be
/// read.
fn find_route_without_netlink(address: IpAddr) -> io::Result<Option<Route>> {
    let Some(route) = portable::find_route(address)? else { return Ok(None) };
    let IpAddr::V4(v4) = address else { return Ok(Some(route)) };
    let Some(entry) = main_table::find(v4, |_| true) else { return Ok(Some(route)) };
    // A rule may select another table, and an interface with another address.
    if let Some(gateway) = entry.gateway
        && portable::find_route(gateway.into())?.is_none_or(|toward_it| toward_it.local != route.local)
    {
        return Ok(Some(route));
    }
    let interface = interfaces::index_of(&entry.interface).unwrap_or(0);
    Ok(Some(Route { gateway: entry.gateway.map(IpAddr::from), interface, ..route }))
}

// As secure_getenv(3) declares it. glibc since 2.17 and musl have it; the libc crate does not name it for Linux.
#[cfg(target_os = "linux")]
unsafe extern "C" {
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

/// The value of an environment variable, unless this process runs with rights its caller does not have.
/// Bytes that are not UTF-8 become U+FFFD.
#[cfg(target_os = "linux")]
pub fn environment(name: &CStr) -> Option<String> {
    // SAFETY: secure_getenv(3) takes a NUL-terminated name. That nobody changes the environment until the value
    // is copied below is what getenv(3) asks of every C program.
    let value = unsafe { secure_getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: not null, so secure_getenv(3) returned a NUL-terminated string, which stays until the environment is changed.
    Some(unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
}

/// The value of an environment variable, unless this process runs with rights its caller does not have.
/// Bytes that are not UTF-8 become U+FFFD.
#[cfg(target_os = "android")] // which had no secure_getenv for long
pub fn environment(name: &CStr) -> Option<String> {
    // SAFETY: getauxval(3) takes a number and cannot do harm with any.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return None;
    }
    Some(std::env::var_os(name.to_str().ok()?)?.to_string_lossy().into_owned())
}

/// Where a listener for `group` is bound: to the group itself, or it would take other programs' unicast.
pub(super) fn listening_address(group: SocketAddr) -> SocketAddr {
    group
}

/// Lets other programs share the port, and excludes multicast groups that only they have joined.
pub(super) fn prepare_listener(
    socket: &Socket,
    #[cfg_attr(target_os = "android", expect(unused_variables))] group: SocketAddr,
) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    // For programs that share by this option only. Kernels before 3.9 refuse it and do not need it.
    let _ = socket.set_reuse_port(true);
    // ip(7): IP_MULTICAST_ALL is on by default and delivers the groups that any socket of this machine joined,
    // on whatever interface. Android has it too, but no crate names it there; its apps see one network.
    #[cfg(target_os = "linux")]
    if group.is_ipv4() {
        socket.set_multicast_all_v4(false)?;
    } else {
        socket.set_multicast_all_v6(false)?;
    }
    Ok(())
}

/// Joins an IPv4 group on one interface; where its index is not known, on that which has the local address.
pub(super) fn join_v4(socket: &Socket, group: Ipv4Addr, local: Ipv4Addr, interface: u32) -> io::Result<()> {
    let interface = match interface {
        0 => InterfaceIndexOrAddress::Address(local),
        index => InterfaceIndexOrAddress::Index(index),
    };
    socket.join_multicast_v4_n(&group, &interface)
}

/// Sends IPv4 multicasts from this socket out of `interface`. By its index: the local address may be that of
/// another one (`ip route ... src`).
pub(super) fn set_multicast_interface_v4(socket: &Socket, local: Ipv4Addr, interface: u32) -> io::Result<()> {
    let request = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: 0 },
        imr_address: libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) },
        imr_ifindex: i32::try_from(interface).map_err(io::Error::other)?,
    };
    set_option(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)
}

/// Sends unicasts of an unconnected socket out of `interface`.
fn set_unicast_interface(socket: &Socket, interface: u32) -> io::Result<()> {
    // linux/in.h, linux/in6.h; the libc crate does not name them for all systems.
    const IP_UNICAST_IF: libc::c_int = 50;
    const IPV6_UNICAST_IF: libc::c_int = 76;
    let index = interface.to_be();
    match socket.domain()? {
        Domain::IPV4 => set_option(socket, libc::IPPROTO_IP, IP_UNICAST_IF, &index),
        _ => set_option(socket, libc::IPPROTO_IPV6, IPV6_UNICAST_IF, &index),
    }
}

/// setsockopt(2). `T` is what the option reads: a struct or a number, without pointers.
fn set_option<T: Copy>(socket: &Socket, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: setsockopt(2) reads as many bytes as it is told from the value, which has them; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
