//! The devices that have answered, their descriptions, and which of their services is taken.

use super::action::Answer;
use super::exchange::{Done, Trouble};
use super::search;
use crate::log::log;
use crate::ordered::Map;
use crate::time::Time;
use crate::wire::http::Url;
use crate::wire::igd::{self, WanService};
use crate::wire::ssdp;
use std::net::IpAddr;

/// At most this many devices are looked at,
const MAX_DEVICES: usize = 16;
/// and this many that others than the gateway have named: however many there are, the gateway has a place.
const MAX_STRANGERS: usize = 12;
/// At most this many services of a device count.
const MAX_SERVICES: usize = 8;
/// At most this many redirects are followed.
const MAX_REDIRECTS: u8 = 3;
/// A description that was not to be had is asked for again when the device answers again, this often.
const MAX_FETCHES: u8 = 3;
/// At most this many names of a device are kept: its own and those of its embedded devices.
const MAX_UUIDS: usize = 8;
/// Longer names are no names.
const MAX_UUID_BYTES: usize = 128;

/// Who a device is, as SSDP tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The address that its messages come from.
    pub(super) from: IpAddr,
    /// Where its description is.
    pub(super) location: Url,
    /// Its `uuid:...` names.
    pub(super) uuids: Vec<String>,
    /// BOOTID.UPNP.ORG, if it gives one.
    pub(super) boot_id: Option<u32>,
}

/// A device that has answered.
#[derive(Clone, Debug)]
pub(super) struct Device {
    identity: Identity,
    /// It is on the gateway's address.
    on_gateway: bool,
    /// The gateway has not named it itself: anybody may name any URL there.
    stranger: bool,
    /// It has said itself that it is a gateway.
    promising: bool,
    /// Where its description is looked for now.
    url: Url,
    redirects: u8,
    fetches: u8,
    /// The round of searches in which it was asked last.
    round: usize,
    state: DeviceState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeviceState {
    /// Its description was not asked for yet, was not to be had, or is not that of a gateway.
    Unknown,
    Fetching,
    Described,
}

impl Device {
    /// Whether there is hope for a gateway as long as its description is outstanding.
    fn counts(&self) -> bool {
        self.promising || self.on_gateway
    }
}

/// A service that could map ports.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Index of its device.
    device: usize,
    /// Which service.
    pub(super) kind: WanService,
    /// Its type as written, for the actions.
    pub(super) service_type: String,
    /// Its control URL.
    pub(super) url: Url,
    probe: Probe,
}

/// What is known of a candidate that was asked whether it works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Probe {
    asked: bool,
    connected: Option<bool>,
    /// The inner `None`: it has none.
    address: Option<Option<IpAddr>>,
    /// It has answered something.
    alive: bool,
}

impl Probe {
    fn is_complete(&self) -> bool {
        self.connected.is_some() && self.address.is_some()
    }

    fn external_address(&self) -> Option<IpAddr> {
        self.address.flatten().filter(|&address| is_usable(address))
    }
}

/// Whether an external address can be one at all; what it is good for is decided elsewhere.
pub(super) fn is_usable(address: IpAddr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// How good a service is, once it has told what there is to tell: the least is taken, of equal ones the one that was found
/// first. `on_gateway`: its device is on the gateway's address; `connected`: by GetStatusInfo.
pub fn preference(
    on_gateway: bool,
    kind: WanService,
    connected: bool,
    external_address: Option<IpAddr>,
) -> impl Ord {
    // An address without a status is better than a status without an address.
    let has_address = external_address.is_some_and(is_usable);
    (!on_gateway, !has_address, !connected, kind)
}

/// What is to be done about an answer to a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing new.
    Known,
    /// Fetch the description of this device.
    Fetch {
        /// Its index.
        device: usize,
        /// The gateway has not named it itself.
        stranger: bool,
    },
}

/// What the devices described so far lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Nothing yet.
    Wait,
    /// Ask this candidate whether it works, then look again.
    Probe(usize),
    /// Take this candidate.
    Take(usize),
}

/// The devices found since the search began.
#[derive(Clone, Debug, Default)]
pub(super) struct Discovery {
    devices: Vec<Device>,
    candidates: Vec<Candidate>,
    /// When the first usable description was there.
    pub(super) first_described_at: Option<Time>,
}

impl Discovery {
    /// A device at `location` has answered in round `round`.
    pub(super) fn found(
        &mut self,
        from: IpAddr,
        gateway: Option<IpAddr>,
        location: Url,
        headers: &ssdp::Headers,
        round: usize,
    ) -> Found {
        let on_gateway = Some(location.address.ip().to_canonical()) == gateway;
        let stranger = Some(from.to_canonical()) != gateway;
        let index = match self.devices.iter().position(|device| device.identity.location == location) {
            Some(index) => index,
            None => {
                let strangers = self.devices.iter().filter(|device| device.stranger).count();
                if self.devices.len() >= MAX_DEVICES || (stranger && strangers >= MAX_STRANGERS) {
                    log!(Debug, "UPnP-IGD: too many devices, the one at {} is left out", location.address);
                    return Found::Known;
                }
                log!(Debug, "UPnP-IGD: device at {}{}", location.address, location.path);
                self.devices.push(Device {
                    identity: Identity {
                        from: from.to_canonical(),
                        location: location.clone(),
                        uuids: Vec::new(),
                        boot_id: None,
                    },
                    on_gateway,
                    stranger,
                    promising: false,
                    url: location,
                    redirects: 0,
                    fetches: 0,
                    round,
                    state: DeviceState::Unknown,
                });
                self.devices.len() - 1
            }
        };
        let device = &mut self.devices[index];
        let is_claimed = device.stranger && !stranger;
        if is_claimed {
            // What others have said in its name does not count any more.
            device.stranger = false;
            device.identity.from = from.to_canonical();
            device.identity.uuids.clear();
            device.identity.boot_id = None;
        }
        device.promising |= search::is_gateway_target(&headers.target);
        device.identity.boot_id = headers.boot_id.or(device.identity.boot_id);
        let uuid = search::uuid(&headers.usn);
        let uuids = &mut device.identity.uuids;
        if !uuid.is_empty()
            && uuid.len() <= MAX_UUID_BYTES
            && uuids.len() < MAX_UUIDS
            && !uuids.iter().any(|known| known == uuid)
        {
            uuids.push(uuid.to_owned());
        }
        if is_claimed && device.state == DeviceState::Fetching {
            return Found::Fetch { device: index, stranger };
        }
        let is_due = device.fetches == 0 || (device.round < round && device.fetches < MAX_FETCHES);
        if device.state != DeviceState::Unknown || !is_due {
            return Found::Known;
        }
        device.state = DeviceState::Fetching;
        device.fetches += 1;
        device.round = round;
        device.redirects = 0;
        device.url = device.identity.location.clone();
        Found::Fetch { device: index, stranger: device.stranger }
    }

    /// Where the description of a device is looked for.
    pub(super) fn description_url(&self, device: usize) -> Option<&Url> {
        self.devices.get(device).map(|device| &device.url)
    }

    /// The description of a device has come, or not. `true`: it is to be fetched from elsewhere.
    pub(super) fn described(&mut self, now: Time, index: usize, done: &Done) -> bool {
        let Some(device) = self.devices.get_mut(index) else { return false };
        device.state = DeviceState::Unknown;
        let reply = match &done.result {
            Ok(reply) => reply,
            Err(trouble) => {
                log!(Debug, "UPnP-IGD: no description from {}: {trouble:?}", done.url.address);
                return false;
            }
        };
        let host = device.identity.location.address.ip();
        if matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
            let target = reply.location.as_deref().and_then(|location| done.url.join(location).ok());
            return match target {
                Some(target) if target.address.ip() == host && device.redirects < MAX_REDIRECTS => {
                    device.redirects += 1;
                    device.url = target;
                    device.state = DeviceState::Fetching;
                    true
                }
                _ => {
                    log!(Debug, "UPnP-IGD: redirect of {} not followed", done.url.address);
                    false
                }
            };
        }
        let description = match igd::parse(&reply.body) {
            Ok(description) if (200..300).contains(&reply.status) => description,
            _ => {
                log!(Debug, "UPnP-IGD: no device description from {}", done.url.address);
                return false;
            }
        };
        // A URLBase that leads elsewhere is a mistake or worse; the description's own URL is the base without it.
        let base = description
            .url_base
            .as_deref()
            .and_then(|base| done.url.join(base).ok())
            .filter(|base| base.address.ip() == host)
            .unwrap_or_else(|| done.url.clone());
        let mut usable = 0;
        for service in &description.services {
            let Some(kind) = service.kind() else { continue };
            let url = match base.join(&service.control_url) {
                Ok(url) if url.address.ip() == host && !service.control_url.is_empty() => url,
                _ => {
                    log!(Debug, "UPnP-IGD: control URL of {} is not on that host", done.url.address);
                    continue;
                }
            };
            usable += 1;
            let is_known = self
                .candidates
                .iter()
                .any(|known| known.url == url && known.service_type == service.service_type);
            if !is_known && usable <= MAX_SERVICES {
                self.candidates.push(Candidate {
                    device: index,
                    kind,
                    service_type: service.service_type.clone(),
                    url,
                    probe: Probe::default(),
                });
            }
        }
        if usable == 0 {
            // Asked again it would say the same.
            device.fetches = MAX_FETCHES;
            log!(Debug, "UPnP-IGD: {} ({}) maps no ports", done.url.address, description.name());
            return false;
        }
        log!(Info, "UPnP-IGD: gateway {} at {}", description.name(), done.url.address);
        device.state = DeviceState::Described;
        self.first_described_at.get_or_insert(now);
        false
    }

    /// A candidate has answered whether it is connected, or not.
    pub(super) fn probed_status(&mut self, index: usize, answer: Result<Answer, Trouble>) {
        if let Some(candidate) = self.candidates.get_mut(index) {
            candidate.probe.alive |= answer.is_ok();
            candidate.probe.connected =
                Some(matches!(answer, Ok(Answer::Done(arguments)) if arguments.is_connected()));
        }
    }

    /// A candidate has answered which external address it has, or not.
    pub(super) fn probed_address(&mut self, index: usize, answer: Result<Answer, Trouble>) {
        if let Some(candidate) = self.candidates.get_mut(index) {
            candidate.probe.alive |= answer.is_ok();
            candidate.probe.address = Some(match answer {
                Ok(Answer::Done(arguments)) => arguments.external_address(),
                _ => None,
            });
        }
    }

    /// Whether there are candidates, or descriptions to come that may bring one.
    pub(super) fn is_at_work(&self) -> bool {
        self.devices.iter().any(|device| device.counts() && device.state == DeviceState::Fetching)
            || self.candidates.iter().any(|candidate| !is_dead(candidate))
    }

    /// Which candidate is to be taken. `settled`: no longer wait for more descriptions. `suspect`: a control URL
    /// that was lost, which has to show first that it works.
    pub(super) fn choose(&self, settled: bool, suspect: Option<&Url>) -> Choice {
        for on_gateway in [true, false] {
            // The best kind first, of the same kind the one that was found first.
            let mut order = Map::new();
            for (index, candidate) in self.candidates.iter().enumerate() {
                if self.devices[candidate.device].on_gateway == on_gateway && !is_dead(candidate) {
                    order.insert((candidate.kind as u8, index as u64), index);
                }
            }
            let order: Vec<usize> = order.iter().map(|(_, &index)| index).collect();
            let is_outstanding =
                |device: &Device| device.on_gateway == on_gateway && device.state == DeviceState::Fetching;
            if order.is_empty() {
                // However slow the gateway's own description is: no other device is better.
                if on_gateway && self.devices.iter().any(is_outstanding) {
                    return Choice::Wait;
                }
                continue;
            }
            // A lone service on the gateway is taken at once; others may have company that has not come yet.
            let has_company = self.devices.iter().any(|device| is_outstanding(device) && device.promising);
            if !settled && (!on_gateway || has_company) {
                return Choice::Wait;
            }
            if let [only] = order[..]
                && Some(&self.candidates[only].url) != suspect
                && !self.candidates[only].probe.asked
            {
                return Choice::Take(only);
            }
            return self.choose_among(&order);
        }
        Choice::Wait
    }

    fn choose_among(&self, order: &[usize]) -> Choice {
        let probe = |index: usize| self.candidates[index].probe;
        if let Some(&unasked) = order.iter().find(|&&index| !probe(index).asked) {
            return Choice::Probe(unasked);
        }
        for &index in order {
            if !probe(index).is_complete() {
                return Choice::Wait;
            }
            if probe(index).connected == Some(true) && probe(index).external_address().is_some() {
                return Choice::Take(index);
            }
        }
        let best = order.iter().min_by_key(|&&index| {
            let probe = probe(index);
            preference(
                true,
                self.candidates[index].kind,
                probe.connected == Some(true),
                probe.external_address(),
            )
        });
        best.map_or(Choice::Wait, |&index| Choice::Take(index))
    }

    /// A candidate is being asked whether it works.
    pub(super) fn probing(&mut self, index: usize) {
        if let Some(candidate) = self.candidates.get_mut(index) {
            candidate.probe.asked = true;
        }
    }

    /// A candidate.
    pub(super) fn candidate(&self, index: usize) -> Option<&Candidate> {
        self.candidates.get(index)
    }

    /// The external address that a candidate named when it was probed.
    pub(super) fn probed_external_address(&self, index: usize) -> Option<IpAddr> {
        self.candidates.get(index).and_then(|candidate| candidate.probe.external_address())
    }

    /// Who the device of a candidate is.
    pub(super) fn identity(&self, candidate: usize) -> Option<&Identity> {
        let candidate = self.candidates.get(candidate)?;
        self.devices.get(candidate.device).map(|device| &device.identity)
    }

    /// The devices whose description is outstanding, as index and whether others than the gateway have named it.
    pub(super) fn outstanding(&self) -> impl Iterator<Item = (usize, bool)> + '_ {
        self.devices
            .iter()
            .enumerate()
            .filter(|(_, device)| device.state == DeviceState::Fetching)
            .map(|(index, device)| (index, device.stranger))
    }
}

/// A candidate that was asked and has not answered at all.
fn is_dead(candidate: &Candidate) -> bool {
    candidate.probe.is_complete() && !candidate.probe.alive
}
