//! Deletions and cleanup: nothing of ours is left on the gateway, and nobody waits long for it.

#![forbid(unsafe_code)]

use super::driver::Key;
use super::io::{Event, MappingId, Output, Protocol};
use super::mapping::{ASKING, External, PerProtocol};
use super::{Engine, Timer, cx, with_driver};
use crate::log::log;
use crate::time::Time;
use std::time::Duration;

/// DESTROYED is told after this, answered or not; cleanup ends this long after the gateway's last sign of life.
pub const QUIET_TIMEOUT: Duration = Duration::from_millis(800);

/// Cleanup never takes longer.
pub const CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);

/// A gateway mapping that is being deleted.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// The program's mappings that have not been told DESTROYED yet.
    holders: Vec<MappingId>,
    /// The protocols whose deletion is open.
    pub(super) open: PerProtocol<bool>,
    /// Where it was reachable.
    pub(super) last: Option<External>,
}

/// The end of everything.
#[derive(Debug)]
pub(super) struct Cleanup {
    started_at: Time,
    /// The gateway's last sign of life, or the start.
    heard_at: Time,
    finished: bool,
}

impl Engine {
    /// The program ends: every mapping is removed, then `Output::Finished` comes.
    pub fn handle_cleanup(&mut self, now: Time) {
        if self.cleanup.is_some() {
            return;
        }
        self.cleanup = Some(Cleanup { started_at: now, heard_at: now, finished: false });
        if self.race.is_some() {
            self.stop_race(now);
        }
        self.timers.cancel(Timer::Recheck);
        for id in self.ids.keys() {
            self.destroy(now, id);
        }
        self.timers.set(Timer::Cleanup, now + QUIET_TIMEOUT);
        self.settle(now);
    }

    /// Ends one mapping of the program; the last of its key takes the gateway mapping with it.
    pub(super) fn destroy(&mut self, now: Time, id: MappingId) {
        let Some(key) = self.ids.remove(&id) else { return };
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        mapping.holders.remove(&id);
        if !mapping.holders.is_empty() {
            self.tell(id, Event::Destroyed);
            return;
        }
        let open = mapping.entries;
        let last = mapping.last;
        self.mappings.remove(&key);
        self.waiting.remove(&key);
        self.timers.cancel(Timer::Mapping(key));
        if self.mappings.is_empty() {
            self.timers.cancel(Timer::Recheck);
            self.timers.cancel(Timer::Announcements);
            self.timers.cancel(Timer::Rediscovery);
        }
        if open.marked().next().is_none() {
            self.tell(id, Event::Destroyed);
        } else {
            self.endings.insert(key, Ending { holders: vec![id], open, last });
            self.timers.set(Timer::Ending(key), now + QUIET_TIMEOUT);
        }
        // All of them: one that lost a race may still wait for the answer to what was called back.
        for protocol in ASKING {
            with_driver!(self, protocol, delete(now, key));
        }
    }

    /// A driver's deletion is answered, or given up.
    pub(super) fn handle_deleted(&mut self, protocol: Protocol, key: Key) {
        if let Some(ending) = self.endings.get_mut(&key) {
            ending.open.set(protocol, false);
            if ending.open.marked().next().is_none() {
                self.end_ending(key);
            }
        } else if let Some(mapping) = self.mappings.get_mut(&key)
            && mapping.mapped_by() != Some(protocol)
            && !mapping.asked.has(protocol)
        {
            mapping.entries.set(protocol, false);
        }
    }

    /// An ending is over: whoever was not told DESTROYED is told now.
    pub(super) fn end_ending(&mut self, key: Key) -> Option<Ending> {
        let mut ending = self.endings.remove(&key)?;
        self.timers.cancel(Timer::Ending(key));
        for id in std::mem::take(&mut ending.holders) {
            self.tell(id, Event::Destroyed);
        }
        Some(ending)
    }

    /// The deletion is not answered in time: the program is told, the deletion goes on without it.
    pub(super) fn handle_ending_timer(&mut self, key: Key) {
        let Some(ending) = self.endings.get_mut(&key) else { return };
        for id in std::mem::take(&mut ending.holders) {
            self.tell(id, Event::Destroyed);
        }
    }

    /// Something came from the gateway.
    pub(super) fn note_sign_of_life(&mut self, now: Time) {
        if let Some(cleanup) = &mut self.cleanup {
            cleanup.heard_at = now;
        }
    }

    pub(super) fn handle_cleanup_timer(&mut self, now: Time) {
        let Some(cleanup) = &self.cleanup else { return };
        let due = (cleanup.heard_at + QUIET_TIMEOUT).min(cleanup.started_at + CLEANUP_TIMEOUT);
        if now < due {
            self.timers.set(Timer::Cleanup, due);
            return;
        }
        if !self.endings.is_empty() {
            log!(Warn, "cleanup: {} deletions were not answered", self.endings.len());
        }
        self.finish_cleanup(now);
    }

    pub(super) fn finish_cleanup_if_done(&mut self, now: Time) {
        if self.cleanup.is_some() && self.endings.is_empty() {
            self.finish_cleanup(now);
        }
    }

    fn finish_cleanup(&mut self, now: Time) {
        let Some(cleanup) = &mut self.cleanup else { return };
        if std::mem::replace(&mut cleanup.finished, true) {
            return;
        }
        for key in self.endings.keys() {
            self.end_ending(key);
        }
        self.timers.clear();
        self.pcp.start(None);
        self.natpmp.start(None);
        self.upnp.start(cx!(self, now), None);
        self.close_sockets();
        self.outputs.push_back(Output::Finished);
    }
}
