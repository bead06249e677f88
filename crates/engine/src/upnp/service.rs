//! The services that can map ports: what is known of each, and in which order they are asked.

use super::action::Outcome;
use super::devices::NamedService;
use super::exchange::Job;
use super::walk::{LEASE_SECS, Variant};
use super::{SHORT_TIMEOUT, Timer, Upnp};
use crate::addresses::{Scope, scope_of};
use crate::driver::{DeletionOutcome, Key, Rung};
use crate::io::Cx;
use crate::ladder::RungState;
use crate::reason::Reason;
use crate::time::Time;
use plum_wire::igd::WanService;
use std::net::IpAddr;
use std::time::Duration;

/// An external address older than this is asked for anew with the next mapping.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(60);
/// An external address that was told less than this ago is not asked for again, unless the program waits for a mapping.
const ADDRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How long a service that has made nothing may be silent before the next one is asked as well.
const TRIAL_PATIENCE: Duration = Duration::from_secs(2);
/// A gateway that knows permanent leases only is asked for a lease again after this.
const LEASE_RETRY_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// How long services that are not alone are waited for, to say how they stand.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(250);

/// What making mappings through a service has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trial {
    /// Nobody has tried, or it has made nothing.
    #[default]
    Idle,
    /// The mapping of this key tries; the others wait for the outcome.
    Running(Key),
    /// It makes mappings.
    Works,
}

/// The external address, as a service tells it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Address {
    /// What it told last; `None`: it has none, or does not tell.
    pub(super) last: Option<IpAddr>,
    /// When that was; `None`: it is not known.
    pub(super) told_at: Option<Time>,
    /// How often it was asked for since, without an answer so far: until one comes nothing is told.
    pub(super) tries: u8,
}

impl Address {
    /// Whether it need not be asked for again.
    pub(super) fn is_fresh(self, now: Time) -> bool {
        !self.is_none() && self.told_at.is_some_and(|at| now.since(at) < ADDRESS_LIFETIME)
    }

    /// Whether it was told a moment ago, or that there is none.
    pub(super) fn is_just_told(self, now: Time) -> bool {
        self.tries == 0 && self.told_at.is_some_and(|at| now.since(at) < ADDRESS_INTERVAL)
    }

    /// Whether it was asked for, and none was told that can be one.
    pub(super) fn is_none(self) -> bool {
        self.told_at.is_some() && !self.last.is_some_and(is_usable)
    }

    /// That it told none counts no more.
    pub(super) fn forget_silence(&mut self) {
        self.told_at = self.told_at.filter(|_| self.last.is_some());
    }
}

/// Whether a service tells what entries it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Visibility {
    #[default]
    Unknown,
    /// It showed an entry of ours at this time.
    Shown(Time),
    /// It denied one that it had just made for ever: until then only the entry of this key is looked at.
    Hidden { until: Time, sampled: Key },
}

/// A service that can map ports.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) rung: Rung,
    /// The number of its device.
    pub(super) device: u32,
    pub(super) named: NamedService,
    pub(super) on_gateway: bool,
    /// By GetStatusInfo, which is asked of a service that is not alone.
    pub(super) is_connected: Option<bool>,
    pub(super) trial: Trial,
    /// When all variants of the request were tried last, in vain.
    pub(super) walked_at: Option<Time>,
    pub(super) variant: Variant,
    /// The longest lease that it keeps, where that is less than it grants.
    pub(super) longest_lease: Option<Duration>,
    /// Since when only permanent leases are asked for.
    pub(super) permanent_since: Option<Time>,
    pub(super) address: Address,
    pub(super) visibility: Visibility,
    /// How many exchanges in a row have failed for want of a connection or an answer.
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
            troubles: 0,
        }
    }

    /// The address of its host.
    pub(super) fn host(&self) -> IpAddr {
        self.named.url.address.ip().to_canonical()
    }

    /// What a walk has shown of it.
    pub(super) fn learn(&mut self, now: Time, variant: Variant) {
        if variant.is_permanent() && !self.variant.is_permanent() {
            self.permanent_since = Some(now);
        }
        self.variant = variant;
    }

    /// Some gateways are mended: once a day a lease is asked for again.
    pub(super) fn forget_old_lessons(&mut self, now: Time) {
        if self.permanent_since.is_some_and(|since| now.since(since) >= LEASE_RETRY_INTERVAL) {
            self.permanent_since = None;
            self.variant.lease_secs = LEASE_SECS;
        }
    }

    /// How good it is, the least best: on the gateway, with an address that can be one, connected, of the better kind.
    fn preference(&self) -> impl Ord + use<> {
        preference(self.on_gateway, self.named.kind, self.is_connected == Some(true), self.address.last)
    }
}

/// How good a service is, once it has told what there is to tell: the least is taken, of equal ones the one that was found
/// first. `on_gateway`: its device is on the gateway's address; `connected`: by GetStatusInfo.
pub fn preference(
    on_gateway: bool,
    kind: WanService,
    connected: bool,
    external_address: Option<IpAddr>,
) -> impl Ord + use<> {
    // An address without a status is better than a status without an address.
    let has_address = external_address.is_some_and(is_usable);
    (!on_gateway, !has_address, !connected, kind)
}

/// Whether an external address can be one at all.
pub(super) fn is_usable(address: IpAddr) -> bool {
    scope_of(address) != Scope::Unusable
}

/// The services known, in the order in which they were found.
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

    /// Those of a device.
    pub(super) fn of_device(&self, number: u32) -> Vec<Rung> {
        self.list.iter().filter(|service| service.device == number).map(|service| service.rung).collect()
    }

    /// How many there are on the gateway, or elsewhere.
    pub(super) fn count(&self, on_gateway: bool) -> usize {
        self.list.iter().filter(|service| service.on_gateway == on_gateway).count()
    }

    /// Whether one elsewhere makes mappings.
    pub(super) fn works_elsewhere(&self) -> bool {
        self.list.iter().any(|service| service.trial == Trial::Works && !service.on_gateway)
    }

    /// Adds the rungs of some of the services, the best first.
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
    /// These services are not there any more: what is under way at them comes to nothing.
    pub(super) fn drop_services(&mut self, cx: &mut Cx, is_dropped: impl Fn(&Service) -> bool) {
        let dropped: Vec<Rung> = self
            .services
            .list
            .iter()
            .filter(|service| is_dropped(service))
            .map(|service| service.rung)
            .collect();
        self.services.list.retain(|service| !is_dropped(service));
        self.exchanges.discard(cx, true, |job| job.rung().is_some_and(|rung| dropped.contains(&rung)));
        for id in self.tasks.keys_where(|id, _| dropped.contains(&id.rung)) {
            self.fail(cx, id, Reason::Silence);
        }
        self.entry_checks.entries.retain(|id, _| !dropped.contains(&id.rung));
        for slot in self.deletions.keys_where(|slot, _| dropped.contains(&slot.rung)) {
            self.end_deletion(cx, slot, DeletionOutcome::NotConfirmed(Reason::Silence));
        }
    }

    /// Where more than one service could be taken, each says first how it stands.
    pub(super) fn probe_alternatives(&mut self, cx: &mut Cx, on_gateway: bool) {
        if self.services.count(on_gateway) < 2 {
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

    /// All have said how they stand: nobody waits for the others.
    pub(super) fn settle_if_probed(&mut self, cx: &mut Cx) {
        let is_asked = |job| matches!(job, Job::Status(_) | Job::Address(_));
        if self.timers.get(Timer::Settle).is_some() && !self.exchanges.has(is_asked) {
            self.timers.set(Timer::Settle, cx.now);
        }
    }
}
