//! NAT-PMP, RFC 6886: asks one gateway for its address and for mappings, and watches its epoch.

#![forbid(unsafe_code)]

use super::driver::{Key, Notice, Refusal, Status};
use super::epoch::{Announced, Rule};
use super::io::{Cx, Output, Socket, Suggestion};
use super::requests::{Answer, Ask, LIFETIME_SECS, Requests};
use super::window::Kind;
use crate::log::log;
use crate::ordered::Map;
use crate::time::Time;
use crate::wire::natpmp::{self, MapRequest, Reply, ResultCode};
use crate::wire::pcp::Nonce;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

/// An external address older than this is asked for anew with the next mapping.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(60);

/// The driver of one gateway; `driver.rs` says what its methods promise.
#[derive(Debug)]
pub struct NatPmp {
    requests: Requests,
    remote: Option<SocketAddr>,
    open: bool,
    /// The external address, once the gateway has told it.
    address: Option<Ipv4Addr>,
    /// When it did so last.
    address_at: Time,
    /// An announcement says that it may be another one now.
    address_is_doubtful: bool,
    /// External ports and lifetimes that were granted while the address was not known.
    granted: Map<Key, (u16, Duration)>,
}

impl NatPmp {
    /// A driver without a gateway. `mapping_timeout` is how long one mapping is tried at a gateway that is known.
    pub fn new(mapping_timeout: Duration) -> NatPmp {
        NatPmp {
            requests: Requests::new(Rule::NatPmp, mapping_timeout),
            remote: None,
            open: false,
            address: None,
            address_at: Time::ZERO,
            address_is_doubtful: false,
            granted: Map::new(),
        }
    }

    /// A new gateway, or none: all that was known or asked is dropped, without notices.
    pub fn start(&mut self, remote: impl Into<Option<SocketAddr>>) {
        self.remote = remote.into();
        self.open = false;
        self.address = None;
        self.granted.clear();
        self.requests.reset(if self.remote.is_some() { Status::Unknown } else { Status::Out });
    }

    /// The socket is open, or could not be opened.
    pub fn handle_opened(&mut self, cx: &mut Cx<'_>, local: Option<SocketAddr>) {
        self.open = local.is_some();
        if !self.open {
            self.go_out();
        }
        self.pump(cx);
    }

    /// How NAT-PMP stands at this gateway.
    pub fn status(&self) -> Status {
        self.requests.status()
    }

    /// Whether a deletion that was sent within the last 10 s is not answered.
    pub fn is_deletion_open(&self, now: Time, key: Key) -> bool {
        self.requests.is_deletion_open(now, key)
    }

    /// Whether the gateway has answered by NAT-PMP since `start`.
    pub fn is_known(&self) -> bool {
        self.requests.is_known()
    }

    /// Makes or renews the gateway mapping of a key.
    pub fn map(&mut self, cx: &mut Cx<'_>, key: Key, suggestion: Suggestion) {
        if !self.granted.contains_key(&key) {
            // Nobody may have asked for it since the last mapping was made.
            if !self.requests.is_mapped(key) && cx.now.since(self.address_at) > ADDRESS_LIFETIME {
                self.address_is_doubtful = true;
                self.address_at = cx.now;
            }
            self.requests.map(cx.now, key, suggestion, &mut || Nonce([0; 12]));
            if self.requests.status() != Status::Out {
                self.need_address(cx);
            }
        }
        self.pump(cx);
    }

    /// Removes it.
    pub fn delete(&mut self, cx: &mut Cx<'_>, key: Key) {
        self.granted.remove(&key);
        self.requests.delete(cx.now, key);
        self.pump(cx);
    }

    /// Another protocol won; whether a deletion goes out for it. What takes the place of the request in the window waits for `go_on`: it may be the next to
    /// be abandoned.
    pub fn abandon(&mut self, cx: &mut Cx<'_>, key: Key) -> bool {
        let unreported = self.granted.remove(&key).is_some();
        let deletes = self.requests.abandon(cx.now, key, unreported);
        self.pump_urgent(cx);
        deletes
    }

    /// Sends what there is room for, after the last `abandon`.
    pub fn go_on(&mut self, cx: &mut Cx<'_>) {
        self.pump(cx);
    }

    /// Drops all knowledge of a key without a packet.
    pub fn forget(&mut self, cx: &mut Cx<'_>, key: Key) {
        self.granted.remove(&key);
        self.requests.forget(key);
        self.pump(cx);
    }

    /// The other protocol has seen that the gateway restarted.
    pub fn forget_epoch(&mut self, cx: &mut Cx<'_>) {
        self.requests.forget_epoch();
        self.forget_granted(cx);
        self.pump(cx);
    }

    /// It is up, but has fallen silent: it has to answer in the race that begins.
    pub fn doubt(&mut self) {
        self.requests.doubt();
    }

    /// A race (re)starts: the public-address request, unless the gateway answers well.
    pub fn probe(&mut self, cx: &mut Cx<'_>) {
        if self.remote.is_some() && self.requests.probe() {
            self.requests.query(cx.now, Kind::Query);
        }
        self.pump(cx);
    }

    /// The race is over: no more public-address requests for its sake. An answer still counts.
    pub fn rest(&mut self, cx: &mut Cx<'_>) {
        if self.requests.status() == Status::Unknown {
            self.requests.stop_query();
        }
        self.pump(cx);
    }

    /// The recheck interval has passed: a public-address request, for epoch and address.
    pub fn check(&mut self, cx: &mut Cx<'_>) {
        self.requests.note_recheck();
        if self.requests.status() == Status::Up {
            self.requests.query(cx.now, Kind::Query);
        }
        self.pump(cx);
    }

    /// A datagram came on the connected socket.
    pub fn handle_datagram(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) {
        let counts = match natpmp::parse(bytes) {
            Ok(Reply::Address { result, epoch_secs, address }) => {
                self.handle_address(cx, result, epoch_secs, address)
            }
            Ok(Reply::Map { result, epoch_secs, transport, internal_port, external_port, lifetime_secs }) => {
                NonZeroU16::new(internal_port).is_some_and(|internal_port| {
                    let key = Key { transport, internal_port };
                    self.handle_map(cx, key, result, epoch_secs, external_port, lifetime_secs)
                })
            }
            // Of a single request there is no doubt what it answers.
            Ok(Reply::CutMapError { result, epoch_secs, transport }) => self
                .requests
                .only_awaited(transport)
                .is_some_and(|key| self.handle_map(cx, key, result, epoch_secs, 0, 0)),
            Ok(Reply::SpeaksPcp) => self.handle_speaks_pcp(),
            Err(_) => false,
        };
        if !counts {
            log!(Verbose, "NAT-PMP: drops {} octets that answer nothing", bytes.len());
        }
        self.pump(cx);
    }

    /// The gateway announced itself by NAT-PMP, or by PCP where that has told no epoch; see
    /// [`Epoch::judge_announcement`](super::epoch::Epoch::judge_announcement).
    pub fn judge_announcement(&mut self, cx: &mut Cx<'_>, epoch_secs: u32, is_repetition: bool) -> Announced {
        let announced = self.requests.judge_announcement(cx.now, epoch_secs, is_repetition);
        if announced == Announced::Restarted {
            self.forget_granted(cx);
            self.pump(cx);
        }
        announced
    }

    /// Whether the gateway has told its epoch by NAT-PMP.
    pub fn knows_epoch(&self) -> bool {
        self.requests.knows_epoch()
    }

    /// The gateway announced this external address (RFC 6886 §3.2.1). Anyone on the network can forge that, so the
    /// address is not taken from there: the renewals that follow ask for it.
    pub fn doubt_address(&mut self, announced: Ipv4Addr) {
        self.address_is_doubtful |= self.address.is_some_and(|address| address != announced);
    }

    /// The port is closed (ICMP).
    pub fn handle_refused(&mut self, cx: &mut Cx<'_>) {
        self.requests.handle_closed();
        if self.requests.status() == Status::Out {
            self.granted.clear();
        }
        self.pump(cx);
    }

    /// The time of `poll_timeout` has come.
    pub fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        let address_given_up = self.requests.handle_timeout(cx);
        if address_given_up {
            while let Some((key, _)) = self.granted.pop_first() {
                self.requests.notify(Notice::TimedOut { key });
            }
        }
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

    fn handle_address(
        &mut self,
        cx: &Cx<'_>,
        result: ResultCode,
        epoch_secs: u32,
        address: Ipv4Addr,
    ) -> bool {
        if result != ResultCode::Success && self.requests.status() == Status::Unknown {
            // It cannot map anything: whoever else can should.
            let awaited = self.requests.awaits_query();
            if awaited {
                log!(Debug, "NAT-PMP: the public-address request is answered by {result:?}");
                self.go_out();
            }
            return awaited;
        }
        let Some(effect) = self.requests.handle_query_answer(cx.now, epoch_secs) else { return false };
        if effect.restarted {
            self.forget_granted(cx);
        }
        if result == ResultCode::Success {
            self.set_address(cx.now, address);
        } else {
            log!(Debug, "NAT-PMP: the gateway has no external address: {result:?}");
            while let Some((key, _)) = self.granted.pop_first() {
                self.requests.notify(Notice::Refused {
                    key,
                    refusal: Refusal::Failed { retry_after: Duration::ZERO },
                });
            }
        }
        true
    }

    fn handle_map(
        &mut self,
        cx: &Cx<'_>,
        key: Key,
        result: ResultCode,
        epoch_secs: u32,
        external_port: u16,
        lifetime_secs: u32,
    ) -> bool {
        // RFC 6886 gives errors no lifetime.
        let retry_after = Duration::ZERO;
        let answer = match result {
            ResultCode::Success if lifetime_secs == 0 => Answer::Deleted,
            ResultCode::Success => Answer::Granted { address: None, port: external_port },
            ResultCode::UnsupportedVersion | ResultCode::NotAuthorized | ResultCode::UnsupportedOpcode => {
                Answer::Refused(Refusal::NextProtocol { retry_after })
            }
            ResultCode::NetworkFailure | ResultCode::OutOfResources | ResultCode::Other(_) => {
                Answer::Refused(Refusal::Failed { retry_after })
            }
        };
        let Some(effect) = self.requests.handle_answer(cx.now, key, answer, epoch_secs, false) else {
            return false;
        };
        if effect.restarted {
            self.forget_granted(cx);
            self.requests.query(cx.now, Kind::Query);
        }
        if effect.granted {
            let lifetime = Duration::from_secs(lifetime_secs.into());
            self.granted.insert(key, (external_port, lifetime));
            self.report_granted();
            self.need_address(cx);
        } else if let Answer::Refused(_) = answer {
            log!(Debug, "{key}: NAT-PMP answers {result:?}");
        }
        true
    }

    fn handle_speaks_pcp(&mut self) -> bool {
        let awaited = self.requests.awaits_query() || self.requests.awaits_key();
        if awaited {
            self.go_out();
            self.requests.notify(Notice::SpeaksPcp);
        }
        awaited
    }

    /// The gateway has restarted: it may have another address, and what it granted before is asked for again.
    fn forget_granted(&mut self, cx: &Cx<'_>) {
        self.address = None;
        while let Some((key, _)) = self.granted.pop_first() {
            self.requests.ask_again(cx.now, key);
        }
    }

    /// A mapping is worth nothing to the program without the address. (One that is in doubt only is not waited for.)
    fn need_address(&mut self, cx: &Cx<'_>) {
        if self.address.is_none() || self.address_is_doubtful {
            self.requests.query(cx.now, Kind::Query);
        }
    }

    fn set_address(&mut self, now: Time, address: Ipv4Addr) {
        self.address_at = now;
        self.address_is_doubtful = false;
        let before = self.address.replace(address);
        if before.is_some_and(|before| before != address) {
            self.requests.notify(Notice::AddressChanged { address: address.into() });
        }
        self.report_granted();
    }

    fn report_granted(&mut self) {
        let Some(address) = self.address else { return };
        while let Some((key, (port, lifetime))) = self.granted.pop_first() {
            self.requests.notify(Notice::Granted {
                key,
                address: IpAddr::V4(address),
                port,
                lifetime: Some(lifetime),
            });
        }
    }

    fn go_out(&mut self) {
        self.granted.clear();
        self.requests.go_out();
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
        let Some(to) = self.remote.filter(|_| self.open) else { return };
        while let Some(ask) = self.requests.poll_ask(cx, urgent_only) {
            let bytes = match ask {
                Ask::Query => natpmp::emit_address_request().to_vec(),
                Ask::Map { key, suggestion } => emit(key, suggestion.port, LIFETIME_SECS),
                // RFC 6886 §3.4: a deletion has external port 0.
                Ask::Delete { key } => emit(key, None, 0),
            };
            cx.output(Output::Send { socket: Socket::NatPmp, to, bytes });
        }
    }
}

fn emit(key: Key, suggested_port: Option<NonZeroU16>, lifetime_secs: u32) -> Vec<u8> {
    let request = MapRequest {
        transport: key.transport,
        internal_port: key.internal_port,
        suggested_port,
        lifetime_secs,
    };
    request.emit().to_vec()
}

#[cfg(test)]
mod tests;
