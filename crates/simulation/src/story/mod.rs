//! One seed, one story: a program, its machine, the networks it is carried to, and what happens to all of them.
//!
//! A story is a list of steps, each drawn from a generator of its own: so a story without some of its steps is the
//! same in the others, and a failing one can be made shorter.

mod ipv6;
mod machine;
mod pinholes;
mod program;
mod quiet;
mod time;
mod trouble;

use crate::agreement::{Claim, Place};
use crate::checked_engine::{CheckedEngine, Counts};
use crate::gateways::{self, percent, pick};
use crate::ipv6_homes::Families;
use crate::reference::ReferenceGateway;
use crate::traits::Traits;
use crate::world::{GATEWAY, INTERFACE, LOCAL, Node, Setup, World, gateway_time};
use pinholes::Ipv6Story;
use plum_engine::driver::Key;
use plum_engine::io::{Allowed, Config, MappingId, Route};
use plum_engine::time::Time;
use plum_gateway::core::{Faults, Gateway};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

/// Which part of a story is run, and how much of it is recorded.
#[derive(Clone, Debug, Default)]
pub struct StoryOptions {
    /// How much of what happens is kept for a failure's report.
    pub trace: usize,
    /// Steps that are left out.
    pub without: BTreeSet<usize>,
    /// A story of few steps, few mappings and short spans: for the fast suite, which is not optimised.
    pub brief: bool,
}

/// The result of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A hash of all inputs and outputs of the engine.
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

/// A network that the machine may be in.
#[derive(Clone, Copy, Debug)]
struct Home {
    route: Route,
}

/// A running story.
pub struct Story {
    /// The world that it happens in.
    pub world: World<CheckedEngine>,
    seed: u64,
    scale: Scale,
    brief: bool,
    homes: Vec<Home>,
    /// What each gateway is like when nothing is wrong.
    characters: Vec<Faults>,
    /// What is odd with each for good.
    pub traits: Rc<[Traits]>,
    /// The machine has no route.
    is_offline: bool,
    live: BTreeMap<MappingId, Key>,
    ipv6: Ipv6Story,
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
    /// The gateway may have lost entries that we expect it to have, without an epoch or announcement that shows it.
    has_hidden_losses: bool,
    /// The engine may have wrong knowledge of a gateway: see `Trouble::is_remembered`.
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
    /// When the program called init last.
    begun_at: Time,
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

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2));
const OTHER_GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const OTHER_LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
const PUBLIC_GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(9, 1, 2, 1));
const PUBLIC_LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(9, 1, 2, 3));

impl Story {
    /// The start of the story of a seed.
    pub fn new(seed: u64, options: &StoryOptions) -> Story {
        let mut rng = fastrand::Rng::with_seed(seed_of(seed, 0));
        let scale = match rng.u32(0..1000) {
            _ if options.brief => Scale::Minutes,
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
        let mut gateways = vec![(first, 0, INTERFACE)];
        gateways.extend(others.into_iter().map(|(config, home)| (config, home, INTERFACE)));
        let mut ipv6 = Ipv6Story::new(seed, homes.len(), &mut gateways);
        let mut config = config;
        ipv6.configure(&mut config);
        ipv6.note_addresses(&ipv6.homes[0].clone());
        let setup = Setup {
            seed,
            engine: config.clone(),
            gateways: Vec::new(),
            route: Some(homes[0].route).filter(|_| ipv6.families != Families::Ipv6),
            ipv6: ipv6.homes[0].clone(),
            latency: Duration::from_micros(rng.u64(100..20_000)),
        };
        let mut world = World::with_engine(setup, CheckedEngine::new(config, seed_of(seed, 1)));
        world.set_trace(options.trace);
        world.network.forger = percent(&mut rng, 15);
        for (config, home, interface) in gateways {
            let gateway = Gateway::new(config, gateway_time(world.now()));
            world.network.nodes.push(Node { interface, home, ..Node::new(gateway) });
        }
        let mut characters: Vec<Faults> =
            (0..world.network.nodes.len()).map(|_| gateways::character(&mut rng)).collect();
        ipv6.characters(&mut characters);
        let traits = give_traits(&mut world, seed, &mut characters);
        if ipv6.families == Families::Both {
            // The families know nothing of each other's connections: where a box takes few, one crowds out the other.
            for (node, character) in world.network.nodes.iter_mut().zip(&mut characters) {
                node.gateway.faults.http.max_connections = None;
                character.http.max_connections = None;
            }
        }
        let start = world.now();
        Story {
            world,
            seed,
            scale,
            brief: options.brief,
            homes,
            characters,
            traits,
            is_offline: ipv6.families == Families::Ipv6,
            live: BTreeMap::new(),
            ipv6,
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
            begun_at: start,
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

    /// Runs the story to its end. Panics where a promise is broken.
    pub fn tell(&mut self, options: &StoryOptions) -> Outcome {
        let steps = self.steps();
        for n in (0..steps).filter(|n| !options.without.contains(n)) {
            let mut rng = fastrand::Rng::with_seed(seed_of(self.seed, 100 + n as u64));
            self.world.note(|| format!("=== step {n}"));
            self.ipv6.rng = fastrand::Rng::with_seed(seed_of(self.seed, 1_000_000 + n as u64));
            self.step(&mut rng);
            self.ipv6_step();
        }
        let mut rng = fastrand::Rng::with_seed(seed_of(self.seed, 3));
        self.world.note(|| "=== the end".into());
        self.end(&mut rng);
        let checked_engine = self.world.engine();
        Outcome {
            hash: checked_engine.hash(),
            virtual_time: self.world.elapsed(),
            counts: checked_engine.counts,
            restarts: self.restarts,
            comparisons: self.comparisons,
            most_packets: checked_engine.packets.most,
            most_held: checked_engine.most_held(),
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

    fn config(&self) -> Config {
        self.world.engine().config().clone()
    }

    fn place(&self) -> Option<Place> {
        let route = self.world.network.route.filter(|_| !self.is_offline)?;
        let config = self.config();
        if config.gateway.is_some_and(|(gateway, _)| gateway.is_ipv6()) {
            return None;
        }
        Some(Place {
            home: self.world.network.home(),
            gateway: config.gateway.map(|(address, _)| address).or(route.gateway)?,
            interface: route.interface,
            named: config.gateway.is_some(),
            local: route.local,
            direct: config.gateway.is_none() && route.local == PUBLIC_LOCAL,
            allowed: config.allowed,
            has_taught: self.has_taught,
            mismatch: self.has_lasting_trouble,
            traits: self.traits.clone(),
        })
    }
}

/// Gives each gateway its character and its traits, which become part of it. Traits have a generator of their own: without
/// them a story is the same.
fn give_traits(world: &mut World<CheckedEngine>, seed: u64, characters: &mut [Faults]) -> Rc<[Traits]> {
    let mut rng = fastrand::Rng::with_seed(seed_of(seed, 4));
    let mut all = Vec::new();
    for (n, character) in characters.iter_mut().enumerate() {
        let traits = Traits::draw(&mut rng);
        let gateway = &mut world.network.nodes[n].gateway;
        gateway.faults = character.clone();
        traits.give_to(gateway);
        *character = gateway.faults.clone();
        let now = gateway_time(world.now());
        if ReferenceGateway::of(&world.network.nodes[n].gateway, &traits, now, LOCAL).hangs_up() {
            world.engine_mut().packets.are_repeated = true;
        }
        world.note(|| format!("gateway {n} is odd: {traits:?}"));
        all.push(traits);
    }
    all.into()
}

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
        ..Config::default()
    }
}
