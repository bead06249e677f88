//! A client with the real worker, which carries for a machine that does what the test says.

use parking_lot::Mutex;
use plum_engine::io::{
    Arrival, EngineId, Event, ExchangeId, MappingId, Output, Protocol, Route, SocketId, Suggestion, TcpEnd,
    Wanted,
};
use plum_engine::time::Time;
use plum_runtime::client::{Client, Error, Listener, News, Settings};
use plum_runtime::dummytls::System;
use plum_runtime::net::Uplink;
use plum_runtime::worker::{Command, Machine, Wake, Worker};
use plum_wire::Transport;
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::ThreadId;
use std::time::Duration;

/// Whatever has not happened after this long never will.
pub const LONG: Duration = Duration::from_secs(20);

/// What the listeners of a test were told: id, news, and on which thread.
pub type Told = (MappingId, News, ThreadId);

/// A listener that is a closure of the test's.
#[derive(Clone)]
pub struct TestListener(Arc<Tell>);

type Tell = dyn Fn(MappingId, &News) + Send + Sync;

impl Listener for TestListener {
    fn tell(&self, id: MappingId, wanted: &Wanted, news: &News) {
        assert_eq!(*wanted, self::wanted(), "the listener gets what was created");
        (self.0)(id, news);
    }
}

/// What the machine is to do next.
enum Order {
    Event(MappingId, Event),
    Panic,
}

#[derive(Default)]
struct Orders {
    next: VecDeque<Order>,
    /// Destroyed mappings, and the cleanup, wait until this is false.
    holds_destroyed: bool,
    /// What was live when the cleanup came: the machine decides what becomes of it at the gateway.
    left_to_cleanup: Vec<MappingId>,
}

/// A client with a session, or before one.
pub struct Harness {
    pub client: &'static Client<TestListener>,
    orders: Arc<Mutex<Orders>>,
    wake: Mutex<Option<Wake>>,
    sender: Mutex<Sender<Told>>,
    pub told: Receiver<Told>,
}

/// The clients of all tests. They live for ever, as a program's does; kept here they are no leaks.
static CLIENTS: Mutex<Vec<&'static Client<TestListener>>> = Mutex::new(Vec::new());

fn keep(client: Client<TestListener>) -> &'static Client<TestListener> {
    let client = Box::leak(Box::new(client));
    CLIENTS.lock().push(client);
    client
}

impl Harness {
    pub fn before_init() -> Harness {
        Harness::with_first_id(0)
    }

    pub fn with_first_id(first_id: MappingId) -> Harness {
        let (sender, told) = channel();
        Harness {
            client: keep(Client::with_first_id(first_id)),
            orders: Arc::default(),
            wake: Mutex::new(None),
            sender: Mutex::new(sender),
            told,
        }
    }

    pub fn new() -> Harness {
        let harness = Harness::before_init();
        harness.init().expect("the first init succeeds");
        harness
    }

    pub fn init(&self) -> Result<(), Error> {
        self.init_with(Settings::default(), Arc::new(NoNames))
    }

    pub fn init_with(&self, settings: Settings, system: Arc<dyn System>) -> Result<(), Error> {
        let orders = Arc::clone(&self.orders);
        self.client.init_with(Some(settings), system, |_config, make_program| {
            let make_machine =
                move || Script { orders, live: BTreeSet::new(), ending: false, outputs: VecDeque::new() };
            Worker::start_machine(Uplink::default(), make_machine, |wake| {
                *self.wake.lock() = Some(wake.clone());
                make_program(wake)
            })
        })
    }

    /// Creates a mapping whose news go to `told`, after `then` has seen them.
    pub fn create_with(
        &self,
        then: impl Fn(MappingId, &News) + Send + Sync + 'static,
    ) -> Result<MappingId, Error> {
        let sender = self.sender.lock().clone();
        let tell = move |id, news: &News| {
            then(id, news);
            // The test may have seen enough.
            let _ = sender.send((id, news.clone(), std::thread::current().id()));
        };
        self.client.create(wanted(), TestListener(Arc::new(tell)))
    }

    pub fn create(&self) -> MappingId {
        self.create_with(|_, _| {}).expect("a mapping can be created")
    }

    /// Has the machine tell of an event.
    pub fn event(&self, id: MappingId, event: Event) {
        self.order(Order::Event(id, event));
    }

    pub fn panic(&self) {
        self.order(Order::Panic);
    }

    fn order(&self, order: Order) {
        self.orders.lock().next.push_back(order);
        self.wake();
    }

    fn wake(&self) {
        self.wake.lock().as_ref().expect("there is a worker").wake();
    }

    pub fn hold_destroyed(&self) {
        self.orders.lock().holds_destroyed = true;
    }

    pub fn release_destroyed(&self) {
        self.orders.lock().holds_destroyed = false;
        self.wake();
    }

    /// The mappings that the last cleanup left to the machine.
    pub fn left_to_cleanup(&self) -> Vec<MappingId> {
        self.orders.lock().left_to_cleanup.clone()
    }

    /// The next news.
    pub fn next(&self) -> (MappingId, News) {
        let (id, news, _) = self.told.recv_timeout(LONG).expect("there is news");
        (id, news)
    }

    /// Ends the session; the news that were left.
    pub fn end(self) -> Vec<(MappingId, News)> {
        self.client.cleanup().expect("the session can be ended");
        self.told.try_iter().map(|(id, news, _)| (id, news)).collect()
    }
}

pub fn wanted() -> Wanted {
    let internal_port = NonZeroU16::new(4711).expect("not 0");
    Wanted { transport: Transport::Udp, internal_port, wish: Suggestion::default(), description: None }
}

pub fn success(address: &str, port: u16) -> Event {
    let address = address.parse().expect("an address");
    Event::Success { protocol: Protocol::Pcp, address, port: NonZeroU16::new(port).expect("not 0") }
}

/// The news that `success` makes, with the host as it is to be reported.
pub fn made(host: &str, port: u16) -> News {
    let port = NonZeroU16::new(port).expect("not 0");
    News::Success(plum_runtime::client::ExternalHost { host: host.into(), port, protocol: Protocol::Pcp })
}

/// A system that is never asked for a name.
struct NoNames;

impl System for NoNames {
    fn resolve(&self, host: &str) -> Vec<IpAddr> {
        panic!("nobody asked for {host}")
    }

    fn now(&self) -> Time {
        plum_runtime::net::clock::now()
    }

    fn port(&self) -> u16 {
        0
    }
}

/// The machine: mappings stay pending but for the test's events, and are destroyed at once but for the test's hold.
struct Script {
    orders: Arc<Mutex<Orders>>,
    /// Created and not destroyed, in the machine's eyes; those that are to be destroyed are in `live` no more.
    live: BTreeSet<MappingId>,
    ending: bool,
    outputs: VecDeque<Output>,
}

impl Machine for Script {
    fn handle_command(&mut self, _now: Time, command: Command) {
        let mut destroy = |id| self.outputs.push_back(Output::Event { id, event: Event::Destroyed });
        match command {
            Command::Create(id, _) => assert!(self.live.insert(id), "id {id} was given out before"),
            Command::Destroy(id) => {
                assert!(self.live.remove(&id), "id {id} is destroyed once, after it was created");
                destroy(id);
            }
            Command::Cleanup => {
                assert!(!self.ending, "cleanup comes once");
                self.ending = true;
                self.orders.lock().left_to_cleanup = self.live.iter().copied().collect();
                std::mem::take(&mut self.live).into_iter().for_each(destroy);
                self.outputs.push_back(Output::Finished);
            }
        }
    }

    fn handle_timeout(&mut self, _now: Time) {
        match self.orders.lock().next.pop_front() {
            // Ahead of what is held.
            Some(Order::Event(id, event)) => self.outputs.push_front(Output::Event { id, event }),
            Some(Order::Panic) => panic!("the test wants the machine to panic"),
            None => {}
        }
    }

    fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        let held = matches!(
            self.outputs.front(),
            Some(Output::Event { event: Event::Destroyed, .. } | Output::Finished)
        );
        if held && self.orders.lock().holds_destroyed {
            return None;
        }
        self.outputs.pop_front().map(|output| (EngineId::IPV4, output))
    }

    fn poll_timeout(&self) -> Option<Time> {
        let orders = self.orders.lock();
        let due = !orders.next.is_empty() || (!self.outputs.is_empty() && !orders.holds_destroyed);
        due.then_some(Time::ZERO)
    }

    fn handle_network_changed(&mut self, _now: Time) {}
    fn handle_route(&mut self, _: Time, _: EngineId, _: Option<Route>, _: Option<[u8; 6]>) {}
    fn handle_opened(&mut self, _: Time, _: SocketId, _: Option<SocketAddr>) {}
    fn handle_datagram(&mut self, _: Time, _: SocketId, _: Arrival, _: &[u8]) {}
    fn handle_refused(&mut self, _: Time, _: SocketId) {}
    fn handle_tcp_connected(&mut self, _: Time, _: ExchangeId, _: SocketAddr) {}
    fn handle_tcp_data(&mut self, _: Time, _: ExchangeId, _: &[u8]) {}
    fn handle_tcp_end(&mut self, _: Time, _: ExchangeId, _: TcpEnd) {}
}
