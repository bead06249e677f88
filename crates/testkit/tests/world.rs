//! The world itself, around a scripted machine instead of the engine: what it carries, and what it forbids.

use plum_engine::io::{
    Arrival, EngineId, Event, ExchangeId, MappingId, Output, Route, Socket, SocketId, TcpEnd,
};
use plum_engine::machine;
use plum_engine::time::Time;
use plum_gateway::core::{Config, Kind};
use plum_testkit::world::{self, EXTERNAL, GATEWAY, INTERFACE, Input, LOCAL, START, Setup, World};
use plum_wire::Transport;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Does what a test tells it, and keeps what it is handed.
#[derive(Default)]
struct Machine {
    outputs: VecDeque<Output>,
    inputs: Vec<(Duration, Input)>,
    opened: Vec<(Socket, Option<SocketAddr>)>,
    routes: Vec<Option<Route>>,
    timeout: Option<Time>,
    timeouts: usize,
    /// The timeout is never taken back.
    restless: bool,
}

impl Machine {
    fn keep(&mut self, now: Time, input: Input) {
        self.inputs.push((now.since(START), input));
    }
}

impl machine::Machine for Machine {
    fn handle_command(&mut self, _: Time, _: machine::Command) {}
    fn handle_route(
        &mut self,
        _: Time,
        _: EngineId,
        route: Option<Route>,
        _: Option<plum_engine::ledger::HardwareAddress>,
    ) {
        self.routes.push(route);
    }
    fn handle_opened(&mut self, _: Time, SocketId { socket, .. }: SocketId, local: Option<SocketAddr>) {
        self.opened.push((socket, local));
    }
    fn handle_datagram(&mut self, now: Time, SocketId { socket, .. }: SocketId, by: Arrival, bytes: &[u8]) {
        self.keep(now, Input::Datagram { socket: socket.into(), from: by.from, bytes: bytes.to_vec() });
    }
    fn handle_refused(&mut self, now: Time, SocketId { socket, .. }: SocketId) {
        self.keep(now, Input::Refused { socket: socket.into() });
    }
    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.keep(now, Input::TcpConnected { exchange, local });
    }
    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        self.keep(now, Input::TcpData { exchange, bytes: bytes.to_vec() });
    }
    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        self.keep(now, Input::TcpEnd { exchange, end });
    }
    fn handle_network_changed(&mut self, _: Time) {}
    fn handle_timeout(&mut self, _: Time) {
        self.timeouts += 1;
        if !self.restless {
            self.timeout = None;
        }
    }
    fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        self.outputs.pop_front().map(|output| (EngineId::IPV4, output))
    }
    fn poll_timeout(&self) -> Option<Time> {
        self.timeout
    }
}

const ADDRESS_REQUEST: [u8; 2] = [0, 0];
const SEARCH: &[u8] =
    b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
    ST: upnp:rootdevice\r\n\r\n";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn new_world() -> World<Machine> {
    World::with_engine(Setup::default(), Machine::default())
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

fn pcp_port() -> SocketAddr {
    at(GATEWAY, 5351)
}

/// Has the machine put out these, and carries them.
fn put_out(world: &mut World<Machine>, outputs: impl IntoIterator<Item = Output>) {
    world.act(|machine, _| machine.outputs.extend(outputs));
}

fn open(socket: Socket, remote: Option<SocketAddr>) -> Output {
    Output::Open { socket, local: LOCAL, interface: INTERFACE, remote }
}

fn send(socket: Socket, to: SocketAddr, bytes: &[u8]) -> Output {
    Output::Send { socket, to, bytes: bytes.to_vec() }
}

fn inputs(world: &mut World<Machine>) -> Vec<(Duration, Input)> {
    world.act(|machine, _| std::mem::take(&mut machine.inputs))
}

/// A world with the NAT-PMP socket open.
fn natpmp_world() -> World<Machine> {
    let mut world = new_world();
    put_out(&mut world, [open(Socket::NatPmp, Some(pcp_port()))]);
    world
}

fn ask_address(world: &mut World<Machine>) {
    put_out(world, [send(Socket::NatPmp, pcp_port(), &ADDRESS_REQUEST)]);
}

#[test]
fn reply_arrives_after_one_round_trip_and_the_gateways_own_delay() {
    let mut world = natpmp_world();
    world.gateway().faults.delay = ms(20);
    ask_address(&mut world);
    world.run_for(ms(100));
    let reply = vec![0, 128, 0, 0, 0, 0, 0, 0, 203, 0, 113, 7];
    let expected = Input::Datagram { socket: Socket::NatPmp.into(), from: pcp_port(), bytes: reply };
    assert_eq!(inputs(&mut world), [(ms(22), expected)]);
    assert_eq!(world.gateway().counts.natpmp_address, 1);
    assert_eq!(world.gateway().counts.total(), 1);
    assert_eq!(world.elapsed(), ms(100));
}

#[test]
fn closed_port_is_reported_to_the_socket_that_sent() {
    let mut world = natpmp_world();
    put_out(&mut world, [open(Socket::Pcp, Some(pcp_port()))]);
    world.gateway().faults.closed.natpmp = true;
    ask_address(&mut world);
    world.run_for(ms(10));
    assert_eq!(inputs(&mut world), [(ms(2), Input::Refused { socket: Socket::NatPmp.into() })]);
    assert_eq!(world.gateway().counts.total(), 0);
}

#[test]
fn unconnected_socket_never_hears_of_a_closed_port() {
    let mut world = new_world();
    world.gateway().faults.closed.ssdp = true;
    put_out(&mut world, [open(Socket::Ssdp, None), send(Socket::Ssdp, at(GATEWAY, 1900), SEARCH)]);
    world.run_for(ms(100));
    assert_eq!(inputs(&mut world), []);
}

#[test]
fn stopped_gateway_refuses_and_one_without_power_is_silent() {
    let mut world = natpmp_world();
    world.stop_gateway();
    ask_address(&mut world);
    world.run_for(ms(10));
    assert_eq!(inputs(&mut world), [(ms(2), Input::Refused { socket: Socket::NatPmp.into() })]);
    world.power_off();
    ask_address(&mut world);
    world.run_for(ms(10));
    assert_eq!(inputs(&mut world), []);
    world.start_gateway(true);
    ask_address(&mut world);
    world.run_for(ms(10));
    assert_eq!(inputs(&mut world).len(), 1);
}

#[test]
fn lost_datagrams_do_not_arrive() {
    let mut world = natpmp_world();
    world.network.lose_requests = 1;
    ask_address(&mut world);
    ask_address(&mut world);
    world.run_for(ms(10));
    assert_eq!((inputs(&mut world).len(), world.gateway().counts.total()), (1, 1));
    world.network.lose_replies = 1;
    ask_address(&mut world);
    world.run_for(ms(10));
    assert_eq!((inputs(&mut world).len(), world.gateway().counts.total()), (0, 2));
    world.network.cut = true;
    ask_address(&mut world);
    world.run_for(ms(10));
    assert_eq!((inputs(&mut world).len(), world.gateway().counts.total()), (0, 2));
}

#[test]
fn connected_socket_gets_nothing_from_a_wrong_source() {
    let mut world = natpmp_world();
    world.gateway().faults.wrong_source = Some(plum_gateway::core::WrongSource::Port);
    ask_address(&mut world);
    world.run_for(ms(10));
    assert_eq!(inputs(&mut world), []);
}

#[test]
fn replies_to_an_address_the_machine_no_longer_has_are_lost() {
    let mut world = natpmp_world();
    world.gateway().faults.delay = ms(50);
    ask_address(&mut world);
    let local = IpAddr::from([192, 168, 1, 77]);
    world.change_route(Some(Route { gateway: Some(GATEWAY), local, interface: INTERFACE }));
    world.run_for(ms(100));
    assert_eq!(inputs(&mut world), []);
    put_out(&mut world, [open(Socket::NatPmp, Some(pcp_port()))]);
    let opened = world.act(|machine, _| machine.opened.pop());
    assert_eq!(opened, Some((Socket::NatPmp, None)), "the machine does not have LOCAL any more");
}

#[test]
fn route_lookup_finds_the_gateway_toward_the_internet_and_on_link() {
    let mut world = new_world();
    let toward = [None, Some(GATEWAY), Some(EXTERNAL)];
    put_out(&mut world, toward.map(|toward| Output::LookUpRoute { toward }));
    world.network.route = None;
    put_out(&mut world, [Output::LookUpRoute { toward: None }]);
    let through = Route { gateway: Some(GATEWAY), local: LOCAL, interface: INTERFACE };
    let on_link = Route { gateway: None, ..through };
    let routes = world.act(|machine, _| machine.routes.clone());
    assert_eq!(routes, [Some(through), Some(on_link), Some(through), None]);
}

#[test]
fn tcp_exchange_brings_the_description_and_its_end() {
    let mut world = new_world();
    let exchange = ExchangeId(1);
    put_out(&mut world, [Output::Connect { exchange, to: at(GATEWAY, 5000), source: None }]);
    world.run_for(ms(5));
    let connected = inputs(&mut world);
    assert!(
        matches!(connected[..], [(at, Input::TcpConnected { local, .. })] if at == ms(2) && local.ip() == LOCAL)
    );
    let bytes = b"GET /rootDesc.xml HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n\r\n".to_vec();
    put_out(&mut world, [Output::Write { exchange, bytes }]);
    world.run_for(ms(5));
    let inputs = inputs(&mut world);
    let [(data_at, Input::TcpData { bytes, .. }), (end_at, Input::TcpEnd { end: TcpEnd::Closed, .. })] =
        &inputs[..]
    else {
        panic!("{inputs:?}")
    };
    assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert_eq!((*data_at, *end_at), (ms(7), ms(7)));
    assert_eq!(world.gateway().counts.times(Kind::HttpDescription), [world::gateway_time(START) + ms(6)]);
}

#[test]
fn tcp_to_a_closed_port_is_refused_and_to_nobody_gets_no_answer() {
    let mut world = new_world();
    put_out(
        &mut world,
        [
            Output::Connect { exchange: ExchangeId(1), to: at(GATEWAY, 81), source: None },
            Output::Connect {
                exchange: ExchangeId(2),
                to: at(IpAddr::from([192, 168, 1, 250]), 80),
                source: None,
            },
        ],
    );
    world.run_for(Duration::from_secs(100));
    let end = Input::TcpEnd { exchange: ExchangeId(1), end: TcpEnd::Refused };
    assert_eq!(inputs(&mut world), [(ms(2), end)]);
}

#[test]
fn nothing_comes_on_a_connection_that_was_hung_up() {
    let mut world = new_world();
    let exchange = ExchangeId(1);
    put_out(&mut world, [Output::Connect { exchange, to: at(GATEWAY, 5000), source: None }]);
    world.run_for(ms(5));
    world.gateway().faults.delay = ms(50);
    let bytes = b"GET /rootDesc.xml HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n\r\n".to_vec();
    put_out(&mut world, [Output::Write { exchange, bytes }]);
    world.run_for(ms(5));
    inputs(&mut world);
    put_out(&mut world, [Output::HangUp { exchange }]);
    world.run_for(ms(1000));
    assert_eq!(inputs(&mut world), []);
}

#[test]
fn multicast_search_reaches_every_gateway_on_the_interface() {
    let mut world = new_world();
    let second = Config { http_port: 80, ..Config::at(IpAddr::from([192, 168, 1, 2])) };
    let third = Config { http_port: 80, ..Config::at(IpAddr::from([10, 0, 0, 1])) };
    for (config, interface) in [(second, INTERFACE), (third, INTERFACE + 1)] {
        let gateway = plum_gateway::core::Gateway::new(config, world::gateway_time(world.now()));
        world.network.nodes.push(world::Node { interface, ..world::Node::new(gateway) });
    }
    let group = at(IpAddr::from([239, 255, 255, 250]), 1900);
    put_out(&mut world, [open(Socket::Ssdp, None), send(Socket::Ssdp, group, SEARCH)]);
    world.run_for(ms(10));
    let senders: Vec<IpAddr> = inputs(&mut world)
        .into_iter()
        .map(|(_, input)| match input {
            Input::Datagram { socket: SocketId { socket: Socket::Ssdp, .. }, from, .. } => from.ip(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(senders, [GATEWAY, IpAddr::from([192, 168, 1, 2])]);
}

#[test]
fn restarted_gateway_announces_itself_to_the_listeners() {
    let mut world = World::with_engine(
        Setup { gateways: vec![Config { announcements: 2, ..Config::at(GATEWAY) }], ..Setup::default() },
        Machine::default(),
    );
    put_out(&mut world, [open(Socket::Announcements, None), open(Socket::Notifications, None)]);
    world.run_for(Duration::from_secs(50));
    world.start_gateway(false);
    world.run_for(Duration::from_secs(10));
    let start = Duration::from_secs(50);
    let mut announced = Vec::new();
    let mut notified = 0;
    for (at, input) in inputs(&mut world) {
        match input {
            Input::Datagram { socket: SocketId { socket: Socket::Announcements, .. }, from, bytes } => {
                assert_eq!(from, pcp_port());
                announced.push((at - start, bytes[0], bytes[1]));
            }
            Input::Datagram { socket: SocketId { socket: Socket::Notifications, .. }, bytes, .. } => {
                assert!(bytes.starts_with(b"NOTIFY * HTTP/1.1\r\n"));
                notified += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(announced, [(ms(1), 2, 128), (ms(1), 0, 128), (ms(251), 2, 128), (ms(251), 0, 128)]);
    assert_eq!(notified, world.gateway().config().igd.as_ref().map_or(0, |igd| igd.targets().len()));
}

#[test]
fn same_seed_gives_the_same_run() {
    let run = |seed: u64| {
        let mut world = World::with_engine(Setup { seed, ..Setup::default() }, Machine::default());
        put_out(&mut world, [open(Socket::NatPmp, Some(pcp_port()))]);
        world.network.loss = 0.3;
        world.network.jitter = ms(10);
        for _ in 0..50 {
            ask_address(&mut world);
        }
        world.run_for(ms(100));
        inputs(&mut world)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    assert!((10..45).contains(&run(7).len()), "about half of 50 come through");
}

#[test]
fn timeouts_come_at_their_time_and_arrivals_before_them() {
    let mut world = natpmp_world();
    ask_address(&mut world);
    world.act(|machine, now| machine.timeout = Some(now + ms(2)));
    assert!(world.runs_until(ms(2), |world| world.elapsed() == ms(2)));
    world.run_for(ms(1));
    let (timeouts, inputs) = world.act(|machine, _| (machine.timeouts, machine.inputs.len()));
    assert_eq!((timeouts, inputs), (1, 1));
}

fn success(port: u16) -> Event {
    let port = port.try_into().expect("a port");
    Event::Success { protocol: plum_engine::io::Protocol::Pcp, address: EXTERNAL, port }
}

fn event(id: MappingId, event: Event) -> Output {
    Output::Event { id, event }
}

#[test]
fn events_are_kept_with_their_times() {
    let mut world = new_world();
    let id = world.create(Transport::Tcp, 8000);
    world.run_for(ms(3));
    put_out(&mut world, [event(id, Event::Failure), event(id, success(8000))]);
    assert_eq!(world.timeline(id), [(START + ms(3), Event::Failure), (START + ms(3), success(8000))]);
    assert!(world.all_success());
    world.destroy(id);
    put_out(&mut world, [event(id, Event::Destroyed)]);
    assert_eq!(world.callbacks(id), [Event::Failure, success(8000), Event::Destroyed]);
    world.begin_cleanup();
    put_out(&mut world, [Output::Finished]);
    assert_eq!(world.finished_at(), Some(START + ms(3)));
}

#[test]
#[should_panic(expected = "Pending of 0, which was Some(Failure)")]
fn forbids_that_a_failed_mapping_waits_again() {
    let mut world = new_world();
    let id = world.create(Transport::Tcp, 8000);
    put_out(&mut world, [event(id, Event::Failure), event(id, Event::Pending)]);
}

#[test]
fn another_engine_follows_the_first_in_the_same_world() {
    let mut world = new_world();
    let first = ExchangeId(1);
    put_out(&mut world, [Output::Connect { exchange: first, to: at(GATEWAY, 5000), source: None }]);
    world.run_for(ms(5));
    put_out(&mut world, [Output::HangUp { exchange: first }]);
    world.begin_cleanup();
    put_out(&mut world, [Output::Finished]);
    world.begin_again(|machine| *machine = Machine::default());
    // It numbers its connections as the first did.
    put_out(&mut world, [Output::Connect { exchange: first, to: at(GATEWAY, 5000), source: None }]);
    world.run_for(ms(5));
    let inputs = inputs(&mut world);
    assert!(matches!(inputs[..], [(_, Input::TcpConnected { exchange: ExchangeId(1), .. })]), "{inputs:?}");
}

#[test]
fn a_gateway_of_another_home_hears_nothing() {
    let mut world = natpmp_world();
    let config = Config { seed: 7, ..Config::at(GATEWAY) };
    let gateway = plum_gateway::core::Gateway::new(config, world::gateway_time(world.now()));
    let node = world::Node { home: 1, ..world::Node::new(gateway) };
    world.network.nodes.push(node);
    ask_address(&mut world);
    world.network.move_to_home(1);
    world.run_for(ms(10));
    assert_eq!(inputs(&mut world).len(), 0, "what was on its way is lost");
    ask_address(&mut world);
    world.run_for(ms(10));
    assert_eq!(inputs(&mut world).len(), 1);
    assert_eq!(world.gateway_at(1).counts.natpmp_address, 1);
}

#[test]
#[should_panic(expected = "after its Destroyed")]
fn forbids_a_second_destroyed() {
    let mut world = new_world();
    let id = world.create(Transport::Tcp, 8000);
    world.destroy(id);
    put_out(&mut world, [event(id, Event::Destroyed), event(id, Event::Destroyed)]);
}

#[test]
#[should_panic(expected = "no Destroyed of 0 within 1s")]
fn forbids_a_missing_destroyed() {
    let mut world = new_world();
    let id = world.create(Transport::Tcp, 8000);
    world.destroy(id);
    world.run_for(ms(1001));
}

#[test]
#[should_panic(expected = "which nobody destroyed")]
fn forbids_destroyed_that_nobody_asked_for() {
    let mut world = new_world();
    let id = world.create(Transport::Tcp, 8000);
    put_out(&mut world, [event(id, Event::Destroyed)]);
}

#[test]
#[should_panic(expected = "the same Success")]
fn forbids_an_event_for_an_uneventful_renewal() {
    let mut world = new_world();
    let id = world.create(Transport::Tcp, 8000);
    put_out(&mut world, [event(id, success(8000)), event(id, success(8000))]);
}

#[test]
#[should_panic(expected = "Finished before the Destroyed of 0")]
fn forbids_finishing_before_all_are_destroyed() {
    let mut world = new_world();
    world.create(Transport::Tcp, 8000);
    world.begin_cleanup();
    put_out(&mut world, [Output::Finished]);
}

#[test]
#[should_panic(expected = "after Finished")]
fn forbids_anything_after_finished() {
    let mut world = new_world();
    world.begin_cleanup();
    put_out(&mut world, [Output::Finished, Output::LookUpRoute { toward: None }]);
}

#[test]
#[should_panic(expected = "cleanup not Finished within 5s")]
fn forbids_a_cleanup_without_end() {
    let mut world = new_world();
    world.cleanup();
}

#[test]
#[should_panic(expected = "which is not open")]
fn forbids_sending_on_a_closed_socket() {
    let mut world = natpmp_world();
    put_out(&mut world, [Output::Close { socket: Socket::NatPmp }]);
    ask_address(&mut world);
}

#[test]
#[should_panic(expected = "to another than it is connected to")]
fn forbids_sending_past_a_connected_socket() {
    let mut world = natpmp_world();
    put_out(&mut world, [send(Socket::NatPmp, at(EXTERNAL, 5351), &ADDRESS_REQUEST)]);
}

#[test]
#[should_panic(expected = "5 TCP connections with a host at a time")]
fn forbids_a_fifth_connection_with_a_host() {
    let mut world = new_world();
    let connect = |n| Output::Connect { exchange: ExchangeId(n), to: at(GATEWAY, 5000), source: None };
    put_out(&mut world, [1, 2, 3, 4, 5].map(connect));
}

#[test]
#[should_panic(expected = "17 TCP connections at a time")]
fn forbids_a_seventeenth_connection() {
    let mut world = new_world();
    let host = |n: u64| IpAddr::from([192, 168, 1, u8::try_from(n / 4).expect("a small number")]);
    let connect = |n| Output::Connect { exchange: ExchangeId(n), to: at(host(n), 5000), source: None };
    put_out(&mut world, (0..17).map(connect));
}

#[test]
#[should_panic(expected = "which is not established")]
fn forbids_writing_before_the_connection_is_established() {
    let mut world = new_world();
    let exchange = ExchangeId(1);
    let write = Output::Write { exchange, bytes: b"GET".to_vec() };
    put_out(&mut world, [Output::Connect { exchange, to: at(GATEWAY, 5000), source: None }, write]);
}

#[test]
#[should_panic(expected = "never comes to rest")]
fn forbids_a_timeout_that_is_never_over() {
    let mut world = new_world();
    world.act(|machine, now| (machine.timeout, machine.restless) = (Some(now), true));
    world.run_for(ms(1));
}

#[test]
#[should_panic(expected = "not so within 60s")]
fn waits_for_nothing_without_end() {
    new_world().run_until(|_| false);
}
