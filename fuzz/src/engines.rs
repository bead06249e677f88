//! The engines of both families, as a list of operations: the program's, those of the system (addresses, routes, notices), the
//! datagrams and connections of all sockets, and time.
//!
//! There is no gateway: what arrives is in the input, whole or as an answer to one of the last requests. The rules of
//! callbacks are the testkit's `Checks`; the rest of what must hold is in `home`.

mod home;

use arbitrary::{Result, Unstructured};
use home::{Home, Setup};
use plum_engine::io::{Suggestion, TcpEnd, Wanted};
use plum_engine::ipv6::{Ipv6Route, LocalAddress, NextHop};
use plum_testkit::world::{INTERFACE, LINK_LOCAL, ROUTER, stable};
use plum_wire::Transport;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

/// The most operations of one input.
const MAX_OPERATIONS: usize = 300;
/// The most mappings of one input.
const MAX_MAPPINGS: usize = 100;
/// The most addresses at once.
const MAX_ADDRESSES: usize = 24;
/// How long `RUN` and `SLEEP` take, in milliseconds.
const SPANS: [u64; 16] =
    [0, 1, 10, 50, 100, 250, 300, 500, 1_000, 2_000, 4_000, 10_000, 60_000, 600_000, 3_600_000, 90_000_000];

/// The operations' numbers; an octet means its remainder by [`op::COUNT`].
#[allow(missing_docs)]
pub mod op {
    pub const CREATE: u8 = 0;
    pub const CREATE_IPV4: u8 = 1;
    pub const DESTROY: u8 = 2;
    pub const CLEANUP: u8 = 3;
    pub const RUN: u8 = 4;
    pub const SLEEP: u8 = 5;
    pub const ADD_ADDRESS: u8 = 6;
    pub const CHANGE_ADDRESS: u8 = 7;
    pub const ROUTE: u8 = 8;
    pub const ROUTE_FROM: u8 = 9;
    pub const ROUTE_IPV4: u8 = 10;
    pub const NOTICE: u8 = 11;
    pub const SYSTEM: u8 = 12;
    pub const ANSWER: u8 = 13;
    pub const RAW: u8 = 14;
    pub const REFUSED: u8 = 15;
    pub const TCP: u8 = 16;
    pub const TIMEOUT: u8 = 17;
    pub const COUNT: u8 = 18;
}

/// The first octets say what the world is like, each of the others begins an operation.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(setup) = Setup::read(&mut u) else { return };
    let mut home = Home::new(setup);
    for _ in 0..MAX_OPERATIONS {
        // Too few octets for an operation: that was the last.
        if u.is_empty() || home.has_finished() || carry_out(&mut home, &mut u).is_err() {
            break;
        }
    }
    home.end();
}

fn carry_out(home: &mut Home, u: &mut Unstructured<'_>) -> Result<()> {
    match u.arbitrary::<u8>()? % op::COUNT {
        op::CREATE => {
            let target = target(u)?;
            create(home, u, Some(target.into()))?;
        }
        op::CREATE_IPV4 => create(home, u, None)?,
        op::DESTROY => home.destroy(u.arbitrary::<u8>()?.into()),
        op::CLEANUP => home.cleanup(),
        op::RUN => home.run_for(span(u)?),
        op::SLEEP => home.sleep(span(u)?),
        op::ADD_ADDRESS => add_address(home, u)?,
        op::CHANGE_ADDRESS => change_address(home, u)?,
        op::ROUTE => home.ipv6.route = route(u)?,
        op::ROUTE_FROM => {
            let (from, route) = (target(u)?, if u.arbitrary()? { route(u)? } else { None });
            home.ipv6.routes_from.insert(from, route);
        }
        op::ROUTE_IPV4 => home.is_ipv4_away = u.arbitrary()?,
        op::NOTICE => home.notice(u.arbitrary()?),
        op::SYSTEM => {
            let flags: u8 = u.arbitrary()?;
            (home.hides_addresses, home.hides_routes, home.opens_nothing, home.connects_nothing) =
                (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0, flags & 8 != 0);
            home.ipv6.addresses.interface = [Some(INTERFACE), None, Some(3)][usize::from(flags >> 4) % 3];
        }
        op::ANSWER => answer(home, u)?,
        op::RAW => {
            let (which, from) = (u.arbitrary::<u8>()?, source(u)?);
            let length = usize::from(u.arbitrary::<u8>()?);
            let bytes = u.bytes(length.min(u.len()))?;
            home.datagram(which.into(), from, bytes);
        }
        op::REFUSED => home.refuse(u.arbitrary::<u8>()?.into()),
        op::TCP => tcp(home, u)?,
        _ => home.timeout(),
    }
    Ok(())
}

fn span(u: &mut Unstructured<'_>) -> Result<Duration> {
    Ok(Duration::from_millis(SPANS[usize::from(u.arbitrary::<u8>()?) % SPANS.len()]))
}

fn create(home: &mut Home, u: &mut Unstructured<'_>, address: Option<IpAddr>) -> Result<()> {
    let kind: u8 = u.arbitrary()?;
    let wish =
        Suggestion { address, port: NonZeroU16::new(u16::from(kind >> 4) * 1000), ..Suggestion::default() };
    let transport = if kind & 1 == 0 { Transport::Tcp } else { Transport::Udp };
    // Few ports, so that mappings share keys.
    let internal_port = NonZeroU16::new(8000 + u16::from(kind >> 1 & 3)).expect("not 0");
    if home.created() < MAX_MAPPINGS {
        home.create(Wanted { transport, internal_port, wish, description: None });
    }
    Ok(())
}

/// An address of ours, or one that is none.
fn target(u: &mut Unstructured<'_>) -> Result<Ipv6Addr> {
    let number: u8 = u.arbitrary()?;
    Ok(match number {
        0..64 => Ipv6Addr::UNSPECIFIED,
        64..192 => Ipv6Addr::new(0x2600, u16::from(number >> 4), 0, 0, 0, 0, 0, u16::from(number & 15)),
        192..208 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number & 15)),
        208..216 => ROUTER,
        216..224 => Ipv6Addr::new(0x2002, 1, 0, 0, 0, 0, 0, 1),
        224..232 => Ipv6Addr::LOCALHOST,
        _ => u.arbitrary()?,
    })
}

fn add_address(home: &mut Home, u: &mut Unstructured<'_>) -> Result<()> {
    let (address, flags) = (target(u)?, u.arbitrary::<u8>()?);
    let interface = if flags & 1 == 0 { INTERFACE } else { 3 };
    let known = LocalAddress {
        is_temporary: flags & 2 != 0,
        is_deprecated: flags & 4 != 0,
        is_tentative: flags & 8 != 0,
        preferred_secs: u32::from(flags >> 4) * 600,
        ..stable(address, interface)
    };
    if home.ipv6.addresses.list.len() < MAX_ADDRESSES {
        home.ipv6.addresses.list.push(known);
    }
    Ok(())
}

fn change_address(home: &mut Home, u: &mut Unstructured<'_>) -> Result<()> {
    let (which, what): (u8, u8) = (u.arbitrary()?, u.arbitrary()?);
    let list = &mut home.ipv6.addresses.list;
    let Some(index) = usize::from(which).checked_rem(list.len()) else { return Ok(()) };
    match what % 6 {
        0 => drop(list.remove(index)),
        1 => list[index].is_deprecated ^= true,
        2 => list[index].is_tentative ^= true,
        3 => list[index].preferred_secs = u32::from(what) * 10,
        4 => list[index].interface ^= 1,
        _ => list.clear(),
    }
    Ok(())
}

fn route(u: &mut Unstructured<'_>) -> Result<Option<Ipv6Route>> {
    let (kind, others): (u8, u8) = (u.arbitrary()?, u.arbitrary()?);
    let router = |n: u8| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(n));
    let next_hop = match kind % 8 {
        0 => return Ok(None),
        1 => NextHop::OnLink,
        2 => NextHop::PointToPoint,
        3 => NextHop::Unknown,
        n => NextHop::Router(router(n - 3)),
    };
    let interface = if kind & 128 == 0 { INTERFACE } else { 3 };
    let link_local = (kind & 64 == 0).then_some(LINK_LOCAL);
    Ok(Some(Ipv6Route {
        next_hop,
        interface,
        link_local,
        other_routers: (2..2 + others % 7).map(router).collect(),
    }))
}

/// Who sends a datagram; on a connected socket it is the other side.
fn source(u: &mut Unstructured<'_>) -> Result<SocketAddr> {
    Ok(match u.arbitrary::<u8>()? % 6 {
        0 | 1 => SocketAddr::new(ROUTER.into(), 5351),
        2 => SocketAddr::new(ROUTER.into(), 1900),
        3 => SocketAddr::new(Ipv4Addr::new(192, 168, 1, 1).into(), 5351),
        4 => SocketAddr::new(Ipv4Addr::new(192, 168, 1, 1).into(), 1900),
        _ => SocketAddr::new(u.arbitrary()?, u.arbitrary()?),
    })
}

/// A PCP answer to one of the last requests of a socket, or an announcement.
fn answer(home: &mut Home, u: &mut Unstructured<'_>) -> Result<()> {
    const LIFETIMES: [u32; 8] = [3600, 0, 1, 30, 120, 7200, 86_401, u32::MAX];
    let (which, request, result, flags): (u8, u8, u8, u8) =
        (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
    let lifetime = LIFETIMES[usize::from(flags & 7)];
    let mut bytes = home.request(which.into(), request.into()).unwrap_or_else(|| vec![2, 0, 0, 0]);
    bytes.resize(bytes.len().max(24), 0);
    let client: [u8; 16] = bytes[8..24].try_into().expect("16 octets");
    bytes[1] |= 0x80;
    (bytes[2], bytes[3]) = (0, result % 14);
    bytes[4..8].copy_from_slice(&lifetime.to_be_bytes());
    bytes[8..24].fill(0);
    bytes[8..12].copy_from_slice(&home.epoch(flags & 8 != 0).to_be_bytes());
    if bytes.len() >= 60 {
        let port: [u8; 2] = if flags & 16 == 0 { [bytes[40], bytes[41]] } else { u.arbitrary()? };
        bytes[42..44].copy_from_slice(&port);
        let address = if flags & 32 == 0 { client } else { target(u)?.octets() };
        bytes[44..60].copy_from_slice(&address);
    }
    let from = SocketAddr::new(ROUTER.into(), 5351);
    home.datagram(which.into(), from, &bytes);
    Ok(())
}

fn tcp(home: &mut Home, u: &mut Unstructured<'_>) -> Result<()> {
    let (which, what): (u8, u8) = (u.arbitrary()?, u.arbitrary()?);
    match what % 4 {
        0 => home.establish(which.into()),
        1 => {
            let length = usize::from(u.arbitrary::<u16>()?);
            let bytes = u.bytes(length.min(u.len()))?;
            home.tcp_data(which.into(), bytes);
        }
        2 => home.tcp_end(which.into(), TcpEnd::Closed),
        _ => home.tcp_end(which.into(), TcpEnd::Failed),
    }
    Ok(())
}
