//! Ports of this machine at which no program listens.

use plum::Transport;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

/// How many ports are tried: the system offers one that is free for one transport, and it may not be so for the other.
const MAX_TRIES: usize = 100;

/// A port at which a program could listen by each of `transports`, and that is `wanted`.
pub fn find(transports: &[Transport], wanted: impl Fn(u16) -> bool) -> io::Result<u16> {
    for _ in 0..MAX_TRIES {
        let port = bind(transports[0], Ipv4Addr::UNSPECIFIED.into(), 0)?;
        if wanted(port) && transports.iter().all(|&transport| is_free(transport, port)) {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port of this machine is free: name one"))
}

/// Whether a program could listen at this port, on the address that a gateway maps to. Who listens on all addresses has that one, too.
pub fn is_free(transport: Transport, port: u16) -> bool {
    let address = plum::local_address().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    // By another error the address is not there, or no longer.
    let is_refused =
        |error: io::Error| matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
    !bind(transport, address, port).is_err_and(is_refused)
}

/// The port of a socket that is closed again.
fn bind(transport: Transport, address: IpAddr, port: u16) -> io::Result<u16> {
    let bound = match transport {
        Transport::Tcp => TcpListener::bind((address, port))?.local_addr()?,
        Transport::Udp => UdpSocket::bind((address, port))?.local_addr()?,
    };
    Ok(bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_while_nobody_listens_there() {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        assert!(!is_free(Transport::Tcp, listener.local_addr().expect("bound").port()));
        let both = [Transport::Tcp, Transport::Udp];
        let port = find(&both, |_| true).expect("one is free");
        assert!(port != 0);
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("it is free");
        assert!(!is_free(Transport::Udp, port));
        drop(socket);
    }

    #[test]
    fn without_a_wanted_port_the_search_ends() {
        let error = find(&[Transport::Udp], |_| false).expect_err("none is wanted");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
