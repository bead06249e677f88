//! How many requests are under way, when one counts as lost, and when it is given up.
//!
//! A gateway's socket holds few packets and its daemon takes milliseconds for each. So a window of requests is in flight and
//! the rest waits in a queue. The window only paces: what a request says, and what an answer means, is the driver's. No
//! call looks at all requests but `restart_discovery` and the gateway's first answer.

use crate::destruction::{CLEANUP_TIMEOUT, QUIET_TIMEOUT};
use crate::io::Cx;
use crate::ordered::{Map, Pieces, Word};
use crate::time::Time;
use crate::timers::Timers;
use std::time::Duration;

/// Requests in flight at the start.
pub const START: usize = 64;

/// Requests in flight at most: half of what miniupnpd's socket holds (256 datagrams), since another program may ask as much
/// at the same time.
const MAX: usize = 128;

/// Requests in flight where a gateway has fallen silent.
const MIN: usize = 8;

/// A sending is lost when one is answered that went out so many sendings later, or more.
const LATER_SENDINGS: u64 = 3;

/// How often one request is sent again at once because later ones were answered. Where packets get lost here and there that
/// is soon enough; a gateway that answers all but this one is then asked no faster than a silent one.
const PROMPT_RESENDS: u32 = 3;

/// How long nothing at all must come for a request to count as lost. For a gateway that makes mappings each counts
/// twice, and the last is repeated.
const WAITS_MILLIS: [u64; 3] = [250, 500, 1000];

/// Deletions are sent 0, 200 and 500 ms after the start and then left alone.
const DELETION_WAITS_MILLIS: [u64; 2] = [200, 300];

/// What sort of request it is: how long it is worth trying, and what goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// About the gateway itself: all others may depend on it.
    Query,
    /// Makes or renews a mapping.
    Map,
    /// Deletes one.
    Deletion,
}

/// The requests of one driver to one gateway, by key; at most one a key.
#[derive(Debug)]
pub struct Window<K> {
    /// How long one request is tried.
    patience: Duration,
    /// The gateway is known to make mappings: requests are repeated for longer.
    is_steady: bool,
    /// The gateway has not answered (again): so many more requests may be sent, and only `leader` is repeated.
    probing: Option<usize>,
    leader: Option<K>,
    /// How many requests may be in flight: one more with each answer, so that it doubles with each round.
    width: usize,
    requests: Map<K, Request>,
    /// Those that wait to be sent (again).
    queue: Map<(u8, u64), K>,
    /// Those that were sent and are neither answered nor lost, by their latest sending.
    in_flight: Map<u64, K>,
    /// Until when those take room that were forgotten in flight: the gateway has them before it.
    forgotten: Vec<Time>,
    /// When to look at each request: whether it is lost, or to be given up.
    timers: Timers<K>,
    /// Sendings and places in the queue are numbered from 1.
    last_number: u64,
    /// By how much waits are shortened, at random.
    jitter_micros_a_milli: u64,
    heard_at: Option<Time>,
}

#[derive(Debug)]
struct Request {
    kind: Kind,
    place: Place,
    queued_at: Time,
    /// Sendings so far.
    sends: u32,
    sent_at: Time,
    /// When its time began to run; the time before the gateway's first answer does not count.
    first_sent_at: Option<Time>,
    /// How often it was lost by silence: its place in the schedule.
    step: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Queued(Rank, u64),
    InFlight(u64),
}

/// What goes first. Queries and deletions go out to a silent gateway, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    Query,
    Deletion,
    Again,
    Fresh,
}

impl<K> Default for Window<K> {
    /// A window toward a gateway that has not answered yet.
    fn default() -> Window<K> {
        Window {
            patience: Duration::ZERO,
            is_steady: false,
            probing: Some(START),
            leader: None,
            width: START,
            requests: Map::new(),
            queue: Map::new(),
            in_flight: Map::new(),
            forgotten: Vec::new(),
            timers: Timers::default(),
            last_number: 0,
            jitter_micros_a_milli: 1000,
            heard_at: None,
        }
    }
}

impl<K: Word + PartialEq> Window<K> {
    /// How long a request is tried from now on at a gateway that answers, and whether it is known to make mappings.
    pub fn set_patience(&mut self, patience: Duration, is_steady: bool) {
        (self.patience, self.is_steady) = (patience, is_steady);
    }

    /// Puts a request into the queue, in place of any of that key.
    pub fn push(&mut self, now: Time, key: K, kind: Kind) {
        self.take(key);
        let rank = match kind {
            Kind::Query => Rank::Query,
            Kind::Map => Rank::Fresh,
            Kind::Deletion => Rank::Deletion,
        };
        let request = Request {
            kind,
            place: Place::Queued(rank, 0),
            queued_at: now,
            sends: 0,
            sent_at: now,
            first_sent_at: None,
            step: 0,
        };
        self.requests.insert(key, request);
        self.enqueue(key, rank);
    }

    /// Forgets a request; no answer is awaited any more.
    pub fn remove(&mut self, key: K) {
        if let Some(Request { place: Place::InFlight(_), sent_at, .. }) = self.take(key) {
            self.forgotten.push(sent_at + Duration::from_millis(WAITS_MILLIS[0]));
        }
    }

    /// Forgets all requests: the gateway does not answer, and is not looked for. What is asked now is a renewal.
    pub fn clear(&mut self) {
        *self = Window { probing: None, ..Window::default() };
    }

    /// Whether there is a request of that key, sent or not.
    pub fn contains(&self, key: K) -> bool {
        self.requests.contains_key(&key)
    }

    /// Whether there is a request of that key that was sent at least once.
    pub fn was_sent(&self, key: K) -> bool {
        self.requests.get(&key).is_some_and(|request| request.sends > 0)
    }

    /// The requests that were sent at least once and are not answered.
    pub fn all_sent(&self) -> Pieces<K> {
        self.requests.keys_where(|_, request| request.sends > 0)
    }

    /// The next request to be sent now, which then counts as sent; `None`: nothing waits, or there is no room.
    pub fn poll_send(&mut self, cx: &mut Cx) -> Option<K> {
        let (place, &key) = self.queue.first_key_value()?;
        if self.in_flight.len() + self.forgotten.len() >= self.width {
            return None;
        }
        if let Some(budget) = self.probing.as_mut().filter(|_| place.0 > Rank::Deletion as u8) {
            *budget = budget.checked_sub(1)?;
        }
        self.unplace(key);
        self.last_number += 1;
        self.in_flight.insert(self.last_number, key);
        let request = self.requests.get_mut(&key)?;
        (request.place, request.sent_at) = (Place::InFlight(self.last_number), cx.now);
        request.first_sent_at.get_or_insert(cx.now);
        request.sends += 1;
        if request.sends > 1 {
            cx.pace.spend(cx.now, 1);
        }
        if self.probing.is_some() && request.kind != Kind::Deletion {
            self.leader.get_or_insert(key);
        }
        self.jitter_micros_a_milli = cx.random.in_range(900, 1000);
        self.watch(key);
        Some(key)
    }

    /// An answer to a request came: it is done with.
    pub fn handle_answer(&mut self, now: Time, key: K) {
        self.handle_sign_of_life(now);
        let Some(Request { place: Place::InFlight(sending), .. }) = self.take(key) else { return };
        self.width = (self.width + 1).min(MAX);
        let overtaken = self.in_flight.iter().take_while(|(sent, _)| sent + LATER_SENDINGS <= sending);
        for key in overtaken.map(|(_, &key)| key).collect::<Vec<_>>() {
            if self.requests.get(&key).is_some_and(|request| request.sends <= PROMPT_RESENDS) {
                self.enqueue(key, Rank::Again);
            }
        }
    }

    /// Something came from the gateway that is an answer of this protocol, if not to a request in the window.
    pub fn handle_sign_of_life(&mut self, now: Time) {
        self.heard_at = Some(now);
        if self.probing.take().is_none() {
            return;
        }
        // The first window is in flight; from now on it keeps the schedule of a gateway that is known. The time of those that
        // wait begins to run.
        self.leader = None;
        for key in self.requests.keys() {
            if let Some(request) = self.requests.get_mut(&key)
                && request.kind != Kind::Deletion
                && matches!(request.place, Place::InFlight(_))
            {
                (request.step, request.sent_at, request.first_sent_at) = (0, now, Some(now));
            }
            self.watch(key);
        }
    }

    /// The gateway is looked for again: all but deletions is sent as if for the first time, `budget` of it at once.
    pub fn restart_discovery(&mut self, budget: usize) {
        (self.probing, self.leader, self.width) = (Some(budget), None, START);
        self.send_again();
    }

    /// All that is in flight but deletions is to be sent as if for the first time.
    pub fn send_again(&mut self) {
        for key in self.in_flight.iter().map(|(_, &key)| key).collect::<Vec<_>>() {
            let Some(request) = self.requests.get_mut(&key) else { continue };
            if request.kind != Kind::Deletion {
                (request.step, request.first_sent_at) = (0, None);
                let rank = if request.kind == Kind::Query { Rank::Query } else { Rank::Again };
                self.enqueue(key, rank);
            }
        }
    }

    /// Looks what is lost, then ask `poll_send`, and gives back what was given up: it is no more in the window.
    pub fn handle_timeout(&mut self, now: Time) -> Vec<K> {
        self.forgotten.retain(|&until| until > now);
        let mut expired = Vec::new();
        while let Some(key) = self.timers.pop_due(now) {
            let Some(request) = self.requests.get(&key) else { continue };
            if self.expires_at(request).is_some_and(|at| at <= now) {
                self.take(key);
                expired.push(key);
            } else if self.repeats_at(key, request).is_some_and(|at| at <= now) {
                self.lose_by_silence(key);
            } else {
                self.watch(key);
            }
        }
        expired
    }

    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Time> {
        let room_at = self.forgotten.iter().min().filter(|_| !self.queue.is_empty()).copied();
        [self.timers.next(), room_at].into_iter().flatten().min()
    }

    fn enqueue(&mut self, key: K, rank: Rank) {
        self.unplace(key);
        self.last_number += 1;
        self.queue.insert((rank as u8, self.last_number), key);
        if let Some(request) = self.requests.get_mut(&key) {
            request.place = Place::Queued(rank, self.last_number);
        }
        self.watch(key);
    }

    fn unplace(&mut self, key: K) {
        match self.requests.get(&key).map(|request| request.place) {
            Some(Place::Queued(rank, place)) => self.queue.remove(&(rank as u8, place)),
            Some(Place::InFlight(sending)) => self.in_flight.remove(&sending),
            None => None,
        };
    }

    fn take(&mut self, key: K) -> Option<Request> {
        self.unplace(key);
        self.timers.cancel(key);
        let request = self.requests.remove(&key)?;
        if self.leader == Some(key) {
            let may_lead = |key: &K| self.requests.get(key).is_some_and(|next| next.kind != Kind::Deletion);
            self.leader = self.in_flight.values().copied().find(may_lead);
            self.leader.into_iter().for_each(|next| self.watch(next));
        }
        Some(request)
    }

    /// Sets the time at which a request is looked at next.
    fn watch(&mut self, key: K) {
        let Some(request) = self.requests.get(&key) else { return };
        let at = [self.expires_at(request), self.repeats_at(key, request)].into_iter().flatten().min();
        self.timers.replace(key, at);
    }

    /// When a request is given up. While others are answered, the turn of a deletion is still to come, and what was never
    /// sent waits for its turn.
    fn expires_at(&self, request: &Request) -> Option<Time> {
        match (request.kind, request.first_sent_at) {
            (Kind::Deletion, None) => Some(self.quiet_since(request.queued_at) + CLEANUP_TIMEOUT),
            (Kind::Deletion, Some(sent_at)) => {
                Some((self.quiet_since(sent_at) + QUIET_TIMEOUT).min(sent_at + CLEANUP_TIMEOUT))
            }
            // The end of discovery is not the window's to decide.
            _ if self.probing.is_some() => None,
            (_, Some(sent_at)) => Some(sent_at + self.patience),
            (_, None) => Some(self.quiet_since(request.queued_at) + self.patience),
        }
    }

    /// When a request is sent again, if nothing comes.
    fn repeats_at(&self, key: K, request: &Request) -> Option<Time> {
        let millis = match request.kind {
            _ if matches!(request.place, Place::Queued(..)) => None,
            Kind::Deletion => DELETION_WAITS_MILLIS.get(request.step),
            _ if self.probing.is_some() && self.leader != Some(key) => None,
            _ if self.is_steady => WAITS_MILLIS.get(request.step / 2).or(WAITS_MILLIS.last()),
            _ => WAITS_MILLIS.get(request.step),
        };
        let wait = Duration::from_micros(millis? * self.jitter_micros_a_milli);
        Some(self.quiet_since(request.sent_at) + wait)
    }

    /// Since when nothing has come that a request of `sent_at` was waiting for.
    fn quiet_since(&self, sent_at: Time) -> Time {
        self.heard_at.map_or(sent_at, |heard_at| heard_at.max(sent_at))
    }

    /// Nothing came for too long: the request waits to be sent again, in the window's turn.
    fn lose_by_silence(&mut self, key: K) {
        let Some(request) = self.requests.get_mut(&key) else { return };
        let answers_others = self.heard_at.is_some_and(|heard_at| heard_at > request.sent_at);
        // Longer waits are for gateways that are away, not for packets that are lost.
        request.step += usize::from(!answers_others);
        if self.probing.is_none() {
            self.width = MIN;
        }
        let rank = if self.leader == Some(key) { Rank::Query } else { Rank::Again };
        self.enqueue(key, rank);
    }
}
