//! Removing entries: deletions that are waited for, and requests that are abandoned.

use super::action::{Answer, Owner, code};
use super::exchange::{Job, Trouble};
use super::mapping::{Goal, Mapping};
use super::{Timer, UpnpIgd};
use crate::engine::driver::{Key, Notice};
use crate::engine::io::Cx;
use crate::log::log;
use std::net::IpAddr;
use std::time::Duration;

/// How long a deletion, or the gateway as a whole, may be silent before we say that it is not answered.
const NOTICE_TIMEOUT: Duration = Duration::from_millis(800);
/// How many connections of a removal may end without an answer.
const MAX_BROKEN: u8 = 2;
/// How many may be refused. (Two in a row, and the control URL is lost; these are for one that comes and goes.)
const MAX_REFUSED: u8 = 10;

impl UpnpIgd {
    /// Removes the gateway mapping of a key. Ends in `Deleted`: with the answer, or unanswered when the control
    /// URL fails or 0.8 s after the request, or (while that waits) after the gateway's last answer; the removal
    /// itself goes on, without a gateway as soon as one is found.
    pub fn delete(&mut self, cx: &mut Cx<'_>, key: Key) {
        if !self.mappings.contains_key(&key) {
            self.notices.push_back(Notice::Deleted { key, answered: true });
            return;
        }
        self.timers.set(Timer::Notice(key), cx.now + NOTICE_TIMEOUT);
        self.remove(cx, key, true);
        self.settle(cx);
    }

    /// Another protocol won: forgets an unsent request; one that was sent is followed by a removal once it is
    /// answered, without notice. Whether there is a removal.
    pub fn abandon(&mut self, cx: &mut Cx<'_>, key: Key) -> bool {
        let Some(mapping) = self.mappings.get(&key) else { return false };
        let may_be_made = mapping.made.is_some()
            || mapping.held.is_some_and(|held| !held.certain)
            || self.exchanges.is_written(Job::Make(key));
        match mapping.goal {
            Goal::Remove { .. } => return true,
            Goal::Rest | Goal::Make if may_be_made => self.remove(cx, key, false),
            Goal::Rest => return false,
            Goal::Make => {
                self.drop_unsent(cx, key);
                self.end_attempt(cx, key);
            }
        }
        self.settle(cx);
        may_be_made
    }

    /// How many removals are under way, those included whose `Deleted` has been given already; not those that
    /// wait for a gateway to be found.
    pub fn removals(&self) -> usize {
        if self.control.is_none() {
            return 0;
        }
        self.mappings.values().filter(|mapping| matches!(mapping.goal, Goal::Remove { .. })).count()
    }

    /// The time for the answer to a deletion is over, unless the gateway was busy with others.
    pub(super) fn handle_notice_timeout(&mut self, cx: &mut Cx<'_>, key: Key) {
        let opened_at = self.exchanges.opened_at(Job::Remove(key));
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let Goal::Remove { called_at, .. } = mapping.goal else { return };
        let due_at = opened_at.unwrap_or(self.answered_at.max(called_at)) + NOTICE_TIMEOUT;
        if cx.now < due_at {
            self.timers.set(Timer::Notice(key), due_at);
        } else {
            self.tell_unanswered(key);
        }
    }

    /// Says that a deletion is not answered, once.
    pub(super) fn tell_unanswered(&mut self, key: Key) {
        self.timers.cancel(Timer::Notice(key));
        if let Some(Mapping { goal: Goal::Remove { notice, .. }, .. }) = self.mappings.get_mut(&key)
            && std::mem::take(notice)
        {
            self.notices.push_back(Notice::Deleted { key, answered: false });
        }
    }

    /// The request of a removal is over.
    pub(super) fn handle_removal(
        &mut self,
        cx: &mut Cx<'_>,
        key: Key,
        answer: &Result<Answer, Trouble>,
        local: Option<IpAddr>,
    ) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let Some(held) = &mut mapping.held else { return };
        let mut is_given_up = false;
        match (answer, local) {
            (Ok(answer), _) if held.certain => {
                match answer {
                    Answer::Done(_) | Answer::Error(code::NO_SUCH_ENTRY) => {}
                    Answer::Error(error) => {
                        log!(Warn, "UPnP-IGD: deletion of {key} refused with error {error}");
                    }
                    Answer::Nonsense => log!(Warn, "UPnP-IGD: deletion of {key} answered with nonsense"),
                }
                mapping.held = None;
            }
            (Ok(Answer::Done(entry)), Some(client)) if entry.owner(key, client) == Owner::Foreign => {
                mapping.held = None;
            }
            (Ok(Answer::Error(code::NO_SUCH_ENTRY | code::NOT_AUTHORIZED)), _) => mapping.held = None,
            (Ok(_), _) => held.certain = true,
            (Err(trouble), _) => {
                mapping.removal_troubles += 1;
                is_given_up = match trouble {
                    Trouble::TimedOut => true,
                    Trouble::Broken => mapping.removal_troubles >= MAX_BROKEN,
                    Trouble::Refused | Trouble::Starved => mapping.removal_troubles >= MAX_REFUSED,
                };
            }
        }
        if is_given_up && matches!(mapping.goal, Goal::Remove { .. }) {
            self.finish_removal(key, false);
        } else {
            self.advance(cx, key);
        }
    }

    pub(super) fn remove(&mut self, cx: &mut Cx<'_>, key: Key, notice: bool) {
        self.stop_check(cx, key);
        self.drop_unsent(cx, key);
        self.timers.cancel(Timer::Mapping(key));
        let is_open = self.is_open(key);
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        mapping.goal = Goal::Remove { called_at: cx.now, notice };
        mapping.made = None;
        mapping.removal_troubles = 0;
        if !is_open {
            mapping.attempt = None;
            self.advance(cx, key);
        }
    }

    /// Drops the next request of an attempt, if it has not left yet.
    fn drop_unsent(&mut self, cx: &mut Cx<'_>, key: Key) {
        let job = Job::Make(key);
        self.exchanges.drop_queued(&|queued| queued == job);
        if !self.exchanges.is_written(job) {
            self.hang_up(cx, &|open| open == job);
        }
    }

    /// The removal is at an end.
    pub(super) fn finish_removal(&mut self, key: Key, answered: bool) {
        if let Some(Mapping { goal: Goal::Remove { notice: true, .. }, .. }) = self.mappings.get(&key) {
            self.notices.push_back(Notice::Deleted { key, answered });
        }
        self.retire(key);
    }
}
