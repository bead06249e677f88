//! A program that uses the library, and routers with gateways behind cables.

#[path = "far_side.rs"]
mod far_side;

use far_side::FarSide;
use plum_engine::io::{Allowed, MappingId, Suggestion, Wanted};
use plum_gateway::core::Gateway;
use plum_gateway::server::{Config, Server};
use plum_runtime::client::{Client, ExternalHost, Listener, News, Settings};
use plum_runtime::log::Level;
use plum_runtime::net::clock;
use plum_testkit::namespace::ip;
use plum_wire::Transport;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Whatever has not happened after this long never will.
pub const LONG: Duration = Duration::from_secs(20);

/// A router: a network namespace of its own at the far end of a cable, with a simulated gateway in it.
pub struct Router {
    server: Server,
    far: FarSide,
}

impl Router {
    /// A router with the address 10.`net`.0.1 and the external address 203.0.113.`net`. The cable leads to it from our
    /// interface `lan`*net*, which gets 10.`net`.0.2/24.
    pub fn start(net: u8) -> Router {
        Router::start_with(net, |_| {})
    }

    /// The same, with another configuration of the gateway.
    pub fn start_with(net: u8, change: impl Fn(&mut Config)) -> Router {
        Router::start_behind(net, net, change)
    }

    /// The same, behind our interface `lan`*link*, which may have been another router's address before.
    pub fn start_behind(link: u8, net: u8, change: impl Fn(&mut Config)) -> Router {
        let far = FarSide::start(&format!("lan{link}"), "wan");
        ip(&format!("addr add 10.{net}.0.2/24 dev lan{link}"));
        let mut config = Config::at(Ipv4Addr::new(10, net, 0, 1));
        config.gateway.external_address = Ipv4Addr::new(203, 0, 113, net);
        config.multicast = true;
        change(&mut config);
        let server = far.run(move || {
            ip("link set lo up");
            ip("link set wan up");
            ip(&format!("addr add 10.{net}.0.1/24 dev wan"));
            // Its sockets, and the thread that it starts, are of this namespace.
            Server::start(config).expect("a gateway")
        });
        Router { server, far }
    }

    /// Runs `ip` in the router's namespace.
    pub fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.run(move || ip(&arguments));
    }

    /// Does something in the router's namespace.
    pub fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        self.far.run(act)
    }

    /// Looks at the gateway, or changes it.
    pub fn with_gateway<T>(&self, act: impl FnOnce(&mut Gateway) -> T) -> T {
        self.server.with_core(act)
    }

    /// Waits until the gateway has heard nothing for longer than the library waits with a look at the network.
    pub fn settle(&self) {
        loop {
            let heard = self.with_gateway(|core| core.counts.total());
            if !self.server.wait_until(Duration::from_millis(1500), |core| core.counts.total() > heard) {
                return;
            }
        }
    }

    /// Waits until the gateway is as wanted.
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Gateway) -> bool) {
        assert!(self.server.wait_until(LONG, is_so), "it never came to pass that {what}");
    }
}

/// A listener that is a closure of the test's.
#[derive(Clone)]
pub struct TestListener(Arc<Tell>);

type Tell = dyn Fn(MappingId, &News) + Send + Sync;

impl Listener for TestListener {
    fn tell(&self, id: MappingId, _: &Wanted, news: &News) {
        (self.0)(id, news);
    }
}

/// The default times; PCP, NAT-PMP and UPnP.
pub fn settings() -> Settings {
    Settings { log_level: Some(Level::Debug), ..Settings::default() }
}

/// PCP and NAT-PMP only.
pub fn pcp_only() -> Settings {
    Settings { allowed: Allowed::Pcp, ..settings() }
}

/// The clients of all tests. They live for ever, as a program's does; kept here they are no leaks.
static CLIENTS: Mutex<Vec<&'static Client<TestListener>>> = Mutex::new(Vec::new());

/// A session of the library, and what it has said.
pub struct Program {
    client: &'static Client<TestListener>,
    tell: Sender<(MappingId, News)>,
    told: Receiver<(MappingId, News)>,
    log: Receiver<(Level, String)>,
}

impl Program {
    pub fn start(settings: Settings) -> Program {
        let (write, log) = channel();
        let log_callback = move |level, text: &CStr| {
            // The test may be over.
            let _ = write.send((level, text.to_str().expect("UTF-8").to_owned()));
        };
        Program::start_logging(Settings { log_callback: Some(Arc::new(log_callback)), ..settings }, log)
    }

    /// One whose log goes to standard output.
    pub fn start_on_output(settings: Settings) -> Program {
        Program::start_logging(settings, channel().1)
    }

    fn start_logging(settings: Settings, log: Receiver<(Level, String)>) -> Program {
        let (tell, told) = channel();
        let client: &'static Client<TestListener> = Box::leak(Box::new(Client::new()));
        CLIENTS.lock().expect("not poisoned").push(client);
        client.init(Some(settings)).expect("init");
        Program { client, tell, told, log }
    }

    pub fn create(&self, internal_port: u16) -> MappingId {
        self.create_with(internal_port, |_| {})
    }

    /// `inside` is called in the callback.
    pub fn create_with(
        &self,
        internal_port: u16,
        inside: impl Fn(&News) + Send + Sync + 'static,
    ) -> MappingId {
        let tell = Mutex::new(self.tell.clone());
        let ear = move |id, news: &News| {
            let _ = tell.lock().expect("not poisoned").send((id, news.clone()));
            inside(news);
        };
        let internal_port = NonZeroU16::new(internal_port).expect("not 0");
        let wanted = Wanted {
            transport: Transport::Udp,
            internal_port,
            wish: Suggestion::default(),
            description: None,
        };
        self.client.create(wanted, TestListener(Arc::new(ear))).expect("a mapping can be created")
    }

    /// The next that the program is told is of this mapping.
    fn next(&self, id: MappingId, what: &str) -> News {
        match self.told.recv_timeout(LONG) {
            Ok((told_id, news)) => {
                assert_eq!(told_id, id, "{news:?}");
                news
            }
            Err(_) => panic!("no {what}; the log: {:#?}", self.log.try_iter().collect::<Vec<_>>()),
        }
    }

    /// The next news are that the mapping is made, by the router of this net.
    pub fn expect_success(&self, id: MappingId, net: u8) -> ExternalHost {
        match self.next(id, "SUCCESS") {
            News::Success(external) => {
                assert_eq!(&*external.host, format!("203.0.113.{net}"));
                external
            }
            other => panic!("{other:?}; the log: {:#?}", self.log.try_iter().collect::<Vec<_>>()),
        }
    }

    /// The next news are that it cannot be made; returns how long that took.
    pub fn expect_failure(&self, id: MappingId) -> Duration {
        let asked_at = clock::now();
        let news = self.next(id, "FAILURE");
        assert_eq!(news, News::Failure);
        clock::now().since(asked_at)
    }

    /// The program was told nothing that it has not been asked for.
    pub fn expect_nothing_told(&self) {
        assert_eq!(self.told.try_iter().collect::<Vec<_>>(), []);
    }

    /// The program was told nothing more of this mapping.
    pub fn expect_nothing_told_of(&self, id: MappingId) {
        assert_eq!(self.told.try_iter().filter(|(told_id, _)| *told_id == id).collect::<Vec<_>>(), []);
    }

    /// A message of this level that has all these words; those before it are forgotten.
    pub fn expect_log(&self, level: Level, words: &[&str]) {
        let mut others = Vec::new();
        let deadline_at = clock::now() + LONG;
        while let Ok((logged_level, text)) = self.log.recv_timeout(deadline_at.since(clock::now())) {
            if logged_level == level && words.iter().all(|word| text.contains(word)) {
                return;
            }
            others.push(text);
        }
        panic!("nobody said {words:?} as {level:?}: {others:#?}");
    }

    /// How many messages of WARN and above there are now that have this word.
    pub fn count_warnings(&self, word: &str) -> usize {
        self.log.try_iter().filter(|(level, text)| *level >= Level::Warn && text.contains(word)).count()
    }

    /// What the worker has used up so far.
    pub fn work(&self) -> Work {
        Work::of_thread("plum")
    }

    pub fn cleanup(self) {
        self.client.cleanup().expect("cleanup");
    }
}

/// What a thread has done.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    wake_ups: u64,
    processor: Duration,
}

impl Work {
    fn of_thread(name: &str) -> Work {
        let deadline_at = clock::now() + LONG;
        while clock::now() < deadline_at {
            // A thread gives itself its name, soon after its start.
            if let Some(work) = Work::of_named_thread(name) {
                return work;
            }
            std::thread::yield_now();
        }
        panic!("no thread is named {name}");
    }

    fn of_named_thread(name: &str) -> Option<Work> {
        for task in std::fs::read_dir("/proc/self/task").expect("procfs") {
            let path = task.expect("a task").path();
            let read = |file| std::fs::read_to_string(path.join(file)).unwrap_or_default();
            if read("comm").trim() != name {
                continue;
            }
            let status = read("status");
            let switches = |kind: &str| -> u64 {
                let line = status.lines().find_map(|line| line.strip_prefix(kind)).expect("a status");
                line.trim().parse().expect("a number")
            };
            let nanos = read("schedstat").split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
            return Some(Work {
                wake_ups: switches("voluntary_ctxt_switches:"),
                processor: Duration::from_nanos(nanos),
            });
        }
        None
    }

    /// It has not kept busy since then: so many wake-ups at most, and little work for each.
    pub fn assert_little_since(self, before: Work, wake_ups_max: u64) {
        let wake_ups = self.wake_ups - before.wake_ups;
        let processor = self.processor.saturating_sub(before.processor);
        assert!(wake_ups <= wake_ups_max, "{wake_ups} wake-ups");
        // A turn takes some 0.1 ms in a debug build, on a busy machine several times that.
        let processor_max = Duration::from_millis(50 + 2 * wake_ups_max);
        assert!(processor <= processor_max, "{processor:?} in {wake_ups} wake-ups");
    }
}

/// The address of router `net`.
pub fn gateway(net: u8) -> IpAddr {
    IpAddr::from([10, net, 0, 1])
}
