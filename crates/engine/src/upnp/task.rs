//! Making entries: which tasks may send requests, and the results of their walks.

use super::action::{Action, Outcome};
use super::exchange::Job;
use super::service::{Address, Trial, is_usable};
use super::walk::{AfterReply, Purpose, Walk};
use super::{SHORT_TIMEOUT, TaskId, Timer, Upnp};
use crate::driver::{Grant, Notice, RequestKind, Rung, Slot};
use crate::io::{Cx, Protocol, Suggestion};
use crate::log::log;
use crate::ordered::Pieces;
use crate::reason::Reason;
use crate::schedule::PACKETS_AN_EXCHANGE;
use plum_wire::igd::WanService;
use plum_wire::pcp::Nonce;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

/// How often the external address is requested before it counts as unknown.
const MAX_ADDRESS_TRIES: u8 = 2;
/// How often, at most, all variants of a request are tried at a service that has granted nothing.
const WALK_INTERVAL: Duration = Duration::from_secs(300);

/// A mapping that is being made or renewed at one service.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) walk: Walk,
    purpose: Purpose,
    request_kind: RequestKind,
    pub(super) state: TaskState,
    /// The device has restarted since the request was sent: the entry may be lost.
    pub(super) is_overtaken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    /// Waits for the result of the first walk at this service.
    WaitsForTrial,
    /// Waits for the external address, without which an entry is useless.
    WaitsForAddress,
    /// Waits for its turn in the pace.
    WaitsForTurn,
    /// Its request is queued or in flight.
    Asks,
    /// Its request is in flight, but the mapping is no longer wanted.
    Abandoned,
    /// The entry is made: waits for the external address.
    Made { slot: Slot, lifetime: Option<Duration> },
}

impl Upnp {
    /// Makes or renews the mapping of a key at a service.
    pub(super) fn make(
        &mut self,
        cx: &mut Cx,
        id: TaskId,
        suggestion: Suggestion,
        request_kind: RequestKind,
    ) {
        self.resting &= self.services.get(id.rung).is_some();
        if let Some(task) = self.tasks.get_mut(&id) {
            if task.state == TaskState::Abandoned {
                task.state = TaskState::Asks;
                self.drop_waiting_deletion(cx, id);
            }
            return;
        }
        let Some(service) = self.services.get_mut(id.rung) else {
            return self.tell_failed(id, Reason::Silence);
        };
        service.forget_old_lessons(cx.now);
        let walk_interval = WALK_INTERVAL.max(cx.config.recheck_interval);
        let was_walked = service.walked_at.is_some_and(|at| cx.now.since(at) < walk_interval);
        let (purpose, state) = match service.trial {
            _ if request_kind == RequestKind::Renew => (Purpose::Renewal, TaskState::Asks),
            Trial::Works => (Purpose::Usual, TaskState::Asks),
            Trial::Running(_) => (Purpose::Usual, TaskState::WaitsForTrial),
            Trial::Idle if was_walked => (Purpose::Retry, TaskState::Asks),
            Trial::Idle => (Purpose::Trial, TaskState::Asks),
        };
        if matches!(purpose, Purpose::Trial | Purpose::Retry) {
            service.trial = Trial::Running(id.key);
        }
        let is_entry = |slot: Slot| slot.rung == id.rung && slot.port != 0;
        let has_entry = cx.ledger.of(id.key).any(|entry| is_entry(entry.slot));
        let port = suggestion.port.map(NonZeroU16::get);
        let has_add_any = service.named.kind == WanService::Ip2 && !has_entry && !suggestion.is_exact;
        let mut walk = Walk::new(id.key, port, purpose, has_add_any, service.variant);
        walk.set_wish(suggestion);
        // Leased entries of this key were granted, but not kept.
        if self.entry_checks.entries.get(&id).is_some_and(|entry| entry.gone_early >= 2) {
            walk.make_permanent();
        }
        self.tasks.insert(id, Task { walk, purpose, request_kind, state, is_overtaken: false });
        if state == TaskState::Asks {
            self.begin(cx, id);
        }
    }

    /// Starts a walk, at another external port if another of our mappings has this one.
    fn begin(&mut self, cx: &mut Cx, id: TaskId) {
        let told = self.told_address(cx, id.rung);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.state = TaskState::Asks;
        let port = task.walk.port;
        let service = self.services.get_mut(id.rung);
        if let Some(service) = service.filter(|service| !service.address.is_fresh(cx.now)) {
            let is_just_told =
                task.request_kind == RequestKind::Retry && service.address.is_just_told(cx.now);
            match task.purpose {
                Purpose::Usual if service.address.is_none() && told.is_none() => {
                    if is_just_told {
                        let address = service.address.last;
                        return self.fail(cx, id, Reason::NoAddress { address });
                    }
                    task.state = TaskState::WaitsForAddress;
                    return self.ask_address(id.rung);
                }
                _ if is_just_told => {}
                // The service will probably refuse again: one request is enough.
                Purpose::Retry => service.address.forget_silence(),
                _ => self.ask_address(id.rung),
            }
        }
        match id.other_owner(&cx.ledger, port) {
            Some(_) => self.ask_for_other_port(cx, id),
            None => self.ask_on(cx, id),
        }
    }

    fn ask_for_other_port(&mut self, cx: &mut Cx, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match task.walk.choose_port(&mut *cx.random, |port| id.other_owner(&cx.ledger, port).is_none()) {
            Ok(()) => self.ask_on(cx, id),
            Err(reason) => self.fail(cx, id, reason),
        }
    }

    /// Schedules the next request of a walk, in the pace if the program does not wait.
    fn ask_on(&mut self, cx: &mut Cx, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let requests = match task.walk.count_request() {
            Ok(requests) => requests,
            Err(reason) => return self.fail(cx, id, reason),
        };
        task.state = TaskState::WaitsForTurn;
        let mut at = cx.now;
        if task.request_kind == RequestKind::Retry {
            at = cx.pace.take(cx.now, PACKETS_AN_EXCHANGE);
        } else if requests > 1 {
            cx.pace.spend(cx.now, PACKETS_AN_EXCHANGE);
        }
        match at > cx.now {
            true => self.timers.set(Timer::Walk(id), at),
            false => self.take_walk_turn(cx, id),
        }
    }

    /// Queues the next request of a walk.
    pub(super) fn take_walk_turn(&mut self, cx: &Cx, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(&id).filter(|task| task.state == TaskState::WaitsForTurn) {
            task.state = TaskState::Asks;
            let timeout = if task.walk.is_patient() { cx.config.mapping_timeout } else { SHORT_TIMEOUT };
            self.enqueue(Job::Walk(id), timeout);
        }
    }

    /// The next request of a walk, on a connection from `local`. Records the entry that it may make in the ledger.
    pub(super) fn walk_action(&mut self, cx: &mut Cx, id: TaskId, local: IpAddr) -> Option<Action> {
        let walk = &mut self.tasks.get_mut(&id)?.walk;
        if walk.adds().is_some_and(|port| id.other_owner(&cx.ledger, port).is_some())
            && let Err(reason) =
                walk.choose_port(&mut *cx.random, |port| id.other_owner(&cx.ledger, port).is_none())
        {
            // Another of our mappings has requested the port since, and no other is left.
            self.fail(cx, id, reason);
            return None;
        }
        if let Some(port) = walk.adds() {
            let ends_at = walk.lifetime().map(|lifetime| cx.now + lifetime);
            cx.ledger.note_sent(id.slot(port), local, Nonce([0; 12]), ends_at);
        }
        Some(walk.action(local, &cx.descriptions))
    }

    /// Handles the outcome of a request of a walk.
    pub(super) fn handle_walk(&mut self, cx: &mut Cx, id: TaskId, outcome: &Outcome, client: IpAddr) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let (asked_port, clears) = (task.walk.adds(), task.walk.clears());
        let next = task.walk.take(outcome, client, &cx.descriptions);
        match (asked_port, outcome, next) {
            (_, Outcome::Done(_), AfterReply::Made(made, lifetime)) => {
                if asked_port == Some(0) {
                    cx.ledger.note_port(id.slot(0), made);
                }
                cx.ledger.note_granted(cx.now, id.slot(made), made, lifetime);
            }
            (Some(port), Outcome::Fault(_), _) => cx.ledger.note_refused(id.slot(port)),
            (None, Outcome::Done(_), _) if clears => cx.ledger.end(id.slot(task.walk.port)),
            _ => {}
        }
        if task.state == TaskState::Abandoned {
            return self.end_abandoned(cx, id);
        }
        let is_overtaken = std::mem::take(&mut task.is_overtaken);
        match next {
            AfterReply::Made(..) if is_overtaken => self.ask_on(cx, id),
            AfterReply::Ask => self.ask_on(cx, id),
            AfterReply::OtherPort => self.ask_for_other_port(cx, id),
            AfterReply::Made(port, lifetime) => self.handle_made(cx, id, port, lifetime),
            AfterReply::Failed(reason) => self.fail(cx, id, reason),
        }
    }

    /// Ends an abandoned task after its last reply; the core deletes the entry.
    fn end_abandoned(&mut self, cx: &mut Cx, id: TaskId) {
        self.tasks.remove(&id);
        self.notices.push_back(Notice::Superfluous { key: id.key });
        self.resume_deletions(cx, |slot| slot.key == id.key);
        self.pass_trial_on(cx, id);
    }

    /// Handles the late reply to an AddAnyPortMapping.
    pub(super) fn handle_late_any(&mut self, cx: &mut Cx, id: TaskId, outcome: &Outcome) {
        if let Some(port) = outcome.reserved_port() {
            cx.ledger.note_port(id.slot(0), port);
            // The core deletes the entry, unless it is the one that the walk has made since.
            self.notices.push_back(Notice::Superfluous { key: id.key });
        } else if matches!(outcome, Outcome::Fault(_)) {
            cx.ledger.note_refused(id.slot(0));
        }
    }

    fn handle_made(&mut self, cx: &mut Cx, id: TaskId, port: u16, lifetime: Option<Duration>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(service) = self.services.get_mut(id.rung) else { return };
        service.learn(cx.now, task.walk.variant);
        let is_first = std::mem::replace(&mut service.trial, Trial::Works) != Trial::Works;
        let (slot, lifetime) = (id.slot(port), lifetime.into_iter().chain(service.longest_lease).min());
        task.state = TaskState::Made { slot, lifetime };
        let renews = task.purpose == Purpose::Renewal;
        if !service.on_gateway {
            self.trusted.insert(id.rung, cx.now);
        }
        cx.protocols.note_works(cx.now, Protocol::UpnpIgd);
        self.note_made(cx.now, slot, lifetime, renews);
        self.grant(cx, id);
        if is_first {
            for id in self.waiting(id.rung, TaskState::WaitsForTrial) {
                self.make_again(cx, id);
            }
        }
    }

    fn waiting(&self, service: Rung, state: TaskState) -> Pieces<TaskId> {
        self.tasks.keys_where(|id, task| id.rung == service && task.state == state)
    }

    /// Reports a grant to the core, once the external address is known or was requested in vain.
    fn grant(&mut self, cx: &mut Cx, id: TaskId) {
        let Some(service) = self.services.get(id.rung) else { return };
        let Address { last: address, told_at: Some(_), tries: 0 } = service.address else {
            return self.ask_address(id.rung);
        };
        let told = self.told_address(cx, id.rung);
        let address = address.filter(|&address| is_usable(address)).or(told).or(address);
        let Some(TaskState::Made { slot, lifetime }) = self.tasks.get(&id).map(|task| task.state) else {
            return;
        };
        self.tasks.remove(&id);
        self.notices.push_back(Notice::Granted(Grant { slot, address, port: slot.port, lifetime }));
    }

    /// The external address that the gateway has reported by PCP or NAT-PMP.
    fn told_address(&self, cx: &Cx, service: Rung) -> Option<IpAddr> {
        cx.protocols.address(cx.now, cx.config.recheck_interval).filter(|_| self.is_rung_on_gateway(service))
    }

    /// Fails a task. If this was the service's first walk, the waiting tasks fail, too.
    pub(super) fn fail(&mut self, cx: &mut Cx, id: TaskId, reason: Reason) {
        let Some(task) = self.tasks.remove(&id) else { return };
        self.tell_failed(id, reason);
        self.note_not_made(cx, id);
        self.fetch_unread(cx);
        let Some(service) = self.services.get_mut(id.rung) else { return };
        service.variant = task.walk.variant;
        if service.trial != Trial::Running(id.key) {
            return;
        }
        // If only the ports were taken, another mapping may succeed.
        if task.purpose == Purpose::Trial && reason != Reason::PortsTaken {
            service.walked_at = Some(cx.now);
        }
        service.trial = Trial::Idle;
        for id in self.waiting(id.rung, TaskState::WaitsForTrial) {
            self.tasks.remove(&id);
            self.tell_failed(id, reason);
        }
    }

    fn tell_failed(&mut self, id: TaskId, reason: Reason) {
        let TaskId { rung, key } = id;
        self.notices.push_back(Notice::Failed { key, rung, reason, lifetime: None });
    }

    /// A service has restarted: what was sent to it before may be lost, and its numbers mean nothing any more.
    pub(super) fn note_overtaken(&mut self, rung: Rung) {
        let is_open = |id: TaskId, job| id.rung == rung && self.exchanges.is_written(job);
        self.tasks.for_each_mut(|id, task| task.is_overtaken |= is_open(id, Job::Walk(id)));
        self.pinholes.forget_ids(rung);
        self.pinholes
            .openings
            .for_each_mut(|id, opening| opening.is_overtaken |= is_open(id, Job::Pinhole(id)));
    }

    /// Abandons the task of a key at a service.
    pub(super) fn leave_task(&mut self, cx: &mut Cx, id: TaskId) {
        self.entry_checks.entries.remove(&id);
        let job = Job::Walk(id);
        let is_written = self.exchanges.is_written(job);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if is_written {
            task.state = TaskState::Abandoned;
        }
        if task.state == TaskState::Asks {
            self.exchanges.discard(cx, true, |other| other == job);
        }
        if !is_written {
            self.tasks.remove(&id);
            self.pass_trial_on(cx, id);
        }
    }

    /// The task with the first walk at a service has ended: a waiting one takes its place.
    fn pass_trial_on(&mut self, cx: &mut Cx, id: TaskId) {
        let Some(service) = self.services.get_mut(id.rung) else { return };
        if service.trial != Trial::Running(id.key) {
            return;
        }
        service.trial = Trial::Idle;
        if let Some(&next) = self.waiting(id.rung, TaskState::WaitsForTrial).iter().next() {
            self.make_again(cx, next);
        }
    }

    /// Restarts a task that waited for a trial, with what is known of the service by now.
    fn make_again(&mut self, cx: &mut Cx, id: TaskId) {
        let Some(task) = self.tasks.remove(&id) else { return };
        let port = NonZeroU16::new(task.walk.port);
        let suggestion = Suggestion { port, ..task.walk.wish };
        self.make(cx, id, suggestion, task.request_kind);
    }

    /// Requests the external address from a service, unless a request is open.
    pub(super) fn ask_address(&mut self, id: Rung) {
        if let Some(service) = self.services.get_mut(id).filter(|service| service.address.tries == 0) {
            service.address.tries = 1;
            self.enqueue(Job::Address(id), SHORT_TIMEOUT);
        }
    }

    pub(super) fn handle_address(&mut self, cx: &mut Cx, id: Rung, outcome: &Outcome) {
        let Some(service) = self.services.get_mut(id) else { return };
        let before = service.address.last;
        let address = match outcome {
            Outcome::Done(_) => outcome.external_address(),
            Outcome::Failed(_) if service.address.tries < MAX_ADDRESS_TRIES => {
                service.address.tries += 1;
                return self.enqueue(Job::Address(id), SHORT_TIMEOUT);
            }
            // The earlier address is assumed to be still right.
            Outcome::Failed(_) | Outcome::Status(_) => before,
            Outcome::Fault(_) => None,
        };
        service.address = Address { last: address, told_at: Some(cx.now), tries: 0 };
        let is_without = service.address.is_none();
        if let Some(address) = address.filter(|&address| before != Some(address)) {
            // After a reply without an address, mappings may still have the one before.
            log!(Debug, "UPnP-IGD: the external address is {address}");
            self.notices.push_back(Notice::AddressChanged { rung: id, address });
        }
        for task in self.tasks.keys_where(|task, _| task.rung == id) {
            self.grant(cx, task);
        }
        for task in self.waiting(id, TaskState::WaitsForAddress) {
            match is_without {
                true => self.fail(cx, task, Reason::NoAddress { address }),
                false => self.begin(cx, task),
            }
        }
        self.settle_if_probed(cx);
    }
}
