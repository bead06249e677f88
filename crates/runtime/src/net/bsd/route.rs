//! Route lookups: the source address from a connected socket, the next hop from a routing socket.

#![forbid(unsafe_code)]

use super::super::route_message::{HERE, Hop};
use super::super::{Route, fill_random, is_shortage, portable};
use super::dump::gateway_routes;
use super::{clock, open_routing_socket, table};
use std::io::{self, Read};
use std::net::IpAddr;
use std::time::Duration;

/// The kernel answers during the request or at once afterwards: this timeout expires only if something is broken.
const REPLY_TIMEOUT: Duration = Duration::from_millis(250);

/// An answer has some 200 bytes.
const REPLY_LEN_MAX: usize = 2048;

/// Looks up the route toward an address. No packet is sent. `None`: there is none.
///
/// # Errors
///
/// The kernel could not be asked, or had no memory for an answer: whether there is a route is not known.
pub fn find_route(address: IpAddr) -> io::Result<Option<Route>> {
    let Some(route) = portable::find_route(address)? else { return Ok(None) };
    let hop = match ask(address, None) {
        Err(error) if is_shortage(&error) => return Err(error),
        Ok(None) => return Ok(None),
        Ok(Some(hop)) => hop,
        // A sandbox refuses routing sockets (iOS) or hides routes: a FreeBSD jail without its own network stack gets
        // ESRCH for every network (sys/net/rtsock.c: can_export_rte). But there is a route: see above.
        Err(_) => fall_back(address).unwrap_or(Hop { gateway: None, interface: 0 }),
    };
    Ok(Some(Route { gateway: hop.gateway, interface: hop.interface, ..route }))
}

/// Asks the kernel for the route toward an address, on an interface if one is given (where the system has such routes). `None`:
/// packets to the address are refused or dropped.
///
/// # Errors
///
/// The request failed, or the kernel reported no route.
pub fn ask(address: IpAddr, interface: Option<u32>) -> io::Result<Option<Hop>> {
    let mut socket = open_routing_socket()?;
    socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
    let mut sequence = [0; 4];
    // Another copy of this library in the process may ask at the same time: both receive both answers.
    fill_random(&mut sequence)?;
    let sequence = u32::from_ne_bytes(sequence);
    let mut question = HERE.question(address, sequence, table());
    if let Some(interface) = interface {
        HERE.scope(&mut question, interface);
    }
    socket.send(&question)?;
    let begun = clock::now();
    while clock::now().since(begun) < REPLY_TIMEOUT {
        let mut buffer = [0; REPLY_LEN_MAX];
        let len = match socket.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        match HERE.read_answer(&buffer[..len], std::process::id(), sequence) {
            Some(Ok(hop)) => return Ok(Some(hop)),
            Some(Err(error)) if is_shortage(&error) => return Err(error),
            Some(Err(_)) => return Ok(None),
            None => {}
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The default route, from the table that a sandboxed program may still read (iOS).
fn fall_back(address: IpAddr) -> Option<Hop> {
    let v6 = address.is_ipv6();
    HERE.find_default(&gateway_routes(v6)?, v6)
}
