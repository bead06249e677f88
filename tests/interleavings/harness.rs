//! A client on a worker whose machine has a script, and the books on what it tells.
//!
//! The books are kept with std's locks, which the checker does not see: they add no interleavings of their own, and are never
//! held where it may switch threads.

#![allow(clippy::print_stdout, reason = "the report of a test")]

use crate::client::{Client, Error, Listener, News, Settings};
use crate::dummytls::RealSystem;
use crate::log::Level;
use crate::net::Uplink;
use crate::worker::{Command, Machine, Program, Wake, Worker};
use plum_engine::io::{
    Arrival, EngineId, Event, ExchangeId, MappingId, Output, Protocol, Route, SocketId, Suggestion, TcpEnd,
    Wanted,
};
use plum_engine::ledger::HardwareAddress;
use plum_engine::time::Time;
use plum_wire::Transport;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::CStr;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What PCT calls the depth: it finds every bug that needs so many ordered pairs of steps with a known probability.
const DEPTH: usize = 3;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Runs `body` under many schedules.
pub fn explore(body: impl Fn() + Send + Sync + 'static) {
    // The log is one of a process: one test at a time.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let schedules = number("PLUM_SCHEDULES").unwrap_or(2000) as usize;
    let seed = number("PLUM_SCHEDULE_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("PLUM_SCHEDULE_SEED={seed}, {schedules} schedules");
    let body = Arc::new(body);
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let mut config = Config::new();
        // In bytes; log messages are formatted on it.
        config.stack_size = 256 << 10;
        config.failure_persistence = FailurePersistence::Print;
        let body = Arc::clone(&body);
        Runner::new(scheduler, config).run(move || body())
    };
    let random = schedules / 2;
    assert_eq!(run(Box::new(RandomScheduler::new_from_seed(seed, random))), random);
    let pct = schedules - random;
    assert_eq!(run(Box::new(PctScheduler::new_from_seed(seed, DEPTH, pct))), pct);
}

/// What the machine does besides what it is asked to.
#[derive(Clone, Debug)]
pub struct Script {
    /// The events of each mapping, as soon as it is asked for.
    pub events: Vec<Event>,
    /// It panics when it has been asked so often when it is due.
    pub turns: Option<usize>,
}

/// The machine that the worker carries for.
struct Scripted {
    script: Script,
    turns: Cell<usize>,
    live: BTreeSet<MappingId>,
    outputs: VecDeque<Output>,
}

impl Script {
    /// A worker whose machine plays this.
    pub fn start(self, make_program: impl FnOnce(Wake) -> Box<dyn Program>) -> io::Result<Worker> {
        let machine = || Scripted {
            script: self,
            turns: Cell::default(),
            live: BTreeSet::new(),
            outputs: VecDeque::new(),
        };
        Worker::start_machine(Uplink::default(), machine, make_program)
    }
}

impl Scripted {
    fn say(&mut self, id: MappingId, event: Event) {
        self.outputs.push_back(Output::Event { id, event });
    }
}

impl Machine for Scripted {
    fn handle_command(&mut self, _: Time, command: Command) {
        match command {
            Command::Create(id, _) => {
                assert!(self.live.insert(id), "{id} is created once");
                self.script.events.clone().into_iter().for_each(|event| self.say(id, event));
            }
            Command::Destroy(id) => {
                assert!(self.live.remove(&id), "{id} is destroyed once, after it was created");
                self.say(id, Event::Destroyed);
            }
            Command::Cleanup => {
                std::mem::take(&mut self.live).into_iter().for_each(|id| self.say(id, Event::Destroyed));
                self.outputs.push_back(Output::Finished);
            }
        }
    }
    fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        self.outputs.pop_front().map(|output| (EngineId::IPV4, output))
    }
    fn poll_timeout(&self) -> Option<Time> {
        if self.script.turns == Some(self.turns.replace(self.turns.get() + 1)) {
            // A panic that the checker does not report.
            std::panic::resume_unwind(Box::new("the script says so"));
        }
        None
    }
    fn handle_route(&mut self, _: Time, _: EngineId, _: Option<Route>, _: Option<HardwareAddress>) {}
    fn handle_opened(&mut self, _: Time, _: SocketId, _: Option<SocketAddr>) {}
    fn handle_datagram(&mut self, _: Time, _: SocketId, _: Arrival, _: &[u8]) {}
    fn handle_refused(&mut self, _: Time, _: SocketId) {}
    fn handle_tcp_connected(&mut self, _: Time, _: ExchangeId, _: SocketAddr) {}
    fn handle_tcp_data(&mut self, _: Time, _: ExchangeId, _: &[u8]) {}
    fn handle_tcp_end(&mut self, _: Time, _: ExchangeId, _: TcpEnd) {}
    fn handle_network_changed(&mut self, _: Time) {}
    fn handle_timeout(&mut self, _: Time) {}
}

pub fn success() -> Event {
    let port = NonZeroU16::new(4000).expect("not 0");
    Event::Success { protocol: Protocol::Pcp, address: [203, 0, 114, 7].into(), port }
}

#[derive(Default)]
struct Book {
    /// `destroy` has returned to a thread of the program's.
    quiet: bool,
    destroyed: bool,
}

type Inside = Box<dyn Fn(MappingId, &News) + Send + Sync>;
type Log = (Level, Arc<dyn Fn(&CStr) + Send + Sync>);

/// What one run of a test knows.
struct Books {
    script: Script,
    ids: Mutex<BTreeMap<MappingId, Book>>,
    /// A mapping callback is running.
    in_callback: AtomicBool,
    in_log: AtomicBool,
    /// Inits that have begun and not failed, less cleanups that have returned successfully.
    sessions: AtomicUsize,
    inside: OnceLock<Inside>,
    log: OnceLock<Log>,
}

/// A client and its books: it leaks, as a client lives for ever.
#[derive(Clone, Copy)]
pub struct Harness {
    pub client: &'static Client<TestListener>,
    books: &'static Books,
}

/// The listener of all mappings.
#[derive(Clone)]
pub struct TestListener(&'static Books);

impl Listener for TestListener {
    fn tell(&self, id: MappingId, _wanted: &Wanted, news: &News) {
        let books = self.0;
        assert!(!books.in_callback.swap(true, SeqCst), "two callbacks at once");
        assert!(books.sessions.load(SeqCst) > 0, "a callback without a session");
        books.check(id, news);
        // It lasts: others may run now.
        shuttle::thread::yield_now();
        if let Some(inside) = books.inside.get() {
            inside(id, news);
        }
        if *news == News::Destroyed {
            books.with(id, |book| assert!(!std::mem::replace(&mut book.destroyed, true), "{id} twice"));
        } else {
            books.check(id, news);
        }
        books.in_callback.store(false, SeqCst);
    }
}

impl Books {
    fn with<T>(&self, id: MappingId, body: impl FnOnce(&mut Book) -> T) -> T {
        body(self.ids.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default())
    }

    /// At the beginning of a callback, and at the end of one that is not the last.
    fn check(&self, id: MappingId, news: &News) {
        self.with(id, |book| {
            assert!(!book.destroyed, "{news:?} of {id} after its DESTROYED");
            assert!(!book.quiet || *news == News::Destroyed, "{news:?} of {id} after destroy has returned");
        });
    }
}

impl Harness {
    /// Before init.
    pub fn new(script: Script) -> Harness {
        let books = Books {
            script,
            ids: Mutex::default(),
            in_callback: AtomicBool::new(false),
            in_log: AtomicBool::new(false),
            sessions: AtomicUsize::new(0),
            inside: OnceLock::new(),
            log: OnceLock::new(),
        };
        Harness { client: Box::leak(Box::new(Client::new())), books: Box::leak(Box::new(books)) }
    }

    /// With a session.
    pub fn start(script: Script) -> Harness {
        let harness = Harness::new(script);
        harness.init().expect("the first init");
        harness
    }

    /// What is done inside every mapping callback.
    pub fn inside(&self, inside: impl Fn(MappingId, &News) + Send + Sync + 'static) {
        assert!(self.books.inside.set(Box::new(inside)).is_ok());
    }

    /// What is done inside every log callback.
    pub fn log(&self, level: Level, log: impl Fn(&CStr) + Send + Sync + 'static) {
        assert!(self.books.log.set((level, Arc::new(log))).is_ok());
    }

    fn settings(&self) -> Settings {
        let books = self.books;
        let callback = books.log.get().map(|(_, log)| -> crate::log::Callback {
            let log = Arc::clone(log);
            Arc::new(move |_, message| {
                assert!(!books.in_log.swap(true, SeqCst), "two log callbacks at once");
                assert!(books.sessions.load(SeqCst) > 0, "a log callback without a session: {message:?}");
                shuttle::thread::yield_now();
                log(message);
                books.in_log.store(false, SeqCst);
            })
        });
        Settings {
            library: "libplum",
            log_level: books.log.get().map(|(level, _)| *level),
            log_callback: callback,
            ..Settings::default()
        }
    }

    pub fn init(&self) -> Result<(), Error> {
        self.books.sessions.fetch_add(1, SeqCst);
        let script = self.books.script.clone();
        let result =
            self.client.init_with(Some(self.settings()), Arc::new(RealSystem), |_config, make_program| {
                script.start(make_program)
            });
        if result.is_err() {
            self.books.sessions.fetch_sub(1, SeqCst);
        }
        result
    }

    /// On a system that gives no threads.
    pub fn init_without_thread(&self) -> Result<(), Error> {
        self.books.sessions.fetch_add(1, SeqCst);
        let no_thread = |_, _: crate::client::MakeProgram<'_>| Err(std::io::Error::other("no threads today"));
        let result = self.client.init_with(Some(self.settings()), Arc::new(RealSystem), no_thread);
        self.books.sessions.fetch_sub(1, SeqCst);
        result
    }

    pub fn try_create(&self) -> Result<MappingId, Error> {
        let internal_port = NonZeroU16::new(4711).expect("not 0");
        let wanted = Wanted {
            transport: Transport::Udp,
            internal_port,
            wish: Suggestion::default(),
            description: None,
        };
        let id = self.client.create(wanted, TestListener(self.books))?;
        self.books.with(id, |_| ());
        Ok(id)
    }

    pub fn create(&self) -> MappingId {
        self.try_create().expect("there is a session")
    }

    /// Destroys on a thread of the program's. The mapping may be gone, and the session.
    pub fn destroy(&self, id: MappingId) {
        if self.client.destroy(id) == Ok(()) {
            self.books.with(id, |book| book.quiet = true);
        }
    }

    /// Ends the session, if there is one: what had been created before is destroyed then.
    pub fn cleanup(&self) -> Result<(), Error> {
        let created: Vec<MappingId> = self.ids();
        let result = self.client.cleanup();
        if result.is_ok() {
            self.books.sessions.fetch_sub(1, SeqCst);
        }
        for id in created {
            self.check_destroyed(id);
        }
        result
    }

    fn ids(&self) -> Vec<MappingId> {
        self.books.ids.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// The latest id, as far as it is known.
    pub fn latest(&self) -> MappingId {
        self.ids().last().copied().unwrap_or(0)
    }

    pub fn check_destroyed(&self, id: MappingId) {
        assert!(self.books.with(id, |book| book.destroyed), "{id} had no DESTROYED");
    }

    /// No session is, nor one of anybody else's to come: everything has been told, and nobody is telling.
    pub fn check_ended(&self) {
        assert!(!self.books.in_callback.load(SeqCst) && !self.books.in_log.load(SeqCst));
        for id in self.ids() {
            self.check_destroyed(id);
        }
        assert_eq!(self.client.check_running(), Err(Error::Failed));
    }
}
