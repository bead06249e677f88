//! The routing table from sysctl(3), for sandboxes that forbid routing sockets.

use super::super::route_message::RTF_GATEWAY;
use libc::{c_int, c_void};
use std::ptr::null_mut;

/// The longest table that is read: far longer than that of a phone.
const DUMP_LEN_MAX: usize = 1 << 20;

/// Room for routes added between the query of the length and the read.
const SLACK: usize = 4096;

/// All routes with a next hop, one message after the other; `None`: not available.
pub fn gateway_routes(v6: bool) -> Option<Vec<u8>> {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    // sysctl(3): CTL_NET, PF_ROUTE: protocol number, address family, what, which flags. With NET_RT_FLAGS it is the routes that
    // have any of them (net/rtsock.c: sysctl_dumpentry), of this process's own table.
    let mut name = [libc::CTL_NET, libc::PF_ROUTE, 0, family, libc::NET_RT_FLAGS, RTF_GATEWAY as c_int];
    let needed = read(&mut name, None)?;
    if needed > DUMP_LEN_MAX {
        return None;
    }
    let mut dump = vec![0; needed + SLACK];
    let len = read(&mut name, Some(&mut dump))?;
    dump.truncate(len);
    Some(dump)
}

/// Reads into the buffer and returns the length; without a buffer, returns the available length.
fn read(name: &mut [c_int; 6], buffer: Option<&mut [u8]>) -> Option<usize> {
    let (start, mut len) = match buffer {
        Some(buffer) => (buffer.as_mut_ptr().cast::<c_void>(), buffer.len()),
        None => (null_mut(), 0),
    };
    // SAFETY: sysctl(3): it reads `namelen` integers of the name and writes at most `len` bytes to `start`, which has them,
    // or none if that is null; the length it writes is ours. A null new value with length 0 sets nothing.
    let result =
        unsafe { libc::sysctl(name.as_mut_ptr(), name.len() as u32, start, &raw mut len, null_mut(), 0) };
    (result == 0).then_some(len)
}
