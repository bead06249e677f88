//! One seed, one story: a program, its machine, the networks it is carried to, and what happens to all of them.
//!
//! A story is a list of steps, each drawn from a generator of its own: so a story without some of its steps is the
//! same in the others, and a failing one can be made shorter.

use crate::agreement::{self, Claim, Place};
use crate::gateways::{self, percent, pick};
use crate::watched::{Counts, Watched};
use crate::world::{GATEWAY, INTERFACE, LOCAL, Node, Power, Setup, World, gateway_time};
use plum::engine::driver::Key;
use plum::engine::io::{Allowed, Config, Event, MappingId, Protocol, Route, Socket, Suggestion};
use plum::time::Time;
use plum::wire::Transport;
use plum_gateway::core::{Faults, Gateway, Protocol as MadeBy};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

/// Which part of a story is told, and how loudly.
#[derive(Clone, Debug, Default)]
pub struct Telling {
    /// How much of what happens is kept for a failure's report.
    pub trace: usize,
    /// Steps that are left out.
    pub without: BTreeSet<usize>,
    /// A story of few steps, few mappings and short spans: for the fast suite, which is not optimised.
    pub brief: bool,
}

/// What became of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What everything that the engine said and heard amounts to.
    pub hash: u64,
    /// How much time passed in it.
    pub virtual_time: Duration,
    /// What happened in it.
    pub counts: Counts,
    /// How often a gateway restarted.
    pub restarts: u64,
    /// How often the state of every mapping was compared with the gateways'.
    pub comparisons: u64,
    /// The most packets in any second in which nothing was created or destroyed.
    pub most_packets: u32,
    /// Bytes that the engine held at most, and for how many mappings.
    pub most_held: (isize, usize),
}

/// How long a story takes, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Minutes,
    Hours,
    Days,
    Years,
}

/// What holds of a place that the machine may be in.
#[derive(Clone, Copy, Debug)]
struct Home {
    route: Route,
}

/// A story that is being told.
pub struct Story {
    /// The world that it happens in.
    pub world: World<Watched>,
    seed: u64,
    scale: Scale,
    brief: bool,
    homes: Vec<Home>,
    /// What each gateway is like when nothing is wrong.
    characters: Vec<Faults>,
    /// The machine has no route.
    is_offline: bool,
    live: BTreeMap<MappingId, Key>,
    /// Since when all is quiet and has had its time to settle.
    settled_since: Option<Time>,
    /// Entries whose mappings are destroyed, and when.
    leaving: Vec<(Time, Claim, Key)>,
    /// What gateways may refuse until then, from answers they gave when something was wrong.
    excluded_until: Time,
    /// How long the answers that are given now may exclude a protocol.
    open_exclusion: Duration,
    /// How long each gateway had been up when it lost what it had, and when it was heard before that.
    losses: Vec<(Duration, Time)>,
    /// The longest lifetime that was granted since all was quiet.
    longest_lifetime: Duration,
    /// The gateway may have lost what we think it has, without its clock or an announcement telling.
    has_hidden_losses: bool,
    /// A gateway may have taught the present engine what is not so: see `Trouble::is_remembered`.
    has_taught: bool,
    /// There was trouble that the present engine may remember for good: see `Trouble::lasts`.
    has_lasting_trouble: bool,
    /// The keys that were destroyed.
    gone: BTreeSet<Key>,
    /// Restarts and set clocks since all was quiet.
    eras: u32,
    /// A gateway has restarted, or its clock was set.
    has_lost: bool,
    restarts: u64,
    comparisons: u64,
    inits: u64,
}

/// Seeds of the independent generators of a story.
fn seed_of(seed: u64, purpose: u64) -> u64 {
    // SplitMix64's finalizer, so that neighbouring seeds have nothing in common.
    let mut z =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(purpose.wrapping_mul(0xd134_2543_de82_ef95));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const SECOND_LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 101));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2));
const OTHER_GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const OTHER_LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
const PUBLIC_GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(9, 1, 2, 1));
const PUBLIC_LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(9, 1, 2, 3));

/// How many datagrams' work one span may be.
const WORK: f64 = 3000.0;

impl Story {
    /// The beginning of the story of a seed.
    pub fn new(seed: u64, telling: &Telling) -> Story {
        let mut rng = fastrand::Rng::with_seed(seed_of(seed, 0));
        let scale = match rng.u32(0..1000) {
            _ if telling.brief => Scale::Minutes,
            0..550 => Scale::Minutes,
            550..900 => Scale::Hours,
            900..994 => Scale::Days,
            _ => Scale::Years,
        };
        let config = engine_config(&mut rng, scale);
        let first = gateways::config(&mut rng, GATEWAY, Ipv4Addr::new(203, 0, 113, 7));
        let mut homes =
            vec![Home { route: Route { gateway: Some(GATEWAY), local: LOCAL, interface: INTERFACE } }];
        let mut others = Vec::new();
        if percent(&mut rng, 30) {
            others.push((gateways::config(&mut rng, STRANGER, Ipv4Addr::new(203, 0, 113, 8)), 0));
        }
        if percent(&mut rng, 40) {
            // Two homes may have the same addresses.
            let same = rng.bool();
            let address = if same { GATEWAY } else { OTHER_GATEWAY };
            others.push((gateways::config(&mut rng, address, Ipv4Addr::new(198, 51, 100, 9)), homes.len()));
            homes.push(if same {
                homes[0]
            } else {
                Home { route: Route { gateway: Some(address), local: OTHER_LOCAL, interface: INTERFACE } }
            });
        }
        if percent(&mut rng, 5) {
            let route = Route { gateway: Some(PUBLIC_GATEWAY), local: PUBLIC_LOCAL, interface: INTERFACE };
            homes.push(Home { route });
        }
        let setup = Setup {
            seed,
            engine: config.clone(),
            gateways: vec![first],
            route: Some(homes[0].route),
            latency: Duration::from_micros(rng.u64(100..20_000)),
        };
        let mut world = World::with_endpoint(setup, Watched::new(config, seed_of(seed, 1)));
        world.set_trace(telling.trace);
        world.network.forger = percent(&mut rng, 15);
        for (config, home) in others {
            let gateway = Gateway::new(config, gateway_time(world.now()));
            world.network.nodes.push(Node { gateway, power: Power::On, interface: INTERFACE, home });
        }
        let characters: Vec<Faults> =
            (0..world.network.nodes.len()).map(|_| gateways::character(&mut rng)).collect();
        for (node, character) in world.network.nodes.iter_mut().zip(&characters) {
            node.gateway.faults = character.clone();
        }
        let start = world.now();
        Story {
            world,
            seed,
            scale,
            brief: telling.brief,
            homes,
            characters,
            is_offline: false,
            live: BTreeMap::new(),
            settled_since: None,
            leaving: Vec::new(),
            excluded_until: start,
            open_exclusion: Duration::ZERO,
            losses: Vec::new(),
            longest_lifetime: Duration::from_secs(7200),
            has_hidden_losses: false,
            has_taught: false,
            has_lasting_trouble: false,
            gone: BTreeSet::new(),
            eras: 0,
            has_lost: false,
            restarts: 0,
            comparisons: 0,
            inits: 0,
        }
    }

    /// How many steps the story has.
    pub fn steps(&self) -> usize {
        let mut rng = fastrand::Rng::with_seed(seed_of(self.seed, 2));
        match self.scale {
            _ if self.brief => rng.usize(1..5),
            Scale::Minutes => rng.usize(3..25),
            Scale::Hours => rng.usize(3..20),
            Scale::Days => rng.usize(3..15),
            Scale::Years => rng.usize(4..12),
        }
    }

    /// Tells it to the end. Panics where a promise is broken.
    pub fn tell(&mut self, telling: &Telling) -> Outcome {
        let steps = self.steps();
        for n in (0..steps).filter(|n| !telling.without.contains(n)) {
            let mut rng = fastrand::Rng::with_seed(seed_of(self.seed, 100 + n as u64));
            self.world.note(|| format!("=== step {n}"));
            self.step(&mut rng);
        }
        let mut rng = fastrand::Rng::with_seed(seed_of(self.seed, 3));
        self.world.note(|| "=== the end".into());
        self.end(&mut rng);
        let watched = self.world.endpoint();
        Outcome {
            hash: watched.hash(),
            virtual_time: self.world.elapsed(),
            counts: watched.counts,
            restarts: self.restarts,
            comparisons: self.comparisons,
            most_packets: watched.packets.most,
            most_held: watched.most_held(),
        }
    }

    fn step(&mut self, rng: &mut fastrand::Rng) {
        match rng.u32(0..40) {
            0..8 => self.live_on(rng),
            8 => self.create_many(rng),
            9 => self.destroy_all(rng),
            10 | 11 => self.begin_again(rng),
            12..15 => self.trouble_network(rng),
            15..22 => self.trouble_gateway(rng),
            22..26 => self.change_gateway(rng),
            26..32 => self.change_host(rng),
            _ => self.calm(rng),
        }
        let span = self.span(rng);
        self.pass(span);
    }

    // Time.

    /// How long something goes on.
    fn span(&self, rng: &mut fastrand::Rng) -> Duration {
        let most = match self.scale {
            Scale::Minutes => 600,
            Scale::Hours => 4 * 3600,
            Scale::Days => 2 * 86_400,
            Scale::Years => 60 * 86_400,
        };
        // Short spans are where things meet.
        match rng.u32(0..4) {
            0 => Duration::from_millis(rng.u64(0..3000)),
            1 => Duration::from_millis(rng.u64(0..60_000)),
            _ => Duration::from_millis(rng.u64(0..most * 1000)),
        }
    }

    /// The longest span that does not cost more than its share of the machine's time.
    fn affordable(&self, span: Duration) -> Duration {
        let config = self.world.endpoint().config();
        let keys = 1 + self.live.values().collect::<BTreeSet<_>>().len() as u64;
        let shortest = self.world.network.nodes.iter().filter_map(|node| {
            let faults = &node.gateway.faults;
            faults.lifetime.into_iter().chain(faults.max_lifetime).min()
        });
        let lifetime = shortest.min().map_or(7200, |secs| u64::from(secs).max(8)) as f64;
        let states = || self.live.keys().map(|&id| self.world.state(id));
        let by_upnp = |state| matches!(state, Event::Success { protocol: Protocol::UpnpIgd, .. });
        let looks = states().filter(|&state| by_upnp(state)).count() as f64;
        let failed = states().filter(|&state| state == Event::Failure).count() as f64;
        // Datagrams a second; an exchange is as much work as a dozen, an attempt in vain may be several exchanges.
        let renewals = (2.0 * keys as f64 + 24.0 * looks) / lifetime;
        let rechecks = (2.0 + 12.0 * looks + failed) / config.recheck_interval.as_secs_f64();
        let retries = failed * 20.0 / config.recheck_interval.as_secs_f64().min(30.0);
        let work = match self.scale {
            _ if self.brief => WORK / 20.0,
            Scale::Years => WORK * 10.0,
            _ => WORK,
        };
        span.min(Duration::from_secs_f64(work / (renewals + rechecks + retries)))
    }

    fn pass(&mut self, span: Duration) {
        let span = self.affordable(span);
        self.pass_all(span);
    }

    fn pass_all(&mut self, span: Duration) {
        self.world.run_for(span);
        self.look_at_the_expired();
    }

    /// `protocols.md`, many mappings: renewals are in time. No mapping runs out on a gateway that answers.
    fn look_at_the_expired(&mut self) {
        let place = self.place();
        for n in 0..self.world.network.nodes.len() {
            while let Some(entry) = self.world.network.nodes[n].gateway.table_mut().pop_expired() {
                let (Some(place), Some(since)) = (place, self.settled_since) else { continue };
                let node = &self.world.network.nodes[n];
                let is_here = node.home == place.home;
                let at = entry.expires_at.map_or(Time::ZERO, crate::world::engine_time);
                // A renewal that was not answered is followed by others, until 4 s before the end.
                if !is_here || entry.internal.ip() != place.local || at < since + Duration::from_secs(60) {
                    continue;
                }
                for (&id, &key) in &self.live {
                    let is_it = agreement::transport(key.transport) == entry.transport
                        && key.internal_port.get() == entry.internal.port();
                    let before = self.world.timeline(id).iter().rev().find(|(when, _)| *when < at);
                    if let (true, Some(&(_, state @ Event::Success { port, .. }))) = (is_it, before) {
                        let is_its = port.get() == entry.external_port
                            && entry.made_by != MadeBy::Script
                            && place.is_by(&self.world, n, state)
                            // Else it stays SUCCESS until its lifetime ends (protocols.md, many mappings).
                            && agreement::is_spoken_by(&node.gateway, state);
                        assert!(!is_its, "expired: {entry:?} of {id} ({key}) on gateway {n} at {at:?}");
                    }
                }
            }
        }
    }

    // The program.

    fn config(&self) -> Config {
        self.world.endpoint().config().clone()
    }

    fn place(&self) -> Option<Place> {
        let route = self.world.network.route.filter(|_| !self.is_offline)?;
        let config = self.config();
        Some(Place {
            home: self.world.network.home(),
            gateway: config.gateway.map(|(address, _)| address).or(route.gateway)?,
            named: config.gateway.is_some(),
            local: route.local,
            direct: config.gateway.is_none() && route.local == PUBLIC_LOCAL,
            allowed: config.allowed,
            has_taught: self.has_taught,
            mismatch: self.has_lasting_trouble,
        })
    }

    fn create(&mut self, rng: &mut fastrand::Rng, port: u16) -> MappingId {
        let transport = if rng.bool() { Transport::Tcp } else { Transport::Udp };
        let wish = Suggestion {
            address: percent(rng, 10).then(|| IpAddr::V4(Ipv4Addr::new(203, 0, 113, rng.u8(1..20)))),
            port: NonZeroU16::new(if percent(rng, 60) { 0 } else { rng.u16(20_000..20_010) }),
        };
        let id = self.world.create_wishing(transport, port, wish);
        let key =
            Key { transport, internal_port: NonZeroU16::new(port).expect("ports of stories are not 0") };
        // Where answers get lost, a mapping and the deletion of the one before may come in any order: the request is
        // sent once more (protocols.md, time and the key of a mapping), but if that is lost too, the next renewal tells.
        self.has_hidden_losses |= self.settled_since.is_none() && self.gone.contains(&key);
        self.live.insert(id, key);
        id
    }

    fn destroy(&mut self, id: MappingId) {
        let Some(key) = self.live.remove(&id) else { return };
        let is_last = !self.live.values().any(|&other| other == key);
        if let (Some(place), true, true) = (self.place(), self.settled_since.is_some(), is_last)
            && let Some(claim) = self.deletable(&place, id, key)
        {
            self.leaving.push((self.world.now(), claim, key));
        }
        self.gone.insert(key);
        self.world.destroy(id);
    }

    /// The entry that must be gone once a mapping is destroyed.
    fn deletable(&self, place: &Place, id: MappingId, key: Key) -> Option<Claim> {
        let state = self.world.state(id);
        let can_be = agreement::can_be_deleted(&self.world, place, key, state);
        place.claim(&self.world, key, state).filter(|_| can_be)
    }

    /// Mappings come and go, on few ports, so that keys meet.
    fn live_on(&mut self, rng: &mut fastrand::Rng) {
        for _ in 0..rng.usize(1..12) {
            if !self.live.is_empty() && percent(rng, 35) {
                let ids: Vec<MappingId> = self.live.keys().copied().collect();
                self.destroy(pick(rng, &ids));
            } else {
                let port = rng.u16(8000..8010);
                self.create(rng, port);
            }
            self.pass(Duration::from_millis(rng.u64(0..400)));
        }
    }

    fn create_many(&mut self, rng: &mut fastrand::Rng) {
        if self.live.len() > 300 {
            return self.destroy_all(rng);
        }
        let first = rng.u16(10_000..10_500);
        let count = if percent(rng, 20) && !self.brief { rng.u16(50..400) } else { rng.u16(5..50) };
        for port in first..first + count {
            self.create(rng, port);
        }
        if percent(rng, 50) {
            self.pass(Duration::from_millis(rng.u64(0..5000)));
        }
    }

    fn destroy_all(&mut self, rng: &mut fastrand::Rng) {
        let ids: Vec<MappingId> = self.live.keys().copied().collect();
        let some = percent(rng, 50);
        for id in ids {
            if !some || rng.bool() {
                self.destroy(id);
            }
        }
    }

    /// Cleanup, then init.
    fn begin_again(&mut self, rng: &mut fastrand::Rng) {
        self.clean_up();
        if percent(rng, 50) {
            self.pass_all(Duration::from_millis(rng.u64(0..10_000)));
        }
        let config = engine_config(rng, self.scale);
        let seed = seed_of(self.seed, 10_000 + self.inits);
        self.inits += 1;
        self.world.begin_again(|watched| watched.renew(config, seed));
        // The gateways are known to nobody any more; what was left behind is left behind.
        self.settled_since = None;
        self.has_taught = false;
        self.has_lasting_trouble = false;
    }

    fn clean_up(&mut self) {
        let place = self.place();
        let settled = self.settled_since.is_some();
        let mut claims = Vec::new();
        if let (Some(place), true) = (place, settled) {
            for (&id, &key) in &self.live {
                claims.extend(self.deletable(&place, id, key).map(|claim| (claim, key)));
            }
        }
        self.live.clear();
        let took = self.world.cleanup();
        self.pass_all(Duration::from_secs(1));
        // behaviour.md: 5 s at most.
        let ran_out_of_time = took >= Duration::from_millis(4999);
        if let (Some(place), false) = (place, ran_out_of_time) {
            for (claim, key) in claims {
                agreement::a_destroyed_mapping_is_gone(&self.world, &place, claim, key);
            }
        }
        self.leaving.clear();
    }

    // What goes wrong.

    /// Nothing is quiet any more.
    fn disturb(&mut self) {
        self.settled_since = None;
        self.leaving.clear();
    }

    fn trouble_network(&mut self, rng: &mut fastrand::Rng) {
        self.disturb();
        self.world.endpoint_mut().packets.is_troubled = true;
        let network = &mut self.world.network;
        let what = match rng.u32(0..5) {
            0 => {
                network.loss = f64::from(rng.u32(1..70)) / 100.0;
                "loses packets"
            }
            1 => {
                network.duplicate = f64::from(rng.u32(1..100)) / 100.0;
                "doubles packets"
            }
            2 => {
                network.jitter = Duration::from_millis(rng.u64(1..2000));
                self.has_lasting_trouble = true;
                "reorders packets"
            }
            3 => {
                network.latency = Duration::from_millis(rng.u64(1..400));
                self.has_lasting_trouble = true;
                "is slow"
            }
            _ => {
                network.cut = true;
                "is cut"
            }
        };
        self.world.note(|| format!("the network {what}"));
    }

    fn any_node(&self, rng: &mut fastrand::Rng) -> usize {
        // Mostly the one that is asked.
        if percent(rng, 70) { 0 } else { rng.usize(0..self.world.network.nodes.len()) }
    }

    fn trouble_gateway(&mut self, rng: &mut fastrand::Rng) {
        self.disturb();
        self.world.endpoint_mut().packets.is_troubled = true;
        let n = self.any_node(rng);
        let mut faults = self.world.gateway_at(n).faults.clone();
        let mut names = Vec::new();
        let (mut excludes_for, mut lifetime) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..rng.usize(1..3) {
            let trouble = gateways::trouble(rng, &mut faults);
            names.push(trouble.name);
            excludes_for = excludes_for.max(trouble.excludes_for);
            lifetime = lifetime.max(trouble.lifetime);
            self.has_taught |= trouble.is_remembered;
            self.has_lasting_trouble |= trouble.lasts;
        }
        self.world.gateway_at(n).faults = faults;
        self.longest_lifetime = self.longest_lifetime.max(lifetime);
        // A renewal that shortens a lease may be carried out, and its answer lost.
        self.has_hidden_losses |= names.contains(&"grants other lifetimes");
        // Those answers may come as long as this trouble lasts; `heal` counts from its end.
        self.excluded_until = self.excluded_until.max(self.world.now() + excludes_for);
        self.world.note(|| format!("gateway {n} {}", names.join(", ")));
        if percent(rng, 50) {
            let span = self.span(rng);
            self.pass(span);
            self.world.gateway_at(n).faults = self.characters[n].clone();
            let now = self.world.now();
            self.world.endpoint_mut().relieve(now);
            self.excluded_until = self.excluded_until.max(self.world.now() + excludes_for);
            self.world.note(|| format!("gateway {n} is as ever"));
        } else {
            self.open_exclusion = self.open_exclusion.max(excludes_for);
        }
    }

    /// A gateway loses what it has, or may have.
    fn note_loss(&mut self, n: usize, is_told: bool) {
        let gateway = &self.world.network.nodes[n].gateway;
        let uptime = Duration::from_secs(gateway.epoch().into());
        let address = gateway.config().address;
        let heard_at = self.world.endpoint().heard_at(address).unwrap_or(Time::ZERO);
        self.eras += 1;
        self.has_lost = true;
        // A mapping stays SUCCESS until its lifetime ends where its protocol is spoken no more.
        let is_deaf = self.live.keys().any(|&id| {
            let protocol = self.world.success(id).map(|(protocol, ..)| protocol);
            protocol.is_some_and(|protocol| !agreement::is_spoken(gateway, protocol))
        });
        let epoch_tells =
            !gateway.faults.epoch_survives_restart && self.eras <= 2 && !is_deaf && !self.has_taught;
        if !is_told || !epoch_tells {
            self.has_hidden_losses = true;
        } else {
            self.losses.push((uptime, heard_at));
        }
    }

    fn change_gateway(&mut self, rng: &mut fastrand::Rng) {
        self.disturb();
        let n = self.any_node(rng);
        let now = self.world.now();
        match rng.u32(0..12) {
            0 | 1 => {
                let keep = rng.bool();
                self.world.note(|| format!("gateway {n} restarts, keeps its table: {keep}"));
                self.note_loss(n, true);
                self.world.gateway_at(n).restart(keep);
                self.world.network.set_power(now, n, Power::On);
                self.restarts += 1;
            }
            2 | 3 => {
                let power = if rng.bool() { Power::Off } else { Power::Stopped };
                self.world.note(|| format!("gateway {n} is {power:?}"));
                self.world.endpoint_mut().packets.is_troubled = true;
                self.world.network.set_power(now, n, power);
                let span = self.span(rng);
                self.pass(span);
                if percent(rng, 70) {
                    self.start_gateway(n, rng.bool());
                }
            }
            4 | 5 => {
                let address = Ipv4Addr::new(203, 0, 113, rng.u8(1..99));
                let announce = rng.bool();
                self.world.note(|| format!("gateway {n} has the external address {address}"));
                self.world.gateway_at(n).set_external_address(address, announce);
                // PCP tells it with the next renewal only; the others are asked for it at each recheck.
                let by_pcp = |&id: &MappingId| {
                    self.world.success(id).is_some_and(|success| success.0 == Protocol::Pcp)
                };
                self.has_hidden_losses |= self.live.keys().any(by_pcp);
            }
            6 => {
                self.world.note(|| format!("gateway {n} forgets its mappings"));
                self.note_loss(n, false);
                self.world.gateway_at(n).forget_mappings();
            }
            7 => {
                self.note_loss(n, true);
                let epoch = if rng.bool() { rng.u32(..) } else { rng.u32(0..1000) };
                self.world.note(|| format!("gateway {n} has the epoch {epoch}"));
                self.world.gateway_at(n).set_epoch(epoch);
            }
            8 => {
                for _ in 0..rng.usize(1..30) {
                    self.world.gateway_at(n).announce();
                    self.pass(Duration::from_millis(rng.u64(0..500)));
                }
            }
            9 => {
                let alive = rng.bool();
                self.world.gateway_at(n).notify(alive);
            }
            10 => {
                let other = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 66)), 80);
                for _ in 0..rng.usize(1..30) {
                    let port = if rng.bool() { rng.u16(8000..8010) } else { rng.u16(20_000..20_010) };
                    let transport = if rng.bool() { Transport::Tcp } else { Transport::Udp };
                    let transport = agreement::transport(transport);
                    let gateway = self.world.gateway_at(n);
                    let is_ours = gateway.table().get(transport, port).is_some();
                    if !is_ours {
                        gateway.occupy(transport, port, other);
                    }
                }
                self.world.note(|| format!("gateway {n} has mappings of others"));
            }
            _ => {
                let character = &mut self.characters[n];
                gateways::choose_protocols(rng, character);
                self.world.network.nodes[n].gateway.faults = character.clone();
                self.has_hidden_losses = true;
                self.world.note(|| format!("gateway {n} speaks other protocols for good"));
            }
        }
    }

    fn start_gateway(&mut self, n: usize, keep: bool) {
        self.world.note(|| format!("gateway {n} starts, keeps its table: {keep}"));
        self.note_loss(n, true);
        self.world.gateway_at(n).restart(keep);
        self.world.network.set_power(self.world.now(), n, Power::On);
        self.restarts += 1;
    }

    // The machine.

    fn route(&mut self, route: Option<Route>) {
        self.is_offline = route.is_none();
        self.world.change_route(route);
    }

    fn change_host(&mut self, rng: &mut fastrand::Rng) {
        self.disturb();
        match rng.u32(0..12) {
            0 | 1 => {
                let local = if rng.bool() { LOCAL } else { SECOND_LOCAL };
                let home = &mut self.homes[self.world.network.home()];
                if home.route.gateway == Some(GATEWAY) {
                    home.route.local = local;
                }
                let route = home.route;
                self.route(Some(route));
            }
            2 => {
                let interface = rng.u32(2..4);
                let here = self.world.network.home();
                self.homes[here].route.interface = interface;
                for node in self.world.network.nodes.iter_mut().filter(|node| node.home == here) {
                    node.interface = interface;
                }
                let route = self.homes[here].route;
                self.route(Some(route));
            }
            3 | 4 => {
                self.route(None);
                let span = self.span(rng);
                self.pass(span);
                if percent(rng, 70) {
                    let route = self.homes[self.world.network.home()].route;
                    self.route(Some(route));
                }
            }
            5..8 => {
                let span = if rng.bool() { rng.u64(0..60) } else { rng.u64(0..100_000) };
                let span = Duration::from_secs(span);
                if rng.bool() && self.homes.len() > 1 {
                    self.move_house(rng);
                }
                self.sleep(span);
            }
            8 | 9 => {
                self.move_house(rng);
                let route = self.homes[self.world.network.home()].route;
                self.route(Some(route));
            }
            10 => {
                for _ in 0..rng.usize(1..50) {
                    self.world.change_network();
                    self.pass(Duration::from_millis(rng.u64(0..300)));
                }
            }
            _ => {
                let sockets =
                    [Socket::Pcp, Socket::NatPmp, Socket::Ssdp, Socket::Announcements, Socket::Notifications];
                self.world.unopenable.insert(pick(rng, &sockets));
            }
        }
    }

    fn sleep(&mut self, span: Duration) {
        let wakes_at = self.world.now() + span;
        self.world.endpoint_mut().sleep(wakes_at, span);
        self.world.sleep_for(span);
    }

    fn move_house(&mut self, rng: &mut fastrand::Rng) {
        let home = rng.usize(0..self.homes.len());
        self.world.note(|| format!("the machine is in home {home}"));
        self.world.network.move_to_home(home);
        self.world.network.route = Some(self.homes[home].route).filter(|_| !self.is_offline);
        // Another gateway of the same address may have the same epoch.
        self.has_hidden_losses = true;
    }

    // Quiet.

    /// Nothing is wrong any more.
    fn heal(&mut self, rng: &mut fastrand::Rng) {
        self.world.note(|| "all is well".into());
        let network = &mut self.world.network;
        (network.loss, network.duplicate, network.cut) = (0.0, 0.0, false);
        network.jitter = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(0..20) });
        network.latency = Duration::from_micros(rng.u64(100..20_000));
        self.world.unopenable.clear();
        for n in 0..self.world.network.nodes.len() {
            self.world.gateway_at(n).faults = self.characters[n].clone();
            if self.world.network.nodes[n].power != Power::On {
                let keep = rng.bool();
                self.start_gateway(n, keep);
            }
        }
        let now = self.world.now();
        self.world.endpoint_mut().packets.is_troubled = false;
        self.world.endpoint_mut().relieve(now);
        self.excluded_until = self.excluded_until.max(now + std::mem::take(&mut self.open_exclusion));
        let route = self.homes[self.world.network.home()].route;
        if self.world.network.route != Some(route) {
            self.route(Some(route));
        } else if rng.bool() {
            self.world.change_network();
        }
    }

    /// How long it takes until everything must have its right state.
    fn settling(&self) -> Duration {
        let now = self.world.now();
        let config = self.world.endpoint().config();
        let keys = u32::try_from(self.live.len()).unwrap_or(u32::MAX);
        // One recheck finds out, then a race may be run, then the mapping is asked for: by one protocol after the
        // other, in the pace of a gateway that is just up.
        let mut span = config.recheck_interval + config.discover_timeout + config.mapping_timeout * 2;
        span += Duration::from_secs(20) + Duration::from_millis(300) * keys;
        span += self.excluded_until.since(now);
        let is_hidden = |&(uptime, heard_at): &(Duration, Time)| {
            // RFC 6886 §3.6 and RFC 6887 §8.5 take a clock that lags by an eighth and 2 s for the same.
            uptime < (now + span).since(heard_at) / 7 + Duration::from_secs(3)
        };
        if self.has_hidden_losses || self.losses.iter().any(is_hidden) {
            // Found out by the next renewal, or at the latest when the lifetime ends. A day is the most that counts.
            span += self.longest_granted().min(Duration::from_secs(86_400));
        }
        span
    }

    fn longest_granted(&self) -> Duration {
        let lifetimes = self.characters.iter().filter_map(|faults| faults.lifetime);
        let longest = lifetimes.max().map_or(Duration::ZERO, |secs| Duration::from_secs(secs.into()));
        self.longest_lifetime.max(longest)
    }

    fn settle(&mut self) {
        let span = self.settling();
        self.world.note(|| format!("all is quiet for {span:?}"));
        self.pass_all(span);
        self.settled_since = Some(self.world.now());
        self.has_hidden_losses = false;
        self.losses.clear();
        self.eras = 0;
        self.compare();
    }

    /// The states that the program knows against the gateways' tables.
    fn compare(&mut self) {
        let (Some(place), Some(since)) = (self.place(), self.settled_since) else { return };
        self.comparisons += 1;
        for n in 0..self.world.network.nodes.len() {
            self.world.gateway_at(n);
        }
        agreement::nothing_is_lost_in_quiet(&self.world, &place, &self.live, since, self.has_lost);
        agreement::the_reported_state_is_the_gateways(&self.world, &place, &self.live);
        agreement::no_entry_is_unknown(&self.world, &place, &self.live, gateway_time(since));
        for (at, claim, key) in std::mem::take(&mut self.leaving) {
            let is_live = self.live.values().any(|&other| other == key);
            if at + LEAVING <= self.world.now() && !is_live {
                agreement::a_destroyed_mapping_is_gone(&self.world, &place, claim, key);
            }
        }
    }

    fn calm(&mut self, rng: &mut fastrand::Rng) {
        if self.live.len() > MANY && percent(rng, 80) {
            // Hundreds are for the rush; for a quiet day some will do.
            let ids: Vec<MappingId> = self.live.keys().skip(MANY / 2).copied().collect();
            for id in ids {
                self.destroy(id);
            }
        }
        self.heal(rng);
        self.settle();
        for _ in 0..rng.usize(0..4) {
            match rng.u32(0..9) {
                8 => self.lose_some(rng),
                0..4 => {
                    self.live_on(rng);
                    self.pass_all(self.quiet_down());
                }
                4 => {
                    self.destroy_all(rng);
                    self.pass_all(self.quiet_down());
                }
                5 => {
                    // A gateway that restarts without memory and says so, in a quiet world.
                    let node = 0;
                    self.disturb();
                    self.start_gateway(node, percent(rng, 30));
                    self.settle();
                }
                6 => {
                    self.disturb();
                    let span = Duration::from_secs(rng.u64(0..40_000));
                    self.sleep(span);
                    self.settle();
                }
                _ => {}
            }
            self.compare();
            let span = self.span(rng);
            self.pass(span);
            self.compare();
        }
    }

    /// A few datagrams are lost at a gateway that answers: the requests are sent again, and that is all.
    fn lose_some(&mut self, rng: &mut fastrand::Rng) {
        let Some(place) = self.place() else { return };
        let port = rng.u16(8000..8010);
        let is_new = self.live.values().all(|key| key.internal_port.get() != port);
        let good = |protocol| matches!(protocol, Protocol::Pcp | Protocol::NatPmp);
        let known: Vec<Protocol> =
            self.live.keys().filter_map(|&id| Some(self.world.success(id)?.0)).filter(|&p| good(p)).collect();
        self.world.network.lose_requests = rng.u32(1..4);
        let id = self.create(rng, port);
        let outlook = agreement::outlook(&self.world, &place, self.live[&id]);
        // protocols.md, many mappings: a request to a known gateway is sent again after 250, 250, 500 ms.
        self.pass_all(Duration::from_secs(4));
        self.world.network.lose_requests = 0;
        if let agreement::Outlook::Granted(protocol) = outlook
            && is_new
            && !self.has_lasting_trouble
            && known.contains(&protocol)
        {
            agreement::a_lost_request_is_sent_again(self.world.state(id));
        }
        self.pass_all(self.quiet_down());
    }

    /// How long the program's wishes take in a quiet world.
    fn quiet_down(&self) -> Duration {
        let config = self.world.endpoint().config();
        let keys = u32::try_from(self.live.len()).unwrap_or(u32::MAX);
        // protocols.md, many mappings: a protocol that was there and is silent now is found out by the first request that
        // times out; the next try is 30 s later, or a recheck period.
        let retry = config.mapping_timeout + config.recheck_interval.min(Duration::from_secs(31));
        config.discover_timeout
            + config.mapping_timeout * 2
            + retry
            + LEAVING
            + Duration::from_millis(600) * keys
    }

    fn end(&mut self, rng: &mut fastrand::Rng) {
        self.heal(rng);
        if self.world.mappings().next().is_some() || !self.live.is_empty() {
            self.settle();
        }
        if rng.bool() {
            let ids: Vec<MappingId> = self.live.keys().copied().collect();
            for id in ids {
                self.destroy(id);
            }
            self.pass_all(self.quiet_down());
            self.compare();
        }
        self.clean_up();
    }
}

/// So many mappings are many.
const MANY: usize = 40;

/// `protocols.md`, ending: a deletion is under way for at most 5 s.
const LEAVING: Duration = Duration::from_secs(8);

fn engine_config(rng: &mut fastrand::Rng, scale: Scale) -> Config {
    let secs = Duration::from_secs;
    let recheck_interval = match scale {
        Scale::Years => secs(rng.u64(3..24) * 3600),
        Scale::Days => pick(rng, &[secs(300), secs(1800), secs(3600), secs(7200)]),
        Scale::Minutes | Scale::Hours => {
            pick(rng, &[secs(300), secs(300), secs(300), secs(30), secs(60), secs(900)])
        }
    };
    Config {
        allowed: pick(
            rng,
            &[Allowed::Any, Allowed::Any, Allowed::Any, Allowed::Any, Allowed::Pcp, Allowed::Upnp],
        ),
        discover_timeout: pick(rng, &[secs(10), secs(10), secs(10), secs(4), secs(20)]),
        mapping_timeout: pick(rng, &[secs(10), secs(10), secs(10), secs(5), secs(20)]),
        recheck_interval,
        gateway: percent(rng, 4).then_some((GATEWAY, None)),
    }
}
