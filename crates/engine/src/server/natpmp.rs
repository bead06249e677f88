//! NAT-PMP (RFC 6886): map requests, the external address, and doubts about forged replies.

use super::{Answer, Message, Server};
use crate::driver::{Grant, Key, Notice, Rung};
use crate::io::{Cx, Protocol};
use crate::log::log;
use crate::protocols::ProtocolState;
use crate::reason::Reason;
use crate::time::Time;
use plum_wire::Transport;
use plum_wire::natpmp::{self, MapRequest, Reply, ResultCode};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

/// An older external address is requested again with the next mapping.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(60);

/// A doubtful external address is requested again at most this often: the cause of the doubt can be forged.
const ADDRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long the second exchange waits if the server did not answer the first at once. An attacker needs half a second
/// to send to all our ports: by then it has also hit the PCP socket, which exposes it, and the gateway has had time to
/// answer a search.
const SECOND_GRANT_WAIT: Duration = Duration::from_millis(600);

/// The external address that NAT-PMP reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToldAddress {
    address: Ipv4Addr,
    at: Time,
    /// It may have changed: it is requested again, and used meanwhile.
    doubtful: bool,
}

impl Server {
    /// Handles a datagram; returns whether it answers a request.
    pub(super) fn handle_natpmp(&mut self, cx: &mut Cx, bytes: &[u8]) -> bool {
        let state = cx.protocols.state(Protocol::NatPmp);
        if matches!(state, ProtocolState::Out { reason: Reason::Forged, .. }) {
            // Further forged replies do not bring the protocol back.
            return false;
        }
        match natpmp::parse(bytes) {
            Ok(Reply::Address { result, epoch_secs, address }) => {
                self.handle_address(cx, result, epoch_secs, address)
            }
            Ok(Reply::Map { result, epoch_secs, transport, internal_port, external_port, lifetime_secs }) => {
                let key = self.key_of(cx.now, transport, internal_port, external_port);
                let lifetime = Duration::from_secs(lifetime_secs.into());
                let answer = match result {
                    ResultCode::Success if lifetime.is_zero() => Answer::Zero,
                    ResultCode::Success => Answer::Granted { address: None, port: external_port, lifetime },
                    code => Answer::Refused { reason: reason_of(code), lifetime: None },
                };
                key.is_some_and(|key| self.handle_answer(cx, key, answer, epoch_secs))
            }
            Ok(Reply::CutMapError { result, epoch_secs, transport }) => {
                let answer = Answer::Refused { reason: reason_of(result), lifetime: None };
                let key = self.only_awaited(cx.now, transport);
                key.is_some_and(|key| self.handle_answer(cx, key, answer, epoch_secs))
            }
            Ok(Reply::SpeaksPcp) => self.give_way_to(cx, Protocol::Pcp),
            Err(_) => false,
        }
    }

    /// RFC 6886 §3.2.1: the gateway announces this external address. Announcements can be forged, so the address is not
    /// taken over: the renewals that follow request it.
    pub(crate) fn doubt_address(&mut self, announced: Ipv4Addr) {
        if let Some(told) = &mut self.told_address {
            told.doubtful |= told.address != announced;
        }
    }

    /// The key that a reply is about. Servers of VPN providers send internal port 0 or the external port instead of the
    /// internal one: if a single request is open, the reply answers it. (Servers that cut ports to 8 bits cut both:
    /// they grant another port.)
    fn key_of(&self, now: Time, transport: Transport, internal_port: u16, external_port: u16) -> Option<Key> {
        let named = NonZeroU16::new(internal_port).map(|internal_port| Key { transport, internal_port });
        if let Some((key, requests)) = named.and_then(|key| Some((key, self.requests.get(&key)?))) {
            // Otherwise it is a duplicate of an earlier reply.
            return requests.asked_at(now).map(|_| key);
        }
        let only = self.only_awaited(now, transport)?;
        let is_cut = internal_port != 0 && internal_port == only.internal_port.get() & 0xff;
        let is_unnamed = internal_port == 0 || internal_port == external_port;
        Some(only).filter(|_| is_unnamed && !is_cut)
    }

    /// The key of a transport with open requests, if there is exactly one.
    fn only_awaited(&self, now: Time, transport: Transport) -> Option<Key> {
        let requests = self.requests.iter();
        let mut awaited = requests
            .filter(|(key, requests)| key.transport == transport && requests.asked_at(now).is_some())
            .map(|(key, _)| key);
        let only = awaited.next();
        only.filter(|_| awaited.next().is_none())
    }

    fn handle_address(
        &mut self,
        cx: &mut Cx,
        result: ResultCode,
        epoch_secs: u32,
        address: Ipv4Addr,
    ) -> bool {
        if !self.handle_query_answer(cx, epoch_secs) {
            return false;
        }
        if result == ResultCode::Success {
            cx.protocols.note_address(cx.now, address.into());
            let before = self.told_address.replace(ToldAddress { address, at: cx.now, doubtful: false });
            if before.is_some_and(|before| before.address != address) {
                let address = IpAddr::V4(address);
                self.notices.push_back(Notice::AddressChanged { rung: Rung::NatPmp, address });
            }
            self.report_granted(cx);
            return true;
        }
        let reason = reason_of(result);
        log!(Debug, "NAT-PMP: the gateway has no external address: {reason}");
        self.fail_granted(reason);
        if cx.protocols.state(Protocol::NatPmp) != ProtocolState::Works {
            // Without an external address no mapping is usable.
            self.go_out(cx, reason, None);
        }
        true
    }

    /// Fails the grants that wait for an external address.
    pub(super) fn fail_granted(&mut self, reason: Reason) {
        while let Some((key, _)) = self.granted.pop_first() {
            self.notices.push_back(Notice::Failed { key, rung: Rung::NatPmp, reason, lifetime: None });
        }
    }

    /// Requests the external address unless it is recent. (A doubtful one is used meanwhile.)
    pub(super) fn need_address(&mut self, cx: &Cx, is_for_new: bool) {
        let is_good = self.told_address.is_some_and(|ToldAddress { at, doubtful, .. }| {
            let age = cx.now.since(at);
            (!doubtful || age < ADDRESS_INTERVAL) && (!is_for_new || age <= ADDRESS_LIFETIME)
        });
        if !is_good {
            self.query(cx.now);
        }
    }

    pub(super) fn report_granted(&mut self, cx: &mut Cx) {
        let Some(ToldAddress { address, .. }) = self.told_address else { return };
        if self.granted.is_empty() {
            return;
        }
        let is_new = !cx.protocols.of(Protocol::NatPmp).has_worked;
        match self.doubted.take() {
            None if is_new && (self.was_silent || cx.protocols.is_upnp_there) => {
                return self.ask_for_second_grant(cx, address);
            }
            Some(first) if first != address => return self.note_forged(cx),
            Some(_) if self.was_silent && cx.protocols.is_upnp_there => {
                return self.go_out(cx, Reason::Silence, None);
            }
            _ => cx.protocols.note_works(cx.now, Protocol::NatPmp),
        }
        while let Some((_, grant)) = self.granted.pop_first() {
            let address = Some(IpAddr::V4(address));
            self.notices.push_back(Notice::Granted(Grant { address, ..grant }));
        }
    }

    /// Requests the first grant a second time, from another port. It is in doubt if the gateway also answers by UPnP,
    /// or did not answer by NAT-PMP at once: NAT-PMP has no nonce, and a host on the link can send replies to all our
    /// ports in half a second.
    fn ask_for_second_grant(&mut self, cx: &mut Cx, address: Ipv4Addr) {
        log!(Debug, "NAT-PMP: requests the first mapping again, from another port");
        self.doubted = Some(address);
        let wait = std::mem::take(&mut self.was_silent).then_some(SECOND_GRANT_WAIT);
        self.rebind(cx, Notice::Doubtful, wait);
        self.forget_granted(cx, None);
        self.query(cx.now);
    }

    /// Handles a datagram on the PCP socket. A server replies to the port that asked: only an attacker that tries all
    /// ports sends NAT-PMP replies there.
    pub(crate) fn handle_stray(&mut self, cx: &mut Cx, bytes: &[u8]) {
        use ResultCode::Success;
        // A server that reads PCP's MAP as NAT-PMP's finds internal port 0 in it.
        let is_guess = matches!(
            natpmp::parse(bytes),
            Ok(Reply::Address { result: Success, .. }
                | Reply::Map { result: Success, internal_port: 1.., .. })
        );
        let is_known = cx.protocols.of(Protocol::NatPmp).has_worked;
        let is_out = matches!(cx.protocols.state(Protocol::NatPmp), ProtocolState::Out { .. });
        if is_guess && !is_known && !is_out {
            self.note_forged(cx);
        }
    }

    fn note_forged(&mut self, cx: &mut Cx) {
        log!(Warn, "NAT-PMP: another host answers in the gateway's name");
        self.go_out(cx, Reason::Forged, None);
    }
}

/// The bytes of a request.
pub(super) fn emit(message: Message) -> Vec<u8> {
    let Message::Mapping { key: Key { transport, internal_port }, suggestion, lifetime } = message else {
        return natpmp::emit_address_request().to_vec();
    };
    let (suggested_port, lifetime_secs) = (suggestion.port, lifetime.as_secs() as u32);
    MapRequest { transport, internal_port, suggested_port, lifetime_secs }.emit().to_vec()
}

fn reason_of(code: ResultCode) -> Reason {
    Reason::Result { protocol: Protocol::NatPmp, code: code.number() }
}
