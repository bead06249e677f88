//! The program's mappings to IPv6 addresses, and the engine of each address.
//!
//! A mapping is in the engine of the address that it leads to. When that address goes, the mapping is made in the engine
//! of another first, and only then destroyed in the old one, which nothing waits for. The ids of mappings in an engine are
//! its own: a mapping may return to an engine that is still deleting it.

use super::address_engines::{AddressEngines, Report};
use super::{Choice, Ipv6Addresses, choose, is_usable_target};
use crate::Engine;
use crate::io::{Config, EngineId, Event, MappingId, Output, Random, Source, Wanted};
use crate::log::log;
use crate::ordered::Map;
use crate::reason::Reason;
use crate::time::Time;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// The addresses are looked up at most this often because of notices, the first time at once.
const LOOK_UP_INTERVAL: Duration = Duration::from_millis(100);

/// The address is chosen anew at most this often: router advertisements may change it at any rate.
const MOVE_INTERVAL: Duration = Duration::from_secs(1);

/// Which address a mapping leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The one that is chosen.
    Chosen,
    /// The one that the program names.
    Address(Ipv6Addr),
}

/// A mapping in one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placement {
    engine: EngineId,
    id: MappingId,
    /// Its last event.
    told: Option<Event>,
}

/// A mapping of the program.
#[derive(Debug)]
struct Pinhole {
    wanted: Wanted,
    target: Target,
    /// When it fails, if no address is ready.
    deadline: Time,
    present: Option<Placement>,
    /// It is being made at another address, while the present one still works.
    next: Option<Placement>,
    /// The last event that the program was told.
    told: Option<Event>,
    is_destroyed: bool,
    /// Why it is in no engine.
    obstacle: Option<Reason>,
}

pub(crate) struct Pinholes {
    config: Config,
    /// What the system said last.
    addresses: Option<Ipv6Addresses>,
    chosen: Option<Source>,
    moved_at: Option<Time>,
    pub(crate) engines: AddressEngines,
    by_id: Map<MappingId, Pinhole>,
    /// The mappings of the program by their ids in the engines.
    placed: Map<MappingId, MappingId>,
    last_id: MappingId,
    looked_up_at: Option<Time>,
    /// When the addresses are looked up next.
    look_up_at: Option<Time>,
    /// The routes are looked up with the addresses.
    are_routes_wanted: bool,
    is_cleaning_up: bool,
}

impl Pinholes {
    pub(crate) fn new(config: Config, random: Box<dyn Random>) -> Pinholes {
        Pinholes {
            engines: AddressEngines::new(config.clone(), random),
            config,
            addresses: None,
            chosen: None,
            moved_at: None,
            by_id: Map::new(),
            placed: Map::new(),
            last_id: 0,
            looked_up_at: None,
            look_up_at: None,
            are_routes_wanted: false,
            is_cleaning_up: false,
        }
    }

    /// The engine that a mapping is in, and its id there.
    pub(crate) fn place_of(&self, id: MappingId) -> Option<(&Engine, MappingId)> {
        let place = self.by_id.get(&id)?.present?;
        Some((self.engines.get(place.engine)?, place.id))
    }

    /// Why a mapping is in no engine.
    pub(crate) fn obstacle(&self, id: MappingId) -> Option<Reason> {
        self.by_id.get(&id)?.obstacle
    }

    pub(crate) fn has(&self, id: MappingId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn create(&mut self, now: Time, id: MappingId, wanted: Wanted, address: Ipv6Addr) {
        let target = self.target(address);
        let pinhole = Pinhole {
            wanted,
            target,
            deadline: now + self.config.discover_timeout,
            present: None,
            next: None,
            told: None,
            is_destroyed: false,
            obstacle: None,
        };
        self.by_id.insert(id, pinhole);
        if self.is_cleaning_up {
            return self.tell(id, Event::Destroyed);
        }
        if self.by_id.len() == 1 || self.addresses.is_none() {
            // They were not watched while there was no mapping.
            return self.look_up(now);
        }
        self.place(now, id);
        self.pump(now);
    }

    /// What an address given by the program means. The external address of a live mapping is that mapping's: a program
    /// hands back what it was told, and a prefix translator may stand in between.
    fn target(&self, address: Ipv6Addr) -> Target {
        if address.is_unspecified() {
            return Target::Chosen;
        }
        if self.addresses.as_ref().is_some_and(|known| known.get(address).is_some()) {
            return Target::Address(address);
        }
        let is_external = |pinhole: &&Pinhole| matches!(pinhole.told, Some(Event::Success { address: told, .. }) if told == IpAddr::V6(address));
        let place = self.by_id.values().find(is_external).and_then(|pinhole| pinhole.present);
        let source = place.and_then(|place| self.engines.source(place.engine));
        Target::Address(source.map_or(address, |source| source.address))
    }

    pub(crate) fn destroy(&mut self, now: Time, id: MappingId) {
        let Some(pinhole) = self.by_id.get_mut(&id) else { return };
        pinhole.is_destroyed = true;
        let places = [pinhole.present, pinhole.next];
        if places == [None, None] {
            return self.tell(id, Event::Destroyed);
        }
        for place in places.into_iter().flatten() {
            if let Some(engine) = self.engines.get_mut(place.engine) {
                engine.handle_destroy(now, place.id);
            }
        }
        self.pump(now);
    }

    pub(crate) fn clean_up(&mut self, now: Time) {
        self.is_cleaning_up = true;
        self.look_up_at = None;
        self.engines.clean_up(now);
        let unplaced = |_, pinhole: &Pinhole| pinhole.present.is_none() && pinhole.next.is_none();
        for id in self.by_id.keys_where(unplaced) {
            self.tell(id, Event::Destroyed);
        }
        self.pump(now);
    }

    /// Whether there is neither a mapping nor an engine.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.engines.is_empty()
    }

    /// Links, addresses or routes have changed, or the machine has slept.
    pub(crate) fn handle_network_changed(&mut self, now: Time) {
        for engine in self.engines.iter_mut() {
            engine.handle_network_changed(now);
        }
        self.handle_changed(now);
        self.pump(now);
    }

    /// Addresses or routes of IPv6 may have changed.
    pub(crate) fn handle_changed(&mut self, now: Time) {
        if self.is_empty() || self.is_cleaning_up {
            return;
        }
        self.are_routes_wanted = true;
        match self.looked_up_at {
            Some(at) if now < at + LOOK_UP_INTERVAL => self.look_up_sooner(at + LOOK_UP_INTERVAL),
            _ => self.look_up(now),
        }
    }

    fn look_up_sooner(&mut self, at: Time) {
        self.look_up_at = Some(self.look_up_at.map_or(at, |known| known.min(at)));
    }

    fn look_up(&mut self, now: Time) {
        self.looked_up_at = Some(now);
        self.look_up_at = Some(now + self.config.recheck_interval);
        let zone = self.config.gateway_zone.clone();
        self.engines.output(Output::LookUpAddresses { zone });
    }

    /// The answer to `Output::LookUpAddresses`; `None`: the system could not be asked.
    pub(crate) fn handle_addresses(&mut self, now: Time, addresses: Option<Ipv6Addresses>) {
        if self.is_cleaning_up {
            return;
        }
        if let Some(addresses) = addresses {
            let is_same = self.addresses.as_ref().is_some_and(|known| known.are_same(&addresses));
            self.addresses = Some(addresses);
            if !is_same {
                self.are_routes_wanted = true;
            }
        }
        for id in self.by_id.keys() {
            self.place(now, id);
        }
        if std::mem::take(&mut self.are_routes_wanted) {
            for engine in self.engines.iter_mut() {
                engine.look_up_soon(now);
            }
        }
        self.pump(now);
    }

    /// The address that a mapping is to lead to; `Ok(None)`: it is not decided yet.
    fn wanted_source(&mut self, now: Time, id: MappingId) -> Result<Option<Source>, Reason> {
        if self.config.gateway.is_some_and(|(gateway, _)| gateway.is_ipv4()) {
            return Err(Reason::OtherFamily);
        }
        let Some(target) = self.by_id.get(&id).map(|pinhole| pinhole.target) else { return Ok(None) };
        if let Target::Address(address) = target {
            is_usable_target(address)?;
        }
        let Some(addresses) = &self.addresses else { return Err(Reason::Shortage) };
        if let Target::Address(address) = target {
            let known = addresses.get(address).ok_or(Reason::NotOurAddress { address: address.into() })?;
            let source = Source { address, interface: known.interface };
            return Ok((!known.is_tentative).then_some(source));
        }
        if addresses.interface.is_none() {
            return Err(Reason::NoIpv6Route);
        }
        match choose(addresses, self.chosen) {
            Choice::None => Err(Reason::NoIpv6Address),
            Choice::Wait => Ok(None),
            Choice::Address(source) if self.chosen == Some(source) => Ok(Some(source)),
            Choice::Address(source) => match self.moved_at {
                Some(at) if now < at + MOVE_INTERVAL && self.chosen.is_some_and(|old| self.is_there(old)) => {
                    self.look_up_sooner(at + MOVE_INTERVAL);
                    Ok(self.chosen)
                }
                _ => {
                    log!(Info, "network: mappings to IPv6 lead to {}", source.address);
                    (self.chosen, self.moved_at) = (Some(source), Some(now));
                    Ok(Some(source))
                }
            },
        }
    }

    /// Moves a mapping to the engine of the address that it is to lead to.
    fn place(&mut self, now: Time, id: MappingId) {
        let wanted = self.wanted_source(now, id);
        let Some(pinhole) = self.by_id.get(&id).filter(|pinhole| !pinhole.is_destroyed) else { return };
        let (present, next) = (pinhole.present, pinhole.next);
        let source = match wanted {
            Ok(Some(source)) => source,
            Ok(None) => return self.wait_for_address(now, id),
            Err(reason) => return self.note_obstacle(now, id, reason),
        };
        let is_at = |place: Option<Placement>| {
            place.and_then(|place| self.engines.source(place.engine)) == Some(source)
        };
        if is_at(present) {
            if let Some(next) = next {
                self.set(id, |pinhole| pinhole.next = None);
                self.leave(now, next);
            }
            return;
        }
        if is_at(next) {
            return self.advance(now, id);
        }
        let Some(engine) = self.engines.obtain(now, source) else {
            return self.note_obstacle(now, id, Reason::TooManyAddresses);
        };
        self.last_id += 1;
        let place = Placement { engine, id: self.last_id, told: None };
        self.placed.insert(place.id, id);
        self.set(id, |pinhole| (pinhole.next, pinhole.obstacle) = (Some(place), None));
        if let Some(next) = next {
            self.leave(now, next);
        }
        let Some(mut wanted) = self.by_id.get(&id).map(|pinhole| pinhole.wanted) else { return };
        wanted.wish.address = None;
        if let Some(engine) = self.engines.get_mut(engine) {
            engine.handle_create(now, place.id, wanted);
        }
        self.advance(now, id);
    }

    /// The addresses are tentative: FAILURE is told at the deadline of a mapping that has no other.
    fn wait_for_address(&mut self, now: Time, id: MappingId) {
        let Some(pinhole) = self.by_id.get(&id).filter(|pinhole| pinhole.present.is_none()) else { return };
        match pinhole.deadline {
            at if now < at => self.look_up_sooner(at),
            _ => self.note_obstacle(now, id, Reason::NoIpv6Address),
        }
    }

    fn set(&mut self, id: MappingId, change: impl FnOnce(&mut Pinhole)) {
        if let Some(pinhole) = self.by_id.get_mut(&id) {
            change(pinhole);
        }
    }

    /// A mapping cannot lead to any address for now.
    fn note_obstacle(&mut self, now: Time, id: MappingId, reason: Reason) {
        let Some(pinhole) = self.by_id.get_mut(&id) else { return };
        if pinhole.obstacle.replace(reason) != Some(reason) {
            log!(Warn, "mapping {id}: {reason}");
        }
        for place in [pinhole.present.take(), pinhole.next.take()].into_iter().flatten() {
            self.leave(now, place);
        }
        self.tell(id, Event::Failure);
    }

    /// Takes a mapping out of an engine, which deletes what the gateway has of it. Nothing waits for that.
    fn leave(&mut self, now: Time, place: Placement) {
        self.placed.remove(&place.id);
        if let Some(engine) = self.engines.get_mut(place.engine) {
            engine.handle_destroy(now, place.id);
        }
    }

    /// Goes over to the next place of a mapping, once it is made there or the present one is of no use.
    fn advance(&mut self, now: Time, id: MappingId) {
        let Some(pinhole) = self.by_id.get(&id) else { return };
        let Some(next) = pinhole.next else { return };
        let is_made = |told: Option<Event>| matches!(told, Some(Event::Success { .. }));
        let is_working = pinhole.present.is_some_and(|present| {
            let source = self.engines.source(present.engine);
            is_made(present.told) && source.is_some_and(|source| self.is_there(source))
        });
        if is_working && !is_made(next.told) {
            return;
        }
        let old = pinhole.present;
        self.set(id, |pinhole| (pinhole.present, pinhole.next) = (Some(next), None));
        if let Some(old) = old {
            self.leave(now, old);
        }
        // An id that was told FAILURE keeps it until it is granted.
        let is_pending = old.is_some_and(|old| is_made(old.told));
        if let Some(event) = next.told.or(is_pending.then_some(Event::Pending)) {
            self.tell(id, event);
        }
    }

    /// Whether this machine still has an address.
    fn is_there(&self, source: Source) -> bool {
        let known = self.addresses.as_ref().and_then(|known| known.get(source.address));
        known.is_some_and(|known| known.interface == source.interface)
    }

    /// Tells the program an event, unless it was told the same.
    fn tell(&mut self, id: MappingId, event: Event) {
        let Some(pinhole) = self.by_id.get_mut(&id) else { return };
        let is_news = match event {
            Event::Pending => matches!(pinhole.told, Some(Event::Success { .. })),
            _ => pinhole.told != Some(event),
        };
        if pinhole.is_destroyed && event != Event::Destroyed || !is_news {
            return;
        }
        pinhole.told = Some(event);
        self.engines.output(Output::Event { id, event });
        if event == Event::Destroyed {
            self.by_id.remove(&id);
        }
    }

    /// Handles what the engines report. To be called after each input of an engine.
    pub(crate) fn pump(&mut self, now: Time) {
        while let Some(report) = self.engines.next_report(now) {
            match report {
                Report::Event { engine, id, event } => self.handle_event(now, engine, id, event),
                Report::Ended => self.try_again(now),
            }
        }
    }

    /// An engine has ended: there may be room for another.
    fn try_again(&mut self, now: Time) {
        let waits = |_, pinhole: &Pinhole| pinhole.obstacle == Some(Reason::TooManyAddresses);
        for id in self.by_id.keys_where(waits) {
            self.place(now, id);
        }
    }

    fn handle_event(&mut self, now: Time, engine: EngineId, placed: MappingId, event: Event) {
        let Some(&id) = self.placed.get(&placed) else { return };
        let Some(pinhole) = self.by_id.get_mut(&id) else { return };
        let is_it = |place: &Placement| place.engine == engine && place.id == placed;
        let is_present = pinhole.present.as_ref().is_some_and(is_it);
        let place = if is_present { &mut pinhole.present } else { &mut pinhole.next };
        let Some(place) = place.as_mut().filter(|place| is_it(place)) else { return };
        place.told = Some(event);
        if event == Event::Destroyed {
            self.placed.remove(&placed);
            match is_present {
                true => pinhole.present = None,
                false => pinhole.next = None,
            }
            if pinhole.present.is_none() && pinhole.next.is_none() {
                self.tell(id, event);
            }
            return;
        }
        if is_present {
            self.tell(id, event);
        }
        self.advance(now, id);
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.engines.handle_timeout(now);
        if self.look_up_at.is_some_and(|at| at <= now) {
            self.look_up_at = None;
            if !self.by_id.is_empty() {
                self.look_up(now);
            }
        }
        self.pump(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.engines.poll_timeout().into_iter().chain(self.look_up_at).min()
    }
}
