//! Asks PCP and NAT-PMP whether they answer MAP requests, and maps nothing: the request is a deletion (lifetime 0) of a mapping
//! that does not exist. RFC 6887 §15: the nonce is new, so that it hits nothing. RFC 6886 §3.4: the port is one that no program of
//! this machine uses at that time.

use super::Inquiry;
use plum_engine::Reason;
use plum_engine::driver::{DeletionOutcome, Driver, Key, Notice, Rung, Slot};
use plum_engine::io::Protocol;
use plum_engine::time::Time;
use plum_wire::pcp::Nonce;
use plum_wire::{Transport, natpmp, pcp};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;

/// How long NAT-PMP and PCP are out for new mappings where a NAT stands before the server: longer than any question takes.
const NAT_BETWEEN_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The question, and the answers so far.
pub struct MapQuestion {
    key: Key,
    /// Keeps the port from other programs.
    _socket: UdpSocket,
    /// How PCP's and NAT-PMP's deletions ended.
    outcomes: [Option<DeletionOutcome>; 2],
    /// The first reply to a MAP request of PCP's.
    pub(super) pcp_reply: Option<(Time, pcp::Header)>,
    /// The first reply to a mapping request of NAT-PMP's.
    pub(super) natpmp_reply: Option<(Time, natpmp::ResultCode)>,
}

/// The place of a protocol in `outcomes`; UPnP has none.
fn place(protocol: Protocol) -> Option<usize> {
    match protocol {
        Protocol::Pcp => Some(0),
        Protocol::NatPmp => Some(1),
        _ => None,
    }
}

impl MapQuestion {
    /// About a port that is free on this machine.
    pub fn new(is_ipv6: bool) -> io::Result<MapQuestion> {
        let any: IpAddr = if is_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        let internal_port = NonZeroU16::new(socket.local_addr()?.port()).ok_or(io::ErrorKind::AddrInUse)?;
        let key = Key { transport: Transport::Udp, internal_port };
        Ok(MapQuestion { key, _socket: socket, outcomes: [None; 2], pcp_reply: None, natpmp_reply: None })
    }

    fn slot(&self, rung: Rung) -> Slot {
        Slot { rung, key: self.key, port: 0 }
    }

    /// How the question ended by a protocol; `None`: it is open, or was not asked.
    pub fn outcome(&self, protocol: Protocol) -> Option<DeletionOutcome> {
        self.outcomes[place(protocol)?]
    }
}

impl Inquiry {
    /// Sends the question by the protocols that are asked.
    pub(super) fn ask_map(&mut self, question: MapQuestion) {
        let (pcp, natpmp) = (question.slot(Rung::Pcp), question.slot(Rung::NatPmp));
        let local = self.cx.config.source.map_or(self.local, |source| source.address.into());
        self.map_question = Some(question);
        if let Some(nonce) = self.cx.random.nonce() {
            // The answer is recognised by the nonce.
            self.cx.ledger.note_sent(pcp, local, Nonce(nonce), Some(self.cx.now));
            self.drivers.pcp.delete(&mut self.cx, pcp, true);
        } else {
            self.note_map_outcome(Protocol::Pcp, DeletionOutcome::NotConfirmed(Reason::NoRandomness));
        }
        if self.asks_natpmp {
            self.drivers.natpmp.delete(&mut self.cx, natpmp, true);
        }
    }

    fn note_map_outcome(&mut self, protocol: Protocol, outcome: DeletionOutcome) {
        if let (Some(question), Some(place)) = (&mut self.map_question, place(protocol)) {
            question.outcomes[place].get_or_insert(outcome);
        }
    }

    /// Takes what a driver reports about the question.
    pub(super) fn note_map_notice(&mut self, protocol: Protocol, notice: &Notice) {
        let Some(question) = &self.map_question else { return };
        match *notice {
            Notice::Deleted { slot, outcome } if slot.key == question.key => {
                let is_silent = outcome == DeletionOutcome::NotConfirmed(Reason::Silence);
                // A program need not wait for a slow gateway at its end, so the library gives up after 0.8 s.
                let is_early = self.cx.now < self.silent_at && self.out(protocol).is_none();
                if is_silent
                    && is_early
                    && let Some(driver) = self.drivers.of(protocol)
                {
                    return driver.delete(&mut self.cx, slot, true);
                }
                self.note_map_outcome(protocol, outcome);
            }
            Notice::AddressMismatch => {
                // The route was looked up, and the socket opened, just before: the library would find the same again.
                self.note_map_outcome(protocol, DeletionOutcome::NotConfirmed(Reason::NatBetween));
                let spoken = [Protocol::Pcp, Protocol::NatPmp];
                for protocol in spoken.into_iter().filter(|&it| it == Protocol::Pcp || self.asks_natpmp) {
                    self.cx.protocols.note_out(self.cx.now, protocol, Reason::NatBetween, NAT_BETWEEN_WAIT);
                }
            }
            _ => {}
        }
    }

    /// Keeps the first reply to each kind of request.
    pub(super) fn note_pcp_reply(&mut self, now: Time, bytes: &[u8]) {
        match (pcp::parse(bytes), &mut self.map_question) {
            (Ok(pcp::Reply::Map(header, _)), Some(question)) => {
                question.pcp_reply.get_or_insert((now, header));
            }
            (Ok(reply), _) => {
                self.pcp_reply.get_or_insert((now, reply));
            }
            (Err(_), _) => {}
        }
    }

    /// Likewise.
    pub(super) fn note_natpmp_reply(&mut self, now: Time, bytes: &[u8]) {
        use natpmp::Reply::{CutMapError, Map};
        match (natpmp::parse(bytes), &mut self.map_question) {
            (Ok(Map { result, .. } | CutMapError { result, .. }), Some(question)) => {
                question.natpmp_reply.get_or_insert((now, result));
            }
            (Ok(reply), _) => {
                self.natpmp_reply.get_or_insert((now, reply));
            }
            (Err(_), _) => {}
        }
    }

    /// The first reply to a MAP request of PCP's.
    pub fn pcp_map_reply(&self) -> Option<(Time, pcp::Header)> {
        self.map_question.as_ref()?.pcp_reply
    }

    /// The result of the first reply to a mapping request of NAT-PMP's.
    pub fn natpmp_map_reply(&self) -> Option<(Time, natpmp::ResultCode)> {
        self.map_question.as_ref()?.natpmp_reply
    }

    /// Whether the question is open by a protocol.
    pub(super) fn is_map_open(&self, protocol: Protocol) -> bool {
        self.map_question.as_ref().is_some_and(|question| question.outcome(protocol).is_none())
    }
}
