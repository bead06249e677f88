//! Deletions and cleanup: nothing of ours is left on the gateway, and nobody waits long for it.

#![forbid(unsafe_code)]

use super::driver::Key;
use super::io::{Event, MappingId, OnCleanup, Output, Protocol, Suggestion};
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
    /// An entry that stays, and may not.
    doubt: Option<Doubt>,
}

/// Gateways have one table for all protocols: a deletion by one may hit what another has made and is to be kept. So that is
/// asked for once more when the deletions are answered.
#[derive(Debug)]
struct Doubt {
    kept: Protocol,
    suggestion: Suggestion,
    /// It is asked for, and that is not answered.
    asked: bool,
    /// A deletion was under way since: its answer does not settle the matter.
    renewed: bool,
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
    /// The program ends: every mapping is removed, unless it is to be kept, then `Output::Finished` comes.
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
        let mut open = mapping.entries;
        let last = mapping.last;
        let kept = match (&self.cleanup, self.config.on_cleanup) {
            (Some(_), OnCleanup::Keep) => mapping.mapped_by(),
            _ => None,
        };
        if let Some(kept) = kept {
            open.set(kept, false);
        }
        let is_doubtful = mapping.unconfirmed || open.marked().next().is_some();
        let suggestion = mapping.suggestion();
        let doubt = kept.filter(|_| is_doubtful);
        let doubt = doubt.map(|kept| Doubt { kept, suggestion, asked: false, renewed: false });
        self.mappings.remove(&key);
        self.waiting.remove(&key);
        self.timers.cancel(Timer::Mapping(key));
        if self.mappings.is_empty() {
            self.timers.cancel(Timer::Recheck);
            self.timers.cancel(Timer::Announcements);
            self.timers.cancel(Timer::Rediscovery);
        }
        if doubt.is_none() && open.marked().next().is_none() {
            self.tell(id, Event::Destroyed);
        } else {
            let ending = Ending { holders: vec![id], open, last, doubt };
            self.endings.insert(key, ending);
            self.timers.set(Timer::Ending(key), now + QUIET_TIMEOUT);
        }
        // All of them: one that lost a race may still wait for the answer to what was called back.
        for protocol in ASKING.into_iter().filter(|&protocol| kept.is_none() || open.has(protocol)) {
            with_driver!(self, protocol, delete(now, key));
        }
        self.end_ending_if_done(now, key);
    }

    /// A driver's deletion is answered, or given up.
    pub(super) fn handle_deleted(&mut self, now: Time, protocol: Protocol, key: Key) {
        if let Some(ending) = self.endings.get_mut(&key) {
            ending.open.set(protocol, false);
            self.end_ending_if_done(now, key);
        } else if let Some(mapping) = self.mappings.get_mut(&key)
            && mapping.mapped_by() != Some(protocol)
            && !mapping.asked.has(protocol)
        {
            mapping.entries.set(protocol, false);
        }
    }

    /// An ending is over when the deletions are answered, and no doubt is left.
    fn end_ending_if_done(&mut self, now: Time, key: Key) {
        let Some(ending) = self.endings.get(&key) else { return };
        if ending.open.marked().next().is_some() {
            return;
        }
        let Some(kept) = ending.doubt.as_ref().map(|doubt| doubt.kept) else {
            self.end_ending(key);
            return;
        };
        let mut others = ASKING.into_iter().filter(|&protocol| protocol != kept);
        if !others.any(|protocol| self.owes_answer(now, protocol, key)) {
            self.ask_again(now, key);
        } else if let Some(Ending { doubt: Some(doubt), .. }) = self.endings.get_mut(&key) {
            doubt.renewed = doubt.asked;
        }
    }

    /// Asks for what is in doubt, unless that is done.
    fn ask_again(&mut self, now: Time, key: Key) {
        if let Some(Ending { doubt: Some(doubt), .. }) = self.endings.get_mut(&key)
            && !std::mem::replace(&mut doubt.asked, true)
        {
            let (protocol, suggestion) = (doubt.kept, doubt.suggestion);
            with_driver!(self, protocol, map(now, key, suggestion));
        }
    }

    /// If an answer is to what was asked for in doubt, takes it.
    pub(super) fn is_answer_to_doubt(&mut self, protocol: Protocol, key: Key) -> bool {
        let Some(Ending { doubt: Some(doubt), .. }) = self.endings.get_mut(&key) else { return false };
        if doubt.kept != protocol || !doubt.asked {
            return false;
        }
        doubt.asked = false;
        if !std::mem::take(&mut doubt.renewed) {
            self.end_ending(key);
        }
        true
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
    pub(super) fn handle_ending_timer(&mut self, now: Time, key: Key) {
        self.ask_again(now, key);
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
        if self.cleanup.is_none() {
            return;
        }
        for key in self.endings.keys_where(|_, ending| ending.doubt.is_some()) {
            self.end_ending_if_done(now, key);
        }
        if self.endings.is_empty() {
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
