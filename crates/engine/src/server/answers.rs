//! Handles replies: their epoch, and what they mean for a key.

use super::key_requests::{KeyRequests, RequestState};
use super::window::Kind;
use super::{Answer, Server, Subject};
use crate::driver::{DeletionOutcome, Grant, Key, Notice, Rung};
use crate::epoch::EpochCheck;
use crate::io::Cx;
use crate::ledger::DeletionState;
use crate::log::log;
use crate::reason::Reason;
use crate::time::Time;
use std::net::IpAddr;
use std::time::Duration;

impl Server {
    /// Handles the reply to a query; `false`: it is dropped.
    pub(super) fn handle_query_answer(&mut self, cx: &mut Cx, epoch_secs: u32) -> bool {
        let Some(asked_at) = self.query.open_since(cx.now) else { return false };
        let check = self.epoch.judge(cx.now, Some(asked_at), epoch_secs);
        if check == EpochCheck::Stale {
            return false;
        }
        self.was_silent |= self.query.is_repeated();
        self.query.note_answered();
        self.note_heard(cx);
        self.window.handle_answer(cx.now, Subject::Gateway);
        if check == EpochCheck::Restarted {
            self.note_restart(cx, None);
        }
        true
    }

    /// Handles a reply about a key; `false`: it is dropped.
    pub(super) fn handle_answer(&mut self, cx: &mut Cx, key: Key, answer: Answer, epoch_secs: u32) -> bool {
        let Some(of) = self.belongs_to(cx, key, answer) else { return false };
        let Some(requests) = self.requests.get_mut(&key) else { return false };
        let sent = if of == Kind::Map { &mut requests.maps } else { &mut requests.deletions };
        let check = self.epoch.judge(cx.now, sent.open_since(cx.now), epoch_secs);
        if check == EpochCheck::Stale {
            log!(Debug, "{key}: drops a reply from before the gateway's restart");
            return false;
        }
        self.was_silent |= sent.is_repeated();
        let is_overtaken = sent.note_answered();
        if let (Answer::Granted { address: Some(_), .. }, Kind::Map) = (answer, of) {
            // A grant without an address is not usable yet.
            cx.protocols.note_works(cx.now, self.protocol());
        }
        self.note_heard(cx);
        if check == EpochCheck::Restarted {
            let is_grant = of == Kind::Map && matches!(answer, Answer::Granted { .. });
            self.note_restart(cx, is_grant.then_some(key));
        }
        match answer {
            _ if of == Kind::Map && is_overtaken && self.ask_again(key) => {}
            answer if of == Kind::Deletion => self.take_deletion(cx, key, answer),
            Answer::Granted { address, port, lifetime } => self.take_grant(cx, key, address, port, lifetime),
            Answer::Zero => self.take_zero(cx, key),
            Answer::Refused { reason, lifetime } => self.take_refusal(cx, key, reason, lifetime),
        }
        true
    }

    /// Sends the open map request of a key again. Returns whether there is one that was sent before.
    fn ask_again(&mut self, key: Key) -> bool {
        let is_map = |requests: &KeyRequests| requests.state == RequestState::Map;
        let is_open = self.requests.get(&key).is_some_and(is_map) && self.window.was_sent(Subject::Key(key));
        if is_open {
            log!(Debug, "{key}: asks again, since the reply is to a request from before the deletion");
            self.window.resend(Subject::Key(key));
        }
        is_open
    }

    /// Reports a grant to the core, once its external address is known.
    fn report(&mut self, cx: &mut Cx, grant: Grant) {
        if let Some(address) = grant.address {
            cx.protocols.note_address(cx.now, address);
            self.notices.push_back(Notice::Granted(grant));
        } else {
            self.granted.insert(grant.slot.key, grant);
            self.report_granted(cx);
            self.need_address(cx, false);
        }
    }

    /// The kind of request that a reply answers; `None`: none. RFC 6887 §15, RFC 6886 §3.4: the reply to a deletion has
    /// lifetime 0, unless the gateway keeps a busy port.
    fn belongs_to(&self, cx: &Cx, key: Key, answer: Answer) -> Option<Kind> {
        let requests = self.requests.get(&key);
        let map_at = requests.and_then(|requests| requests.maps.open_since(cx.now));
        let deletion_at = requests.and_then(|requests| requests.deletions.open_since(cx.now));
        match (answer, map_at, deletion_at) {
            (_, Some(_), None) if requests?.is_copy(cx.now, answer) => None,
            (_, Some(_), None) => Some(Kind::Map),
            // A duplicate of an earlier grant: a deletion would have shortened the lifetime.
            (Answer::Granted { lifetime, .. }, None, Some(_)) if !self.cuts(cx, key, lifetime) => None,
            (_, None, Some(_)) => Some(Kind::Deletion),
            (Answer::Granted { .. }, Some(_), Some(_)) => Some(Kind::Map),
            (Answer::Zero | Answer::Refused { .. }, Some(_), Some(_)) => Some(Kind::Deletion),
            // RFC 6887 §14.2: a server may send an unsolicited update of a mapping.
            (Answer::Granted { .. }, None, None) if self.rung == Rung::Pcp && self.is_granted(cx, key) => {
                Some(Kind::Map)
            }
            (_, None, None) => None,
        }
    }

    /// Whether this lifetime ends before the entry's latest time.
    fn cuts(&self, cx: &Cx, key: Key, lifetime: Duration) -> bool {
        let entry = cx.ledger.get(self.slot(key));
        entry.is_some_and(|entry| entry.ends_at.is_none_or(|ends_at| cx.now + lifetime < ends_at))
    }

    /// The gateway has answered: requests in flight follow the schedule for a gateway that answers.
    fn note_heard(&mut self, cx: &mut Cx) {
        let protocol = self.protocol();
        let is_news = !cx.protocols.is_up(protocol) || self.gives_up_at.is_some();
        self.gives_up_at = None;
        cx.protocols.note_heard(cx.now, protocol);
        self.set_patience(cx);
        self.window.handle_sign_of_life(cx.now);
        if is_news {
            for subject in self.window.all_sent() {
                if let Subject::Key(key) = subject {
                    self.notices.push_back(Notice::Sent { key, within: cx.config.mapping_timeout });
                }
            }
        }
    }

    fn note_restart(&mut self, cx: &mut Cx, shown_by: Option<Key>) {
        let protocol = self.protocol();
        self.notices.push_back(Notice::Restarted { protocol, shown_by });
        self.forget_granted(cx, shown_by);
        if self.rung == Rung::NatPmp {
            self.query(cx.now);
        }
    }

    /// Handles a grant.
    fn take_grant(&mut self, cx: &mut Cx, key: Key, address: Option<IpAddr>, port: u16, lifetime: Duration) {
        let slot = self.slot(key);
        cx.ledger.note_granted(cx.now, slot, port, Some(lifetime));
        let is_unawaited = self.is_deletion_unawaited(cx, key);
        let Some(requests) = self.requests.get_mut(&key) else { return };
        match requests.state {
            RequestState::Map if self.window.was_sent(Subject::Key(key)) => {
                requests.state = RequestState::Idle;
                self.window.handle_answer(cx.now, Subject::Key(key));
            }
            RequestState::Idle if is_unawaited => return self.delete_again(cx, key),
            RequestState::Idle => {}
            // The reply to a request that a deletion follows, or a duplicate from before a deletion.
            RequestState::Map | RequestState::DeletionWaits | RequestState::Deletion => {
                return self.delete_after(cx.now, key);
            }
        }
        self.report(cx, Grant { slot, address, port, lifetime: Some(lifetime) });
    }

    /// Whether the deletion of a key was sent without waiting for the replies to earlier requests.
    fn is_deletion_unawaited(&self, cx: &Cx, key: Key) -> bool {
        let entry = cx.ledger.get(self.slot(key));
        entry.is_some_and(|entry| entry.deletion == DeletionState::Unawaited)
    }

    /// The deletion was not awaited because the gateway had never answered, and a request may come to it after that. Now
    /// another is sent, and awaited.
    fn delete_again(&mut self, cx: &mut Cx, key: Key) {
        cx.ledger.set_deletion(self.slot(key), DeletionState::Unasked);
        self.notices.push_back(Notice::Superfluous { key });
    }

    /// Handles a success with lifetime 0 that no deletion explains: the gateway has no mapping of the key.
    fn take_zero(&mut self, cx: &mut Cx, key: Key) {
        let slot = self.slot(key);
        if self.is_granted(cx, key) {
            cx.ledger.end(slot);
            self.notices.push_back(Notice::Gone { slot, quiet: false });
        }
        self.take_refusal(cx, key, Reason::EmptyGrant, None);
    }

    fn take_refusal(&mut self, cx: &mut Cx, key: Key, reason: Reason, lifetime: Option<Duration>) {
        cx.ledger.note_refused(self.slot(key));
        self.delete_after(cx.now, key);
        let Some(requests) = self.requests.get_mut(&key) else { return };
        if requests.state == RequestState::Map && self.window.was_sent(Subject::Key(key)) {
            requests.state = RequestState::Idle;
            self.window.handle_answer(cx.now, Subject::Key(key));
            self.notices.push_back(Notice::Failed { key, rung: self.rung, reason, lifetime });
        }
    }

    /// Sends the deletion that waits for the replies to map requests, once they are all answered.
    fn delete_after(&mut self, now: Time, key: Key) {
        if let Some(requests) = self.requests.get(&key)
            && requests.state == RequestState::DeletionWaits
            && !requests.maps.is_open(now)
        {
            self.open(now, key, RequestState::Deletion);
        }
    }

    fn take_deletion(&mut self, cx: &mut Cx, key: Key, answer: Answer) {
        let outcome = match answer {
            Answer::Zero => DeletionOutcome::Deleted,
            Answer::Granted { lifetime, .. } => DeletionOutcome::DeletedIn(lifetime),
            Answer::Refused { reason, .. } => DeletionOutcome::NotConfirmed(reason),
        };
        let slot = self.slot(key);
        let is_unawaited = self.is_deletion_unawaited(cx, key);
        let Some(requests) = self.requests.get_mut(&key) else { return };
        requests.deleted = Some(answer);
        if requests.state == RequestState::Idle && is_unawaited && requests.maps.followed_at(cx.now).is_some()
        {
            return self.delete_again(cx, key);
        }
        // Otherwise a newer map request is open, whose reply shows what the deletion did to the entry.
        let is_followed =
            requests.state == RequestState::Idle && requests.maps.follow(cx.now, &requests.deletions);
        if matches!(requests.state, RequestState::Deletion | RequestState::Idle) && !is_followed {
            requests.state = RequestState::Idle;
            self.window.handle_answer(cx.now, Subject::Key(key));
            self.notices.push_back(Notice::Deleted { slot, outcome });
        }
    }
}
