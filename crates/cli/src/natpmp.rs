//! Asks a gateway once by NAT-PMP, and waits.

use crate::datagram::{Reaction, SILENCE, ask};
use plum::Transport;
use plum_wire::natpmp::{MapRequest, Reply, ResultCode, emit_address_request, parse};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Instant;

/// The port of NAT-PMP and PCP, RFC 6886 §3.1.
pub const PORT: u16 = 5351;

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

/// What a gateway says to the question for its external address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// It has this one, or none for this reason; and it has been up for so long.
    Answer { result: ResultCode, address: Ipv4Addr, epoch_secs: u32 },
    /// It speaks PCP only.
    SpeaksPcp,
}

/// Deletes the mapping of a port of this machine, RFC 6886 §3.4, until then at most.
pub fn delete(
    gateway: SocketAddr,
    transport: Transport,
    internal_port: NonZeroU16,
    until: Instant,
) -> io::Result<Deletion> {
    let request = MapRequest { transport, internal_port, suggested_port: None, lifetime_secs: 0 }.emit();
    let wanted = (transport, internal_port.get());
    let read = |bytes: &[u8]| match parse(bytes) {
        Ok(Reply::SpeaksPcp) => Some(Deletion::SpeaksPcp),
        Ok(Reply::Map { result, transport, internal_port, .. }) if (transport, internal_port) == wanted => {
            Some(match result {
                ResultCode::Success => Deletion::Deleted,
                ResultCode::UnsupportedVersion => Deletion::SpeaksPcp,
                refusal => Deletion::Refused(refusal),
            })
        }
        Ok(_) | Err(_) => None,
    };
    let until = until.min(Instant::now() + SILENCE);
    let reaction = ask(None, gateway, |_| request.to_vec(), until, read)?;
    Ok(match reaction {
        Reaction::Answer(deletion) => deletion,
        Reaction::Closed | Reaction::Silent => Deletion::Silent,
    })
}

/// Asks for the external address, RFC 6886 §3.2, which changes nothing there.
pub fn external_address(local: IpAddr, gateway: SocketAddr, until: Instant) -> io::Result<Reaction<Address>> {
    let read = |bytes: &[u8]| match parse(bytes) {
        Ok(Reply::SpeaksPcp) => Some(Address::SpeaksPcp),
        Ok(Reply::Address { result, epoch_secs, address }) => {
            Some(Address::Answer { result, address, epoch_secs })
        }
        Ok(_) | Err(_) => None,
    };
    ask(Some(local), gateway, |_| emit_address_request().to_vec(), until, read)
}
