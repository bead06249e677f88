//! WANIPv6FirewallControl:1: opens pinholes for IPv6, renews them and looks whether they are still there.
//!
//! AddPinhole with the arguments of a pinhole that exists extends it and returns its UniqueID: so this one call makes,
//! renews and looks. A UniqueID is no identity: some gateways count from 1 again after a restart.

use super::action::{Action, ExchangeError, Outcome, code};
use super::exchange::Job;
use super::service::Trial;
use super::{TaskId, Timer, Upnp};
use crate::driver::{Grant, Notice, RequestKind, Rung};
use crate::io::{Cx, Protocol};
use crate::log::log;
use crate::ordered::{Map, Pieces};
use crate::reason::Reason;
use crate::schedule::{PACKETS_AN_EXCHANGE, SHORTEST_REFUSAL};
use crate::time::Time;
use plum_wire::pcp::Nonce;
use std::collections::LinkedList;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The requested lease, in seconds. Each renewal asks for a second more or less: some gateways ignore a request that changes
/// nothing.
pub(super) const LEASE_SECS: u32 = 3600;
/// WANIPv6FirewallControl:1 §2.3.6: a lease is 1 to 86400 s. With room for a second more or less.
const LEASE_RANGE_SECS: RangeInclusive<u32> = 2..=86_398;
/// Ports below this may be refused by their number: that says nothing about other ports.
const FIRST_FREE_PORT: u16 = 1024;
/// A pinhole that is lost so soon after its grant was hit by an earlier deletion: nothing is told of that.
const EARLY_LOSS: Duration = Duration::from_secs(6);

/// What a service says of the firewall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Firewall {
    /// FirewallEnabled and InboundPinholeAllowed; `None`: not known.
    pub(super) status: Option<(bool, bool)>,
    /// It is off: mappings need no pinhole.
    pub(super) is_off: bool,
}

/// A pinhole that the gateway has granted.
#[derive(Clone, Debug, Default)]
pub(super) struct Pinhole {
    /// Its UniqueID; `None`: not known (any more).
    pub(super) unique_id: Option<String>,
    lease_secs: u32,
    pub(super) looked_at: Time,
    /// It holds a mapping: it is looked at.
    pub(super) is_held: bool,
    /// It is made anew because another has its UniqueID.
    is_remade: bool,
    /// It waits for its turn to be looked at.
    pub(super) waits: bool,
}

/// A pinhole that is being made or renewed.
#[derive(Debug)]
pub(super) struct Opening {
    request_kind: RequestKind,
    pub(super) state: OpeningState,
    lease_secs: u32,
    wanted_secs: u32,
    /// The request is UpdatePinhole, as AddPinhole was refused for this reason.
    refused: Option<Reason>,
    /// The request was sent once more, as its reply was lost.
    is_repeated: bool,
    /// The lease was refused once.
    has_lease_refused: bool,
    /// The device has restarted since the request was sent: the pinhole may be lost.
    pub(super) is_overtaken: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpeningState {
    /// Waits for the result of the first request to this service.
    WaitsForTrial,
    /// Waits for its turn in the pace.
    WaitsForTurn,
    /// Its request is queued or in flight.
    Asks,
    /// Its request is in flight, but the mapping is no longer wanted.
    Abandoned,
    /// It was answered, with the UniqueID or with a reason; waits for the status of the firewall.
    Answered(Result<String, Reason>),
}

/// The pinholes of all services.
#[derive(Debug, Default)]
pub(super) struct Pinholes {
    pub(super) openings: Map<TaskId, Opening>,
    pub(super) known: Map<TaskId, Pinhole>,
    /// The pinholes that wait for their turn to be looked at.
    pub(super) queue: LinkedList<TaskId>,
    /// The time of the next look at the earliest.
    pub(super) next_look_at: Time,
}

impl Pinholes {
    /// Whether another pinhole of the service has the same UniqueID, so that this names one of them only.
    pub(super) fn is_shared(&self, id: TaskId, unique_id: &str) -> bool {
        self.other_with(id, unique_id).is_some()
    }

    fn other_with(&self, id: TaskId, unique_id: &str) -> Option<TaskId> {
        let is_other = |other: TaskId, pinhole: &Pinhole| {
            other.rung == id.rung && other != id && pinhole.unique_id.as_deref() == Some(unique_id)
        };
        self.known.keys_where(is_other).iter().next().copied()
    }

    /// Whether a pinhole holds a mapping.
    pub(super) fn is_held(&self, id: TaskId) -> bool {
        self.known.get(&id).is_some_and(|pinhole| pinhole.is_held)
    }

    /// It holds no mapping any more.
    pub(super) fn note_unheld(&mut self, id: TaskId) {
        if let Some(pinhole) = self.known.get_mut(&id) {
            pinhole.is_held = false;
        }
    }

    /// The UniqueIDs of a service mean nothing any more: it has restarted, or is gone.
    pub(super) fn forget_ids(&mut self, rung: Rung) {
        self.known.for_each_mut(|id, pinhole| {
            if id.rung == rung {
                pinhole.unique_id = None;
            }
        });
    }
}

impl Upnp {
    /// Makes or renews the pinhole of a key at a service.
    pub(super) fn open_pinhole(
        &mut self,
        cx: &mut Cx,
        id: TaskId,
        lifetime_secs: Option<u32>,
        request_kind: RequestKind,
    ) {
        self.resting &= self.services.get(id.rung).is_some();
        if let Some(opening) = self.pinholes.openings.get_mut(&id) {
            if opening.state == OpeningState::Abandoned {
                opening.state = OpeningState::Asks;
                self.drop_waiting_deletion(cx, id);
            }
            return;
        }
        let Some(service) = self.services.get(id.rung) else {
            return self.tell_not_opened(cx, id, Reason::Silence);
        };
        if service.firewall.is_off {
            return self.notices.push_back(Notice::FirewallOff { key: id.key, rung: id.rung });
        }
        self.begin_opening(cx, id, lifetime_secs, request_kind);
    }

    /// `lifetime_secs`: what the program wants for a pinhole that is not known yet.
    pub(super) fn begin_opening(
        &mut self,
        cx: &mut Cx,
        id: TaskId,
        lifetime_secs: Option<u32>,
        request_kind: RequestKind,
    ) {
        let Some(service) = self.services.get_mut(id.rung) else { return };
        let state = match service.trial {
            _ if request_kind == RequestKind::Renew => OpeningState::Asks,
            Trial::Works => OpeningState::Asks,
            Trial::Running(_) => OpeningState::WaitsForTrial,
            Trial::Idle => {
                service.trial = Trial::Running(id.key);
                service.firewall.status = None;
                OpeningState::Asks
            }
        };
        let (least, most) = LEASE_RANGE_SECS.into_inner();
        let wanted = match lifetime_secs {
            None => LEASE_SECS,
            Some(0) => most,
            Some(secs) => secs.clamp(least, most),
        };
        let last = self.pinholes.known.get(&id).map(|pinhole| pinhole.lease_secs);
        let is_waiting = state == OpeningState::WaitsForTrial;
        let opening = Opening {
            request_kind,
            state,
            lease_secs: last.map_or(wanted, |last| last ^ 1),
            wanted_secs: wanted,
            refused: None,
            is_repeated: false,
            has_lease_refused: false,
            is_overtaken: false,
        };
        self.pinholes.openings.insert(id, opening);
        if !is_waiting {
            self.ask_for_pinhole(cx, id);
        }
    }

    /// Schedules the request, in the pace if the program does not wait.
    fn ask_for_pinhole(&mut self, cx: &mut Cx, id: TaskId) {
        let Some(opening) = self.pinholes.openings.get_mut(&id) else { return };
        opening.state = OpeningState::WaitsForTurn;
        let at = match opening.request_kind {
            RequestKind::Retry => cx.pace.take(cx.now, PACKETS_AN_EXCHANGE),
            RequestKind::Make | RequestKind::Renew => cx.now,
        };
        match at > cx.now {
            true => self.timers.set(Timer::Walk(id), at),
            false => self.take_pinhole_turn(cx, id),
        }
    }

    /// Queues the request, and beside the first one to a service the question for its status.
    pub(super) fn take_pinhole_turn(&mut self, cx: &Cx, id: TaskId) {
        let is_its_turn = |opening: &&mut Opening| opening.state == OpeningState::WaitsForTurn;
        let Some(opening) = self.pinholes.openings.get_mut(&id).filter(is_its_turn) else { return };
        opening.state = OpeningState::Asks;
        // A lost reply leaves time for the same call again.
        let timeout = cx.config.mapping_timeout / if opening.is_repeated { 1 } else { 2 };
        let is_trial =
            self.services.get(id.rung).is_some_and(|service| service.trial == Trial::Running(id.key));
        self.enqueue(Job::Pinhole(id), timeout);
        if is_trial {
            self.ask_firewall(id.rung);
        }
    }

    /// The request of an opening. Records the pinhole that it may make in the ledger.
    pub(super) fn pinhole_action(&mut self, cx: &mut Cx, id: TaskId) -> Option<Action> {
        let (source, opening) = (cx.config.source?, self.pinholes.openings.get(&id)?);
        let ends_at = cx.now + Duration::from_secs(opening.lease_secs.into());
        cx.ledger.note_sent(id.slot(0), source.address.into(), Nonce::default(), Some(ends_at));
        let known = self.pinholes.known.get(&id).and_then(|pinhole| pinhole.unique_id.as_deref());
        Some(match known.filter(|_| opening.refused.is_some()) {
            Some(unique_id) => Action::update_pinhole(unique_id, opening.lease_secs),
            None => Action::add_pinhole(id.key, source.address, opening.lease_secs),
        })
    }

    /// Handles the outcome of a request of an opening.
    pub(super) fn handle_pinhole(&mut self, cx: &mut Cx, id: TaskId, outcome: &Outcome) {
        let slot = id.slot(0);
        let known = self.pinholes.known.get(&id).and_then(|pinhole| pinhole.unique_id.clone());
        let Some(opening) = self.pinholes.openings.get_mut(&id) else { return };
        let unique_id = match opening.refused {
            Some(_) if matches!(outcome, Outcome::Done(_)) => known.clone(),
            _ => outcome.unique_id().map(str::to_owned),
        };
        let lifetime = Duration::from_secs(opening.lease_secs.into());
        match outcome {
            Outcome::Done(_) if unique_id.is_some() => {
                if cx.ledger.get(slot).is_none()
                    && let Some(source) = cx.config.source
                {
                    // It was deleted meanwhile, perhaps before this request was carried out.
                    cx.ledger.note_sent(slot, source.address.into(), Nonce::default(), None);
                }
                cx.ledger.note_granted(cx.now, slot, id.key.internal_port.get(), Some(lifetime));
            }
            Outcome::Fault(_) => cx.ledger.note_refused(slot),
            _ => {}
        }
        if opening.state == OpeningState::Abandoned {
            return self.end_abandoned_opening(cx, id, unique_id);
        }
        let is_overtaken = std::mem::take(&mut opening.is_overtaken);
        match outcome {
            Outcome::Done(_) if is_overtaken => return self.ask_for_pinhole(cx, id),
            Outcome::Fault(code::INVALID_ARGUMENTS) if !opening.has_lease_refused => {
                (opening.has_lease_refused, opening.lease_secs) = (true, LEASE_SECS);
                return self.ask_for_pinhole(cx, id);
            }
            Outcome::Fault(code::NO_SUCH_PINHOLE) if opening.refused.is_some() => {
                return self.lose_pinhole(cx, id);
            }
            Outcome::Fault(number) if is_about_pinhole(*number) && opening.refused.is_none() => {
                opening.refused = known.and(outcome.reason());
                if opening.refused.is_some() {
                    return self.ask_for_pinhole(cx, id);
                }
            }
            Outcome::Failed(ExchangeError::Reset | ExchangeError::TimedOut | ExchangeError::Cut)
                if !std::mem::replace(&mut opening.is_repeated, true) =>
            {
                return self.ask_for_pinhole(cx, id);
            }
            _ => {}
        }
        let reason = opening.refused.or(outcome.reason()).unwrap_or(Reason::Unreadable);
        opening.state = OpeningState::Answered(unique_id.ok_or(reason));
        self.conclude(cx, id);
    }

    /// Ends an opening that was answered, once the status of the firewall is known or was not asked for.
    pub(super) fn conclude(&mut self, cx: &mut Cx, id: TaskId) {
        let Some(service) = self.services.get(id.rung) else { return };
        let is_trial = service.trial == Trial::Running(id.key);
        if is_trial && self.exchanges.has(|job| job == Job::Firewall(id.rung)) {
            return;
        }
        let Some(opening) = self.pinholes.openings.remove(&id) else { return };
        let OpeningState::Answered(answer) = opening.state else { return };
        match (answer, service.firewall.status.filter(|_| is_trial)) {
            (_, Some((false, _))) | (Err(Reason::Upnp { code: code::FIREWALL_DISABLED }), _)
                if service.on_gateway =>
            {
                self.note_firewall_off(cx, id);
            }
            (_, Some((false, _))) => {
                self.fail_opening(cx, id, Reason::Upnp { code: code::FIREWALL_DISABLED });
            }
            (Ok(_), Some((_, false))) => {
                self.fail_opening(cx, id, Reason::Upnp { code: code::PINHOLE_NOT_ALLOWED });
            }
            (Ok(unique_id), _) => self.note_opened(cx, id, unique_id, opening.lease_secs),
            (Err(reason), _) => self.fail_opening(cx, id, reason),
        }
    }

    /// The firewall is off: no pinhole is needed, for this mapping or those that wait for it.
    fn note_firewall_off(&mut self, cx: &mut Cx, id: TaskId) {
        self.pinholes.note_unheld(id);
        let Some(service) = self.services.get_mut(id.rung) else { return };
        (service.firewall.is_off, service.trial) = (true, Trial::Idle);
        cx.protocols.note_works(cx.now, Protocol::UpnpIgd);
        self.notices.push_back(Notice::FirewallOff { key: id.key, rung: id.rung });
        for waiting in self.waiting_openings(id.rung) {
            self.pinholes.openings.remove(&waiting);
            self.notices.push_back(Notice::FirewallOff { key: waiting.key, rung: id.rung });
        }
    }

    fn note_opened(&mut self, cx: &mut Cx, id: TaskId, unique_id: String, lease_secs: u32) {
        let Some(service) = self.services.get_mut(id.rung) else { return };
        let is_first = std::mem::replace(&mut service.trial, Trial::Works) != Trial::Works;
        let was_off = std::mem::take(&mut service.firewall.is_off);
        if !service.on_gateway {
            self.trusted.insert(id.rung, cx.now);
        }
        cx.protocols.note_works(cx.now, Protocol::UpnpIgd);
        let other = self.pinholes.other_with(id, &unique_id);
        let pinhole = self.pinholes.known.get_or_insert_with(id, Pinhole::default);
        let before = pinhole.unique_id.replace(unique_id);
        let is_new = before != pinhole.unique_id;
        let is_early = cx.now.since(pinhole.looked_at) < EARLY_LOSS;
        if before.is_some() && is_new && pinhole.is_held && !is_early {
            // It runs out under its old UniqueID, which may be that of another by now.
            log!(Info, "UPnP-IGD: the pinhole of {} was gone", id.key);
            self.notices.push_back(Notice::Gone { slot: id.slot(0), quiet: false });
        }
        let is_remade = std::mem::take(&mut pinhole.is_remade);
        (pinhole.lease_secs, pinhole.looked_at, pinhole.is_held) = (lease_secs, cx.now, true);
        let lifetime = Some(Duration::from_secs(lease_secs.into()));
        let address = cx.config.source.map(|source| source.address.into());
        let grant = Grant { slot: id.slot(0), address, port: id.key.internal_port.get(), lifetime };
        self.notices.push_back(Notice::Granted(grant));
        if let Some(other) = other.filter(|_| is_new && !is_remade) {
            self.remake_pinhole(other);
        }
        if was_off {
            self.notices.push_back(Notice::FirewallOn);
        }
        if is_first {
            for waiting in self.waiting_openings(id.rung) {
                self.ask_for_pinhole(cx, waiting);
            }
        }
    }

    /// A newer pinhole has the UniqueID of this one, which the gateway has lost, or knows under another. Where it
    /// turns out to have the same again, two pinholes share one.
    fn remake_pinhole(&mut self, id: TaskId) {
        let Some(pinhole) = self.pinholes.known.get_mut(&id) else { return };
        (pinhole.unique_id, pinhole.is_remade) = (None, true);
        if pinhole.is_held {
            self.notices.push_back(Notice::Gone { slot: id.slot(0), quiet: false });
        }
    }

    /// The gateway does not have the pinhole any more, and does not make it again.
    fn lose_pinhole(&mut self, cx: &mut Cx, id: TaskId) {
        let reason = self.pinholes.openings.get(&id).and_then(|opening| opening.refused);
        cx.ledger.end(id.slot(0));
        self.pinholes.known.remove(&id);
        self.notices.push_back(Notice::Gone { slot: id.slot(0), quiet: false });
        self.pinholes.openings.remove(&id);
        self.fail_opening(cx, id, reason.unwrap_or(Reason::Vanished));
    }

    /// Fails an opening. If this was the service's first, the waiting ones fail, too, unless the port was to blame.
    fn fail_opening(&mut self, cx: &mut Cx, id: TaskId, reason: Reason) {
        self.pinholes.openings.remove(&id);
        self.fetch_unread(cx);
        let was_off = self.services.get_mut(id.rung).is_some_and(|service| {
            let is_answer = matches!(reason, Reason::Upnp { .. });
            is_answer && std::mem::take(&mut service.firewall.is_off)
        });
        if was_off {
            self.notices.push_back(Notice::FirewallOn);
        }
        self.tell_not_opened(cx, id, reason);
        let is_port_refused = reason == (Reason::Upnp { code: code::NOT_AUTHORIZED })
            && id.key.internal_port.get() < FIRST_FREE_PORT;
        let Some(service) = self.services.get_mut(id.rung) else { return };
        if service.trial != Trial::Running(id.key) {
            return;
        }
        service.trial = Trial::Idle;
        if is_port_refused {
            return self.pass_opening_on(cx, id.rung);
        }
        for waiting in self.waiting_openings(id.rung) {
            self.pinholes.openings.remove(&waiting);
            self.tell_not_opened(cx, waiting, reason);
        }
    }

    fn tell_not_opened(&mut self, cx: &Cx, id: TaskId, reason: Reason) {
        let lifetime = match reason {
            Reason::Upnp { code: code::PINHOLE_NOT_ALLOWED | code::NOT_ALLOWED_YET } => {
                Some(cx.config.recheck_interval)
            }
            Reason::Upnp { code: code::PINHOLE_SPACE_EXHAUSTED } => Some(SHORTEST_REFUSAL),
            _ => None,
        };
        let TaskId { rung, key } = id;
        self.notices.push_back(Notice::Failed { key, rung, reason, lifetime });
    }

    fn waiting_openings(&self, rung: Rung) -> Pieces<TaskId> {
        let waits =
            |id: TaskId, opening: &Opening| id.rung == rung && opening.state == OpeningState::WaitsForTrial;
        self.pinholes.openings.keys_where(waits)
    }

    /// A waiting opening becomes the first at its service.
    fn pass_opening_on(&mut self, cx: &mut Cx, rung: Rung) {
        if let Some(&next) = self.waiting_openings(rung).iter().next()
            && let Some(opening) = self.pinholes.openings.remove(&next)
        {
            self.begin_opening(cx, next, Some(opening.wanted_secs), opening.request_kind);
        }
    }

    /// Fails the openings of services that are gone.
    pub(super) fn drop_openings(&mut self, cx: &mut Cx, dropped: &[Rung]) {
        for id in self.pinholes.openings.keys_where(|id, _| dropped.contains(&id.rung)) {
            self.pinholes.openings.remove(&id);
            self.tell_not_opened(cx, id, Reason::Silence);
        }
        for &rung in dropped {
            self.pinholes.forget_ids(rung);
        }
    }

    /// Abandons the opening of a key at a service.
    pub(super) fn leave_pinhole(&mut self, cx: &mut Cx, id: TaskId) {
        self.pinholes.note_unheld(id);
        let job = Job::Pinhole(id);
        let Some(opening) = self.pinholes.openings.get_mut(&id) else { return };
        if self.exchanges.is_written(job) {
            return opening.state = OpeningState::Abandoned;
        }
        self.exchanges.discard(cx, true, |other| other == job);
        self.pinholes.openings.remove(&id);
        self.release_trial(cx, id);
    }

    /// Ends an abandoned opening after its last reply; the core deletes the pinhole.
    fn end_abandoned_opening(&mut self, cx: &mut Cx, id: TaskId, unique_id: Option<String>) {
        self.pinholes.openings.remove(&id);
        if unique_id.is_some() {
            self.pinholes.known.get_or_insert_with(id, Pinhole::default).unique_id = unique_id;
        }
        self.notices.push_back(Notice::Superfluous { key: id.key });
        self.resume_deletions(cx, |slot| slot.key == id.key);
        self.release_trial(cx, id);
    }

    fn release_trial(&mut self, cx: &mut Cx, id: TaskId) {
        if let Some(service) = self.services.get_mut(id.rung)
            && service.trial == Trial::Running(id.key)
        {
            service.trial = Trial::Idle;
            self.pass_opening_on(cx, id.rung);
        }
    }
}

/// Whether the refusal of AddPinhole may concern this pinhole, rather than all of this host.
fn is_about_pinhole(number: i64) -> bool {
    !matches!(number, code::FIREWALL_DISABLED | code::PINHOLE_NOT_ALLOWED | code::NOT_ALLOWED_YET)
}
