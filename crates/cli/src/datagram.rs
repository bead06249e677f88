//! Asks a server once over UDP, and waits: the way of PCP and NAT-PMP.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// RFC 6886 §3.1: the first wait, doubled each time. Nine of them would take two minutes; who does not answer to four
/// requests does not speak the protocol.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const REQUESTS: u32 = 4;

/// How long a server is silent before it counts as one that is not there: the sum of the waits.
pub const SILENCE: Duration = Duration::from_millis(3750);

/// How long one looks for what has arrived already: a system has no shorter wait but none at all.
const LAST_LOOK: Duration = Duration::from_millis(1);

/// Room for any datagram: one that is longer than the buffer is cut elsewhere, but an error on Windows.
pub const DATAGRAM_LEN_MAX: usize = 64 * 1024;

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction<T> {
    /// An answer.
    Answer(T),
    /// Nobody listens at that port.
    Closed,
    /// Nothing, so far.
    Silent,
}

/// Sends a request, again where nothing comes back, until `read` makes something of an answer, or `until`. From the address
/// `local`, if that matters.
pub fn ask<T>(
    local: Option<IpAddr>,
    server: SocketAddr,
    request: impl FnOnce(IpAddr) -> Vec<u8>,
    until: Instant,
    read: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Reaction<T>> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local.map_or(any, |local| SocketAddr::new(local, 0)))?;
    // Connected: the kernel drops what others send, and reports a closed port.
    socket.connect(server)?;
    let request = request(socket.local_addr()?.ip());
    let mut wait = FIRST_WAIT;
    for _ in 0..REQUESTS {
        let wait_until = until.min(Instant::now() + wait);
        wait *= 2;
        match socket.send(&request).and_then(|_| receive(&socket, wait_until, &read)) {
            Ok(Some(answer)) => return Ok(Reaction::Answer(answer)),
            Ok(None) if wait_until == until => return Ok(Reaction::Silent),
            Ok(None) => {}
            Err(error) if is_refusal(&error) => return Ok(Reaction::Closed),
            Err(error) => return Err(error),
        }
    }
    Ok(Reaction::Silent)
}

/// Whether an ICMP error came back: nobody listens at that port. Windows calls that a reset connection.
pub fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset)
}

/// The answer; `None`: there is none until then.
fn receive<T>(
    socket: &UdpSocket,
    until: Instant,
    read: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut buffer = vec![0; DATAGRAM_LEN_MAX];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // On a busy machine the time may be over before anybody looked: what has arrived by then counts.
        socket.set_read_timeout(Some(left.max(LAST_LOOK)))?;
        match socket.recv(&mut buffer) {
            Ok(len) => {
                let answer = read(&buffer[..len]);
                if answer.is_some() || left.is_zero() {
                    return Ok(answer);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn socket() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let address = socket.local_addr().expect("bound");
        (socket, address)
    }

    #[test]
    fn sees_what_has_arrived_also_when_its_time_is_over() {
        let ((client, at), (server, server_at)) = (socket(), socket());
        client.connect(server_at).expect("a route");
        server.send_to(&[7], at).expect("sent");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        client.peek(&mut [0]).expect("it arrives");
        let answer = receive(&client, Instant::now(), |bytes| bytes.first().copied());
        assert_eq!(answer.expect("no error"), Some(7));
    }

    #[test]
    fn waits_no_longer_than_its_time() {
        let (_silent, at) = socket();
        let asked = ask(None, at, |_| vec![1], Instant::now(), |bytes| bytes.first().copied());
        assert_eq!(asked.expect("a socket"), Reaction::<u8>::Silent);
    }

    #[test]
    fn sees_that_a_port_is_closed() {
        // Nobody else has this port, and its socket hears nobody but itself.
        let (holder, at) = socket();
        holder.connect(at).expect("a route");
        let until = Instant::now() + Duration::from_secs(10);
        let asked = ask(None, at, |_| vec![1], until, |bytes| bytes.first().copied());
        assert_eq!(asked.expect("a socket"), Reaction::Closed);
    }
}
