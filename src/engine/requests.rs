//! What is asked of the gateway for each key, and what an answer means for it: all that PCP and NAT-PMP have
//! in common. The drivers add the bytes, and whatever is particular to one protocol.

#![forbid(unsafe_code)]

use super::driver::{Key, Notice, Refusal, Status};
use super::epoch::{Epoch, Rule};
use super::io::{Cx, Suggestion};
use super::timers::Timers;
use super::window::{Kind, Window};
use crate::ordered::{Map, Word};
use crate::time::Time;
use crate::wire::Transport;
use crate::wire::pcp::Nonce;
use entry::{Deletion, Entry, MEMORY, Sent, State};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

mod answers;
mod entry;

/// Lifetime that mappings are asked for.
pub(super) const LIFETIME_SECS: u32 = 7200;

/// How long a new request waits for the answer of a deletion that was sent before it.
const FOLLOW_TIMEOUT: Duration = Duration::from_millis(250);

/// When a request that followed a deletion is sent once more: a deletion that came late has removed the mapping.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);

/// A request of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// About the gateway itself.
    Query,
    /// About a mapping.
    Key(Key),
}

impl Word for Slot {
    fn word(self) -> u64 {
        match self {
            Slot::Query => 0,
            // Ports begin with 1.
            Slot::Key(key) => key.word(),
        }
    }
}

/// A datagram to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Query,
    Map { key: Key, suggestion: Suggestion },
    Delete { key: Key },
}

/// What the gateway says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Success with a lifetime.
    Granted { address: Option<IpAddr>, port: u16 },
    /// Success without.
    Deleted,
    /// An error.
    Refused(Refusal),
}

/// What an answer brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// The gateway has lost its mappings (already noticed to the core).
    pub(super) restarted: bool,
    /// The key is mapped: `Notice::Granted` is the driver's to give.
    pub(super) granted: bool,
}

/// All requests of one driver to one gateway.
#[derive(Debug)]
pub(super) struct Requests {
    rule: Rule,
    mapping_timeout: Duration,
    status: Status,
    known: bool,
    window: Window<Slot>,
    epoch: Epoch,
    query: Sent,
    query_expired: bool,
    entries: Map<Key, Entry>,
    /// Datagrams that go out beside the window: single ones, not repeated.
    urgent: VecDeque<Ask>,
    /// When to send the request that follows a deletion.
    followers: Timers<Key>,
    /// When to send it once more.
    confirms: Timers<Key>,
    /// Entries of keys that are deleted, and when to forget them.
    gone: VecDeque<(Time, Key)>,
    notices: VecDeque<Notice>,
}

impl Requests {
    pub(super) fn new(rule: Rule, mapping_timeout: Duration) -> Requests {
        Requests {
            rule,
            mapping_timeout,
            status: Status::Unknown,
            known: false,
            window: Window::new(mapping_timeout),
            epoch: Epoch::new(rule),
            query: Sent::default(),
            query_expired: false,
            entries: Map::new(),
            urgent: VecDeque::new(),
            followers: Timers::default(),
            confirms: Timers::default(),
            gone: VecDeque::new(),
            notices: VecDeque::new(),
        }
    }

    /// Another gateway: nothing is known, nothing is asked.
    pub(super) fn reset(&mut self, status: Status) {
        *self = Requests { status, ..Requests::new(self.rule, self.mapping_timeout) };
    }

    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// Whether the gateway has answered by this protocol, ever.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// What `map` was given for a key.
    pub(super) fn nonce(&self, key: Key) -> Option<Nonce> {
        self.entries.get(&key).map(|entry| entry.nonce)
    }

    /// Whether the gateway has a mapping of a key, by its last word.
    pub(super) fn is_mapped(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.mapped)
    }

    /// The nonces of all keys that are not deleted.
    pub(super) fn nonces(&self) -> impl Iterator<Item = (Key, Nonce)> {
        self.entries
            .iter()
            .filter(|(_, entry)| !matches!(entry.state, State::Gone { .. }))
            .map(|(key, entry)| (key, entry.nonce))
    }

    /// The gateway may have a mapping of a key, of which nothing else is known.
    pub(super) fn remember(&mut self, key: Key, nonce: Nonce) {
        self.entries.get_or_insert_with(key, || Entry { mapped: true, ..Entry::new(nonce) });
    }

    pub(super) fn notify(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    pub(super) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whether a query was sent that is not answered.
    pub(super) fn awaits_query(&self) -> bool {
        self.query.asked_at().is_some()
    }

    /// Whether a request about some key was sent and is open.
    pub(super) fn awaits_key(&self) -> bool {
        self.window.unanswered() > usize::from(self.window.was_sent(Slot::Query))
    }

    /// Whether an answer about `key` would answer something that was sent.
    pub(super) fn awaits(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.sent.asked_at().is_some())
    }

    /// The only key of a transport that an answer is awaited for; `None` where there is none, or more than one.
    pub(super) fn only_awaited(&self, transport: Transport) -> Option<Key> {
        let mut awaited = self
            .entries
            .iter()
            .filter(|(key, entry)| key.transport == transport && entry.sent.asked_at().is_some())
            .map(|(key, _)| key);
        let only = awaited.next();
        only.filter(|_| awaited.next().is_none())
    }

    /// The gateway that is up has fallen silent: it has to be found again.
    pub(super) fn doubt(&mut self) {
        if self.status == Status::Up {
            self.status = Status::Unknown;
            self.window.restart_discovery();
        }
    }

    /// The gateway is looked for (again), unless it answers well or is being looked for. Whether it is.
    pub(super) fn probe(&mut self) -> bool {
        match self.status {
            Status::Up if !self.window.is_silent() => false,
            Status::Unknown if self.window.is_discovery_under_way() => true,
            _ => {
                self.status = Status::Unknown;
                self.window.restart_discovery();
                true
            }
        }
    }

    /// Asks about the gateway itself, unless that is being asked.
    pub(super) fn query(&mut self, now: Time, kind: Kind) {
        if !self.window.contains(Slot::Query) {
            self.window.push(now, Slot::Query, kind);
        }
    }

    /// Stops asking about the gateway itself; an answer still counts.
    pub(super) fn stop_query(&mut self) {
        self.window.remove(Slot::Query);
    }

    /// Makes or renews the mapping of a key. `make_nonce` is called if the key is new.
    pub(super) fn map(
        &mut self,
        now: Time,
        key: Key,
        suggestion: Suggestion,
        make_nonce: &mut dyn FnMut() -> Nonce,
    ) {
        self.forget_gone(now);
        if self.status == Status::Out {
            self.notices.push_back(Notice::TimedOut { key });
            return;
        }
        let entry = self.entries.get_or_insert_with(key, || Entry::new(make_nonce()));
        entry.suggestion = suggestion;
        entry.unasked = false;
        entry.late_grants = 0;
        if !matches!(entry.state, State::Mapping | State::Following) {
            self.follow(now, key);
        }
    }

    /// Removes the mapping of a key.
    pub(super) fn delete(&mut self, now: Time, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else {
            self.notices.push_back(Notice::Deleted { key, answered: true });
            return;
        };
        self.followers.cancel(key);
        self.confirms.cancel(key);
        if self.status == Status::Out {
            self.end_deletion(now, key, false);
            return;
        }
        match entry.state {
            State::Deleting => {}
            State::Abandoned if !entry.mapped => {
                // Its one deletion was sent, and nobody waits for it. Once more can do no harm.
                let doubtful = entry.doubtful;
                if doubtful {
                    self.urgent.push_back(Ask::Delete { key });
                }
                self.end_deletion(now, key, !doubtful);
            }
            _ if entry.mapped || entry.doubtful => {
                entry.state = State::Deleting;
                self.window.push(now, Slot::Key(key), Kind::Deletion);
            }
            // The gateway has nothing of it.
            _ => self.end_deletion(now, key, true),
        }
    }

    /// Another protocol maps this key. `unreported`: a grant came that the core does not know of. Whether a deletion goes
    /// out.
    pub(super) fn abandon(&mut self, now: Time, key: Key, unreported: bool) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        let called_back = match entry.state {
            State::Mapping if entry.doubtful => true,
            State::Idle => unreported || (entry.doubtful && !entry.mapped),
            State::Mapping if entry.mapped => {
                entry.state = State::Idle;
                false
            }
            State::Mapping | State::Following if entry.pending_deletion(now).is_some() => {
                entry.state = State::Abandoned;
                false
            }
            State::Mapping | State::Following => {
                self.forget(key);
                return false;
            }
            State::Deleting | State::Abandoned | State::Gone { .. } => return false,
        };
        if called_back {
            entry.state = State::Abandoned;
            self.urgent.push_back(Ask::Delete { key });
        }
        self.window.remove(Slot::Key(key));
        self.followers.cancel(key);
        self.confirms.cancel(key);
        called_back
    }

    /// Whether a deletion of a key was sent within [`entry::MEMORY`] and not answered.
    pub(super) fn is_deletion_open(&self, now: Time, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.pending_deletion(now).is_some())
    }

    /// Drops all knowledge of a key.
    pub(super) fn forget(&mut self, key: Key) {
        self.entries.remove(&key);
        self.window.remove(Slot::Key(key));
        self.followers.cancel(key);
        self.confirms.cancel(key);
    }

    /// The port is closed, says the gateway's kernel. In discovery that is an answer; a gateway that is known
    /// may be booting, or the word may be forged.
    pub(super) fn handle_closed(&mut self) {
        if self.status == Status::Unknown && !self.known {
            self.go_out();
        }
    }

    /// This protocol is not spoken here: all that is open is dropped.
    pub(super) fn go_out(&mut self) {
        self.window.clear();
        self.urgent.clear();
        self.followers.clear();
        self.confirms.clear();
        let notices = &mut self.notices;
        self.entries.retain(|key, entry| match entry.state {
            State::Mapping | State::Following => {
                entry.state = State::Idle;
                entry.mapped
            }
            State::Deleting => {
                notices.push_back(Notice::Deleted { key, answered: false });
                false
            }
            State::Idle | State::Abandoned | State::Gone { .. } => true,
        });
        self.query = Sent::default();
        self.known = false;
        self.set_status(Status::Out);
    }

    /// Takes what is due; then `poll_ask` and `poll_notice` have the consequences. Whether a query was given up.
    pub(super) fn handle_timeout(&mut self, cx: &mut Cx<'_>) -> bool {
        self.forget_gone(cx.now);
        self.window.handle_timeout(cx);
        while let Some(slot) = self.window.poll_expired() {
            match slot {
                Slot::Query => self.query_expired = true,
                Slot::Key(key) => self.handle_expired(cx.now, key),
            }
        }
        while let Some(key) = self.followers.pop_due(cx.now) {
            self.open_map(cx.now, key);
        }
        while let Some(key) = self.confirms.pop_due(cx.now) {
            if let Some(entry) = self.entries.get(&key)
                && entry.state == State::Idle
                && entry.mapped
            {
                self.urgent.push_back(Ask::Map { key, suggestion: entry.suggestion(key) });
            }
        }
        std::mem::take(&mut self.query_expired)
    }

    /// When to call `handle_timeout`.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        [self.window.poll_timeout(), self.followers.next(), self.confirms.next()].into_iter().flatten().min()
    }

    /// The next datagram to be sent now, which then counts as sent. `urgent_only`: of those beside the window.
    pub(super) fn poll_ask(&mut self, cx: &mut Cx<'_>, urgent_only: bool) -> Option<Ask> {
        if self.status == Status::Out {
            return None;
        }
        loop {
            let ask = match self.urgent.pop_front() {
                Some(ask) => Some(ask),
                None if urgent_only => return None,
                None => match self.window.poll_send(cx)? {
                    Slot::Query => Some(Ask::Query),
                    Slot::Key(key) => self.entries.get(&key).map(|entry| match entry.state {
                        State::Deleting => Ask::Delete { key },
                        _ => Ask::Map { key, suggestion: entry.suggestion(key) },
                    }),
                },
            };
            if let Some(ask) = ask
                && self.note_sent(cx.now, ask)
            {
                return Some(ask);
            }
        }
    }

    /// Notes a sending; `false` if the key was forgotten meanwhile.
    fn note_sent(&mut self, now: Time, ask: Ask) -> bool {
        let (key, deletes) = match ask {
            Ask::Query => {
                self.query.note_sent(now);
                return true;
            }
            Ask::Map { key, .. } => (key, false),
            Ask::Delete { key } => (key, true),
        };
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        entry.sent.note_sent(now);
        if deletes {
            entry.deletion = Some(Deletion { sent_at: now, answered: false });
        } else {
            entry.doubtful = true;
            if std::mem::take(&mut entry.confirm) {
                self.confirms.set(key, now + CONFIRM_AFTER);
            }
        }
        true
    }

    fn set_status(&mut self, status: Status) {
        if self.status != status {
            self.status = status;
            self.notices.push_back(Notice::StatusChanged);
        }
    }

    /// What was granted for a key is no more: it is asked for again.
    pub(super) fn ask_again(&mut self, now: Time, key: Key) {
        if self.entries.get(&key).is_some_and(|entry| entry.state == State::Idle) {
            self.follow(now, key);
        }
    }

    /// Makes a map request for a key, after a deletion of it that was sent.
    fn follow(&mut self, now: Time, key: Key) {
        self.window.remove(Slot::Key(key));
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let pending = entry.pending_deletion(now);
        entry.confirm = pending.is_some();
        match pending.map(|deletion| deletion.sent_at + FOLLOW_TIMEOUT) {
            Some(at) if at > now => {
                entry.state = State::Following;
                self.followers.set(key, at);
            }
            _ => self.open_map(now, key),
        }
    }

    fn open_map(&mut self, now: Time, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.state = State::Mapping;
        self.followers.cancel(key);
        self.window.push(now, Slot::Key(key), Kind::Map);
    }

    fn handle_expired(&mut self, now: Time, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        match entry.state {
            State::Mapping if entry.unasked => {
                // Nothing of it must be left behind unknown.
                entry.state = State::Abandoned;
                if entry.doubtful {
                    self.urgent.push_back(Ask::Delete { key });
                }
            }
            State::Mapping => {
                entry.state = State::Idle;
                self.notices.push_back(Notice::TimedOut { key });
            }
            State::Deleting => self.end_deletion(now, key, false),
            State::Idle | State::Abandoned | State::Following | State::Gone { .. } => {}
        }
    }

    /// A deletion is over; what may still be under way is remembered for a while.
    fn end_deletion(&mut self, now: Time, key: Key, answered: bool) {
        self.window.remove(Slot::Key(key));
        self.notices.push_back(Notice::Deleted { key, answered });
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.sent.asked_at().is_none() && entry.deletion.is_none() {
            self.entries.remove(&key);
            return;
        }
        let until = now + MEMORY;
        entry.state = State::Gone { until };
        self.gone.push_back((until, key));
    }

    fn forget_gone(&mut self, now: Time) {
        while let Some(&(until, key)) = self.gone.front()
            && until <= now
        {
            self.gone.pop_front();
            if self.entries.get(&key).is_some_and(|entry| entry.state == State::Gone { until }) {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod timetable;

#[cfg(test)]
mod tests;
