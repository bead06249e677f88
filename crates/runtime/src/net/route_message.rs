//! The messages of routing sockets: route(4) of macOS, FreeBSD, OpenBSD and NetBSD.
//!
//! They have the same parts in the same order everywhere, but at different offsets: a header, then one socket address
//! after the other, as selected by bits of the header. A [`Layout`] has the offsets, so all are read by the same code,
//! which can be tested on any machine.
//!
//! The layouts were compared with the systems' sources: net/route.h (the header, the numbers of types and flags),
//! sys/socket.h (families), and the code that answers: net/rtsock.c, on NetBSD net/rtsock_shared.c. All look for the
//! longest prefix if a request has no netmask, answer to every routing socket with the process and number of the
//! request, and report ESRCH, by write(2) and in the answer, if there is no route.

#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

// The same on all systems: net/route.h, sys/socket.h.
const LENGTH_AT: usize = 0;
const VERSION_AT: usize = 2;
const TYPE_AT: usize = 3;

const RTM_ADD: u8 = 1;
const RTM_DELETE: u8 = 2;
const RTM_CHANGE: u8 = 3;
const RTM_GET: u8 = 4;

/// Messages about a lookup, one host, or a neighbour's link-layer address, which report no change: RTM_GET (of any
/// program, this one included), RTM_LOSING, RTM_REDIRECT, RTM_MISS, RTM_LOCK, RTM_RESOLVE.
const NO_CHANGES: [u8; 6] = [RTM_GET, 5, 6, 7, 8, 0xb];

const RTF_UP: u32 = 0x1;
/// The route has a next hop.
pub const RTF_GATEWAY: u32 = 0x2;
const RTF_REJECT: u32 = 0x8;
/// RTF_LLINFO or RTF_LLDATA: a neighbour's link-layer address.
const RTF_LINK_LAYER: u32 = 0x400;
const RTF_BLACKHOLE: u32 = 0x1000;

const RTA_DST: u32 = 0x1;
const RTA_GATEWAY: u32 = 0x2;
const RTA_NETMASK: u32 = 0x4;
const RTA_IFP: u32 = 0x10;

const AF_INET: u8 = 2;
const AF_LINK: u8 = 18;

/// `sockaddr_in`: length, family, port, address, padding.
const SOCKADDR_IN_LEN: usize = 16;
const SOCKADDR_IN_ADDRESS_AT: usize = 4;
/// `sockaddr_in6`: length, family, port, flow, address, scope.
const SOCKADDR_IN6_LEN: usize = 28;
const SOCKADDR_IN6_ADDRESS_AT: usize = 8;
/// `sockaddr_dl` without a name.
const SOCKADDR_DL_LEN: usize = 20;

/// The layout of one system's messages.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// RTM_VERSION.
    version: u8,
    /// `sizeof(struct rt_msghdr)`.
    header_len: usize,
    /// The offset of the header's length, if a message has it.
    header_len_at: Option<usize>,
    /// The offset of the routing table's number, if a request has it; otherwise it is a property of the socket.
    table_at: Option<usize>,
    index_at: usize,
    flags_at: usize,
    addresses_at: usize,
    pid_at: usize,
    sequence_at: usize,
    error_at: usize,
    /// The alignment of socket addresses; an empty one takes this much.
    alignment: usize,
    /// AF_INET6.
    inet6: u8,
    /// Whether the interface is reported only on request: on NetBSD (net/rtsock_shared.c). FreeBSD and macOS always
    /// report it now, but older versions need the request.
    must_ask_for_interface: bool,
    /// Flags of routes that the kernel makes by itself for each host it sends to.
    cloned: u32,
    /// Types, besides [`NO_CHANGES`], that are irrelevant: joined multicast groups (ours included), neighbours, packets
    /// and name servers.
    no_changes: &'static [u8],
    /// RTF_IFSCOPE: a route that counts only for sockets bound to its interface.
    scoped: u32,
}

/// macOS, iOS and their kin (XNU, bsd/net/route.h; ROUNDUP32 of bsd/net/rtsock.c). All integers have 32 bits.
const APPLE: Layout = Layout {
    version: 5,
    header_len: 92,
    header_len_at: None,
    table_at: None,
    index_at: 4,
    flags_at: 8,
    addresses_at: 12,
    pid_at: 16,
    sequence_at: 20,
    error_at: 24,
    alignment: 4,
    inet6: 30,
    must_ask_for_interface: true,
    cloned: 0x20000, // RTF_WASCLONED
    // RTM_NEWMADDR, RTM_DELMADDR, RTM_NEWMADDR2.
    no_changes: &[0xf, 0x10, 0x13],
    scoped: 0x100_0000,
};

/// FreeBSD (sys/net/route.h: `rt_msghdr`, SA_SIZE), whose `rtm_inits` and metrics are 15 `u_long`, of so many bytes each: those
/// of the kernel. A program of 32 bits on a kernel of 64 gets EINVAL for its question.
const fn freebsd(long: usize) -> Layout {
    Layout {
        header_len: 32 + 15 * long,
        alignment: long,
        inet6: 28,
        cloned: 0,
        no_changes: &[0xf, 0x10, 0x13], // RTM_NEWMADDR, RTM_DELMADDR, RTM_IPFWLOG
        scoped: 0,
        ..APPLE
    }
}

/// OpenBSD (sys/net/route.h; ROUNDUP of sys/net/rtsock.c), for a `long` of so many bytes. No notice is lost unseen: RTM_DESYNC
/// (0x10) tells of it.
const fn openbsd(long: usize) -> Layout {
    Layout {
        version: 5,
        header_len: 96,
        header_len_at: Some(4),
        table_at: Some(8),
        index_at: 6,
        addresses_at: 12,
        flags_at: 16,
        pid_at: 24,
        sequence_at: 28,
        error_at: 32,
        alignment: long,
        inet6: 24,
        must_ask_for_interface: false,
        cloned: 0x10000,     // RTF_CLONED
        no_changes: &[0x13], // RTM_PROPOSAL, for resolvd(8)
        scoped: 0,
    }
}

/// NetBSD since 6 (sys/net/route.h: `__align64`, RT_ROUNDUP). Aligned to 64 bits on all processors.
const NETBSD: Layout = Layout {
    version: 4,
    header_len: 120,
    alignment: 8,
    inet6: 24,
    cloned: 0,
    no_changes: &[0x13], // RTM_LLINFO_UPD
    scoped: 0,
    ..APPLE
};

/// The layout of the system that this is compiled for.
#[cfg(routing_sockets)]
pub const HERE: Layout = if cfg!(target_os = "freebsd") {
    freebsd(size_of::<usize>())
} else if cfg!(target_os = "openbsd") {
    openbsd(size_of::<usize>())
} else if cfg!(target_os = "netbsd") {
    NETBSD
} else {
    APPLE
};

/// The next hop and interface of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The next hop; `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The interface's index; 0: unknown.
    pub interface: u32,
}

impl Layout {
    /// RTM_GET for the route toward an address, in the table of routes of that number (where questions name one).
    pub fn question(&self, address: IpAddr, sequence: u32, table: u16) -> Vec<u8> {
        let mut bytes = vec![0; self.header_len];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(VERSION_AT, &[self.version]);
        put(TYPE_AT, &[RTM_GET]);
        if let Some(at) = self.header_len_at {
            put(at, &(self.header_len as u16).to_ne_bytes());
        }
        if let Some(at) = self.table_at {
            put(at, &table.to_ne_bytes());
        }
        // Without it NetBSD takes this for an old arp(8)'s question for a neighbour.
        put(self.flags_at, &RTF_UP.to_ne_bytes());
        let interface = if self.must_ask_for_interface { RTA_IFP } else { 0 };
        put(self.addresses_at, &(RTA_DST | interface).to_ne_bytes());
        put(self.sequence_at, &sequence.to_ne_bytes());

        let (len, family, address_at, octets) = match address {
            IpAddr::V4(v4) => (SOCKADDR_IN_LEN, AF_INET, SOCKADDR_IN_ADDRESS_AT, v4.octets().to_vec()),
            IpAddr::V6(v6) => (SOCKADDR_IN6_LEN, self.inet6, SOCKADDR_IN6_ADDRESS_AT, v6.octets().to_vec()),
        };
        let from = bytes.len();
        bytes.resize(from + self.room(len), 0);
        // The lengths here are at most 28, that of the message below 300.
        bytes[from..from + 2].copy_from_slice(&[len as u8, family]);
        bytes[from + address_at..][..octets.len()].copy_from_slice(&octets);
        if self.must_ask_for_interface {
            let from = bytes.len();
            bytes.resize(from + self.room(SOCKADDR_DL_LEN), 0);
            bytes[from..from + 2].copy_from_slice(&[SOCKADDR_DL_LEN as u8, AF_LINK]);
        }
        let len = bytes.len() as u16;
        bytes[LENGTH_AT..LENGTH_AT + 2].copy_from_slice(&len.to_ne_bytes());
        bytes
    }

    /// Has a question ask for the route on an interface, on systems that have such routes.
    pub fn scope(&self, question: &mut [u8], interface: u32) {
        // Indices have 16 bits in these messages.
        let (Ok(index), true) = (u16::try_from(interface), self.scoped != 0) else { return };
        question[self.index_at..][..2].copy_from_slice(&index.to_ne_bytes());
        question[self.flags_at..][..4].copy_from_slice(&(RTF_UP | self.scoped).to_ne_bytes());
    }

    /// The content of a message, if it is the answer to the [`Layout::question`] of this process and number; else
    /// `None`.
    ///
    /// # Errors
    ///
    /// The kernel has no route to the address, or drops packets to it.
    pub fn read_answer(&self, bytes: &[u8], pid: u32, sequence: u32) -> Option<io::Result<Hop>> {
        let message = Message::read(self, bytes)?;
        // Every routing socket receives the answers to all others.
        if message.kind != RTM_GET || message.u32_at(self.pid_at)? != pid {
            return None;
        }
        if message.u32_at(self.sequence_at)? != sequence {
            return None;
        }
        match i32::from_ne_bytes(message.array_at(self.error_at)?) {
            0 => Some(message.hop().ok_or_else(|| io::ErrorKind::NetworkUnreachable.into())),
            code => Some(Err(io::Error::from_raw_os_error(code))),
        }
    }

    /// Whether an unsolicited message reports a changed link, address or route. The start of a message is enough.
    pub fn tells_of_change(&self, bytes: &[u8]) -> bool {
        let (Some(&version), Some(&kind)) = (bytes.get(VERSION_AT), bytes.get(TYPE_AT)) else { return false };
        if version != self.version || NO_CHANGES.contains(&kind) || self.no_changes.contains(&kind) {
            return false;
        }
        if !matches!(kind, RTM_ADD | RTM_DELETE | RTM_CHANGE) {
            return true;
        }
        // Lookups and packets make the kernel record hosts and neighbours: reacting to that would cause the next.
        let flags = array_at(bytes, self.flags_at).map_or(0, u32::from_ne_bytes);
        flags & (RTF_LINK_LAYER | self.cloned) == 0
    }

    /// Whether a notice that tells of a change is about a route of IPv6.
    pub fn is_of_ipv6_route(&self, bytes: &[u8]) -> bool {
        Message::read(self, bytes).is_some_and(|message| {
            matches!(message.kind, RTM_ADD | RTM_DELETE | RTM_CHANGE)
                && message.destination.and_then(|sockaddr| sockaddr.get(1)) == Some(&self.inet6)
        })
    }

    /// The next hops of the default routes of an interface in such a dump, of IPv6.
    pub fn find_routers(&self, dump: &[u8], interface: u32) -> Vec<Ipv6Addr> {
        let (mut rest, mut routers) = (dump, Vec::new());
        while let Some(message) = Message::read(self, rest) {
            if message.is_default(true)
                && let Some(Hop { gateway: Some(IpAddr::V6(gateway)), interface: found }) = message.hop()
                && found == interface
            {
                routers.push(gateway);
            }
            rest = &rest[message.bytes.len()..];
        }
        routers
    }

    /// The next hop of the default route in a dump of the table, that of sysctl(3) NET_RT_DUMP or NET_RT_FLAGS.
    pub fn find_default(&self, dump: &[u8], v6: bool) -> Option<Hop> {
        let mut rest = dump;
        while let Some(message) = Message::read(self, rest) {
            if message.is_default(v6)
                && message.flags & self.scoped == 0
                && let Some(hop) = message.hop()
                && hop.gateway.is_some()
            {
                return Some(hop);
            }
            rest = &rest[message.bytes.len()..];
        }
        None
    }

    /// The room of a socket address.
    fn room(&self, len: usize) -> usize {
        len.max(1).next_multiple_of(self.alignment)
    }

    /// The address in a socket address of IPv4 or IPv6.
    pub fn read_address(&self, sockaddr: &[u8]) -> Option<IpAddr> {
        let family = *sockaddr.get(1)?;
        if family == AF_INET {
            array_at::<4>(sockaddr, SOCKADDR_IN_ADDRESS_AT).map(IpAddr::from)
        } else if family == self.inet6 {
            let mut octets: [u8; 16] = array_at(sockaddr, SOCKADDR_IN6_ADDRESS_AT)?;
            // The kernels of KAME's descent keep a link-local address's scope inside it.
            if Ipv6Addr::from(octets).is_unicast_link_local() {
                octets[2..4].fill(0);
            }
            Some(octets.into())
        } else {
            None
        }
    }
}

/// A complete message about a route.
struct Message<'a> {
    layout: &'a Layout,
    kind: u8,
    flags: u32,
    /// Of the length given in the message.
    bytes: &'a [u8],
    destination: Option<&'a [u8]>,
    gateway: Option<&'a [u8]>,
    netmask: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// The message that `bytes` begin with.
    fn read(layout: &'a Layout, bytes: &'a [u8]) -> Option<Message<'a>> {
        let len = usize::from(u16::from_ne_bytes(array_at(bytes, LENGTH_AT)?));
        let bytes = bytes.get(..len)?;
        let header_len = match layout.header_len_at {
            Some(at) => usize::from(u16::from_ne_bytes(array_at(bytes, at)?)),
            None => layout.header_len,
        };
        if len < layout.header_len || bytes[VERSION_AT] != layout.version {
            return None;
        }
        let mut rest = bytes.get(header_len.max(layout.header_len)..)?;
        let present = u32::from_ne_bytes(array_at(bytes, layout.addresses_at)?);
        // In the order of their bits.
        let mut take = |bit: u32| {
            let len = usize::from(*rest.first().filter(|_| present & bit != 0)?);
            let sockaddr = rest.get(..len);
            // The last address need not have its padding.
            rest = rest.get(layout.room(len)..).unwrap_or_default();
            sockaddr
        };
        let (destination, gateway, netmask) = (take(RTA_DST), take(RTA_GATEWAY), take(RTA_NETMASK));
        let flags = u32::from_ne_bytes(array_at(bytes, layout.flags_at)?);
        Some(Message { layout, kind: bytes[TYPE_AT], flags, bytes, destination, gateway, netmask })
    }

    /// The next hop and interface of the route; `None`: packets are dropped, or it cannot be read.
    fn hop(&self) -> Option<Hop> {
        if self.flags & (RTF_REJECT | RTF_BLACKHOLE) != 0 {
            return None;
        }
        // On the link this is the interface, or its address. An IPv4 route by an IPv6 next hop (FreeBSD, RFC 5549) has no
        // gateway that an IPv4 address of ours could ask.
        let family_of = |sockaddr: Option<&[u8]>| sockaddr?.get(1).copied();
        let family = family_of(self.destination);
        let is_of_another_family = family.is_some() && family_of(self.gateway) != family;
        let gateway = if self.flags & RTF_GATEWAY == 0 || is_of_another_family {
            None
        } else {
            self.gateway.and_then(|sockaddr| self.layout.read_address(sockaddr))
        };
        let interface = u16::from_ne_bytes(self.array_at(self.layout.index_at)?);
        Some(Hop { gateway, interface: interface.into() })
    }

    /// Whether this is the default route, and in use.
    fn is_default(&self, v6: bool) -> bool {
        let any = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv4Addr::UNSPECIFIED) };
        self.flags & RTF_UP != 0
            && self.destination.and_then(|sockaddr| self.layout.read_address(sockaddr)) == Some(any)
            // Masks come without the zeroes at their end, and often without a family.
            && self.netmask.is_some_and(|mask| {
                let at = if v6 { SOCKADDR_IN6_ADDRESS_AT } else { SOCKADDR_IN_ADDRESS_AT };
                mask.iter().skip(at).all(|&octet| octet == 0)
            })
    }

    fn array_at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        array_at(self.bytes, at)
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        self.array_at(at).map(u32::from_ne_bytes)
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests;
