//! How many requests are under way, when one counts as lost, and when it is given up.
//!
//! A gateway's socket holds few packets and its daemon takes milliseconds for each. So a window of requests
//! is in flight and the rest waits in a queue. The window only paces: what a request says, and what an
//! answer means, is the driver's. Every call costs O(log n) of the requests in it, `restart_discovery` O(n).

#![forbid(unsafe_code)]

use super::io::Cx;
use super::timers::Timers;
use crate::ordered::{Map, Word};
use crate::time::Time;
use schedule::{CHECK_TIMEOUT, DELETION_LIMIT, DELETION_TIMEOUT, FIRST_WAIT};
use std::collections::VecDeque;
use std::time::Duration;
use width::{Answered, Width};

pub use schedule::Kind;

/// How often one request is sent again at once because later ones were answered. Where packets get lost here and
/// there that is soon enough; a gateway that answers all but this one is then asked no faster than a silent one.
const PROMPT_RESENDS: u32 = 3;

/// While a gateway answers others, so many sendings of a request are [`FIRST_WAIT`] apart: longer waits are for
/// gateways that are away, not for packets that are lost.
const STEADY_SENDS: u32 = 6;

mod schedule;
mod width;

/// The requests of one driver to one gateway, by key; at most one a key.
#[derive(Debug)]
pub struct Window<K> {
    mapping_timeout: Duration,
    mode: Mode,
    width: Width,
    requests: Map<K, Request>,
    /// Those that wait to be sent (again).
    queue: Map<(u8, u64), K>,
    /// Those that were sent and are neither answered nor lost, by their latest sending.
    in_flight: Map<u64, K>,
    /// How many of the requests were sent at least once.
    sent: usize,
    /// When to look whether a request in flight is lost.
    resends: Timers<K>,
    /// When to look whether a request is to be given up.
    expiries: Timers<K>,
    expired: VecDeque<K>,
    next_sending: u64,
    next_place: u64,
    heard_at: Option<Time>,
    /// Something counted as lost because nothing came, and nothing has come since.
    silent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The gateway has not answered (in this race): `sent_again` times was the first request repeated.
    Discovery {
        sent_again: usize,
        again_at: Option<Time>,
    },
    Known,
}

#[derive(Debug)]
struct Request {
    kind: Kind,
    place: Place,
    queued_at: Time,
    /// Sendings so far.
    sends: u32,
    first_sending: u64,
    last_sending: u64,
    sent_at: Time,
    /// When its time began to run; discovery does not count.
    first_sent_at: Option<Time>,
    /// How often it was lost by silence: its place in the schedule.
    step: usize,
    /// The present wait of the schedule, shortened at random.
    wait: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Queued(Rank, u64),
    InFlight(u64),
    /// Lost before its time has come to be sent again.
    Resting,
}

/// What goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Query,
    Again,
    Deletion,
    Fresh,
}

impl<K: Word> Window<K> {
    /// A window toward a gateway that has not answered yet. `mapping_timeout` is how long a request is tried at
    /// a gateway that has.
    pub fn new(mapping_timeout: Duration) -> Window<K> {
        Window {
            mapping_timeout,
            mode: Mode::Discovery { sent_again: 0, again_at: None },
            width: Width::default(),
            requests: Map::new(),
            queue: Map::new(),
            in_flight: Map::new(),
            sent: 0,
            resends: Timers::default(),
            expiries: Timers::default(),
            expired: VecDeque::new(),
            next_sending: 1,
            next_place: 0,
            heard_at: None,
            silent: false,
        }
    }

    /// Puts a request into the queue, in place of any of that key.
    pub fn push(&mut self, now: Time, key: K, kind: Kind) {
        self.remove(key);
        let rank = match kind {
            Kind::Query | Kind::Check => Rank::Query,
            Kind::Map => Rank::Fresh,
            Kind::Deletion => Rank::Deletion,
        };
        let place = self.enqueue(key, rank);
        self.requests.insert(
            key,
            Request {
                kind,
                place,
                queued_at: now,
                sends: 0,
                first_sending: 0,
                last_sending: 0,
                sent_at: now,
                first_sent_at: None,
                step: 0,
                wait: None,
            },
        );
    }

    /// Forgets a request; no answer is awaited any more.
    pub fn remove(&mut self, key: K) {
        self.take(key);
    }

    /// Forgets all requests.
    pub fn clear(&mut self) {
        self.requests.clear();
        self.queue.clear();
        self.in_flight.clear();
        self.sent = 0;
        self.resends.clear();
        self.expiries.clear();
        self.expired.clear();
        self.reset_discovery();
    }

    /// Whether there is a request of that key, sent or not.
    pub fn contains(&self, key: K) -> bool {
        self.requests.contains_key(&key)
    }

    /// Whether there is a request of that key that was sent at least once.
    pub fn was_sent(&self, key: K) -> bool {
        self.requests.get(&key).is_some_and(|request| request.sends > 0)
    }

    /// How many requests were sent at least once and are not answered.
    pub fn unanswered(&self) -> usize {
        self.sent
    }

    /// Whether requests in flight were lost for silence, and nothing has come since.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// How many requests may be in flight.
    pub fn limit(&self) -> usize {
        self.width.limit()
    }

    /// How many are.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The next request to be sent now, which then counts as sent; `None`: nothing waits, or there is no room.
    pub fn poll_send(&mut self, cx: &mut Cx<'_>) -> Option<K> {
        let (place, &key) = self.queue.first_key_value()?;
        if self.in_flight.len() >= self.width.limit() {
            self.width.note_full();
            return None;
        }
        self.queue.remove(&place);
        self.note_sent(cx, key);
        Some(key)
    }

    /// An answer to a request came: it is done with.
    pub fn handle_answer(&mut self, now: Time, key: K) {
        self.handle_sign_of_life(now);
        let Some(request) = self.take(key) else { return };
        if request.sends == 0 {
            return;
        }
        let lost_before = self.width.note_answer(Answered {
            first_sending: request.first_sending,
            last_sending: request.last_sending,
            round_trip: now.since(request.sent_at),
        });
        self.lose_overtaken(now, lost_before);
        self.width.end_round(self.in_flight.first_key_value().map(|(sending, _)| sending), self.next_sending);
    }

    /// Something came from the gateway that is an answer of this protocol, if not to a request in the window.
    pub fn handle_sign_of_life(&mut self, now: Time) {
        self.heard_at = Some(now);
        self.silent = false;
        if self.mode == Mode::Known {
            return;
        }
        self.mode = Mode::Known;
        // The first window is in flight; from now on it keeps the schedule of a gateway that is known.
        for (_, &key) in self.in_flight.iter() {
            let Some(request) = self.requests.get_mut(&key) else { continue };
            if request.kind != Kind::Deletion {
                request.step = 0;
                request.wait = Some(FIRST_WAIT);
                request.first_sent_at = Some(now);
                self.resends.set(key, now + FIRST_WAIT);
                self.expiries.set(key, now + self.mapping_timeout);
            }
        }
    }

    /// The gateway is looked for again: all but deletions is sent as if for the first time.
    pub fn restart_discovery(&mut self) {
        self.reset_discovery();
        self.width.reset_limit();
        self.silent = false;
        // In their old order: what was sent, then what waited.
        let mut old_order = Map::new();
        for (key, request) in self.requests.iter() {
            if request.kind != Kind::Deletion {
                let number = match request.place {
                    Place::Queued(rank, place) if request.sends == 0 => (1 + rank as u8, place),
                    _ => (0, request.first_sending),
                };
                old_order.insert(number, (request.place, key));
            }
        }
        for (_, &(place, key)) in old_order.iter() {
            self.unplace(place);
            self.resends.cancel(key);
            self.expiries.cancel(key);
            let kind = self.requests.get(&key).map(|request| request.kind);
            let rank = if kind == Some(Kind::Query) { Rank::Query } else { Rank::Fresh };
            let place = self.enqueue(key, rank);
            if let Some(request) = self.requests.get_mut(&key) {
                request.place = place;
                request.step = 0;
                request.first_sent_at = None;
            }
        }
    }

    /// Whether the first request will still be sent again, or none was sent yet.
    pub fn is_discovery_under_way(&self) -> bool {
        match self.mode {
            Mode::Discovery { sent_again, again_at } => again_at.is_some() || sent_again == 0,
            Mode::Known => false,
        }
    }

    /// Looks what is lost and what is to be given up; then ask `poll_send` and `poll_expired`.
    pub fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        self.expire_sent(now);
        self.expire_unsent(now);
        self.repeat_first(cx);
        while let Some(key) = self.resends.pop_due(now) {
            let Some(request) = self.requests.get(&key) else { continue };
            let sending = match request.place {
                Place::InFlight(sending) => sending,
                Place::Queued(..) => continue,
                Place::Resting => {
                    self.put_again(key);
                    continue;
                }
            };
            let Some(wait) = request.wait else { continue };
            let due = self.quiet_since(request.sent_at) + self.width.patience(wait);
            if due > now {
                self.resends.set(key, due);
                continue;
            }
            self.silent |= request.kind != Kind::Check;
            self.lose_by_silence(key, sending);
        }
    }

    /// A request that was given up: it is no more in the window.
    pub fn poll_expired(&mut self) -> Option<K> {
        self.expired.pop_front()
    }

    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Time> {
        let again_at = match self.mode {
            Mode::Discovery { again_at, .. } => again_at,
            Mode::Known => None,
        };
        [self.resends.next(), self.expiries.next(), again_at]
            .into_iter()
            .chain([Rank::Deletion, Rank::Fresh].map(|rank| self.next_unsent(rank).map(|(_, at)| at)))
            .flatten()
            .min()
    }

    fn reset_discovery(&mut self) {
        self.mode = Mode::Discovery { sent_again: 0, again_at: None };
    }

    fn enqueue(&mut self, key: K, rank: Rank) -> Place {
        let place = self.next_place;
        self.next_place += 1;
        self.queue.insert((rank as u8, place), key);
        Place::Queued(rank, place)
    }

    fn put_again(&mut self, key: K) {
        let place = self.enqueue(key, Rank::Again);
        if let Some(request) = self.requests.get_mut(&key) {
            request.place = place;
        }
    }

    fn unplace(&mut self, place: Place) {
        match place {
            Place::Queued(rank, place) => self.queue.remove(&(rank as u8, place)),
            Place::InFlight(sending) => self.in_flight.remove(&sending),
            Place::Resting => None,
        };
    }

    fn take(&mut self, key: K) -> Option<Request> {
        let request = self.requests.remove(&key)?;
        self.sent -= usize::from(request.sends > 0);
        self.unplace(request.place);
        self.resends.cancel(key);
        self.expiries.cancel(key);
        if self.requests.is_empty() && self.mode != Mode::Known {
            // Whoever comes next is the first again.
            self.reset_discovery();
        }
        Some(request)
    }

    fn note_sent(&mut self, cx: &mut Cx<'_>, key: K) {
        let now = cx.now;
        let known = self.mode == Mode::Known;
        let Some(request) = self.requests.get_mut(&key) else { return };
        let sending = self.next_sending;
        self.next_sending += 1;
        self.in_flight.insert(sending, key);
        request.place = Place::InFlight(sending);
        request.last_sending = sending;
        request.sent_at = now;
        request.sends += 1;
        if request.sends == 1 {
            request.first_sending = sending;
            self.sent += 1;
        }
        let first_sent_at = *request.first_sent_at.get_or_insert(now);
        request.wait =
            schedule::wait(request.kind, request.step, known).map(|wait| cx.between(wait, 9, 10, 10));
        let (kind, wait) = (request.kind, request.wait);
        if let Some(wait) = wait {
            self.resends.set(key, now + self.width.patience(wait));
        }
        if self.expiries.get(key).is_none() {
            match kind {
                Kind::Deletion => self.expiries.set(key, now + DELETION_TIMEOUT),
                Kind::Check => self.expiries.set(key, now + CHECK_TIMEOUT),
                _ if known => self.expiries.set(key, first_sent_at + self.mapping_timeout),
                _ => {}
            }
        }
        if kind != Kind::Deletion
            && let Mode::Discovery { sent_again: 0, again_at: again_at @ None } = &mut self.mode
        {
            *again_at = schedule::discovery_wait(0).map(|wait| now + cx.between(wait, 9, 10, 10));
        }
    }

    /// Since when nothing has come that a request of `sent_at` was waiting for.
    fn quiet_since(&self, sent_at: Time) -> Time {
        self.heard_at.map_or(sent_at, |heard_at| heard_at.max(sent_at))
    }

    /// While the gateway has not answered: sends the first request again, alone.
    fn repeat_first(&mut self, cx: &mut Cx<'_>) {
        let Mode::Discovery { sent_again, again_at: Some(again_at) } = self.mode else { return };
        if again_at > cx.now {
            return;
        }
        let first = self
            .in_flight
            .values()
            .filter_map(|&key| {
                let request = self.requests.get(&key)?;
                (request.kind != Kind::Deletion).then_some((request.first_sending, key))
            })
            .min_by_key(|&(first_sending, _)| first_sending);
        if let Some((_, key)) = first
            && let Some(request) = self.requests.get(&key)
        {
            let place = request.place;
            self.unplace(place);
            let place = self.enqueue(key, Rank::Query);
            if let Some(request) = self.requests.get_mut(&key) {
                request.place = place;
            }
        }
        if first.is_none() {
            // Whoever comes next is the first again.
            self.reset_discovery();
            return;
        }
        let sent_again = sent_again + 1;
        let again_at = schedule::discovery_wait(sent_again).map(|wait| cx.now + cx.between(wait, 9, 10, 10));
        self.mode = Mode::Discovery { sent_again, again_at };
    }

    /// Nothing came for too long: the request waits to be sent again, in the window's turn.
    fn lose_by_silence(&mut self, key: K, sending: u64) {
        self.note_loss(key, sending);
        self.put_again(key);
        let heard_at = self.heard_at;
        if let Some(request) = self.requests.get_mut(&key) {
            let answers_others = heard_at.is_some_and(|heard_at| heard_at > request.sent_at);
            if !answers_others || request.sends >= STEADY_SENDS {
                request.step += 1;
            }
        }
    }

    /// What was sent before others that are answered already is lost.
    fn lose_overtaken(&mut self, now: Time, lost_before: u64) {
        while let Some((sending, &key)) = self.in_flight.first_key_value()
            && sending < lost_before
        {
            self.note_loss(key, sending);
            let Some(request) = self.requests.get_mut(&key) else { continue };
            if request.sends <= PROMPT_RESENDS {
                self.put_again(key);
                continue;
            }
            // A gateway that answers others but not this one is asked no faster than a silent one.
            request.place = Place::Resting;
            match request.wait {
                Some(wait) => {
                    request.step += 1;
                    self.resends.set(key, (request.sent_at + wait).max(now));
                }
                None => self.expiries.set(key, request.sent_at + DELETION_TIMEOUT),
            }
        }
    }

    /// A request is in flight no more, and the window takes notice.
    fn note_loss(&mut self, key: K, sending: u64) {
        self.in_flight.remove(&sending);
        self.resends.cancel(key);
        let counts = self.requests.get(&key).is_some_and(|request| request.kind != Kind::Check);
        if self.mode == Mode::Known && counts {
            self.width.note_loss(sending, self.next_sending);
        }
    }

    fn expire_sent(&mut self, now: Time) {
        while let Some(key) = self.expiries.pop_due(now) {
            let Some(request) = self.requests.get(&key) else { continue };
            let first_sent_at = request.first_sent_at.unwrap_or(now);
            if request.kind == Kind::Deletion && !matches!(request.place, Place::Resting) {
                // While others are answered, perhaps its turn is still to come.
                let due =
                    (self.quiet_since(first_sent_at) + DELETION_TIMEOUT).min(first_sent_at + DELETION_LIMIT);
                if due > now {
                    self.expiries.set(key, due);
                    continue;
                }
            }
            self.silent |=
                request.kind != Kind::Check && self.heard_at.is_none_or(|heard_at| heard_at <= first_sent_at);
            self.take(key);
            self.expired.push_back(key);
        }
    }

    /// What was never sent is given up when nothing at all comes: the queue does not move any more.
    fn expire_unsent(&mut self, now: Time) {
        for rank in [Rank::Deletion, Rank::Fresh] {
            while let Some((key, due)) = self.next_unsent(rank)
                && due <= now
            {
                self.take(key);
                self.expired.push_back(key);
            }
        }
    }

    /// The first of those that were never sent, and when it is given up.
    fn next_unsent(&self, rank: Rank) -> Option<(K, Time)> {
        let ((first_rank, _), &key) = self.queue.iter_from((rank as u8, 0)).next()?;
        if first_rank != rank as u8 {
            return None;
        }
        let queued_at = self.requests.get(&key)?.queued_at;
        let timeout = match (rank, self.mode) {
            (Rank::Deletion, _) => DELETION_LIMIT,
            (_, Mode::Known) => self.mapping_timeout,
            // The end of discovery is not the window's to decide.
            (_, Mode::Discovery { .. }) => return None,
        };
        Some((key, self.quiet_since(queued_at) + timeout))
    }
}

#[cfg(test)]
mod tests;
