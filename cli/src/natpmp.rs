//! Asks a gateway once by NAT-PMP, and waits.

use plum::Transport;
use plum::wire::natpmp::{MapRequest, Reply, ResultCode, parse};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

/// The port of NAT-PMP and PCP, RFC 6886 §3.1.
pub const PORT: u16 = 5351;

/// RFC 6886 §3.1: the first wait, doubled each time. Nine of them would take two minutes; who does not answer to four requests
/// does not speak NAT-PMP.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const REQUESTS: u32 = 4;

/// What a gateway says to a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It has no such mapping any more.
    Deleted,
    /// It has one, and keeps it.
    Refused(ResultCode),
    /// It speaks PCP only.
    SpeaksPcp,
    /// Nobody speaks NAT-PMP there.
    Silent,
}

/// Deletes the mapping of a port of this machine, RFC 6886 §3.4.
pub fn delete(gateway: SocketAddr, transport: Transport, internal_port: NonZeroU16) -> io::Result<Deletion> {
    let any: SocketAddr = if gateway.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    // Connected: the kernel drops what others send, and reports a closed port.
    socket.connect(gateway)?;
    let request = MapRequest { transport, internal_port, suggested_port: None, lifetime_secs: 0 }.emit();
    let mut wait = FIRST_WAIT;
    for _ in 0..REQUESTS {
        let until = Instant::now() + wait;
        wait *= 2;
        match socket.send(&request).and_then(|_| receive(&socket, transport, internal_port, until)) {
            Ok(Some(deletion)) => return Ok(deletion),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(Deletion::Silent),
            Err(error) => return Err(error),
        }
    }
    Ok(Deletion::Silent)
}

/// The answer to the deletion; `None`: there is none until then.
fn receive(
    socket: &UdpSocket,
    wanted: Transport,
    wanted_port: NonZeroU16,
    until: Instant,
) -> io::Result<Option<Deletion>> {
    let mut buffer = [0; 64];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let len = match socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match parse(&buffer[..len]) {
            Ok(Reply::SpeaksPcp) => return Ok(Some(Deletion::SpeaksPcp)),
            Ok(Reply::Map { result, transport, internal_port, .. })
                if transport == wanted && internal_port == wanted_port.get() =>
            {
                return Ok(Some(match result {
                    ResultCode::Success => Deletion::Deleted,
                    ResultCode::UnsupportedVersion => Deletion::SpeaksPcp,
                    refusal => Deletion::Refused(refusal),
                }));
            }
            Ok(_) | Err(_) => {}
        }
    }
}
