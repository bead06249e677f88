//! What an answer means: for the gateway's epoch, and for the key it is about.

#![forbid(unsafe_code)]

use super::entry::{MEMORY, State};
use super::{Answer, Ask, Effect, Requests, Slot};
use crate::engine::driver::{Key, Notice, Refusal, Status};
use crate::engine::epoch::{Announced, Epoch, Verdict};
use crate::engine::io::Suggestion;
use crate::log::log;
use crate::time::Time;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

/// How many grants that come too late are each answered with another deletion.
const LATE_GRANTS: u8 = 3;

impl Requests {
    /// An answer to a query; `None`: it does not count.
    pub(in crate::engine) fn handle_query_answer(&mut self, now: Time, epoch_secs: u32) -> Option<Effect> {
        let asked_at = self.query.asked_at()?;
        let verdict = self.epoch.judge(now, Some(asked_at), epoch_secs);
        if verdict == Verdict::Stale {
            return None;
        }
        self.query.note_answered();
        self.window.handle_answer(now, Slot::Query);
        self.known = true;
        self.set_status(Status::Up);
        let restarted = verdict == Verdict::Restarted;
        if restarted {
            self.note_restart(None);
            self.notices.push_back(Notice::Restarted { shown_by: None });
        }
        Some(Effect { restarted, granted: false })
    }

    /// The gateway's clock is another one since: the next answer begins anew with it.
    pub(in crate::engine) fn forget_epoch(&mut self) {
        self.epoch = Epoch::new(self.rule);
    }

    /// Whether the gateway has told its epoch.
    pub(in crate::engine) fn knows_epoch(&self) -> bool {
        self.epoch.is_known()
    }

    /// The recheck interval has passed.
    pub(in crate::engine) fn note_recheck(&mut self) {
        self.epoch.note_recheck();
    }

    /// The gateway announced itself. `is_repetition`: it had announced a restart just before. What follows is the core's.
    pub(in crate::engine) fn judge_announcement(
        &mut self,
        now: Time,
        epoch_secs: u32,
        is_repetition: bool,
    ) -> Announced {
        let announced = self.epoch.judge_announcement(now, epoch_secs, is_repetition);
        if announced == Announced::Restarted {
            self.note_restart(None);
        }
        announced
    }

    /// An answer about a key; `None`: it does not count. `updates`: the protocol lets the gateway change a
    /// mapping without being asked.
    pub(in crate::engine) fn handle_answer(
        &mut self,
        now: Time,
        key: Key,
        answer: Answer,
        epoch_secs: u32,
        updates: bool,
    ) -> Option<Effect> {
        let entry = self.entries.get_mut(&key)?;
        let asked_at = entry.sent.asked_at();
        let granted = matches!(answer, Answer::Granted { .. });
        if asked_at.is_none() && !(updates && granted && entry.mapped && entry.state == State::Idle) {
            return None;
        }
        let verdict = self.epoch.judge(now, asked_at, epoch_secs);
        if verdict == Verdict::Stale {
            log!(Debug, "{key}: drops an answer from before the gateway's restart");
            return None;
        }
        entry.sent.note_answered();
        if granted && verdict == Verdict::Fits {
            let is_overtaken = entry.mapped && epoch_secs < entry.granted_epoch_secs;
            entry.granted_epoch_secs = entry.granted_epoch_secs.max(epoch_secs);
            if is_overtaken && entry.state == State::Idle {
                // What it said after that has come already.
                log!(Debug, "{key}: drops an answer that was overtaken by a later one");
                return Some(Effect::default());
            }
        } else if granted {
            entry.granted_epoch_secs = epoch_secs;
        }
        self.window.handle_sign_of_life(now);
        self.known = true;
        self.set_status(Status::Up);
        let restarted = verdict == Verdict::Restarted;
        let granted = match answer {
            Answer::Granted { address, port } => self.is_grant_good(now, key, address, port),
            Answer::Deleted | Answer::Refused(_) => false,
        };
        if restarted {
            let shown_by = granted.then_some(key);
            self.note_restart(shown_by);
            self.notices.push_back(Notice::Restarted { shown_by });
        }
        match answer {
            Answer::Granted { .. } => {}
            Answer::Deleted => self.handle_deleted(now, key),
            Answer::Refused(refusal) => self.handle_refused(now, key, refusal),
        }
        Some(Effect { restarted, granted })
    }

    /// The gateway may have lost all mappings, but the one whose grant shows that. Only may (RFC 6887 §8.5): miniupnpd
    /// sets its epoch back with a new address, and keeps them. So what is not wanted any more is deleted all the same.
    fn note_restart(&mut self, shown_by: Option<Key>) {
        self.entries.for_each_mut(|key, entry| {
            if Some(key) != shown_by {
                entry.doubtful |= std::mem::take(&mut entry.mapped);
                entry.granted_epoch_secs = 0;
            }
        });
    }

    /// A mapping was granted; whether that is what was wanted.
    fn is_grant_good(&mut self, now: Time, key: Key, address: Option<IpAddr>, port: u16) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        entry.mapped = true;
        match entry.state {
            // A copy of the answer that began this: the deletion between the two is still to come.
            State::Mapping
                if entry.pending_deletion(now).is_some() && !self.window.was_sent(Slot::Key(key)) =>
            {
                false
            }
            State::Mapping | State::Idle => {
                entry.doubtful = false;
                entry.external = NonZeroU16::new(port).map(|port| (address, port));
                entry.state = State::Idle;
                self.window.handle_answer(now, Slot::Key(key));
                true
            }
            State::Abandoned => {
                // The deletion is under way, but another protocol has come off worse meanwhile: anew, after it.
                entry.doubtful = false;
                entry.external = NonZeroU16::new(port).map(|port| (address, port));
                entry.suggestion = Suggestion::default();
                entry.unasked = true;
                self.follow(now, key);
                false
            }
            State::Deleting if !self.window.was_sent(Slot::Key(key)) => false,
            State::Deleting | State::Gone { .. } => {
                if entry.late_grants < LATE_GRANTS {
                    entry.late_grants += 1;
                    self.urgent.push_back(Ask::Delete { key });
                }
                false
            }
            State::Following => false,
        }
    }

    /// Success without a lifetime.
    fn handle_deleted(&mut self, now: Time, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let deleted_lately = entry.deletion.is_some_and(|deletion| now.since(deletion.sent_at) < MEMORY);
        match entry.state {
            State::Mapping if !deleted_lately => {
                log!(Debug, "{key}: granted for no time");
                let was_mapped = std::mem::take(&mut entry.mapped);
                let unasked = entry.unasked;
                self.handle_refused(now, key, Refusal::Failed { retry_after: Duration::ZERO });
                if was_mapped && !unasked {
                    // RFC 6886 §3.4, RFC 6887 §15: that is what the answer to a deletion says.
                    self.notices.push_back(Notice::Gone { key });
                }
            }
            State::Deleting if !self.window.was_sent(Slot::Key(key)) => {}
            State::Deleting => {
                entry.note_deletion_answered();
                self.window.handle_answer(now, Slot::Key(key));
                self.end_deletion(now, key, true);
            }
            State::Following => {
                entry.note_deletion_answered();
                self.open_map(now, key);
            }
            State::Abandoned => entry.note_deletion_answered(),
            // The answer to a deletion that the request has followed already.
            State::Mapping | State::Idle | State::Gone { .. } => {
                if let Some(deletion) = &mut entry.deletion {
                    deletion.answered = true;
                }
            }
        }
    }

    fn handle_refused(&mut self, now: Time, key: Key, refusal: Refusal) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        match entry.state {
            State::Mapping => {
                entry.state = State::Idle;
                entry.doubtful = false;
                let unasked = entry.unasked;
                self.window.handle_answer(now, Slot::Key(key));
                if !unasked {
                    self.notices.push_back(Notice::Refused { key, refusal });
                }
            }
            State::Deleting if self.window.was_sent(Slot::Key(key)) => {
                entry.note_deletion_answered();
                self.window.handle_answer(now, Slot::Key(key));
                self.end_deletion(now, key, true);
            }
            State::Deleting => {
                // The map request that the deletion was to undo.
                entry.doubtful = false;
                if !entry.mapped {
                    self.end_deletion(now, key, true);
                }
            }
            State::Following => {
                entry.note_deletion_answered();
                self.open_map(now, key);
            }
            State::Abandoned => entry.note_deletion_answered(),
            State::Idle | State::Gone { .. } => {}
        }
    }
}
