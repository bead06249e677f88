//! The interface that received a datagram, and the prefix length of our network: these show whether a sender is on the
//! link.

use super::interfaces;
use libc::{c_int, c_void, cmsghdr};
use socket2::{SockAddr, SockAddrStorage};
use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::from_ref;

/// The socket option of IPv4, and the type of the control message with the interface. ip(7): IP_PKTINFO, whose in_pktinfo
/// begins with the index; ip(4) of the BSDs: IP_RECVIF, whose sockaddr_dl has it.
#[cfg(netlink)]
const TOLD_BY: c_int = libc::IP_PKTINFO;
#[cfg(routing_sockets)]
const TOLD_BY: c_int = libc::IP_RECVIF;

/// RFC 3542 §6.2: the index in an in6_pktinfo, behind the address.
const IPV6_INDEX_AT: usize = 16;

/// Room for one control message, aligned as its header has to be. A sockaddr_dl has up to 56 bytes.
#[repr(C, align(16))]
struct Control([u8; 96]);

/// The offset of the data in a control message.
const MESSAGE_AT: usize = {
    // SAFETY: it only computes with numbers.
    let len = unsafe { libc::CMSG_LEN(0) };
    len as usize
};

/// The index of the loopback interface; 0: not known.
fn loopback() -> u32 {
    // include/net/flow.h: LOOPBACK_IFINDEX.
    #[cfg(netlink)]
    return 1;
    #[cfg(routing_sockets)]
    return interfaces::index_of(c"lo0").unwrap_or(0);
}

/// Requests the interface of each datagram of a socket of the family of `local`. If the system refuses, the socket works without.
pub fn request(socket: &impl AsFd, local: IpAddr) {
    let on: c_int = 1;
    let (level, option) = match local {
        IpAddr::V4(_) => (libc::IPPROTO_IP, TOLD_BY),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    // SAFETY: each option reads an integer of the length given; the descriptor is open.
    unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            from_ref(&on).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
}

/// Reads one datagram: its length, its sender, and the index of the receiving interface, 0 if it is not known.
///
/// Datagrams of this machine to itself arrive on the loopback interface, reported as 0; Linux reports the interface of
/// the address instead.
///
/// # Errors
///
/// Those of recvmsg(2).
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, u32)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() };
    let (mut storage, mut control) = (SockAddrStorage::zeroed(), Control([0; 96]));
    // SAFETY: a msghdr is made of numbers and of pointers, which may be null.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_name, message.msg_namelen) = ((&raw mut storage).cast(), storage.size_of());
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: recvmsg(2) writes at most as much as the lengths say to the sender's storage, to the buffer and to the control
    // messages, all of which outlive the call, and into the header how much that was.
    let len = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, 0) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the storage was zero, and holds an address of this length now.
    let from = unsafe { SockAddr::new(storage, message.msg_namelen) };
    let from = from.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    let interface = interface_of(&control.0);
    Ok((len, from, if interface == loopback() { 0 } else { interface }))
}

/// The interface in a control message, the only kind that was requested.
fn interface_of(control: &[u8]) -> u32 {
    let number = |at: usize| control.get(at..)?.first_chunk().map(|octets| c_int::from_ne_bytes(*octets));
    let index_at = |at| number(at).and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
    let kind = (number(offset_of!(cmsghdr, cmsg_level)), number(offset_of!(cmsghdr, cmsg_type)));
    if kind == (Some(libc::IPPROTO_IPV6), Some(libc::IPV6_PKTINFO)) {
        return index_at(MESSAGE_AT + IPV6_INDEX_AT);
    }
    if kind != (Some(libc::IPPROTO_IP), Some(TOLD_BY)) {
        return 0;
    }
    #[cfg(netlink)]
    return index_at(MESSAGE_AT);
    #[cfg(routing_sockets)]
    {
        let index = control.get(MESSAGE_AT + offset_of!(libc::sockaddr_dl, sdl_index)..);
        index.and_then(<[u8]>::first_chunk).map_or(0, |octets| u16::from_ne_bytes(*octets).into())
    }
}

/// The prefix length of an IPv4 address of this machine; `None`: it has no such address, or the system does not tell.
pub fn prefix(address: IpAddr) -> Option<u8> {
    let IpAddr::V4(address) = address else { return None };
    let mut found = None;
    let visited = interfaces::visit_addresses(|entry| {
        let (own, mask) = (entry.address, entry.netmask);
        if family(own) == Some(libc::AF_INET) && ipv4(own) == address && !mask.is_empty() {
            found = found.or(u8::try_from(ipv4(mask).to_bits().leading_ones()).ok());
        }
    });
    visited.ok().and(found)
}

fn family(address: &[u8]) -> Option<c_int> {
    #[cfg(netlink)]
    return address.first_chunk().map(|octets| u16::from_ne_bytes(*octets).into());
    #[cfg(routing_sockets)]
    return address.get(1).map(|&octet| octet.into());
}

/// The address of a sockaddr_in, or the netmask; what is not there is 0.
fn ipv4(address: &[u8]) -> Ipv4Addr {
    let octet = |n| address.get(offset_of!(libc::sockaddr_in, sin_addr) + n).copied().unwrap_or(0);
    Ipv4Addr::from([octet(0), octet(1), octet(2), octet(3)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_datagram_of_this_machine_comes_in_by_no_interface() {
        for local in ["127.0.0.1:0", "[::1]:0"].map(|text| text.parse::<SocketAddr>().unwrap()) {
            // A machine may have no IPv6.
            let Ok(ours) = UdpSocket::bind(local) else { continue };
            let theirs = UdpSocket::bind(local).unwrap();
            request(&ours, local.ip());
            theirs.send_to(b"hello", ours.local_addr().unwrap()).unwrap();
            let mut buffer = [0; 9];
            let (len, from, interface) = receive(&ours, &mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&b"hello"[..], theirs.local_addr().unwrap()));
            assert_eq!(interface, 0);
        }
    }

    #[test]
    fn what_was_not_asked_for_is_not_told() {
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        ours.send_to(b"hello", ours.local_addr().unwrap()).unwrap();
        assert_eq!(receive(&ours, &mut [0; 9]).unwrap().2, 0);
        ours.set_nonblocking(true).unwrap();
        assert_eq!(receive(&ours, &mut [0; 9]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_address_of_this_machine_has_a_prefix() {
        assert_eq!(prefix(Ipv4Addr::LOCALHOST.into()), Some(8));
        assert_eq!(prefix(Ipv4Addr::new(192, 0, 2, 99).into()), None);
        assert_eq!(prefix("::1".parse().unwrap()), None);
    }
}
