//! The devices that have answered, and their descriptions.

use super::Network;
use super::exchange::Finished;
use super::search;
use crate::log::log;
use crate::reason::Reason;
use crate::time::Time;
use plum_wire::http::{Reply, Url};
use plum_wire::igd::{self, WanService};
use plum_wire::ssdp;
use std::net::IpAddr;

/// Devices remembered, at most.
const MAX_DEVICES: usize = 16;
/// Devices announced by other hosts than the gateway, at most, so that the gateway's own always have room.
const MAX_STRANGERS: usize = 12;
/// Services used of one device, at most.
const MAX_SERVICES: usize = 8;
/// Redirects followed, at most.
const MAX_REDIRECTS: u8 = 3;
/// How often a description is fetched again, each time that the device answers a search, if it could not be fetched
/// before.
const MAX_FETCHES: u8 = 3;
/// UUIDs remembered of one device, at most: its own and those of its embedded devices.
const MAX_UUIDS: usize = 8;
/// Longer UUIDs are ignored.
const MAX_UUID_BYTES: usize = 128;

/// Which host has announced a device, the most trusted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NamedBy {
    /// The gateway.
    Gateway,
    /// Another host, with the search target of a gateway.
    ClaimsGateway,
    /// Another host.
    Stranger,
}

/// A device that has answered.
#[derive(Clone, Debug)]
pub struct Device {
    /// A number that is never reused.
    pub number: u32,
    /// The source address of its messages.
    pub(super) from: IpAddr,
    /// The URL of its description.
    pub location: Url,
    /// Its UUIDs (`uuid:...`).
    uuids: Vec<String>,
    /// BOOTID.UPNP.ORG, if it sends one.
    boot_id: Option<u32>,
    /// Any host can announce a URL on the gateway, even one that never answers.
    pub(super) named_by: NamedBy,
    /// It has announced that it leaves (ssdp:byebye), and was not heard since.
    is_leaving: bool,
    /// Its services in use do not answer, or are not expected to: it is searched for.
    pub(super) is_doubted: bool,
    /// It has restarted since its description was fetched.
    pub(super) has_restarted: bool,
    redirects: u8,
    pub(super) fetches: u8,
    /// The state of its description.
    pub state: DeviceState,
    /// What its latest description says of it, without services.
    pub about: Option<igd::Description>,
    /// Its WANCommonInterfaceConfig, if it has one.
    pub(super) common: Option<CommonInterface>,
    /// Why there is no description.
    pub trouble: Option<Reason>,
}

/// The state of the description of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// Its description was not fetched yet, or could not be fetched.
    Unknown,
    /// Its description is outstanding.
    Fetching,
    /// It names services that map ports.
    Described {
        /// Since when that is known.
        at: Time,
    },
}

/// The change that an SSDP message shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceChange {
    /// None, or there is no room for the device.
    None,
    /// The device is new, or its description should be fetched again.
    Found(u32),
    /// The device has restarted: another BOOTID, another description URL, or a return after ssdp:byebye.
    Restarted(u32),
}

/// A service in a device description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedService {
    /// Identifies it among all services.
    pub(super) identity: String,
    /// Which service it is.
    pub kind: WanService,
    pub(super) service_type: String,
    /// Where actions go.
    pub url: Url,
    /// The port of the description, if URLBase or the control URL has another.
    pub(super) other_port: Option<u16>,
}

/// The WANCommonInterfaceConfig of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommonInterface {
    pub(super) service_type: String,
    pub(super) url: Url,
}

/// The result of fetching a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DescriptionResult {
    /// The services in it; empty: there is no description, or no service that maps ports.
    Services(Vec<NamedService>),
    /// A redirect to another URL on the host.
    Moved(Url),
}

/// The devices found since the search began, and the devices in use.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub(super) list: Vec<Device>,
    last_number: u32,
}

impl Devices {
    /// The device of this number.
    pub(super) fn get(&self, number: u32) -> Option<&Device> {
        self.list.iter().find(|device| device.number == number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Device> {
        self.list.iter_mut().find(|device| device.number == number)
    }

    /// Handles an SSDP message of a device, a search response or ssdp:alive, whose description is at `location`.
    pub(super) fn heard(
        &mut self,
        from: IpAddr,
        named_by: NamedBy,
        headers: &ssdp::Headers,
        location: Url,
    ) -> DeviceChange {
        let uuid = search::uuid(&headers.usn);
        let is_moved = |device: &Device| {
            device.from == from && device.is_named(uuid) && (device.is_leaving || device.is_doubted)
        };
        let known = self
            .list
            .iter()
            .position(|device| device.location == location)
            .or_else(|| self.list.iter().position(is_moved));
        let Some(index) = known else {
            if !self.make_room(named_by) {
                log!(Debug, "UPnP-IGD: too many devices, ignores the one at {}", location.address);
                return DeviceChange::None;
            }
            log!(Debug, "UPnP-IGD: finds a device at {}{}", location.address, location.path);
            self.last_number += 1;
            let mut device = Device::new(self.last_number, from, named_by, location);
            device.note(named_by, headers);
            self.list.push(device);
            return DeviceChange::Found(self.last_number);
        };
        let device = &mut self.list[index];
        // By IPv6 a gateway speaks from several addresses.
        if device.from != from && !(from.is_ipv6() && device.is_named(uuid)) {
            if named_by != NamedBy::Gateway {
                return DeviceChange::None;
            }
            // An announcement by the gateway itself overrides earlier ones.
            (device.from, device.boot_id) = (from, None);
            device.uuids.clear();
        }
        let has_moved = device.location != location;
        let has_booted =
            matches!((device.boot_id, headers.boot_id), (Some(known), Some(said)) if known != said);
        let is_back = std::mem::take(&mut device.is_leaving);
        device.note(named_by, headers);
        if has_moved || has_booted || is_back {
            device.location = location;
            device.fetches = 0;
            device.has_restarted = true;
            device.state = DeviceState::Unknown;
            return DeviceChange::Restarted(device.number);
        }
        if device.state == DeviceState::Unknown && device.fetches < MAX_FETCHES {
            return DeviceChange::Found(device.number);
        }
        DeviceChange::None
    }

    /// Makes room for a device: other hosts' devices leave room for the gateway's, and gateways displace other devices.
    fn make_room(&mut self, named_by: NamedBy) -> bool {
        let is_stranger = |named_by: NamedBy| named_by != NamedBy::Gateway;
        let strangers = self.list.iter().filter(|device| is_stranger(device.named_by)).count();
        if self.list.len() < MAX_DEVICES && (!is_stranger(named_by) || strangers < MAX_STRANGERS) {
            return true;
        }
        let is_lesser = |device: &Device| {
            device.named_by > named_by && !matches!(device.state, DeviceState::Described { .. })
        };
        let lesser = self.list.iter().rposition(is_lesser);
        lesser.map(|index| self.list.remove(index)).is_some()
    }

    /// Handles ssdp:byebye; returns the number of the device, if it is known.
    pub(super) fn said_goodbye(&mut self, from: IpAddr, headers: &ssdp::Headers) -> Option<u32> {
        let uuid = search::uuid(&headers.usn);
        let device = self.list.iter_mut().find(|device| device.from == from && device.is_named(uuid))?;
        device.is_leaving = true;
        Some(device.number)
    }

    /// The device whose description is at a URL.
    pub(super) fn at(&self, location: &Url) -> Option<&Device> {
        self.list.iter().find(|device| device.location == *location)
    }

    /// Handles the result of fetching a description.
    pub(super) fn described(
        &mut self,
        now: Time,
        network: &Network,
        number: u32,
        done: &Finished,
    ) -> DescriptionResult {
        let url = &done.request.url;
        let nothing = DescriptionResult::Services(Vec::new());
        let Some(device) = self.get_mut(number) else { return nothing };
        if let Ok(Reply { status: 301 | 302 | 303 | 307 | 308, location: Some(location), .. }) = &done.result
            && let Ok(target) = url.join(location)
            && device.redirects < MAX_REDIRECTS
        {
            device.redirects += 1;
            return DescriptionResult::Moved(target);
        }
        device.state = DeviceState::Unknown;
        let reply = done.result.as_ref().ok().filter(|reply| (200..300).contains(&reply.status));
        let Some(description) = reply.and_then(|reply| igd::parse(&reply.body).ok()) else {
            log!(Debug, "UPnP-IGD: {} sends no device description", url.address);
            return nothing;
        };
        let is_it = device.is_own(network) || device.uuids.iter().any(|uuid| description.is_named(uuid));
        let mut services = services_of(device, url, &description, network.is_ipv6());
        device.common = common_of(url, &description);
        if !is_it {
            log!(Debug, "UPnP-IGD: {} is another device than the one that was announced", url.address);
            services.clear();
        }
        if services.is_empty() {
            // Fetching it again would give the same.
            device.fetches = MAX_FETCHES;
            log!(Debug, "UPnP-IGD: {} ({}) has no service for this", url.address, description.name());
        } else {
            log!(Info, "UPnP-IGD: finds gateway {} at {}", description.name(), url.address);
            device.state = DeviceState::Described { at: now };
        }
        device.about = Some(igd::Description {
            url_base: None,
            services: Vec::new(),
            common_interface: None,
            ..description
        });
        DescriptionResult::Services(services)
    }
}

impl NamedBy {
    pub(super) fn of(network: &Network, from: IpAddr, headers: &ssdp::Headers) -> NamedBy {
        match search::is_gateway_target(&headers.target) {
            _ if network.gateway == Some(from) => NamedBy::Gateway,
            true => NamedBy::ClaimsGateway,
            false => NamedBy::Stranger,
        }
    }
}

impl Device {
    fn new(number: u32, from: IpAddr, named_by: NamedBy, location: Url) -> Device {
        Device {
            number,
            from,
            location,
            uuids: Vec::new(),
            boot_id: None,
            named_by,
            is_leaving: false,
            is_doubted: false,
            has_restarted: false,
            redirects: 0,
            fetches: 0,
            state: DeviceState::Unknown,
            about: None,
            common: None,
            trouble: None,
        }
    }

    fn note(&mut self, named_by: NamedBy, headers: &ssdp::Headers) {
        self.named_by = self.named_by.min(named_by);
        self.boot_id = headers.boot_id.or(self.boot_id);
        let uuid = search::uuid(&headers.usn);
        if !uuid.is_empty()
            && uuid.len() <= MAX_UUID_BYTES
            && self.uuids.len() < MAX_UUIDS
            && !self.is_named(uuid)
        {
            self.uuids.push(uuid.to_owned());
        }
    }

    /// Records that its description is being fetched.
    pub(super) fn note_fetch(&mut self) {
        self.state = DeviceState::Fetching;
        self.fetches = self.fetches.saturating_add(1);
        self.redirects = 0;
    }

    /// Whether the gateway has announced it and its description is being fetched.
    pub(super) fn is_pending_gateway(&self) -> bool {
        self.named_by == NamedBy::Gateway && self.state == DeviceState::Fetching
    }

    /// Whether it is at the address that has announced it, as far as IPv6 requires that.
    fn is_own(&self, network: &Network) -> bool {
        !network.is_ipv6() || self.location.address.ip() == self.from
    }

    /// Whether its description could not be fetched, or is of no use.
    pub(super) fn has_failed(&self) -> bool {
        self.state == DeviceState::Unknown && self.fetches > 0
    }

    /// Whether this is one of its UUIDs.
    pub(super) fn is_named(&self, uuid: &str) -> bool {
        self.uuids.iter().any(|known| known == uuid)
    }
}

/// The URL that those in a description are relative to.
fn base_of(url: &Url, description: &igd::Description) -> Url {
    description.url_base.as_deref().and_then(|base| url.join(base).ok()).unwrap_or_else(|| url.clone())
}

fn common_of(url: &Url, description: &igd::Description) -> Option<CommonInterface> {
    let service = description.common_interface.as_ref()?;
    let url = base_of(url, description).join(&service.control_url).ok()?;
    Some(CommonInterface { service_type: service.service_type.clone(), url })
}

/// The services of a description that map ports: the standard ones, or else those of the DSL Forum. By IPv6 those that open
/// pinholes.
fn services_of(
    device: &Device,
    url: &Url,
    description: &igd::Description,
    is_ipv6: bool,
) -> Vec<NamedService> {
    let base = base_of(url, description);
    let described_at = url.address.port();
    let named = |kind_of: fn(&igd::Service) -> Option<WanService>| -> Vec<NamedService> {
        let mut services: Vec<NamedService> = Vec::new();
        for service in &description.services {
            let Some(kind) = kind_of(service) else { continue };
            let Ok(url) = base.join(&service.control_url) else { continue };
            // Identified by the host, since the UUIDs of a device arrive in any order.
            let identity = format!("{} {} {}", device.location.address.ip(), service.service_type, url.path);
            if services.len() < MAX_SERVICES && !services.iter().any(|known| known.identity == identity) {
                let service_type = service.service_type.clone();
                let other_port = Some(described_at).filter(|&port| port != url.address.port());
                services.push(NamedService { identity, kind, service_type, url, other_port });
            }
        }
        services
    };
    if is_ipv6 {
        return named(igd::Service::firewall_kind);
    }
    let services = named(igd::Service::kind);
    if services.is_empty() { named(igd::Service::dsl_forum_kind) } else { services }
}
