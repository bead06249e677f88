//! The services that can map ports: what is known of each, and their order.

use super::action::Outcome;
use super::devices::{Device, NamedService};
use super::exchange::Job;
use super::pinholes::Firewall;
use super::search::Search;
use super::walk::{LEASE_SECS, Variant};
use super::{SHORT_TIMEOUT, TRUST_LIFETIME, Timer, Upnp};
use crate::addresses::{Scope, scope_of};
use crate::driver::{DeletionOutcome, Key, Notice, Rung};
use crate::io::{Config, Cx};
use crate::ladder::RungState;
use crate::protocols::SILENCE;
use crate::reason::Reason;
use crate::time::Time;
use std::net::IpAddr;
use std::time::Duration;

/// An older external address is requested again with the next mapping.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(60);
/// A newer external address is not requested again, unless the program waits for a mapping.
const ADDRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How long a service that has granted nothing may be silent before the next is asked, too.
const TRIAL_PATIENCE: Duration = Duration::from_secs(2);
/// After this, a gateway that supports only permanent leases is asked for a lease again.
const LEASE_RETRY_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// How long several services are given to report their status.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(250);

/// Whether a service grants mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trial {
    /// Not tried, or it has granted nothing.
    #[default]
    Idle,
    /// The mapping of this key is the first to try; the others wait for the result.
    Running(Key),
    /// It grants mappings.
    Works,
}

/// The external address that a service reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Address {
    /// The last reported address; `None`: it has none, or does not report it.
    pub(super) last: Option<IpAddr>,
    /// When it was reported; `None`: not yet.
    pub(super) told_at: Option<Time>,
    /// How often it was requested since without an answer; until there is one, grants are not reported.
    pub(super) tries: u8,
}

impl Address {
    /// Whether it need not be requested again.
    pub(super) fn is_fresh(self, now: Time) -> bool {
        !self.is_none() && self.told_at.is_some_and(|at| now.since(at) < ADDRESS_LIFETIME)
    }

    /// Whether the last report is newer than ADDRESS_INTERVAL.
    pub(super) fn is_just_told(self, now: Time) -> bool {
        self.tries == 0 && self.told_at.is_some_and(|at| now.since(at) < ADDRESS_INTERVAL)
    }

    /// Whether it was reported, but is not usable.
    pub(super) fn is_none(self) -> bool {
        self.told_at.is_some() && !self.last.is_some_and(is_usable)
    }

    /// Forgets a report without an address.
    pub(super) fn forget_silence(&mut self) {
        self.told_at = self.told_at.filter(|_| self.last.is_some());
    }
}

/// Whether a service shows the entries of its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Visibility {
    #[default]
    Unknown,
    /// It showed an entry of ours at this time.
    Shown(Time),
    /// It did not show one that it had just granted permanently: until then only the entry of this key is checked.
    Hidden { until: Time, sampled: Key },
}

/// A service that can map ports.
#[derive(Clone, Debug)]
pub struct Service {
    /// What it is asked by.
    pub rung: Rung,
    /// The number of its device.
    pub device: u32,
    /// What its description says.
    pub named: NamedService,
    pub(super) on_gateway: bool,
    /// From GetStatusInfo, which is called if there are several services.
    pub(super) is_connected: Option<bool>,
    pub(super) trial: Trial,
    /// When all variants of the request were last tried in vain.
    pub(super) walked_at: Option<Time>,
    pub(super) variant: Variant,
    /// The longest lease that it keeps, if that is less than it grants.
    pub(super) longest_lease: Option<Duration>,
    /// Since when only permanent leases are requested.
    pub(super) permanent_since: Option<Time>,
    pub(super) address: Address,
    pub(super) visibility: Visibility,
    pub(super) firewall: Firewall,
    /// Consecutive exchanges without a connection or an answer.
    pub(super) troubles: u8,
}

impl Service {
    pub(super) fn new(rung: Rung, device: u32, on_gateway: bool, named: NamedService) -> Service {
        Service {
            rung,
            device,
            named,
            on_gateway,
            is_connected: None,
            trial: Trial::Idle,
            walked_at: None,
            variant: Variant::default(),
            longest_lease: None,
            permanent_since: None,
            address: Address::default(),
            visibility: Visibility::Unknown,
            firewall: Firewall::default(),
            troubles: 0,
        }
    }

    /// The address of its host.
    pub(super) fn host(&self) -> IpAddr {
        self.named.url.address.ip().to_canonical()
    }

    /// Records the variant that a walk has found.
    pub(super) fn learn(&mut self, now: Time, variant: Variant) {
        if variant.is_permanent() && !self.variant.is_permanent() {
            self.permanent_since = Some(now);
        }
        self.variant = variant;
    }

    /// Once a day a lease is requested again: the gateway may have been fixed.
    pub(super) fn forget_old_lessons(&mut self, now: Time) {
        if self.permanent_since.is_some_and(|since| now.since(since) >= LEASE_RETRY_INTERVAL) {
            self.permanent_since = None;
            self.variant.lease_secs = LEASE_SECS;
        }
    }

    /// Its preference, the least first: on the gateway, with a usable address, connected, of the better kind.
    fn preference(&self) -> impl Ord + use<> {
        // An address counts more than the connection status.
        let has_address = self.address.last.is_some_and(is_usable);
        (!self.on_gateway, !has_address, self.is_connected != Some(true), self.named.kind)
    }
}

/// Whether an external address is usable.
pub(super) fn is_usable(address: IpAddr) -> bool {
    scope_of(address) != Scope::Unusable
}

/// The known services, in the order found.
#[derive(Debug, Default)]
pub(super) struct Services {
    pub(super) list: Vec<Service>,
}

impl Services {
    pub(super) fn get(&self, id: Rung) -> Option<&Service> {
        self.list.iter().find(|service| service.rung == id)
    }

    pub(super) fn get_mut(&mut self, id: Rung) -> Option<&mut Service> {
        self.list.iter_mut().find(|service| service.rung == id)
    }

    /// The services of a device.
    pub(super) fn of_device(&self, number: u32) -> Vec<Rung> {
        self.list.iter().filter(|service| service.device == number).map(|service| service.rung).collect()
    }

    /// The number of services on the gateway, or on other devices.
    pub(super) fn count(&self, on_gateway: bool) -> usize {
        self.list.iter().filter(|service| service.on_gateway == on_gateway).count()
    }

    /// Whether a service on another device grants mappings.
    pub(super) fn works_elsewhere(&self) -> bool {
        self.list.iter().any(|service| service.trial == Trial::Works && !service.on_gateway)
    }

    /// Adds the rungs of the services for which `is_one` holds, the best first.
    pub(super) fn push_rungs(&self, is_one: impl Fn(&Service) -> bool, rungs: &mut Vec<RungState>) {
        let mut order: Vec<&Service> = self.list.iter().filter(|service| is_one(service)).collect();
        order.sort_by_key(|service| service.preference());
        for (index, service) in order.iter().enumerate() {
            let patience = match service.trial == Trial::Works || index + 1 == self.list.len() {
                true => None,
                false => Some(TRIAL_PATIENCE),
            };
            rungs.push(RungState::Open { rung: service.rung, patience });
        }
    }
}

impl Upnp {
    /// Adds the state of each UPnP rung, the best first.
    pub fn rungs(&self, now: Time, config: &Config, rungs: &mut Vec<RungState>) {
        let searched_at = self.search.since.unwrap_or(now);
        let silent_at = searched_at + SILENCE.min(config.discover_timeout);
        let last_at = searched_at + config.discover_timeout;
        // Several services report their status first.
        if let Some(at) = self.timers.get(Timer::Settle) {
            rungs.push(RungState::Coming { hold_until: at, until: at });
        }
        self.services.push_rungs(|service| service.on_gateway, rungs);
        if self.devices.list.iter().any(Device::is_pending_gateway) {
            // The gateway's own device is preferred for a while, however slow its description is.
            rungs.push(RungState::Coming { hold_until: silent_at, until: last_at });
        }
        let answered_at = self.search.answered_at().unwrap_or(now);
        if self.services.count(false) > 0 {
            let is_trusted = |service: &Service| {
                self.trusted.get(&service.rung).is_some_and(|&at| now.since(at) < TRUST_LIFETIME)
            };
            let is_over = now >= answered_at;
            let has_turn = |service: &Service| !service.on_gateway && (is_over || is_trusted(service));
            self.services.push_rungs(has_turn, rungs);
            if !is_over {
                rungs.push(RungState::Coming { hold_until: answered_at, until: answered_at });
            }
        }
        if let Search { since: Some(since), rounds: Some(_), .. } = self.search {
            // Once the gateway's own device has answered, no more rounds are sent.
            let until = match self.services.count(true) > 0 {
                true => answered_at,
                false => Search::ends_at(since, config),
            };
            rungs.push(RungState::Coming { hold_until: now, until });
        }
    }

    /// Drops services that are gone, with their tasks, deletions and exchanges.
    pub(super) fn drop_services(&mut self, cx: &mut Cx, is_dropped: impl Fn(&Service) -> bool) {
        let dropped: Vec<Rung> = self
            .services
            .list
            .iter()
            .filter(|service| is_dropped(service))
            .map(|service| service.rung)
            .collect();
        if self.services.list.iter().any(|service| is_dropped(service) && service.firewall.is_off) {
            self.notices.push_back(Notice::FirewallOn);
        }
        self.services.list.retain(|service| !is_dropped(service));
        self.exchanges.discard(cx, true, |job| job.rung().is_some_and(|rung| dropped.contains(&rung)));
        for id in self.tasks.keys_where(|id, _| dropped.contains(&id.rung)) {
            self.fail(cx, id, Reason::Silence);
        }
        self.drop_openings(cx, &dropped);
        self.entry_checks.entries.retain(|id, _| !dropped.contains(&id.rung));
        for slot in self.deletions.keys_where(|slot, _| dropped.contains(&slot.rung)) {
            self.end_deletion(cx, slot, DeletionOutcome::NotConfirmed(Reason::Silence));
        }
    }

    /// If there are several services, has each report its status first.
    pub(super) fn probe_alternatives(&mut self, cx: &mut Cx, on_gateway: bool) {
        if self.services.count(on_gateway) < 2 || self.is_ipv6() {
            return;
        }
        let is_unasked = |service: &&Service| {
            service.on_gateway == on_gateway
                && service.is_connected.is_none()
                && service.trial == Trial::Idle
                && !self.exchanges.has(|job| job == Job::Status(service.rung))
        };
        let unasked = self.services.list.iter().filter(is_unasked).map(|service| service.rung);
        for id in unasked.collect::<Vec<_>>() {
            self.enqueue(Job::Status(id), SHORT_TIMEOUT);
            self.ask_address(id);
            self.timers.set(Timer::Settle, cx.now + SETTLE_TIMEOUT);
        }
    }

    pub(super) fn handle_status(&mut self, cx: &mut Cx, id: Rung, outcome: &Outcome) {
        let Some(service) = self.services.get_mut(id) else { return };
        service.is_connected = Some(outcome.is_connected());
        self.settle_if_probed(cx);
    }

    /// Ends the wait for the status of several services, once all have reported.
    pub(super) fn settle_if_probed(&mut self, cx: &mut Cx) {
        let is_asked = |job| matches!(job, Job::Status(_) | Job::Address(_));
        if self.timers.get(Timer::Settle).is_some() && !self.exchanges.has(is_asked) {
            self.timers.set(Timer::Settle, cx.now);
        }
    }
}
