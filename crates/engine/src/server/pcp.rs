//! PCP (RFC 6887): MAP requests and replies.

use super::{Answer, Message, Server, Subject};
use crate::driver::{Key, Notice, Rung, Slot};
use crate::io::{Cx, Protocol};
use crate::log::log;
use crate::reason::Reason;
use plum_wire::pcp::{self, Header, Map, MapRequest, Nonce, Reply, ResultCode};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

impl Server {
    /// Handles a datagram; returns whether it answers a request.
    pub(super) fn handle_pcp(&mut self, cx: &mut Cx, bytes: &[u8]) -> bool {
        match pcp::parse(bytes) {
            Ok(Reply::Announce(header)) => self.handle_query_answer(cx, header.epoch_secs),
            Ok(Reply::Map(header, map)) => self.handle_pcp_map(cx, header, map),
            Ok(Reply::UnsuppVersion { .. }) => self.give_way_to(cx, Protocol::NatPmp),
            Err(_) => false,
        }
    }

    fn handle_pcp_map(&mut self, cx: &mut Cx, header: Header, map: Map) -> bool {
        let Some(internal_port) = NonZeroU16::new(map.internal_port) else { return false };
        let key = Key { transport: map.transport, internal_port };
        // RFC 6887 §11.4: protocol, internal port and nonce must be those of a request.
        if cx.ledger.get(self.slot(key)).is_none_or(|entry| entry.nonce != map.nonce) {
            return false;
        }
        let lifetime = Duration::from_secs(header.lifetime_secs.into());
        let answer = match header.result {
            ResultCode::Success if lifetime.is_zero() => Answer::Zero,
            ResultCode::Success => {
                Answer::Granted { address: Some(map.external_address), port: map.external_port, lifetime }
            }
            ResultCode::AddressMismatch => return self.handle_mismatch(cx, key),
            code => {
                let reason = Reason::Result { protocol: Protocol::Pcp, code: code.number().into() };
                log!(Debug, "{key}: PCP refuses: {reason}");
                Answer::Refused { reason, lifetime: Some(lifetime) }
            }
        };
        self.handle_answer(cx, key, answer, header.epoch_secs)
    }

    fn handle_mismatch(&mut self, cx: &mut Cx, key: Key) -> bool {
        let is_awaited = self.window.was_sent(Subject::Key(key));
        if is_awaited {
            self.rebind(cx, Notice::AddressMismatch, None);
        }
        is_awaited
    }
}

/// RFC 6887 §11.2: the nonce of a key at this server, or a new one; `None`: there is no randomness. NAT-PMP has no
/// nonces.
pub(super) fn nonce_of(cx: &mut Cx, slot: Slot) -> Option<Nonce> {
    if slot.rung != Rung::Pcp {
        return Some(Nonce::default());
    }
    cx.ledger.nonce(slot.key).or_else(|| cx.random.nonce().map(Nonce))
}

/// The bytes of a request.
pub(super) fn emit(message: Message, client: IpAddr, nonce: Nonce) -> Vec<u8> {
    let Message::Mapping { key, suggestion, lifetime } = message else {
        return pcp::emit_announce_request(client).to_vec();
    };
    let request = MapRequest {
        client,
        nonce,
        transport: key.transport,
        internal_port: key.internal_port,
        suggested_port: suggestion.port,
        suggested_address: suggestion.address,
        lifetime_secs: lifetime.as_secs() as u32,
    };
    request.emit().to_vec()
}
