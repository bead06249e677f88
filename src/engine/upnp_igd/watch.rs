//! Looking after what is there: the external address, the entries, the gateway's notifications.

use super::action::{Answer, OutArguments, Owner, code};
use super::device::is_usable;
use super::exchange::{Job, Trouble};
use super::mapping::{Goal, Held, Mapping, NO_ADDRESS};
use super::{HOLD_TIMEOUT, Timer, UpnpIgd, search};
use crate::engine::driver::{Key, Notice};
use crate::engine::io::Cx;
use crate::engine::schedule::{PACKETS_AN_EXCHANGE, RENEWAL_FLOOR};
use crate::log::log;
use crate::ordered::Set;
use crate::time::Time;
use crate::wire::http::Url;
use crate::wire::ssdp;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Between two looks at entries: half of the packets that a gateway is to get from a quiet library.
const CHECK_INTERVAL: Duration = Duration::from_millis(120);
/// Between two rechecks of the external address, however short the recheck interval is.
const ADDRESS_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How many looks in a row may bring nothing before the gateway is taken for one that does not tell.
const MAX_FAILED_LOOKS: u8 = 2;
/// An external address older than this is asked for anew with the next mapping.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(60);
/// How often the external address is asked for before we do without.
const MAX_ADDRESS_TRIES: u8 = 2;
/// When the lease of a gateway's first entry is looked at: after the first rush, and before one of a minute is half over.
const LEASE_LOOK_AFTER: Duration = Duration::from_secs(20);
/// A lease may seem shorter by this than it is: the gateway counts whole seconds, and its answer takes its time.
const LEASE_SLACK: Duration = Duration::from_secs(5);
/// Between two notices that the gateway is to be looked at.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The external address, as the gateway says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ExternalAddress {
    known: Option<(IpAddr, Time)>,
    is_asked: bool,
    tries: u8,
}

impl ExternalAddress {
    /// The address, unless it is unknown or being asked for.
    pub(super) fn current(&self) -> Option<IpAddr> {
        if self.is_asked { None } else { self.known.map(|(address, _)| address) }
    }

    /// The address, if it was ever named.
    pub(super) fn last(&self) -> Option<IpAddr> {
        self.known.map(|(address, _)| address)
    }

    /// Whether it need not be asked for again.
    pub(super) fn is_fresh(&self, now: Time) -> bool {
        self.known.is_some_and(|(address, at)| is_usable(address) && now.since(at) < ADDRESS_LIFETIME)
    }

    /// The gateway has named it; `true` if it named another before.
    pub(super) fn set(&mut self, now: Time, address: IpAddr) -> bool {
        let is_changed = self.known.is_some_and(|(known, _)| known != address);
        *self = ExternalAddress { known: Some((address, now)), is_asked: false, tries: 0 };
        is_changed
    }
}

/// What is being looked after.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Mappings whose entries are to be looked at.
    unchecked: Set<Key>,
    /// Mappings made anew because a look said that they were gone, and not seen since.
    remade: Set<Key>,
    /// How many looks in a row have brought nothing.
    failed_looks: u8,
    address_checked_at: Option<Time>,
    /// The mapping whose lease is to be looked at.
    lease_of: Option<Key>,
    /// When the core was last told to look at the gateway.
    rechecked_at: Option<Time>,
}

impl UpnpIgd {
    /// The recheck: asks for the external address and for every entry we hold, at a modest pace. Ends in `Gone`
    /// and `AddressChanged` where something is amiss, else in silence.
    pub fn check(&mut self, cx: &mut Cx<'_>) {
        let Some(control) = &self.control else { return };
        let hides_entries = control.quirks.hides_entries;
        self.exchanges.widen();
        if self.watch.address_checked_at.is_none_or(|at| cx.now.since(at) >= ADDRESS_CHECK_INTERVAL) {
            self.watch.address_checked_at = Some(cx.now);
            cx.pace.take(cx.now, PACKETS_AN_EXCHANGE);
            self.ask_address();
        }
        // What was begun before is finished first, or the last would never have their turn.
        if !hides_entries && self.watch.unchecked.is_empty() {
            let held = self
                .mappings
                .iter()
                .filter(|(_, mapping)| {
                    mapping.goal == Goal::Rest && mapping.held.is_some_and(|held| held.certain)
                })
                .map(|(key, _)| key);
            self.watch.unchecked.extend(held);
        }
        if hides_entries && self.watch.unchecked.is_empty() {
            // Perhaps it was only a bad time: one look tells.
            let any = self.mappings.iter().find(|(_, mapping)| {
                mapping.goal == Goal::Rest && mapping.held.is_some_and(|held| held.certain)
            });
            self.watch.unchecked.extend(any.map(|(key, _)| key));
        }
        self.schedule_check(cx, cx.now);
        if self.timers.get(Timer::Check) == Some(cx.now) {
            self.timers.cancel(Timer::Check);
            self.check_next(cx);
        }
        self.settle(cx);
    }

    /// A datagram came from the group that devices notify.
    pub fn handle_notification(&mut self, cx: &mut Cx<'_>, from: SocketAddr, bytes: &[u8]) {
        let Some(control) = &mut self.control else { return };
        let ours = &mut control.identity;
        if from.ip().to_canonical() != ours.from {
            return;
        }
        let (headers, is_leaving) = match ssdp::parse(bytes) {
            Ok(ssdp::Message::Alive(headers)) => (headers, false),
            Ok(ssdp::Message::ByeBye(headers)) => (headers, true),
            Ok(ssdp::Message::Reply(_)) | Err(_) => return,
        };
        let uuid = search::uuid(&headers.usn);
        let is_ours = if ours.uuids.is_empty() {
            search::is_gateway_target(&headers.target)
        } else {
            ours.uuids.iter().any(|known| known == uuid)
        };
        if !is_ours {
            return;
        }
        let location = Url::parse(&headers.location).ok();
        let has_moved = location.as_ref().is_some_and(|location| *location != ours.location);
        let has_booted =
            headers.boot_id.is_some_and(|boot_id| ours.boot_id.is_some_and(|known| known != boot_id));
        // Each change is told once, however often the device repeats it.
        ours.boot_id = headers.boot_id.or(ours.boot_id);
        if let Some(location) = location
            && !is_leaving
        {
            ours.location = location;
        }
        if is_leaving || has_moved || has_booted {
            log!(Debug, "UPnP-IGD: notification of the gateway: leaving {is_leaving}, moved {has_moved}");
            match self.watch.rechecked_at {
                Some(at) if cx.now.since(at) < RECHECK_INTERVAL => {
                    self.timers.set(Timer::Recheck, at + RECHECK_INTERVAL);
                }
                _ => self.notify_recheck(cx),
            }
        }
    }

    pub(super) fn notify_recheck(&mut self, cx: &mut Cx<'_>) {
        self.watch.rechecked_at = Some(cx.now);
        self.notices.push_back(Notice::Recheck);
    }

    /// Asks for the external address, unless that is under way.
    pub(super) fn ask_address(&mut self) {
        if self.control.is_none() || self.external.is_asked {
            return;
        }
        self.external.is_asked = true;
        let turn = self.exchanges.turn();
        self.exchanges.enqueue(Job::Address, turn);
    }

    pub(super) fn handle_address(&mut self, cx: &mut Cx<'_>, answer: &Result<Answer, Trouble>) {
        self.external.is_asked = false;
        let address = match answer {
            Ok(Answer::Done(arguments)) => arguments.external_address().unwrap_or(NO_ADDRESS),
            Ok(Answer::Error(error)) => {
                log!(Debug, "UPnP-IGD: external address refused with error {error}");
                NO_ADDRESS
            }
            // Nothing was asked. If it stays so, the control URL is lost.
            Err(Trouble::Refused | Trouble::Starved) => {
                self.ask_address();
                return;
            }
            Ok(Answer::Nonsense) | Err(Trouble::TimedOut | Trouble::Broken) => {
                self.external.tries += 1;
                if self.external.tries < MAX_ADDRESS_TRIES {
                    self.ask_address();
                    return;
                }
                self.external.tries = 0;
                if self.external.last().is_some() {
                    // It was right a while ago.
                    self.grant_made(cx);
                    return;
                }
                NO_ADDRESS
            }
        };
        let is_changed = self.external.set(cx.now, address);
        if is_changed && self.mappings.values().any(|mapping| mapping.held.is_some()) {
            log!(Info, "UPnP-IGD: external address is {address} now");
            self.notices.push_back(Notice::AddressChanged { address });
        }
        self.grant_made(cx);
    }

    /// Looks at the next entry.
    pub(super) fn check_next(&mut self, cx: &mut Cx<'_>) {
        while !self.exchanges.has_enough_checks()
            && let Some(key) = self.watch.unchecked.pop_first()
        {
            if self.mappings.get(&key).is_some_and(|mapping| {
                mapping.goal == Goal::Rest && mapping.held.is_some_and(|held| held.certain)
            }) && self.exchanges.opened_at(Job::Check(key)).is_none()
            {
                let turn = self.exchanges.turn();
                self.exchanges.enqueue(Job::Check(key), turn);
                break;
            }
        }
        self.schedule_check(cx, cx.now + CHECK_INTERVAL);
    }

    /// Sets the time of the next look, if there is anything to be looked at.
    fn schedule_check(&mut self, cx: &mut Cx<'_>, not_before: Time) {
        if !self.watch.unchecked.is_empty() && self.timers.get(Timer::Check).is_none() {
            let at = cx.pace.take(cx.now, PACKETS_AN_EXCHANGE);
            self.timers.set(Timer::Check, at.max(not_before));
        }
    }

    /// An entry is to be looked at without waiting for the next recheck.
    pub(super) fn check_soon(&mut self, cx: &mut Cx<'_>, key: Key) {
        if self.control.as_ref().is_some_and(|control| !control.quirks.hides_entries) {
            self.watch.unchecked.insert(key);
            self.schedule_check(cx, cx.now + HOLD_TIMEOUT);
        }
    }

    /// A mapping was made. If that was for a look that had found it gone, only another look can tell whether the
    /// gateway lets its entries be seen at all.
    pub(super) fn note_made(&mut self, cx: &mut Cx<'_>, key: Key) {
        if self.watch.remade.contains(&key) {
            self.check_soon(cx, key);
        }
    }

    /// The gateway's word about entries is of no use: it is not asked any more.
    fn stop_believing(&mut self, cx: &mut Cx<'_>) {
        log!(Info, "UPnP-IGD: the gateway does not tell what entries it has");
        if let Some(control) = &mut self.control {
            control.quirks.hides_entries = true;
        }
        self.stop_checks();
        self.hang_up(cx, &Job::is_check);
        self.exchanges.drop_queued(&Job::is_check);
    }

    pub(super) fn handle_check(
        &mut self,
        cx: &mut Cx<'_>,
        key: Key,
        answer: &Result<Answer, Trouble>,
        local: Option<IpAddr>,
    ) {
        if let (Ok(Answer::Done(_) | Answer::Error(code::NO_SUCH_ENTRY)), Some(control)) =
            (answer, &mut self.control)
            && !control.quirks.denies_entries
        {
            // It has had no answer to looks, but has one now.
            control.quirks.hides_entries = false;
        }
        let is_gone = match (answer, local) {
            (Ok(Answer::Done(entry)), Some(client)) => {
                let owner = entry.owner(key, client);
                if owner == Owner::Ours {
                    self.watch.remade.remove(&key);
                    if let Some(control) = &mut self.control {
                        control.quirks.hides_entries = false;
                        control.quirks.denies_entries = false;
                    }
                    self.compare_lease(cx.now, key, entry);
                }
                owner == Owner::Foreign
            }
            (Ok(Answer::Error(code::NO_SUCH_ENTRY)), _) => true,
            // The gateway does not tell.
            (Ok(_), _) => false,
            (Err(Trouble::Refused | Trouble::Starved), _) => {
                self.check_soon(cx, key);
                return;
            }
            (Err(Trouble::TimedOut | Trouble::Broken), _) => {
                // Whether it lets what was made anew be seen is open again.
                self.watch.remade.remove(&key);
                self.watch.failed_looks += 1;
                if self.watch.failed_looks < MAX_FAILED_LOOKS {
                    self.check_soon(cx, key);
                } else {
                    self.stop_believing(cx);
                }
                return;
            }
        };
        self.watch.failed_looks = 0;
        if !is_gone || self.control.as_ref().is_none_or(|control| control.quirks.hides_entries) {
            return;
        }
        if self.watch.remade.contains(&key) {
            self.stop_believing(cx);
            if let Some(control) = &mut self.control {
                control.quirks.denies_entries = true;
            }
            return;
        }
        let Some(Held { port, .. }) = self.mappings.get(&key).and_then(|mapping| mapping.held) else {
            return;
        };
        log!(Info, "UPnP-IGD: {key} is no more on external port {port}");
        self.forget(cx, key);
        self.watch.remade.insert(key);
        self.notices.push_back(Notice::Gone { key });
    }

    /// Some gateways grant what they are asked for, and keep it for less: what they have is looked at once.
    pub(super) fn look_at_lease_later(&mut self, cx: &mut Cx<'_>, key: Key) {
        if self.timers.get(Timer::Lease).is_none() {
            self.watch.lease_of = Some(key);
            self.timers.set(Timer::Lease, cx.now + LEASE_LOOK_AFTER);
        }
    }

    /// The lease is to be looked at now.
    pub(super) fn look_at_lease(&mut self, cx: &mut Cx<'_>) {
        let is_there = |mapping: &Mapping| mapping.goal == Goal::Rest && mapping.held.is_some();
        let first = self.watch.lease_of.take().filter(|key| self.mappings.get(key).is_some_and(is_there));
        let any = || self.mappings.iter().find(|(_, mapping)| is_there(mapping)).map(|(key, _)| key);
        if let Some(key) = first.or_else(any)
            && self.control.as_ref().is_some_and(|control| !control.quirks.has_shown_lease)
        {
            self.check_soon(cx, key);
        }
    }

    /// An entry of ours shows what is left of its lease.
    fn compare_lease(&mut self, now: Time, key: Key, entry: &OutArguments) {
        let (Some(mapping), Some(control)) = (self.mappings.get_mut(&key), &mut self.control) else { return };
        control.quirks.has_shown_lease = true;
        let (Some(lease), Some(left)) = (mapping.lease, entry.lease_left()) else { return };
        if mapping.goal != Goal::Rest {
            return;
        }
        let granted = now.since(lease.since) + left;
        let expected = (lease.since + lease.lifetime).since(now);
        // What is all but over is not to be believed: the next look will find it gone.
        if left + LEASE_SLACK < expected && left >= 2 * RENEWAL_FLOOR {
            log!(Info, "UPnP-IGD: the gateway keeps {key} for {} s only", granted.as_secs());
            control.quirks.longest_lease = Some(granted);
            self.shorten_leases(now, granted);
        } else if control.quirks.longest_lease.is_some_and(|longest| longest + LEASE_SLACK < granted) {
            control.quirks.longest_lease = None;
        }
    }

    /// No lease is longer than this.
    fn shorten_leases(&mut self, now: Time, longest: Duration) {
        let notices = &mut self.notices;
        self.mappings.for_each_mut(|key, mapping| {
            if let Some(lease) = &mut mapping.lease
                && lease.lifetime > longest + LEASE_SLACK
            {
                lease.lifetime = longest;
                let left = (lease.since + longest).since(now);
                notices.push_back(Notice::EndsIn { key, left });
            }
        });
    }

    /// The entry of a mapping is to be changed: a look at it is of no use any more.
    pub(super) fn stop_check(&mut self, cx: &mut Cx<'_>, key: Key) {
        self.watch.unchecked.remove(&key);
        self.hang_up(cx, &|job| job == Job::Check(key));
        self.exchanges.drop_queued(&|job| job == Job::Check(key));
    }

    pub(super) fn stop_checks(&mut self) {
        self.watch.unchecked.clear();
        self.watch.remade.clear();
        self.watch.failed_looks = 0;
        self.timers.cancel(Timer::Check);
        self.timers.cancel(Timer::Lease);
    }
}
