//! A world on one virtual clock: the engine's machine, a network, and simulated gateways.
//!
//! ```
//! use plum_wire::Transport;
//! use plum_testkit::world::World;
//!
//! let mut world = World::new();
//! let id = world.create(Transport::Tcp, 8000);
//! world.run_until(|world| world.is_success(id));
//! assert_eq!(world.gateway().counts.pcp_map, 1);
//! world.cleanup();
//! world.assert_nothing_left();
//! ```
//!
//! Nothing sleeps and nothing is random but by the seed, which a failing test prints with the last that
//! happened; `WORLD_SEED=N cargo test NAME` runs it again, with `WORLD_TRACE=N` it shows more, with `WORLD_LOG=1` also what the
//! engine logs. What must hold at every step is in `checks`.

mod carry;
mod checks;
mod ipv6;
mod network;
mod trace;

pub use checks::{Checks, Seen};
pub use ipv6::{IPV6_LOCAL, Ipv6Home, LINK_LOCAL, ROUTER, stable};
pub use network::{Input, Network, Node, Power, engine_time, gateway_time};

use crate::random::Seeded;
use plum_engine::Engine;
use plum_engine::io::{Config, Event, MappingId, Protocol, Route, Socket, Source, Suggestion, Wanted};
use plum_engine::machine::{Command, Machine};
use plum_engine::time::Time;
use plum_gateway::core::{self as gateway, Gateway};
use plum_wire::Transport;
use std::collections::{BTreeSet, VecDeque};
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

/// The first gateway's address inside.
pub const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));
/// The machine's address.
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 100));
/// The gateways' address outside.
pub const EXTERNAL: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
/// The machine's interface toward the gateways.
pub const INTERFACE: u32 = 2;
/// When worlds begin: not at 0, where a subtraction too much would not show.
pub const START: Time = Time::from_secs(1_000_000);

/// How long `run_until` waits.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a world begins with.
pub struct Setup {
    /// Determines everything random.
    pub seed: u64,
    /// The engine's configuration.
    pub engine: Config,
    /// The gateways.
    pub gateways: Vec<gateway::Config>,
    /// The route that lookups find.
    pub route: Option<Route>,
    /// What the system says of IPv6.
    pub ipv6: Ipv6Home,
    /// How long a packet takes one way.
    pub latency: Duration,
}

impl Default for Setup {
    /// One gateway with all protocols and without faults, 1 ms away.
    fn default() -> Setup {
        let seed = seed();
        Setup {
            seed,
            engine: Config::default(),
            gateways: vec![gateway::Config { seed, ..gateway::Config::at(GATEWAY) }],
            route: Some(Route { gateway: Some(GATEWAY), local: LOCAL, interface: INTERFACE }),
            ipv6: Ipv6Home::default(),
            latency: Duration::from_millis(1),
        }
    }
}

/// The machine of the engine, the network, the gateways.
pub struct World<E: Machine = Engine> {
    /// What is between the machine and the gateways; its faults may be set at any time.
    pub network: Network,
    /// Sockets that cannot be opened.
    pub unopenable: BTreeSet<Socket>,
    /// How many route lookups there were.
    pub route_lookups: usize,
    /// How many lookups of IPv6 addresses there were.
    pub address_lookups: usize,
    engine: E,
    seed: u64,
    now: Time,
    checks: Checks,
    next_id: MappingId,
    /// Added to the numbers of the engine's connections: one engine after another begins with the same.
    exchange_base: u64,
    steps_at_once: usize,
    timeouts_in_a_row: usize,
    trace: VecDeque<(Time, String)>,
    trace_len: usize,
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

impl World {
    /// The engine and one gateway with all protocols.
    pub fn new() -> World {
        World::set_up(|_| {})
    }

    /// One gateway, whose best protocol is the one of this index: 0 PCP, 1 NAT-PMP, 2 UPnP.
    pub fn with_best(index: usize) -> World {
        let mut world = World::new();
        world.close_better(index);
        world
    }

    /// Closes the gateway's ports of the protocols better than the one of this index.
    pub fn close_better(&mut self, index: usize) {
        let closed = &mut self.gateway().faults.closed;
        (closed.pcp, closed.natpmp) = (index > 0, index > 1);
    }

    /// A world that begins otherwise.
    pub fn set_up(change: impl FnOnce(&mut Setup)) -> World {
        let mut setup = Setup::default();
        change(&mut setup);
        let random = Seeded::new(setup.seed);
        let engine = Engine::new(setup.engine.clone(), Box::new(random));
        World::with_engine(setup, engine)
    }
}

impl World {
    /// One engine with an IPv6 address, and one gateway with all protocols that is a firewall of IPv6 too.
    pub fn with_ipv6(change: impl FnOnce(&mut Setup)) -> World {
        World::set_up(|setup| {
            setup.turn_on_ipv6();
            setup.engine.source = Some(Source { address: IPV6_LOCAL, interface: INTERFACE });
            change(setup);
        })
    }
}

impl Setup {
    fn turn_on_ipv6(&mut self) {
        self.ipv6 = Ipv6Home::new(INTERFACE);
        self.gateways = self.gateways.drain(..).map(|config| config.with_ipv6(ROUTER)).collect();
    }
}

impl<E: Machine> World<E> {
    /// A world around something else than the engine.
    pub fn with_engine(setup: Setup, engine: E) -> World<E> {
        trace::keep_log();
        // Another sequence than the engine's.
        let mut network = Network::new(!setup.seed, setup.latency, setup.route);
        network.ipv6 = setup.ipv6;
        for config in setup.gateways {
            network.nodes.push(Node::new(Gateway::new(config, gateway_time(START))));
        }
        World {
            network,
            unopenable: BTreeSet::new(),
            route_lookups: 0,
            address_lookups: 0,
            engine,
            seed: setup.seed,
            now: START,
            checks: Checks::default(),
            next_id: 0,
            exchange_base: 0,
            steps_at_once: 0,
            timeouts_in_a_row: 0,
            trace: VecDeque::new(),
            trace_len: trace::wanted_len(),
        }
    }

    // What the program does.

    /// The program wants a mapping, without a wish.
    pub fn create(&mut self, transport: Transport, internal_port: u16) -> MappingId {
        self.create_wishing(transport, internal_port, Suggestion::default())
    }

    /// The program wants a mapping of this external address and port.
    pub fn create_wishing(
        &mut self,
        transport: Transport,
        internal_port: u16,
        wish: Suggestion,
    ) -> MappingId {
        let internal_port = NonZeroU16::new(internal_port).expect("an internal port");
        self.create_wanted(Wanted { transport, internal_port, wish, description: None })
    }

    /// The program wants this mapping.
    pub fn create_wanted(&mut self, wanted: Wanted) -> MappingId {
        let id = self.next_id;
        self.next_id += 1;
        self.checks.seen.insert(id, Seen::default());
        self.note(|| format!("create {id}: {:?} {}", wanted.transport, wanted.internal_port));
        self.engine.handle_command(self.now, Command::Create(id, wanted));
        self.carry_outputs();
        id
    }

    /// The program wants a mapping no more.
    pub fn destroy(&mut self, id: MappingId) {
        self.note(|| format!("destroy {id}"));
        self.checks.destroy(self.now, id);
        self.engine.handle_command(self.now, Command::Destroy(id));
        self.carry_outputs();
    }

    /// The program destroys a mapping and waits for its `Destroyed`: how long it took.
    pub fn destroy_and_wait(&mut self, id: MappingId) -> Duration {
        let start = self.now;
        self.destroy(id);
        self.run_until(|world| world.is_destroyed(id));
        self.now.since(start)
    }

    /// The program ends, and waits for it: how long it took.
    pub fn cleanup(&mut self) -> Duration {
        self.begin_cleanup();
        let start = self.now;
        self.run_until(|world| world.finished_at().is_some());
        self.now.since(start)
    }

    /// The program begins to end.
    pub fn begin_cleanup(&mut self) {
        self.note(|| "cleanup".into());
        self.checks.cleanup(self.now);
        self.engine.handle_command(self.now, Command::Cleanup);
        self.carry_outputs();
    }

    /// The program begins anew after its cleanup, with what `renew` puts in place of the engine: the ids go on.
    pub fn begin_again(&mut self, renew: impl FnOnce(&mut E)) {
        self.note(|| "init".into());
        assert!(self.checks.has_finished(), "a new engine beside an old one");
        self.exchange_base += self.checks.last_exchange();
        self.checks = Checks::default();
        renew(&mut self.engine);
    }

    /// Whatever else is to be done with what this world is around; its outputs are carried then.
    pub fn act<T>(&mut self, act: impl FnOnce(&mut E, Time) -> T) -> T {
        let result = act(&mut self.engine, self.now);
        self.carry_outputs();
        result
    }

    // What the program sees.

    /// The events of a mapping, in order.
    pub fn events(&self, id: MappingId) -> Vec<Event> {
        self.timeline(id).iter().map(|&(_, event)| event).collect()
    }

    /// The events that the program gets as callbacks: all but `Pending`.
    pub fn callbacks(&self, id: MappingId) -> Vec<Event> {
        self.events(id).into_iter().filter(|&event| event != Event::Pending).collect()
    }

    /// The events of a mapping with their times.
    pub fn timeline(&self, id: MappingId) -> &[(Time, Event)] {
        &self.checks.seen[&id].events
    }

    /// What a query would show: the last event, or that it is pending.
    pub fn state(&self, id: MappingId) -> Event {
        self.timeline(id).last().map_or(Event::Pending, |&(_, event)| event)
    }

    /// Protocol, external address and port of a mapping that is made.
    pub fn success(&self, id: MappingId) -> Option<(Protocol, IpAddr, u16)> {
        match self.state(id) {
            Event::Success { protocol, address, port } => Some((protocol, address, port.get())),
            _ => None,
        }
    }

    /// Whether a mapping is made.
    pub fn is_success(&self, id: MappingId) -> bool {
        self.success(id).is_some()
    }

    /// Whether a mapping has failed.
    pub fn is_failure(&self, id: MappingId) -> bool {
        self.state(id) == Event::Failure
    }

    /// Whether a mapping has had its `Destroyed`.
    pub fn is_destroyed(&self, id: MappingId) -> bool {
        self.state(id) == Event::Destroyed
    }

    /// Whether every mapping that is not being destroyed is made.
    pub fn all_success(&self) -> bool {
        let wanted = self.checks.seen.iter().filter(|(_, seen)| seen.destroyed_at.is_none());
        wanted.into_iter().all(|(&id, _)| self.is_success(id))
    }

    /// When `Output::Finished` came.
    pub fn finished_at(&self) -> Option<Time> {
        self.checks.finished_at
    }

    // Time.

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// How long this world has been running.
    pub fn elapsed(&self) -> Duration {
        self.now.since(START)
    }

    /// What this world is around.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// The same; nothing that gives it outputs may be done with it, see [`World::act`].
    pub fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// The mappings of the present engine, as the program sees them.
    pub fn mappings(&self) -> impl Iterator<Item = (MappingId, &Seen)> {
        self.checks.seen.iter().map(|(&id, seen)| (id, seen))
    }

    /// The seed of this world.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Lets this span pass.
    pub fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while self.step(until) {}
    }

    /// Runs until it is so; panics where it is not within [`PATIENCE`].
    #[track_caller]
    pub fn run_until(&mut self, is_so: impl Fn(&World<E>) -> bool) {
        assert!(self.runs_until(PATIENCE, is_so), "not so within {PATIENCE:?} of the world's time");
    }

    /// Runs until it is so, at most this span; says whether it is so.
    pub fn runs_until(&mut self, span: Duration, is_so: impl Fn(&World<E>) -> bool) -> bool {
        let until = self.now + span;
        while !is_so(self) {
            if !self.step(until) {
                return is_so(self);
            }
        }
        true
    }

    // What happens around the engine.

    /// The first gateway.
    pub fn gateway(&mut self) -> &mut Gateway {
        self.gateway_at(0)
    }

    /// The gateway of this index, its clock set.
    pub fn gateway_at(&mut self, node: usize) -> &mut Gateway {
        let gateway = &mut self.network.nodes[node].gateway;
        gateway.handle_timeout(gateway_time(self.now));
        gateway
    }

    /// What the first gateway received.
    pub fn counts(&self) -> &gateway::Counts {
        &self.network.nodes[0].gateway.counts
    }

    /// The first gateway's port table; what has run out is still in it until something happens there.
    pub fn table(&self) -> &gateway::Table {
        self.network.nodes[0].gateway.table()
    }

    /// The first gateway's programs end: its ports are closed.
    pub fn stop_gateway(&mut self) {
        self.note(|| "the gateway stops".into());
        self.network.set_power(self.now, 0, Power::Stopped);
    }

    /// The first gateway goes silent.
    pub fn power_off(&mut self) {
        self.note(|| "the gateway is without power".into());
        self.network.set_power(self.now, 0, Power::Off);
    }

    /// The first gateway starts (again), and announces itself as its configuration says.
    pub fn start_gateway(&mut self, keep_mappings: bool) {
        self.note(|| "the gateway starts".into());
        self.gateway().restart(keep_mappings);
        self.network.set_power(self.now, 0, Power::On);
    }

    /// The machine has another route (`None`: none) from now on, and the system says so.
    pub fn change_route(&mut self, route: Option<Route>) {
        self.network.route = route;
        self.change_network();
    }

    /// The system says that something about the network changed.
    pub fn change_network(&mut self) {
        self.note(|| "the network changed".into());
        self.engine.handle_network_changed(self.now);
        self.carry_outputs();
    }

    /// Nothing made by the engine is left on any gateway.
    #[track_caller]
    pub fn assert_nothing_left(&mut self) {
        for node in 0..self.network.nodes.len() {
            let ours = |m: &&gateway::TableEntry| m.made_by != gateway::Protocol::Script;
            let left: Vec<gateway::TableEntry> =
                self.gateway_at(node).table().iter().filter(ours).cloned().collect();
            assert!(left.is_empty(), "left behind on gateway {node}: {left:#?}");
            let pinholes = self.pinholes_of(node);
            assert!(pinholes.is_empty(), "pinholes left behind on gateway {node}: {pinholes:#?}");
        }
    }

    /// The machine sleeps, and wakes at the same place: its clock has gone on, what was on its way is lost, and the
    /// worker says so before it looks at timers.
    pub fn sleep_for(&mut self, span: Duration) {
        self.note(|| format!("the machine sleeps for {span:?}"));
        let until = self.now + span;
        self.checks.sleep(span);
        self.network.fall_asleep();
        while let Some(at) = self.network.next_at().filter(|&at| at <= until) {
            self.now = at;
            self.network.collect(at);
            while self.network.next_input(at).is_some() {}
        }
        self.network.wake_up(until);
        self.now = until;
        self.pass(until);
        self.change_network();
    }
}

/// The seed of the environment, or else one of the test's own name: no two runs differ unless they are told to.
fn seed() -> u64 {
    if let Ok(text) = std::env::var("WORLD_SEED") {
        return text.parse().expect("WORLD_SEED is a number");
    }
    let mut hasher = std::hash::DefaultHasher::new();
    // The octets alone: how a `str` is hashed depends on the processor.
    hasher.write(std::thread::current().name().unwrap_or_default().as_bytes());
    hasher.finish()
}
