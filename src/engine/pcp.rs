//! PCP, RFC 6887: asks one gateway for mappings by MAP and watches its epoch.

#![forbid(unsafe_code)]

use super::driver::{Key, Notice, Refusal, Status};
use super::epoch::{Announced, Rule};
use super::io::{Cx, Output, Socket, Suggestion};
use super::requests::{Answer, Ask, LIFETIME_SECS, Requests};
use super::window::Kind;
use crate::log::log;
use crate::ordered;
use crate::time::Time;
use crate::wire::pcp::{self, Header, Map, MapRequest, Nonce, Opcode, Reply, ResultCode};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

pub use crate::wire::pcp::SERVER_PORT;

/// The driver of one gateway; `driver.rs` says what its methods promise.
#[derive(Debug)]
pub struct Pcp {
    requests: Requests,
    remote: Option<SocketAddr>,
    /// Our address, as the socket has it: it stands in each request.
    local: Option<IpAddr>,
    mismatch: Mismatch,
    /// The nonces of the mappings asked for before `start`, and the gateway that knows them: where the network
    /// comes back as it was, it still has those mappings, and lets nobody else renew them (RFC 6887 §11.3).
    nonces: ordered::Map<Key, Nonce>,
    known_to: Option<SocketAddr>,
}

/// The server sees our packets come from another address than they say (ADDRESS_MISMATCH).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mismatch {
    None,
    /// The core was told: nothing is sent on this socket any more.
    Told,
    /// There is another socket since.
    Retried,
}

impl Pcp {
    /// A driver without a gateway. `mapping_timeout` is how long one mapping is tried at a gateway that is known.
    pub fn new(mapping_timeout: Duration) -> Pcp {
        Pcp {
            requests: Requests::new(Rule::Pcp, mapping_timeout),
            remote: None,
            local: None,
            mismatch: Mismatch::None,
            nonces: ordered::Map::new(),
            known_to: None,
        }
    }

    /// A new gateway, or none: all that was asked is dropped, without notices.
    pub fn start(&mut self, remote: impl Into<Option<SocketAddr>>) {
        let remote = remote.into();
        for (key, nonce) in self.requests.nonces() {
            self.nonces.insert(key, nonce);
        }
        if remote.is_some() && remote != self.known_to {
            self.nonces.clear();
            self.known_to = remote;
        }
        self.remote = remote;
        self.local = None;
        self.requests.reset(if self.remote.is_some() { Status::Unknown } else { Status::Out });
        self.mismatch = match self.mismatch {
            Mismatch::Told => Mismatch::Retried,
            Mismatch::None | Mismatch::Retried => Mismatch::None,
        };
    }

    /// The socket is open, with this local address, or could not be opened.
    pub fn handle_opened(&mut self, cx: &mut Cx<'_>, local: Option<SocketAddr>) {
        self.local = local.map(|local| local.ip().to_canonical());
        if self.mismatch == Mismatch::Told {
            self.mismatch = Mismatch::Retried;
        }
        if self.local.is_none() {
            self.requests.go_out();
        }
        self.pump(cx);
    }

    /// How PCP stands at this gateway.
    pub fn status(&self) -> Status {
        self.requests.status()
    }

    /// Whether a deletion that was sent within the last 10 s is not answered.
    pub fn is_deletion_open(&self, now: Time, key: Key) -> bool {
        self.requests.is_deletion_open(now, key)
    }

    /// Whether the gateway has answered by PCP since `start`.
    pub fn is_known(&self) -> bool {
        self.requests.is_known()
    }

    /// Makes or renews the gateway mapping of a key.
    pub fn map(&mut self, cx: &mut Cx<'_>, key: Key, suggestion: Suggestion) {
        let random = &mut *cx.random;
        let nonces = &mut self.nonces;
        self.requests.map(cx.now, key, suggestion, &mut || {
            if let Some(nonce) = nonces.remove(&key) {
                return nonce;
            }
            let mut nonce = Nonce([0; 12]);
            random.fill(&mut nonce.0);
            nonce
        });
        self.pump(cx);
    }

    /// Removes it.
    pub fn delete(&mut self, cx: &mut Cx<'_>, key: Key) {
        if let Some(nonce) = self.nonces.remove(&key) {
            // Made before `start`, and not asked for since: the gateway may have it still.
            self.requests.remember(key, nonce);
        }
        self.requests.delete(cx.now, key);
        self.pump(cx);
    }

    /// Another protocol won; whether a deletion goes out for it. What takes the place of the request in the window waits for `go_on`: it may be the next to
    /// be abandoned.
    pub fn abandon(&mut self, cx: &mut Cx<'_>, key: Key) -> bool {
        let deletes = self.requests.abandon(cx.now, key, false);
        self.pump_urgent(cx);
        deletes
    }

    /// Sends what there is room for, after the last `abandon`.
    pub fn go_on(&mut self, cx: &mut Cx<'_>) {
        self.pump(cx);
    }

    /// Drops all knowledge of a key without a packet.
    pub fn forget(&mut self, cx: &mut Cx<'_>, key: Key) {
        // But its nonce: should PCP be asked again, the gateway may know the mapping by it.
        if let Some(nonce) = self.requests.nonce(key) {
            self.nonces.insert(key, nonce);
        }
        self.requests.forget(key);
        self.pump(cx);
    }

    /// The other protocol has seen that the gateway restarted.
    pub fn forget_epoch(&mut self) {
        self.requests.forget_epoch();
    }

    /// It is up, but has fallen silent: it has to answer in the race that begins.
    pub fn doubt(&mut self) {
        self.requests.doubt();
    }

    /// A race (re)starts: the open map requests go out again, unless the gateway answers well.
    pub fn probe(&mut self, cx: &mut Cx<'_>) {
        if self.remote.is_some() && self.local.is_some() {
            self.requests.probe();
        }
        self.pump(cx);
    }

    /// The recheck interval has passed, and mappings of ours are by a protocol that is out: perhaps it is back.
    pub fn revive(&mut self, cx: &mut Cx<'_>) {
        if self.remote.is_some() && self.local.is_some() && self.requests.probe() {
            self.requests.query(cx.now, Kind::Check);
        }
        self.pump(cx);
    }

    /// The recheck interval has passed: an ANNOUNCE request, to see the epoch.
    pub fn check(&mut self, cx: &mut Cx<'_>) {
        self.requests.note_recheck();
        if self.requests.status() == Status::Up {
            self.requests.query(cx.now, Kind::Check);
        }
        self.pump(cx);
    }

    /// A datagram came on the connected socket.
    pub fn handle_datagram(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) {
        let counts = match pcp::parse(bytes) {
            Ok(Reply::Announce(header)) => {
                self.requests.handle_query_answer(cx.now, header.epoch_secs).is_some()
            }
            Ok(Reply::Map(header, map)) => self.handle_map(cx, header, map),
            Ok(Reply::UnsuppVersion { version, opcode }) => self.handle_unsupp_version(version, opcode),
            Err(_) => false,
        };
        if !counts {
            log!(Verbose, "PCP: drops {} octets that answer nothing", bytes.len());
        }
        self.pump(cx);
    }

    /// The gateway announced itself by PCP, or by NAT-PMP where that has told no epoch; see
    /// [`Epoch::judge_announcement`](super::epoch::Epoch::judge_announcement).
    pub fn judge_announcement(&mut self, now: Time, epoch_secs: u32, is_repetition: bool) -> Announced {
        self.requests.judge_announcement(now, epoch_secs, is_repetition)
    }

    /// Whether the gateway has told its epoch by PCP.
    pub fn knows_epoch(&self) -> bool {
        self.requests.knows_epoch()
    }

    /// The port is closed (ICMP).
    pub fn handle_refused(&mut self, cx: &mut Cx<'_>) {
        self.requests.handle_closed();
        self.pump(cx);
    }

    /// The time of `poll_timeout` has come.
    pub fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        // A server need not answer ANNOUNCE (RFC 6887 §14.1 came late): that it was given up means nothing.
        self.requests.handle_timeout(cx);
        self.pump(cx);
    }

    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.requests.poll_timeout()
    }

    /// What the core is told, until `None`.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.requests.poll_notice()
    }

    fn handle_map(&mut self, cx: &mut Cx<'_>, header: Header, map: Map) -> bool {
        let Some(internal_port) = NonZeroU16::new(map.internal_port) else { return false };
        let key = Key { transport: map.transport, internal_port };
        // RFC 6887 §11.4: protocol, internal port and nonce must be those of a request.
        if self.requests.nonce(key) != Some(map.nonce) {
            return false;
        }
        let lifetime = Duration::from_secs(header.lifetime_secs.into());
        let answer = match header.result {
            ResultCode::Success if header.lifetime_secs == 0 => Answer::Deleted,
            ResultCode::Success => {
                Answer::Granted { address: Some(map.external_address), port: map.external_port }
            }
            ResultCode::UnsuppVersion => return self.handle_unsupp_version(2, Opcode::Map),
            ResultCode::AddressMismatch => return self.handle_mismatch(key),
            ResultCode::NotAuthorized
            | ResultCode::UnsuppOpcode
            | ResultCode::UnsuppProtocol
            | ResultCode::MalformedRequest
            | ResultCode::MalformedOption => Answer::Refused(Refusal::NextProtocol { retry_after: lifetime }),
            ResultCode::UnsuppOption
            | ResultCode::NetworkFailure
            | ResultCode::NoResources
            | ResultCode::UserExQuota
            | ResultCode::CannotProvideExternal
            | ResultCode::ExcessiveRemotePeers
            | ResultCode::Other(_) => Answer::Refused(Refusal::Failed { retry_after: lifetime }),
        };
        // RFC 6887 §14.2: a server may tell of a changed mapping by itself.
        let Some(effect) = self.requests.handle_answer(cx.now, key, answer, header.epoch_secs, true) else {
            return false;
        };
        self.mismatch = Mismatch::None;
        if effect.granted {
            self.requests.notify(Notice::Granted {
                key,
                address: map.external_address,
                port: map.external_port,
                lifetime: Some(lifetime),
            });
        } else if let Answer::Refused(_) = answer {
            log!(Debug, "{key}: PCP answers {:?}", header.result);
        }
        true
    }

    fn handle_unsupp_version(&mut self, version: u8, opcode: Opcode) -> bool {
        let awaited = match opcode {
            Opcode::Announce => self.requests.awaits_query(),
            Opcode::Map => self.requests.awaits_key(),
        };
        if awaited {
            log!(Debug, "PCP: the gateway speaks version {version} only");
            self.requests.go_out();
            if version < 2 {
                // RFC 6887 §9: version 0 is NAT-PMP; version 1 was that of its drafts, whose servers speak both.
                self.requests.notify(Notice::SpeaksNatPmp);
            }
        }
        awaited
    }

    fn handle_mismatch(&mut self, key: Key) -> bool {
        if !self.requests.awaits(key) {
            return false;
        }
        match self.mismatch {
            Mismatch::None => {
                self.mismatch = Mismatch::Told;
                self.requests.notify(Notice::AddressMismatch);
            }
            // All requests of the first window say the same.
            Mismatch::Told => {}
            Mismatch::Retried => {
                self.requests.go_out();
                self.requests.notify(Notice::AddressMismatch);
            }
        }
        true
    }

    /// Sends what may be sent now.
    fn pump(&mut self, cx: &mut Cx<'_>) {
        self.send(cx, false);
    }

    /// Sends what does not wait for the window.
    fn pump_urgent(&mut self, cx: &mut Cx<'_>) {
        self.send(cx, true);
    }

    fn send(&mut self, cx: &mut Cx<'_>, urgent_only: bool) {
        let (Some(to), Some(client)) = (self.remote, self.local) else { return };
        if self.mismatch == Mismatch::Told {
            return;
        }
        while let Some(ask) = self.requests.poll_ask(cx, urgent_only) {
            let bytes = match ask {
                Ask::Query => pcp::emit_announce_request(client).to_vec(),
                Ask::Map { key, suggestion } => self.emit(client, key, suggestion, LIFETIME_SECS),
                // RFC 6887 §15.1: a deletion suggests nothing.
                Ask::Delete { key } => self.emit(client, key, Suggestion::default(), 0),
            };
            if !bytes.is_empty() {
                cx.output(Output::Send { socket: Socket::Pcp, to, bytes });
            }
        }
    }

    fn emit(&self, client: IpAddr, key: Key, suggestion: Suggestion, lifetime_secs: u32) -> Vec<u8> {
        let Some(nonce) = self.requests.nonce(key) else { return Vec::new() };
        let request = MapRequest {
            client,
            nonce,
            transport: key.transport,
            internal_port: key.internal_port,
            suggested_port: suggestion.port,
            suggested_address: suggestion.address,
            lifetime_secs,
        };
        request.emit().to_vec()
    }
}

#[cfg(test)]
mod tests;
