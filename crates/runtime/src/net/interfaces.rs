//! The numbers of interfaces, and their addresses.

use libc::sockaddr;
use std::ffi::{CStr, CString};
use std::io;
use std::ptr::null_mut;

/// The number of the interface of this name; `None`: there is none.
pub fn index_of(name: &CStr) -> Option<u32> {
    // SAFETY: if_nametoindex(3) reads the name, which ends in NUL. It needs neither netlink nor a routing socket; 0 is an error.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// The interface that a zone names (RFC 4007 §11), by name or number.
pub fn of_zone(zone: &str) -> Option<u32> {
    let by_name = CString::new(zone).ok().and_then(|name| index_of(&name));
    by_name.or_else(|| zone.parse().ok().filter(|&number| number != 0))
}

/// An address of an interface, as getifaddrs(3) tells it.
pub struct Entry<'a> {
    /// The interface.
    #[cfg(routing_sockets)]
    pub name: &'a CStr,
    /// Of the interface (IFF_...).
    #[cfg(routing_sockets)]
    pub flags: libc::c_uint,
    /// A socket address, of which Linux shows those of IPv4 only as a whole.
    pub address: &'a [u8],
    pub netmask: &'a [u8],
}

/// Visits all addresses of this machine.
///
/// # Errors
///
/// The system has no descriptor or no memory, or a sandbox refuses it.
pub fn visit_addresses(mut visit: impl FnMut(&Entry<'_>)) -> io::Result<()> {
    let mut list = null_mut();
    // SAFETY: getifaddrs(3) writes a pointer.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut next = list;
    while !next.is_null() {
        // SAFETY: an entry of the list, which is whole until it is freed.
        let entry = unsafe { &*next };
        visit(&Entry {
            // SAFETY: the name of the entry, which ends in NUL.
            #[cfg(routing_sockets)]
            name: unsafe { CStr::from_ptr(entry.ifa_name) },
            #[cfg(routing_sockets)]
            flags: entry.ifa_flags,
            // SAFETY: an address of the entry, if it has one.
            address: unsafe { octets_of(entry.ifa_addr) },
            // SAFETY: as above.
            netmask: unsafe { octets_of(entry.ifa_netmask) },
        });
        next = entry.ifa_next;
    }
    // SAFETY: the list of getifaddrs(3), of which no reference is left.
    unsafe { libc::freeifaddrs(list) };
    Ok(())
}

/// The octets of an address, as far as they matter here; none of null.
///
/// # Safety
///
/// The address is null, or whole for as long as the octets are used.
unsafe fn octets_of<'a>(address: *const sockaddr) -> &'a [u8] {
    if address.is_null() {
        return &[];
    }
    #[cfg(netlink)]
    let len = size_of::<sockaddr>();
    // SAFETY: not null, and the first octet is the length. (That of a netmask ends after the last octet that is not 0.)
    #[cfg(routing_sockets)]
    let len = usize::from(unsafe { *address.cast::<u8>() });
    // SAFETY: no address is shorter than that.
    unsafe { std::slice::from_raw_parts(address.cast(), len) }
}
