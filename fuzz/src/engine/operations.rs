//! The operations, by their first octet.

use super::machine::{Input, Machine, Power};
use super::{answers, faults};
use arbitrary::{Result, Unstructured};
use plum_engine::io::{Route, Socket, Suggestion, TcpEnd, Wanted};
use plum_wire::Transport;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

/// The operations' numbers; an octet means its remainder by [`op::COUNT`].
#[allow(missing_docs)]
pub mod op {
    pub const CREATE: u8 = 0;
    pub const DESTROY: u8 = 1;
    pub const CLEANUP: u8 = 2;
    pub const RUN: u8 = 3;
    pub const SLEEP: u8 = 4;
    pub const ROUTE: u8 = 5;
    pub const NETWORK_CHANGED: u8 = 6;
    pub const UNOPENABLE: u8 = 7;
    pub const FAULT: u8 = 8;
    pub const POWER: u8 = 9;
    pub const RAW: u8 = 10;
    pub const ANSWER: u8 = 11;
    pub const MANGLE: u8 = 12;
    pub const REFUSED: u8 = 13;
    pub const TCP_EVENT: u8 = 14;
    pub const TCP_REPLY: u8 = 15;
    pub const TCP_FAILS: u8 = 16;
    pub const TIMEOUT: u8 = 17;
    pub const FLOOD: u8 = 18;
    pub const COUNT: u8 = 19;
}

/// All sockets, by a number.
pub const SOCKETS: [Socket; 5] =
    [Socket::Pcp, Socket::NatPmp, Socket::Ssdp, Socket::Announcements, Socket::Notifications];

/// How long `RUN` and `SLEEP` take, in milliseconds: the schedule's own spans, and those of leases.
const SPANS: [u64; 16] =
    [0, 1, 10, 50, 120, 250, 300, 500, 1_000, 2_000, 4_000, 10_000, 60_000, 600_000, 3_600_000, 90_000_000];

/// The most mappings of one input.
const MAX_MAPPINGS: usize = 150;

/// Octets of one piece of input that are sent at once.
const MAX_RAW: usize = 1500;

/// Reads one operation and does it.
pub fn carry_out(machine: &mut Machine, u: &mut Unstructured<'_>) -> Result<()> {
    match u.arbitrary::<u8>()? % op::COUNT {
        op::CREATE => {
            let kind: u8 = u.arbitrary()?;
            let port = u16::from(u.arbitrary::<u8>()?);
            let wish = match kind & 4 {
                0 => Suggestion::default(),
                _ => Suggestion {
                    address: address(u)?,
                    port: NonZeroU16::new(u.arbitrary()?),
                    ..Suggestion::default()
                },
            };
            // Few ports, so that mappings share keys.
            let port = if kind & 2 == 0 { 8000 + port % 4 } else { port.max(1) };
            let transport = if kind & 1 == 0 { Transport::Tcp } else { Transport::Udp };
            let internal_port = NonZeroU16::new(port).unwrap_or(NonZeroU16::MIN);
            if machine.created() < MAX_MAPPINGS {
                machine.create(Wanted { transport, internal_port, wish, description: None });
            }
        }
        op::DESTROY => machine.destroy(u.arbitrary::<u8>()?.into()),
        op::CLEANUP => machine.cleanup(),
        op::RUN => machine.run_for(span(u)?),
        op::SLEEP => {
            let (span, is_noticed) = (span(u)?, u.arbitrary()?);
            machine.sleep(span, is_noticed);
        }
        op::ROUTE => {
            let route = route(u)?;
            machine.set_route(route);
            if u.arbitrary()? {
                machine.hand_over(Input::NetworkChanged);
            }
        }
        op::NETWORK_CHANGED => machine.hand_over(Input::NetworkChanged),
        op::UNOPENABLE => {
            let mask: u8 = u.arbitrary()?;
            let chosen = SOCKETS.into_iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1);
            machine.unopenable = chosen.map(|(_, socket)| socket).collect();
        }
        op::FAULT => faults::apply(machine.gateway(), u)?,
        op::POWER => {
            machine.set_power(match u.arbitrary::<u8>()? % 3 {
                0 => Power::On,
                1 => Power::Stopped,
                _ => Power::Off,
            });
        }
        op::RAW => {
            let (socket, from) = (socket(u)?, source(u)?);
            let bytes = raw(u)?;
            machine.datagram(socket, from, bytes);
        }
        op::ANSWER => answers::send(machine, u)?,
        op::MANGLE => {
            let (kind, offset, value) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
            machine.mangle(kind, offset, value);
        }
        op::REFUSED => {
            let socket = socket(u)?;
            machine.hand_over(Input::Refused { socket });
        }
        op::TCP_EVENT => {
            let which: u8 = u.arbitrary()?;
            let Some((exchange, established)) = machine.exchange(which.into()) else { return Ok(()) };
            machine.hand_over(match u.arbitrary::<u8>()? % 4 {
                0 if !established => {
                    let local = address(u)?.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                    Input::TcpConnected { exchange, local: SocketAddr::new(local, 40_000) }
                }
                0 | 1 => Input::TcpData { exchange, bytes: raw(u)? },
                2 if established => Input::TcpEnd { exchange, end: TcpEnd::Closed },
                2 => Input::TcpEnd { exchange, end: TcpEnd::Refused },
                _ => Input::TcpEnd { exchange, end: TcpEnd::Failed },
            });
        }
        op::TCP_REPLY => answers::send_http(machine, u)?,
        op::TCP_FAILS => {
            let mask: u8 = u.arbitrary()?;
            machine.failing_connects = mask & 0xf;
            machine.failing_writes = mask >> 4;
        }
        op::TIMEOUT => machine.hand_over(Input::Timeout),
        _ => {
            let (count, which): (u8, u8) = (u.arbitrary()?, u.arbitrary()?);
            answers::flood(machine, which, u32::from(count) * 8);
        }
    }
    Ok(())
}

fn span(u: &mut Unstructured<'_>) -> Result<Duration> {
    let span: u8 = u.arbitrary()?;
    Ok(Duration::from_millis(SPANS[usize::from(span) % SPANS.len()]))
}

fn socket(u: &mut Unstructured<'_>) -> Result<Socket> {
    Ok(SOCKETS[usize::from(u.arbitrary::<u8>()?) % SOCKETS.len()])
}

/// Octets as they stand in the input, behind their number.
pub fn raw(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let length = usize::from(u.arbitrary::<u16>()?) % (MAX_RAW + 1);
    Ok(u.bytes(length.min(u.len()))?.to_vec())
}

/// An address that means something to somebody, or any; `None`: none at all.
pub fn address(u: &mut Unstructured<'_>) -> Result<Option<IpAddr>> {
    Ok(Some(match u.arbitrary::<u8>()? % 16 {
        0 => return Ok(None),
        1 => Ipv4Addr::new(203, 0, 113, 7).into(),
        2 => Ipv4Addr::new(203, 0, 113, 8).into(),
        3 => Ipv4Addr::UNSPECIFIED.into(),
        4 => Ipv4Addr::LOCALHOST.into(),
        5 => Ipv4Addr::new(224, 0, 0, 1).into(),
        6 => Ipv4Addr::BROADCAST.into(),
        7 => Ipv4Addr::new(10, 0, 0, 1).into(),
        8 => Ipv4Addr::new(100, 64, 1, 1).into(),
        9 => Ipv4Addr::new(192, 168, 1, 100).into(),
        10 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        11 => Ipv6Addr::UNSPECIFIED.into(),
        12 => Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().into(),
        13 => Ipv4Addr::new(169, 254, 1, 1).into(),
        _ => u.arbitrary()?,
    }))
}

/// Who sends a datagram: the gateway, another on the link, or anybody.
pub fn source(u: &mut Unstructured<'_>) -> Result<SocketAddr> {
    Ok(match u.arbitrary::<u8>()? % 8 {
        0..=3 => SocketAddr::new(super::machine::GATEWAY, 5351),
        4 | 5 => SocketAddr::new(super::machine::GATEWAY, 1900),
        6 => SocketAddr::new(Ipv4Addr::new(192, 168, 1, 77).into(), 1900),
        _ => SocketAddr::new(u.arbitrary()?, u.arbitrary()?),
    })
}

/// What route lookups find.
pub fn route(u: &mut Unstructured<'_>) -> Result<Option<Route>> {
    use super::machine::{GATEWAY, INTERFACE, LOCAL};
    let other_local = Ipv4Addr::new(192, 168, 1, 101).into();
    let usual = Route { gateway: Some(GATEWAY), local: LOCAL, interface: INTERFACE };
    Ok(Some(match u.arbitrary::<u8>()? % 12 {
        0 => usual,
        1 => return Ok(None),
        2 => Route { local: other_local, ..usual },
        3 => Route { gateway: Some(Ipv4Addr::new(192, 168, 1, 254).into()), ..usual },
        4 => Route { gateway: None, ..usual },
        5 => Route { local: Ipv4Addr::new(198, 51, 100, 9).into(), ..usual },
        6 => Route { interface: 3, ..usual },
        7 => Route {
            gateway: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into()),
            local: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).into(),
            ..usual
        },
        8 => Route { local: Ipv4Addr::new(100, 64, 0, 9).into(), ..usual },
        9 => Route { gateway: Some(LOCAL), ..usual },
        10 => Route { local: Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 2).into(), ..usual },
        _ => Route { gateway: u.arbitrary()?, local: u.arbitrary()?, interface: u.arbitrary::<u8>()?.into() },
    }))
}
