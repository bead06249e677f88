//! What must hold at every step, whatever the test: the promises of the engine to those around it.

use plum_engine::io::{Event, ExchangeId, MappingId};
use plum_engine::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// DESTROYED comes within this span of `destroy` (docs/contract.md, callback rule 5).
const DESTROY_TIMEOUT: Duration = Duration::from_secs(1);
/// Cleanup ends within this span.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);

/// A mapping as the program sees it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its events with their times.
    pub events: Vec<(Time, Event)>,
    /// When the program destroyed it.
    pub destroyed_at: Option<Time>,
    /// The same, less the time that the machine had slept by then.
    destroyed_awake_at: Time,
}

impl Seen {
    /// Whether its `Destroyed` has come.
    pub fn is_gone(&self) -> bool {
        self.events.last().is_some_and(|&(_, event)| event == Event::Destroyed)
    }
}

/// The record that the checks are made on.
#[derive(Debug, Default)]
pub struct Checks {
    /// All mappings that were ever created.
    pub seen: BTreeMap<MappingId, Seen>,
    /// When cleanup began.
    pub cleanup_at: Option<Time>,
    /// When `Output::Finished` came.
    pub finished_at: Option<Time>,
    used: BTreeSet<ExchangeId>,
    /// The mappings whose `Destroyed` is still to come, longest wait first. The time that the machine sleeps does not
    /// count.
    awaiting: BTreeSet<(Time, MappingId)>,
    /// How long the machine has slept.
    slept: Duration,
    /// How long of that before cleanup.
    slept_before_cleanup: Duration,
}

impl Checks {
    /// How many mappings there ever were.
    pub fn created(&self) -> usize {
        self.seen.len()
    }

    /// The program creates a mapping, numbered from 0 on.
    pub fn create(&mut self) -> MappingId {
        let id = MappingId::try_from(self.created()).expect("few mappings");
        self.seen.insert(id, Seen::default());
        id
    }

    /// One of the mappings that the program has not destroyed, if there is any; a number beyond them begins anew.
    pub fn live(&self, which: usize) -> Option<MappingId> {
        let live = self.seen.iter().filter(|(_, seen)| seen.destroyed_at.is_none());
        let live: Vec<MappingId> = live.map(|(&id, _)| id).collect();
        live.get(which.checked_rem(live.len())?).copied()
    }

    /// The program destroys a mapping.
    pub fn destroy(&mut self, now: Time, id: MappingId) {
        let seen = self.seen.get_mut(&id).expect("a mapping of this world");
        assert!(seen.destroyed_at.is_none() && !seen.is_gone(), "the test destroys {id} twice");
        seen.destroyed_at = Some(now);
        seen.destroyed_awake_at = now - self.slept;
        self.awaiting.insert((seen.destroyed_awake_at, id));
    }

    /// The program ends.
    pub fn cleanup(&mut self, now: Time) {
        self.cleanup_at = Some(now);
        self.slept_before_cleanup = self.slept;
    }

    /// The machine sleeps for so long.
    pub fn sleep(&mut self, span: Duration) {
        self.slept += span;
    }

    /// An event of a mapping.
    pub fn event(&mut self, now: Time, id: MappingId, event: Event) {
        assert!(self.finished_at.is_none(), "event {event:?} of {id} after Finished");
        let cleanup = self.cleanup_at.is_some();
        let seen =
            self.seen.get_mut(&id).unwrap_or_else(|| panic!("event {event:?} of unknown mapping {id}"));
        assert!(!seen.is_gone(), "event {event:?} of {id} after its Destroyed");
        let ending = seen.destroyed_at.is_some() || cleanup;
        let last = seen.events.last().map(|&(_, event)| event);
        match event {
            Event::Destroyed => assert!(ending, "Destroyed of {id}, which nobody destroyed"),
            Event::Success { address, .. } => {
                assert!(!ending, "Success of {id} while it is being destroyed");
                // docs/contract.md, callback rule 3: an uneventful renewal is silent.
                assert_ne!(last, Some(event), "the same Success of {id} again, with nothing in between");
                let unusable = address.is_unspecified() || address.is_multicast() || address.is_loopback();
                assert!(!unusable, "Success of {id} with external address {address}");
            }
            Event::Failure => {
                assert!(!ending, "Failure of {id} while it is being destroyed");
                // Rule 4: FAILURE comes once.
                assert_ne!(last, Some(event), "Failure of {id} again, with nothing in between");
            }
            Event::Pending => {
                assert!(!ending, "Pending of {id} while it is being destroyed");
                // Rule 4: a mapping that failed stays so until it succeeds.
                let was_made = matches!(last, Some(Event::Success { .. }));
                assert!(was_made, "Pending of {id}, which was {last:?}");
            }
        }
        if event == Event::Destroyed && seen.destroyed_at.is_some() {
            self.awaiting.remove(&(seen.destroyed_awake_at, id));
        }
        seen.events.push((now, event));
    }

    /// A new TCP connection; `open` counts all, and `with_host` those with its host, itself included.
    pub fn connect(&mut self, exchange: ExchangeId, open: usize, with_host: usize) {
        assert!(self.used.insert(exchange), "{exchange:?} is used twice");
        // docs/protocols.md, Many mappings: HTTP, 4 exchanges at once a host, and no more than 16 in all.
        assert!(with_host <= 4, "{with_host} TCP connections with a host at a time");
        assert!(open <= 16, "{open} TCP connections at a time");
    }

    /// The highest number of a connection so far.
    pub fn last_exchange(&self) -> u64 {
        self.used.last().map_or(0, |exchange| exchange.0)
    }

    /// Cleanup is complete.
    pub fn finished(&mut self, now: Time) {
        assert!(self.cleanup_at.is_some(), "Finished without cleanup");
        assert!(self.finished_at.is_none(), "Finished twice");
        for (id, seen) in &self.seen {
            assert!(seen.is_gone(), "Finished before the Destroyed of {id}");
        }
        self.finished_at = Some(now);
    }

    /// Whether cleanup is complete.
    pub fn has_finished(&self) -> bool {
        self.finished_at.is_some()
    }

    /// Each mapping was told `Destroyed`, once.
    pub fn all_destroyed_once(&self) {
        for (id, seen) in &self.seen {
            let destroyed = seen.events.iter().filter(|&&(_, event)| event == Event::Destroyed).count();
            assert_eq!(destroyed, 1, "Destroyed of {id}");
        }
    }

    /// What must have happened by now.
    pub fn deadlines(&self, now: Time) {
        if let Some(&(at, id)) = self.awaiting.first() {
            let awake = now - self.slept;
            assert!(awake.since(at) <= DESTROY_TIMEOUT, "no Destroyed of {id} within {DESTROY_TIMEOUT:?}");
        }
        if let Some(at) = self.cleanup_at.filter(|_| self.finished_at.is_none()) {
            let awake = now.since(at) - (self.slept - self.slept_before_cleanup);
            assert!(awake <= CLEANUP_TIMEOUT, "cleanup not Finished within {CLEANUP_TIMEOUT:?}");
        }
    }
}
