//! The window of requests in flight: when a request counts as lost, and when it is given up.
//!
//! A gateway's socket buffers few packets, and its daemon takes milliseconds for each. So a limited number of requests
//! is in flight and the rest waits in a queue. The window only paces; the driver knows the requests and replies. Only
//! `restart_discovery` and the gateway's first answer scan all requests.

use crate::destruction::{CLEANUP_TIMEOUT, QUIET_TIMEOUT};
use crate::io::Cx;
use crate::ordered::{Map, Pieces, Word};
use crate::time::Time;
use crate::timers::Timers;
use std::time::Duration;

/// The initial number of requests in flight.
pub const START: usize = 64;

/// The largest number of requests in flight: half of what miniupnpd's socket holds (256 datagrams), since another
/// program may send as many at the same time.
const MAX: usize = 128;

/// The number of requests in flight after a gateway has fallen silent.
const MIN: usize = 8;

/// A request is lost when another is answered that was sent this many sendings later.
const LATER_SENDINGS: u64 = 3;

/// How often a request is resent at once because later ones were answered. That suffices for random packet loss; a
/// gateway that answers all but this one is then asked no faster than a silent one.
const PROMPT_RESENDS: u32 = 3;

/// How long the gateway must be silent for a request to count as lost. For a gateway that grants mappings each wait
/// counts twice, and the last is repeated.
const WAITS_MILLIS: [u64; 3] = [250, 500, 1000];

/// Deletions are sent at 0, 200 and 500 ms, and not again.
const DELETION_WAITS_MILLIS: [u64; 2] = [200, 300];

/// The kind of a request: decides its order and how long it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Queries the gateway itself; other requests may depend on it.
    Query,
    /// Makes or renews a mapping.
    Map,
    /// Deletes a mapping.
    Deletion,
}

/// The requests of one driver to one gateway, at most one for each key.
#[derive(Debug)]
pub struct Window<K> {
    /// How long a request is tried.
    patience: Duration,
    /// The gateway grants mappings: requests are repeated for longer.
    is_steady: bool,
    /// Set until the gateway answers: how many more requests may be sent. Only `leader` is repeated.
    probing: Option<usize>,
    leader: Option<K>,
    /// How many requests may be in flight: grows by one with each reply, so that it doubles each round trip.
    width: usize,
    requests: Map<K, Request>,
    /// The requests to be sent (again).
    queue: Map<(u8, u64), K>,
    /// The requests that were sent and are neither answered nor lost, by their latest sending.
    in_flight: Map<u64, K>,
    /// Until when requests removed in flight still take room: the gateway still has to process them.
    forgotten: Vec<Time>,
    /// When each request counts as lost or is given up.
    timers: Timers<K>,
    /// The last number given to a sending or a place in the queue.
    last_number: u64,
    /// The random factor that shortens waits.
    jitter_micros_a_milli: u64,
    heard_at: Option<Time>,
}

#[derive(Debug)]
struct Request {
    kind: Kind,
    place: Place,
    queued_at: Time,
    /// How often it was sent.
    sends: u32,
    sent_at: Time,
    /// The start of its timeout; the time before the gateway's first answer does not count.
    first_sent_at: Option<Time>,
    /// How often it was lost by silence: its step in the schedule.
    step: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Queued(Rank, u64),
    InFlight(u64),
}

/// The order in the queue. Queries and deletions are also sent to a silent gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    Query,
    Deletion,
    Again,
    Fresh,
}

impl<K> Default for Window<K> {
    /// A window for a gateway that has not answered yet.
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
    /// Sets how long a request is tried at a gateway that answers, and whether that grants mappings.
    pub fn set_patience(&mut self, patience: Duration, is_steady: bool) {
        (self.patience, self.is_steady) = (patience, is_steady);
    }

    /// Queues a request, replacing any of that key.
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

    /// Removes a request; its reply is no longer awaited.
    pub fn remove(&mut self, key: K) {
        if let Some(Request { place: Place::InFlight(_), sent_at, .. }) = self.take(key) {
            self.forgotten.push(sent_at + Duration::from_millis(WAITS_MILLIS[0]));
        }
    }

    /// Queues a request in flight again, with the rest of its timeout.
    pub fn resend(&mut self, key: K) {
        if self.requests.get(&key).is_some_and(|request| matches!(request.place, Place::InFlight(_))) {
            self.enqueue(key, Rank::Again);
        }
    }

    /// Removes all requests and ends discovery: requests from now on are renewals.
    pub fn clear(&mut self) {
        *self = Window { probing: None, ..Window::default() };
    }

    /// Whether there is a request of that key.
    pub fn contains(&self, key: K) -> bool {
        self.requests.contains_key(&key)
    }

    /// Whether the request of that key was sent at least once.
    pub fn was_sent(&self, key: K) -> bool {
        self.requests.get(&key).is_some_and(|request| request.sends > 0)
    }

    /// The unanswered requests that were sent at least once.
    pub fn all_sent(&self) -> Pieces<K> {
        self.requests.keys_where(|_, request| request.sends > 0)
    }

    /// Takes the next request to be sent now; `None`: none waits, or there is no room.
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

    /// Handles the reply to a request, and removes it.
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

    /// Handles any valid message of the gateway.
    pub fn handle_sign_of_life(&mut self, now: Time) {
        self.heard_at = Some(now);
        if self.probing.take().is_none() {
            return;
        }
        // The first requests are in flight: from now on they follow the schedule for a gateway that answers, and the
        // timeouts of queued ones start.
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

    /// Starts discovery again: all requests but deletions are sent as if for the first time, `budget` of them at once.
    pub fn restart_discovery(&mut self, budget: usize) {
        (self.probing, self.leader, self.width) = (Some(budget), None, START);
        self.send_again();
    }

    /// Queues all requests in flight but deletions, as if for the first time.
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

    /// Queues lost requests, and returns and removes those that are given up. Call `poll_send` afterwards.
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

    /// Sets the timer of a request.
    fn watch(&mut self, key: K) {
        let Some(request) = self.requests.get(&key) else { return };
        let at = [self.expires_at(request), self.repeats_at(key, request)].into_iter().flatten().min();
        self.timers.replace(key, at);
    }

    /// When a request is given up. While others are answered, a deletion and a request that was never sent still wait
    /// for their turn.
    fn expires_at(&self, request: &Request) -> Option<Time> {
        match (request.kind, request.first_sent_at) {
            (Kind::Deletion, None) => Some(self.quiet_since(request.queued_at) + CLEANUP_TIMEOUT),
            (Kind::Deletion, Some(sent_at)) => {
                Some((self.quiet_since(sent_at) + QUIET_TIMEOUT).min(sent_at + CLEANUP_TIMEOUT))
            }
            // The driver decides when discovery ends.
            _ if self.probing.is_some() => None,
            (_, Some(sent_at)) => Some(sent_at + self.patience),
            (_, None) => Some(self.quiet_since(request.queued_at) + self.patience),
        }
    }

    /// When a request is repeated unless a reply comes.
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

    /// Since when the gateway has been silent, as seen by a request sent at `sent_at`.
    fn quiet_since(&self, sent_at: Time) -> Time {
        self.heard_at.map_or(sent_at, |heard_at| heard_at.max(sent_at))
    }

    /// The gateway was silent for too long: queues the request again.
    fn lose_by_silence(&mut self, key: K) {
        let Some(request) = self.requests.get_mut(&key) else { return };
        let answers_others = self.heard_at.is_some_and(|heard_at| heard_at > request.sent_at);
        // Waits grow for silent gateways, not for lost packets.
        request.step += usize::from(!answers_others);
        if self.probing.is_none() {
            self.width = MIN;
        }
        let rank = if self.leader == Some(key) { Rank::Query } else { Rank::Again };
        self.enqueue(key, rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Config;
    use crate::schedule::tests::Lowest;

    #[test]
    fn a_repeated_request_is_taken_from_the_budget_of_paced_ones() {
        let mut cx = Cx::new(Config::default(), Box::new(Lowest));
        let mut window = Window::default();
        window.push(Time::from_secs(1), 7u64, Kind::Map);
        assert_eq!(window.poll_send(cx.at(Time::from_secs(1))), Some(7));
        let now = Time::from_secs(2);
        assert!(window.handle_timeout(now).is_empty());
        assert_eq!(window.poll_send(cx.at(now)), Some(7));
        // Without it the whole bucket of 20 would be there.
        assert_eq!(cx.pace.take(now, 20), now + Duration::from_millis(20));
    }
}
