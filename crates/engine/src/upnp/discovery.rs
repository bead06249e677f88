//! UPnP discovery: sends searches, handles their answers and notifications, fetches descriptions, and searches again
//! for devices that no longer answer.

use super::action::{ExchangeError, Outcome, code};
use super::devices::{DescriptionResult, Device, DeviceChange, DeviceState, NamedBy, NamedService};
use super::exchange::{Finished, Job};
use super::search::{self, Search};
use super::service::Service;
use super::{Network, Timer, Upnp};
use crate::driver::{Notice, Rung};
use crate::io::{Arrival, Cx, Output, Protocol, Socket};
use crate::log::log;
use crate::reason::Reason;
use plum_wire::http::Url;
use plum_wire::ssdp;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The waits between the searches for a device that no longer answers.
const DOUBT_WAITS: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
];
/// A doubt soon after another starts with this wait: a server may answer some requests and never others.
const UNHURRIED: usize = 3;
/// After this long without a doubt the next starts with the first wait.
const DOUBT_CALM: Duration = Duration::from_secs(60);
/// How long after ssdp:byebye to search: the device may still answer while it shuts down.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);
/// Consecutive failures after which a device is doubted.
const TROUBLES_TO_DOUBT: u8 = 2;
/// How often, at most, a description is fetched again because its control URL is unknown to the server.
const REFETCH_INTERVAL: Duration = Duration::from_secs(30);

impl Upnp {
    /// Starts discovery: a search, and the descriptions of the devices that answer.
    pub(super) fn find(&mut self, cx: &mut Cx) {
        self.resting = false;
        if self.network.is_none() {
            return;
        }
        if self.is_open == Some(false) {
            return cx.note_out(Protocol::UpnpIgd, Reason::Shortage, None);
        }
        self.exchanges.discard(cx, true, |job| job.device().is_some() || matches!(job, Job::Status(_)));
        // Devices without services in use have to answer again.
        let is_used = |service: &Service| {
            !self.tasks.keys_where(|task, _| task.rung == service.rung).is_empty()
                || !self.pinholes.openings.keys_where(|id, _| id.rung == service.rung).is_empty()
                || !self.deletions.keys_where(|slot, _| slot.rung == service.rung).is_empty()
                || cx.ledger.has_granted(service.rung)
        };
        let used = self.services.list.iter().filter(|service| is_used(service));
        let used: Vec<u32> = used.map(|service| service.device).collect();
        self.drop_services(cx, |service| !used.contains(&service.device));
        self.devices.list.retain(|device| used.contains(&device.number));
        self.begin_search(cx);
        if !self.services.list.is_empty() {
            cx.protocols.note_heard(cx.now, Protocol::UpnpIgd);
        }
    }

    fn begin_search(&mut self, cx: &mut Cx) {
        self.search = Search { since: Some(cx.now), rounds: Some(0), again_at: None };
        self.trouble = None;
        if self.network.is_some_and(|network| network.is_ipv6() && !network.named) {
            self.timers.set(Timer::Ipv4Search, cx.now + search::IPV4_WAIT);
        }
        if self.is_open == Some(true) {
            self.search_on(cx);
        }
    }

    /// Searches for the services of waiting deletions.
    pub(super) fn search_for_deletions(&mut self, cx: &mut Cx) {
        if self.network.is_none() || self.is_open == Some(false) {
            return self.give_up_lost_deletions(cx);
        }
        self.resting = false;
        if self.search.rounds.is_none() {
            self.begin_search(cx);
        }
    }

    /// Sends the next round of the search, unless a gateway has answered, or ends the search.
    pub(super) fn search_on(&mut self, cx: &mut Cx) {
        let Search { since: Some(since), rounds: Some(rounds), .. } = self.search else { return };
        let ends_at = Search::ends_at(since, &cx.config);
        if cx.now >= ends_at {
            self.search.rounds = None;
            return self.end_search(cx);
        }
        self.search.rounds = Some(rounds + 1);
        self.timers.set(Timer::Search, search::next_at(cx, rounds + 1, ends_at));
        let is_known = self.is_gateway_known();
        // The first round is sent even if devices are known from before.
        if let Some(network) = self.network.filter(|_| rounds == 0 || !is_known) {
            search::send_round(cx, &network, self.sockets, None);
            if rounds > 0 {
                self.notices.push_back(Notice::Unanswered);
            }
        }
    }

    /// Whether the gateway's own device has services, or its description is being fetched.
    fn is_gateway_known(&self) -> bool {
        self.services.count(true) > 0 || self.devices.list.iter().any(Device::is_pending_gateway)
    }

    /// Nothing has answered by IPv6: asks for the IPv4 gateway, which may announce a service for IPv6.
    pub(super) fn begin_ipv4_search(&mut self, cx: &mut Cx) {
        let has_next_hop = self.network.is_some_and(|network| network.gateway.is_some());
        if has_next_hop && self.search.rounds.is_some() && !self.is_gateway_known() {
            cx.output(Output::LookUpRoute { toward: None });
        }
    }

    /// The IPv4 gateway. Whether it is to be searched.
    pub(crate) fn takes_ipv4_gateway(&mut self, gateway: IpAddr) -> bool {
        self.ipv4_gateway = Some(gateway).filter(|gateway| gateway.is_ipv4());
        self.ipv4_gateway.is_some() && self.search.rounds.is_some()
    }

    /// The socket for the search by IPv4 was opened, or could not be opened.
    pub fn handle_ipv4_opened(&mut self, cx: &mut Cx, is_open: bool) {
        self.sockets.is_ipv4_open = is_open;
        self.search_by_ipv4(cx);
    }

    fn search_by_ipv4(&self, cx: &mut Cx) {
        if let Some(gateway) = self.ipv4_gateway.filter(|_| self.sockets.is_ipv4_open) {
            search::send_ipv4_round(cx, gateway);
        }
    }

    /// The search socket of the link was opened, or could not be opened.
    pub fn handle_link_opened(&mut self, is_open: bool) {
        self.sockets.is_link_open = is_open;
    }

    fn end_search(&mut self, cx: &mut Cx) {
        self.notices.push_back(Notice::Changed);
        if !self.devices.list.iter().any(|device| device.state == DeviceState::Fetching) {
            self.give_up_lost_deletions(cx);
        }
        let is_at_work = self.devices.list.iter().any(Device::is_pending_gateway);
        if self.services.list.is_empty() && !is_at_work && !self.resting {
            cx.note_out(Protocol::UpnpIgd, self.trouble.unwrap_or(Reason::Silence), None);
        }
    }

    /// The search socket was opened at this address, or could not be opened.
    pub fn handle_opened(&mut self, cx: &mut Cx, local: Option<SocketAddr>) {
        self.is_open = Some(local.is_some());
        match (self.search.rounds, local) {
            (Some(0), Some(_)) => self.begin_search(cx),
            (_, Some(_)) if cx.protocols.is_out_for_shortage(Protocol::UpnpIgd) => {
                cx.protocols.doubt(Protocol::UpnpIgd);
            }
            (Some(_), None) => {
                self.search.rounds = None;
                self.give_up_lost_deletions(cx);
                cx.note_out(Protocol::UpnpIgd, Reason::Shortage, None);
            }
            _ => {}
        }
    }

    /// Handles a search response or a notification.
    pub fn handle_datagram(&mut self, cx: &mut Cx, socket: Socket, by: Arrival, bytes: &[u8]) {
        let Some(network) = self.network else { return };
        let from = by.from.ip().to_canonical();
        let is_believed = match socket {
            Socket::Ipv4Ssdp => self.ipv4_gateway == Some(from),
            _ => search::may_answer(&network, by),
        };
        if !is_believed {
            log!(Verbose, "UPnP-IGD: datagram from {from} is not of this network");
            return;
        }
        match ssdp::parse(bytes) {
            Ok(ssdp::Message::Reply(headers)) => drop(self.handle_heard(cx, from, &headers)),
            Ok(ssdp::Message::Alive(headers)) => self.handle_alive(cx, &network, from, &headers),
            Ok(ssdp::Message::ByeBye(headers)) => {
                if let Some(number) = self.devices.said_goodbye(from, &headers) {
                    log!(Debug, "UPnP-IGD: the device at {from} announces that it leaves");
                    self.begin_doubt(cx, number, GOODBYE_WAIT);
                }
            }
            Err(_) => log!(Verbose, "UPnP-IGD: datagram from {from} is no SSDP message of a device"),
        }
        self.settle(cx);
    }

    /// Handles a search response or ssdp:alive.
    fn handle_heard(&mut self, cx: &mut Cx, from: IpAddr, headers: &ssdp::Headers) -> DeviceChange {
        let Some(network) = self.network else { return DeviceChange::None };
        let at_gateway = search::location_at_gateway(&network, from, &headers.location);
        let is_claimed = |location: &Url| {
            from.is_ipv4()
                || match self.devices.at(location) {
                    Some(device) => !device.has_failed(),
                    None => search::is_gateway_target(&headers.target),
                }
        };
        if let Some(location) = at_gateway.filter(is_claimed) {
            // What the IPv4 gateway announces for pinholes is fetched first.
            let is_first = from.is_ipv4() && headers.target == search::FIREWALL_CONTROL;
            let named_by = if is_first { NamedBy::Gateway } else { NamedBy::ClaimsGateway };
            return self.take_heard(cx, from, named_by, headers, location);
        }
        let Some(location) = search::location(&network, from, &headers.location) else {
            log!(Debug, "UPnP-IGD: {from} announces no valid description URL");
            return DeviceChange::None;
        };
        self.take_heard(cx, from, NamedBy::of(&network, from, headers), headers, location)
    }

    /// Notes a device, and fetches its description if that is needed.
    fn take_heard(
        &mut self,
        cx: &mut Cx,
        from: IpAddr,
        named_by: NamedBy,
        headers: &ssdp::Headers,
        location: Url,
    ) -> DeviceChange {
        let heard = self.devices.heard(from, named_by, headers, location);
        match heard {
            DeviceChange::Found(number) => {
                // The description of a displaced device is not fetched any more.
                let is_gone = |number| self.devices.get(number).is_none();
                self.exchanges.discard(cx, true, |job| job.device().is_some_and(is_gone));
                self.fetch(cx, number);
            }
            DeviceChange::Restarted(number) => {
                log!(Info, "UPnP-IGD: the device at {from} has restarted");
                self.fetch(cx, number);
                self.notices.push_back(Notice::SignOfLife);
            }
            DeviceChange::None => {}
        }
        heard
    }

    /// Handles ssdp:alive.
    fn handle_alive(&mut self, cx: &mut Cx, network: &Network, from: IpAddr, headers: &ssdp::Headers) {
        let uuid = search::uuid(&headers.usn);
        let at_gateway = search::location_at_gateway(network, from, &headers.location);
        let is_its_sender =
            |device: &Device| device.from == from || at_gateway.as_ref() == Some(&device.location);
        let is_ours = |device: &&Device| {
            is_its_sender(device)
                && device.is_named(uuid)
                && !self.services.of_device(device.number).is_empty()
        };
        let ours = self.devices.list.iter().find(is_ours).map(|device| device.number);
        let is_gateway = network.gateway == Some(from) && search::is_gateway_target(&headers.target);
        if let Some(number) = ours {
            // A reboot without ssdp:byebye and BOOTID shows only in the device's table.
            if !matches!(self.handle_heard(cx, from, headers), DeviceChange::Restarted(_)) {
                self.check_one_entry(cx, number);
            }
        } else if is_gateway && self.services.count(true) == 0 {
            // No device of the gateway is known: this one may have started late.
            self.resting = false;
            self.handle_heard(cx, from, headers);
            self.notices.push_back(Notice::SignOfLife);
        }
    }

    /// A service has failed: fetches the descriptions that were not needed before.
    pub(super) fn fetch_unread(&mut self, cx: &Cx) {
        self.resting = false;
        let unread =
            self.devices.list.iter().filter(|device| device.fetches == 0).map(|device| device.number);
        for number in unread.collect::<Vec<_>>() {
            self.fetch(cx, number);
        }
    }

    /// Fetches the description of a device, if it is needed.
    fn fetch(&mut self, cx: &Cx, number: u32) {
        let is_in_use = !self.services.of_device(number).is_empty();
        // A doubted device may have another description by now.
        let is_sought = self.devices.list.iter().any(|device| device.is_doubted);
        // Mappings on other devices move to the gateway's own device, however late it answers.
        let host = self.devices.get(number).map(|device| device.location.address.ip());
        let is_better =
            self.network.is_some_and(|network| network.gateway == host) && self.services.works_elsewhere();
        let is_wanted = !self.resting || is_in_use || is_sought || is_better;
        if !is_wanted || self.exchanges.has(|job| job.device() == Some(number)) {
            return;
        }
        let Some(device) = self.devices.get_mut(number) else { return };
        device.note_fetch();
        let (job, url) = (Job::Describe(number, device.named_by), device.location.clone());
        self.exchanges.enqueue(job, url, cx.config.discover_timeout);
    }

    pub(super) fn handle_description(&mut self, cx: &mut Cx, number: u32, done: Finished) {
        let trouble = match &done.result {
            Ok(reply) if (200..300).contains(&reply.status) => None,
            Ok(reply) => Some(Reason::Http { status: reply.status }),
            Err(trouble) => Outcome::Failed(*trouble).reason(),
        };
        if trouble.is_some() {
            let status = done.result.as_ref().ok().map(|reply| reply.status);
            self.trouble = Some(Reason::NoDescription { status });
        }
        if let Some(device) = self.devices.get_mut(number) {
            device.trouble = trouble;
        }
        let Some(network) = self.network else { return };
        match self.devices.described(cx.now, &network, number, &done) {
            DescriptionResult::Services(services) => self.take_services(cx, number, services),
            DescriptionResult::Moved(url) => {
                self.exchanges.enqueue(done.request.job, url, cx.config.discover_timeout)
            }
        }
        self.notices.push_back(Notice::Changed);
        if matches!(self.search, Search { since: Some(_), rounds: None, .. }) {
            self.end_search(cx);
        }
    }

    /// Takes over the services of a device; none: its description could not be fetched. Known services keep their
    /// entries and tasks, even at another URL.
    fn take_services(&mut self, cx: &mut Cx, number: u32, all_named: Vec<NamedService>) {
        let known = self.services.of_device(number);
        if all_named.is_empty() && !known.is_empty() {
            log!(Warn, "UPnP-IGD: the device in use no longer has a description");
            self.begin_doubt(cx, number, Duration::ZERO);
        }
        let Some(device) = self.devices.get_mut(number) else { return };
        let has_restarted = std::mem::take(&mut device.has_restarted);
        let host = Some(device.location.address.ip());
        let on_gateway = self.network.is_some_and(|network| network.gateway == host);
        device.is_doubted &= all_named.is_empty();
        let mut kept = Vec::new();
        for named in all_named {
            let rung = Rung::Upnp(cx.ledger.service_id(&named.identity));
            let is_same = |service: &&mut Service| {
                let is_renamed =
                    known.contains(&service.rung) && service.named.service_type == named.service_type;
                (service.rung == rung || is_renamed) && !kept.contains(&service.rung)
            };
            let Some(service) = self.services.list.iter_mut().find(is_same) else {
                log!(Debug, "UPnP-IGD: finds {} at {}", named.service_type, named.url.address);
                kept.push(rung);
                // Mappings that failed there before may ask it again.
                self.notices.push_back(Notice::ServiceRestarted { rung });
                self.services.list.push(Service::new(rung, number, on_gateway, named));
                self.resume_deletions(cx, |slot| slot.rung == rung);
                continue;
            };
            let (rung, has_moved) = (service.rung, service.named.url != named.url);
            kept.push(rung);
            (service.device, service.named) = (number, named);
            (service.on_gateway, service.troubles) = (on_gateway, 0);
            if has_restarted || has_moved {
                // It may report an external address now.
                service.address.forget_silence();
                self.notices.push_back(Notice::ServiceRestarted { rung });
                if std::mem::take(&mut service.firewall).is_off {
                    self.notices.push_back(Notice::FirewallOn);
                }
                self.note_overtaken(rung);
            }
        }
        for &rung in known.iter().filter(|rung| !kept.contains(rung)) {
            self.notices.push_back(Notice::ServiceRestarted { rung });
        }
        self.drop_services(cx, |service| service.device == number && !kept.contains(&service.rung));
        if self.services.list.is_empty() && !known.is_empty() {
            cx.protocols.doubt(Protocol::UpnpIgd);
        }
        if !kept.is_empty() {
            cx.protocols.note_heard(cx.now, Protocol::UpnpIgd);
            if on_gateway && self.services.works_elsewhere() {
                self.notices.push_back(Notice::BetterService);
            }
            self.probe_alternatives(cx, on_gateway);
        }
    }

    /// Evaluates what an exchange shows about the server.
    pub(super) fn note_health(&mut self, cx: &mut Cx, job: Job, url: &Url, outcome: &Outcome) {
        let Some(service) = job.rung().and_then(|id| self.services.get_mut(id)) else { return };
        let device = service.device;
        // The standards require GetExternalIPAddress and AddPinhole: a service without it is another service.
        let is_misfit = matches!(job, Job::Address(_) | Job::Pinhole(_))
            && *outcome == Outcome::Fault(code::INVALID_ACTION);
        match outcome {
            Outcome::Fault(_) if is_misfit => self.refetch(cx, device),
            Outcome::Done(_) | Outcome::Fault(_) => {
                service.troubles = 0;
                if let Some(device) = self.devices.get_mut(device) {
                    device.is_doubted = false;
                }
            }
            Outcome::Status(404 | 405 | 410) => self.refetch(cx, device),
            Outcome::Status(_) | Outcome::Failed(ExchangeError::Cut | ExchangeError::OtherSource) => {}
            Outcome::Failed(ExchangeError::Refused | ExchangeError::Reset | ExchangeError::TimedOut) => {
                if let Some(port) = service.named.other_port.take()
                    && *outcome == Outcome::Failed(ExchangeError::Refused)
                {
                    // The port in URLBase or the control URL is closed.
                    service.named.url.address.set_port(port);
                    return;
                }
                service.troubles = service.troubles.saturating_add(1);
                if service.troubles >= TROUBLES_TO_DOUBT && *url == service.named.url {
                    self.begin_doubt(cx, device, Duration::ZERO);
                }
            }
        }
    }

    /// The server does not know the control URL: the description may have another by now.
    fn refetch(&mut self, cx: &Cx, number: u32) {
        let is_old =
            |state| matches!(state, DeviceState::Described { at } if cx.now.since(at) >= REFETCH_INTERVAL);
        if self.devices.get(number).is_some_and(|device| is_old(device.state)) {
            self.fetch(cx, number);
        }
    }

    /// A device in use no longer answers: it is searched for.
    fn begin_doubt(&mut self, cx: &mut Cx, number: u32, wait: Duration) {
        let is_first = !self.devices.list.iter().any(|device| device.is_doubted);
        let is_in_use = !self.services.of_device(number).is_empty();
        let device = self.devices.get_mut(number).filter(|device| is_in_use && !device.is_doubted);
        let Some(device) = device else { return };
        device.is_doubted = true;
        log!(Info, "UPnP-IGD: searches again for the device at {}", device.location.address);
        let mut at = cx.now + wait;
        if is_first {
            match self.doubted_at.filter(|&last| at.since(last) < DOUBT_CALM) {
                Some(last) => {
                    self.doubt_searches = self.doubt_searches.max(UNHURRIED);
                    at = at.max(last + self.doubt_wait(cx));
                }
                None => self.doubt_searches = 0,
            }
        }
        self.timers.set(Timer::Doubt, at);
    }

    /// The wait until the next search for doubted devices.
    fn doubt_wait(&self, cx: &Cx) -> Duration {
        let wait = DOUBT_WAITS.get(self.doubt_searches).copied();
        wait.unwrap_or(cx.config.recheck_interval.max(DOUBT_WAITS[5]))
    }

    /// Searches for the doubted devices.
    pub(super) fn search_doubted(&mut self, cx: &mut Cx) {
        let doubted = self.devices.list.iter().filter(|device| device.is_doubted);
        let doubted: Vec<_> = doubted.map(|device| (device.number, device.from)).collect();
        let (Some(network), Some(&(_, lost))) = (self.network, doubted.first()) else { return };
        self.timers.set(Timer::Doubt, cx.now + self.doubt_wait(cx));
        self.doubted_at = Some(cx.now);
        self.doubt_searches += 1;
        if self.is_open == Some(true) {
            search::send_round(cx, &network, self.sockets, Some(lost));
            if network.is_ipv6() && lost.is_ipv4() {
                self.search_by_ipv4(cx);
            }
        }
        // A request for the external address shows whether it answers again.
        for (number, _) in doubted {
            for id in self.services.of_device(number) {
                match network.is_ipv6() {
                    true => self.ask_firewall(id),
                    false => self.ask_address(id),
                }
            }
        }
    }
}
