//! The driver of a gateway's PCP or NAT-PMP server: the requests for each key, and the epoch.
//!
//! `pcp` and `natpmp` encode messages and contain what is particular to one protocol. `key_requests` has the requests
//! about one key, `window` paces all of them, and `answers` handles replies.

use super::driver::{DeletionOutcome, Driver, Grant, Key, Notice, RequestKind, Rung, Slot};
use super::epoch::Epoch;
use super::io::{Cx, Output, Protocol, Socket, Suggestion};
use super::ledger::DeletionState;
use super::protocols::{GRACE, ProtocolState, SILENCE};
use super::reason::Reason;
use super::timers::Timers;
use crate::log::log;
use crate::ordered::{Map, Word};
use crate::time::Time;
use key_requests::{KeyRequests, RequestState, Sent};
use plum_wire::pcp::Nonce;
use std::collections::LinkedList;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use window::{Kind, Window};

mod answers;
mod key_requests;
mod natpmp;
mod pcp;
mod window;

/// The lifetime that is requested.
const LIFETIME: Duration = Duration::from_secs(7200);
/// The lifetime that is requested for a pinhole: without the nonce nobody can delete it before its end.
const PINHOLE_LIFETIME: Duration = Duration::from_secs(3600);

/// The subject of a request in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// The gateway itself.
    Gateway,
    /// A mapping.
    Key(Key),
}

impl Word for Subject {
    fn word(self) -> u64 {
        match self {
            Subject::Gateway => 0,
            // Ports begin with 1.
            Subject::Key(key) => key.word(),
        }
    }
}

/// A request to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// PCP: ANNOUNCE, for the epoch. NAT-PMP: the external address request.
    Query,
    /// Makes, renews or (lifetime 0) deletes a mapping.
    Mapping { key: Key, suggestion: Suggestion, lifetime: Duration },
}

impl Message {
    /// A map request; without a suggestion, and for a pinhole, it suggests the internal port.
    fn map(key: Key, suggestion: Suggestion, is_pinhole: bool) -> Message {
        let port = suggestion.port.filter(|_| !is_pinhole).or(Some(key.internal_port));
        let usual = if is_pinhole { PINHOLE_LIFETIME } else { LIFETIME };
        let lifetime = suggestion.lifetime_secs.map_or(usual, |secs| Duration::from_secs(secs.into()));
        Message::Mapping { key, suggestion: Suggestion { port, ..suggestion }, lifetime }
    }

    /// RFC 6887 §15.1, RFC 6886 §3.4: a deletion suggests no address or port.
    fn delete(key: Key) -> Message {
        Message::Mapping { key, suggestion: Suggestion::default(), lifetime: Duration::ZERO }
    }
}

/// A reply about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Success with a lifetime above 0.
    Granted { address: Option<IpAddr>, port: u16, lifetime: Duration },
    /// Success with lifetime 0.
    Zero,
    /// An error, and how long it holds, if the gateway says so.
    Refused { reason: Reason, lifetime: Option<Duration> },
}

/// The driver of one server.
#[derive(Debug)]
pub struct Server {
    rung: Rung,
    remote: Option<SocketAddr>,
    /// The local address of the socket; `None`: nothing can be sent.
    local: Option<IpAddr>,
    window: Window<Subject>,
    pub(super) epoch: Epoch,
    query: Sent,
    requests: Map<Key, KeyRequests>,
    /// When to send the waiting deletions.
    deletions: Timers<Key>,
    /// When silence counts as a failure; set until the first reply.
    gives_up_at: Option<Time>,
    notices: LinkedList<Notice>,
    /// The external address, for grants without one.
    told_address: Option<natpmp::ToldAddress>,
    /// Grants that are reported once the external address is known.
    granted: Map<Key, Grant>,
    /// A request was answered only after it was repeated.
    was_silent: bool,
    /// The external address that has to be confirmed on another port.
    doubted: Option<Ipv4Addr>,
    /// Nothing is sent before this.
    resumes_at: Option<Time>,
}

impl Server {
    /// The driver of a server, or of none.
    pub(super) fn new(rung: Rung, remote: Option<SocketAddr>) -> Server {
        Server {
            rung,
            remote,
            local: None,
            window: Window::default(),
            epoch: Epoch::new(rung.protocol()),
            query: Sent::default(),
            requests: Map::new(),
            deletions: Timers::default(),
            gives_up_at: None,
            notices: LinkedList::new(),
            told_address: None,
            granted: Map::new(),
            was_silent: false,
            doubted: None,
            resumes_at: None,
        }
    }

    /// The socket was opened at this local address, or could not be opened.
    pub(super) fn handle_opened(&mut self, cx: &mut Cx, local: Option<SocketAddr>) {
        self.local = local.map(|local| local.ip().to_canonical());
        if self.local.is_none() {
            self.go_out(cx, Reason::Shortage, None);
        } else if cx.protocols.is_out_for_shortage(self.protocol()) {
            cx.protocols.doubt(self.protocol());
        }
        self.pump(cx);
    }

    /// A datagram was received on the connected socket. Whether it answers anything.
    pub(super) fn handle_datagram(&mut self, cx: &mut Cx, bytes: &[u8]) -> bool {
        let counts = match self.rung {
            Rung::NatPmp => self.handle_natpmp(cx, bytes),
            _ => self.handle_pcp(cx, bytes),
        };
        if !counts {
            log!(Verbose, "{}: drops {} octets that answer no request", self.protocol(), bytes.len());
        }
        self.pump(cx);
        counts
    }

    fn protocol(&self) -> Protocol {
        self.rung.protocol()
    }

    fn slot(&self, key: Key) -> Slot {
        Slot { rung: self.rung, key, port: 0 }
    }

    /// Forgets the epoch: the next reply starts a new one.
    pub(super) fn forget_epoch(&mut self, cx: &mut Cx) {
        self.epoch = Epoch::new(self.protocol());
        self.forget_granted(cx, None);
    }

    /// The gateway has restarted: its external address may differ, and unreported grants are requested again.
    pub(super) fn forget_granted(&mut self, cx: &mut Cx, shown_by: Option<Key>) {
        self.told_address = None;
        for key in self.granted.keys_where(|key, _| Some(key) != shown_by) {
            self.granted.remove(&key);
            let suggestion =
                self.requests.get(&key).map_or_else(Suggestion::default, |requests| requests.suggestion);
            self.ask(cx, key, suggestion);
        }
        self.pump(cx);
    }

    /// RFC 6887 §9: the server supports the other protocol only (there is no NAT-PMP for IPv6). Returns `false` if nothing was asked. Such a reply has
    /// no nonce and is easily forged: from a gateway that has granted by this protocol it is ignored.
    fn give_way_to(&mut self, cx: &mut Cx, other: Protocol) -> bool {
        let is_spoken = cx.protocols.of(self.protocol()).has_worked || cx.ledger.has_granted(self.rung);
        let is_believed = !is_spoken && !self.window.all_sent().is_empty();
        if is_believed {
            log!(Debug, "{}: the gateway supports another version only", self.protocol());
            self.go_out(cx, Reason::Unsupported, None);
            if cx.config.source.is_none() {
                cx.protocols.note_promised(cx.now, other);
            }
        }
        is_believed
    }

    /// Whether a mapping of a key was granted here and has not ended.
    fn is_granted(&self, cx: &Cx, key: Key) -> bool {
        cx.ledger.get(self.slot(key)).is_some_and(|entry| entry.is_certain)
    }

    /// Starts discovery (again): open requests are sent as if for the first time.
    fn look_again(&mut self, cx: &Cx) {
        // A server that was silent before gets a single request.
        let most = if cx.protocols.of(self.protocol()).outs == 0 { window::START } else { 1 };
        self.window.restart_discovery(most);
        self.gives_up_at = None;
    }

    /// Treats all requests as lost and has the core open another socket, from which they are sent again.
    fn rebind(&mut self, cx: &Cx, notice: Notice, wait: Option<Duration>) {
        (self.local, self.resumes_at) = (None, wait.map(|wait| cx.now + wait));
        self.query = Sent::default();
        self.requests.for_each_mut(|_, requests| requests.maps = Sent::default());
        self.notices.push_back(notice);
        if cx.protocols.is_up(self.protocol()) {
            self.window.send_again();
        } else {
            self.look_again(cx);
        }
    }

    /// Queries the gateway itself, unless a query is open.
    fn query(&mut self, now: Time) {
        if !self.window.contains(Subject::Gateway) {
            self.window.push(now, Subject::Gateway, Kind::Query);
        }
    }

    /// Makes or renews the mapping of a key.
    fn ask(&mut self, cx: &mut Cx, key: Key, suggestion: Suggestion) {
        let slot = self.slot(key);
        let requests = self.requests.get_or_insert_with(key, KeyRequests::default);
        requests.suggestion = suggestion;
        match requests.state {
            RequestState::Map => return,
            // The deletion is no longer awaited.
            RequestState::Deletion | RequestState::DeletionWaits => {
                cx.ledger.set_deletion(slot, DeletionState::Unasked)
            }
            RequestState::Idle => {}
        }
        let Some(nonce) = pcp::nonce_of(cx, slot) else {
            let (rung, reason) = (self.rung, Reason::NoRandomness);
            return self.notices.push_back(Notice::Failed { key, rung, reason, lifetime: None });
        };
        if requests.nonce != nonce {
            // Late replies are recognised by their nonce.
            requests.maps.overtaken = 0;
        }
        requests.nonce = nonce;
        self.open(cx.now, key, RequestState::Map);
    }

    fn open(&mut self, now: Time, key: Key, state: RequestState) {
        let kind = if state == RequestState::Map { Kind::Map } else { Kind::Deletion };
        self.requests.get_or_insert_with(key, KeyRequests::default).state = state;
        self.deletions.cancel(key);
        self.window.push(now, Subject::Key(key), kind);
    }

    /// Drops the open request about a key; late replies still count.
    fn drop_request(&mut self, key: Key) {
        if let Some(requests) = self.requests.get_mut(&key) {
            requests.state = RequestState::Idle;
        }
        self.window.remove(Subject::Key(key));
        self.deletions.cancel(key);
    }

    /// Packets cannot be sent, or the port is closed. During discovery the protocol goes out; a gateway that has
    /// answered may be booting, or the ICMP message forged.
    pub(super) fn handle_trouble(&mut self, cx: &mut Cx, reason: Reason) {
        if matches!(cx.protocols.state(self.protocol()), ProtocolState::Asked { .. }) {
            self.go_out(cx, reason, None);
        }
    }

    /// The protocol goes out at this gateway: open requests are dropped. The ledger keeps what was sent.
    pub(super) fn go_out(&mut self, cx: &mut Cx, reason: Reason, lifetime: Option<Duration>) {
        self.window.clear();
        self.deletions = Timers::default();
        self.granted.clear();
        (self.gives_up_at, self.resumes_at, self.doubted, self.was_silent) = (None, None, None, false);
        let (notices, rung) = (&mut self.notices, self.rung);
        self.requests.for_each_mut(|key, requests| {
            let slot = Slot { rung, key, port: 0 };
            match std::mem::take(&mut requests.state) {
                RequestState::Map if !reason.is_silence() => cx.ledger.note_refused(slot),
                RequestState::Deletion | RequestState::DeletionWaits => {
                    let outcome = DeletionOutcome::NotConfirmed(reason);
                    notices.push_back(Notice::Deleted { slot, outcome });
                }
                RequestState::Map | RequestState::Idle => {}
            }
        });
        self.query = Sent::default();
        cx.note_out(self.protocol(), reason, lifetime);
    }

    /// A request has timed out.
    fn handle_expired(&mut self, cx: &mut Cx, key: Key) {
        let Some(requests) = self.requests.get_mut(&key) else { return };
        let sent_at = requests.maps.open_since(cx.now);
        let (rung, slot, reason) = (self.rung, Slot { rung: self.rung, key, port: 0 }, Reason::Silence);
        if std::mem::take(&mut requests.state) == RequestState::Deletion {
            let outcome = DeletionOutcome::NotConfirmed(reason);
            return self.notices.push_back(Notice::Deleted { slot, outcome });
        }
        self.notices.push_back(Notice::Failed { key, rung, reason, lifetime: None });
        // Nothing was heard since the request: other requests need not wait to find that out.
        let heard_at = cx.protocols.of(self.protocol()).heard_at;
        if sent_at.is_some_and(|sent_at| heard_at.is_none_or(|heard_at| heard_at < sent_at)) {
            cx.note_out(self.protocol(), reason, None);
        }
    }

    /// Sets how long a request is tried: longer at a gateway that has granted mappings, which may be busy.
    fn set_patience(&mut self, cx: &Cx) {
        let timeout = cx.config.mapping_timeout;
        match cx.protocols.state(self.protocol()) {
            ProtocolState::Works => self.window.set_patience(timeout, true),
            _ => self.window.set_patience(SILENCE.min(timeout), false),
        }
    }

    /// Sends the requests that may be sent now.
    fn pump(&mut self, cx: &mut Cx) {
        while self.remote.is_some() && self.local.is_some() && self.resumes_at.is_none() {
            self.set_patience(cx);
            let Some(subject) = self.window.poll_send(cx) else { return };
            match subject {
                Subject::Gateway => self.send(cx, Message::Query),
                Subject::Key(key) => match self.requests.get(&key) {
                    Some(KeyRequests { state: RequestState::Map, suggestion, .. }) => {
                        self.send(cx, Message::map(key, *suggestion, cx.config.source.is_some()));
                    }
                    _ => self.send(cx, Message::delete(key)),
                },
            }
        }
    }

    fn send(&mut self, cx: &mut Cx, message: Message) {
        let (Some(to), Some(client)) = (self.remote, self.local) else { return };
        cx.protocols.note_asked(cx.now, self.protocol());
        if matches!(cx.protocols.state(self.protocol()), ProtocolState::Asked { .. }) {
            self.gives_up_at.get_or_insert(cx.now + SILENCE.min(cx.config.discover_timeout));
        }
        let nonce = match message {
            Message::Mapping { key, .. } => self.requests.get(&key).map(|requests| requests.nonce),
            Message::Query => None,
        };
        let nonce = nonce.unwrap_or_default();
        self.note_sent(cx, message, client, nonce);
        let (socket, bytes) = match self.rung {
            Rung::NatPmp => (Socket::NatPmp, natpmp::emit(message)),
            _ => (Socket::Pcp, pcp::emit(message, client, nonce)),
        };
        cx.output(Output::Send { socket, to, bytes });
    }

    fn note_sent(&mut self, cx: &mut Cx, message: Message, client: IpAddr, nonce: Nonce) {
        let now = cx.now;
        let Message::Mapping { key, lifetime, .. } = message else { return self.query.note_sent(now) };
        let slot = self.slot(key);
        let Some(requests) = self.requests.get_mut(&key) else { return };
        if lifetime.is_zero() {
            requests.maps.note_deletion(now);
            return requests.deletions.note_sent(now);
        }
        cx.ledger.note_sent(slot, client, nonce, Some(now + lifetime));
        let is_first = !requests.maps.is_open(now);
        requests.maps.note_sent(now);
        if is_first && cx.protocols.is_up(self.rung.protocol()) {
            self.notices.push_back(Notice::Sent { key, within: cx.config.mapping_timeout });
        }
    }
}

impl Driver for Server {
    fn map(&mut self, cx: &mut Cx, key: Key, _rung: Rung, suggestion: Suggestion, _kind: RequestKind) {
        if !self.granted.contains_key(&key) {
            self.ask(cx, key, suggestion);
            if self.rung == Rung::NatPmp {
                // The external address may be older than the last grant.
                self.need_address(cx, !self.is_granted(cx, key));
            }
        }
        self.pump(cx);
    }

    fn leave(&mut self, cx: &mut Cx, key: Key, _rung: Rung) {
        self.granted.remove(&key);
        if self.requests.get(&key).is_some_and(|requests| requests.state == RequestState::Map) {
            self.drop_request(key);
        }
        self.pump(cx);
    }

    fn delete(&mut self, cx: &mut Cx, slot: Slot, awaited: bool) {
        let key = slot.key;
        self.granted.remove(&key);
        self.resumes_at = None;
        self.drop_request(key);
        let requests = self.requests.get_or_insert_with(key, KeyRequests::default);
        requests.nonce = pcp::nonce_of(cx, slot).unwrap_or_default();
        match requests.maps.followed_at(cx.now) {
            _ if !awaited => self.send(cx, Message::delete(key)),
            Some(at) => {
                requests.state = RequestState::DeletionWaits;
                self.deletions.set(key, at);
            }
            None => self.open(cx.now, key, RequestState::Deletion),
        }
        self.pump(cx);
    }

    fn probe(&mut self, cx: &mut Cx) {
        self.look_again(cx);
        if self.rung == Rung::NatPmp {
            self.query(cx.now);
        }
        self.pump(cx);
    }

    /// After the grace period, silence counts as a failure; before it, the protocol is to be asked again.
    fn rest(&mut self, cx: &mut Cx) {
        let ProtocolState::Asked { since, .. } = cx.protocols.state(self.protocol()) else { return };
        self.window.remove(Subject::Gateway);
        if cx.now.since(since) < GRACE {
            cx.protocols.doubt(self.protocol());
        } else {
            cx.note_out(self.protocol(), Reason::Silence, None);
        }
        self.gives_up_at = None;
    }

    /// Also forgets keys without an entry and without requests in flight.
    fn recheck(&mut self, cx: &mut Cx, in_use: bool) {
        self.epoch.note_recheck();
        let (rung, now) = (self.rung, cx.now);
        self.requests.retain(|key, requests| {
            let is_idle = requests.state == RequestState::Idle && requests.asked_at(now).is_none();
            !is_idle || cx.ledger.get(Slot { rung, key, port: 0 }).is_some()
        });
        // Queries epoch and external address. RFC 6887 §14.1: a server need not answer an ANNOUNCE request.
        if in_use || self.rung == Rung::Pcp && cx.protocols.is_up(Protocol::Pcp) {
            self.query(now);
        }
        self.pump(cx);
    }

    fn handle_timeout(&mut self, cx: &mut Cx) {
        if self.gives_up_at.is_some_and(|at| at <= cx.now) {
            self.go_out(cx, Reason::Silence, None);
        }
        self.resumes_at = self.resumes_at.filter(|&at| cx.now < at);
        for subject in self.window.handle_timeout(cx.now) {
            match subject {
                Subject::Gateway => self.fail_granted(Reason::NoAddress { address: None }),
                Subject::Key(key) => self.handle_expired(cx, key),
            }
        }
        while let Some(key) = self.deletions.pop_due(cx.now) {
            self.open(cx.now, key, RequestState::Deletion);
        }
        self.pump(cx);
    }

    fn poll_timeout(&self) -> Option<Time> {
        let own = [self.deletions.next(), self.gives_up_at, self.resumes_at];
        own.into_iter().flatten().chain(self.window.poll_timeout()).min()
    }

    fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }
}
