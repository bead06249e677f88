//! The C API and simulated gateways over real sockets. The library is one of a process, so each row is played in a process of
//! its own.

#![allow(clippy::print_stdout, reason = "the report of a test")]

use super::{Stage, Start};
use crate::harness::{Call, LONG, create, ear, init, int, wanted, zeroed_config};
use plum::*;
use plum_engine::io::{Event, Protocol};
use plum_gateway::core::Gateway;
use plum_gateway::server::Server;
use plum_wire::Transport;
use std::collections::BTreeMap;
use std::ffi::{CStr, OsString, c_char};
use std::num::NonZeroU16;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often to look at what no callback tells of.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Names the row that a process plays.
const ROW: &str = "PLUM_ODD_ROW";

/// Plays a row in a process of its own, by way of another program (`unshare`) or not.
pub fn run_alone(row: &str, by_way_of: &[&str]) -> Output {
    let this = std::env::current_exe().expect("this program has a path");
    let words = by_way_of.iter().map(OsString::from).chain([this.into_os_string()]).collect::<Vec<_>>();
    Command::new(&words[0])
        .args(&words[1..])
        .args(["the_row_of_this_process", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROW, row)
        .env_remove("PLUM_GATEWAY")
        .output()
        .expect("this program can be run")
}

/// The row that this process is to play.
pub fn row_of_this_process() -> Option<String> {
    std::env::var(ROW).ok()
}

/// Where the gateways of a row are.
pub trait Gateways: Sized {
    /// A gateway that is odd, and that the library will find.
    fn start(odd: impl FnOnce(&mut Gateway)) -> Self;

    /// Looks at one of them, or changes it.
    fn look<T>(&mut self, n: usize, act: impl FnOnce(&mut Gateway) -> T) -> T;
}

/// One gateway, on a loopback address of its own.
pub struct Loopback(Server);

impl Gateways for Loopback {
    fn start(odd: impl FnOnce(&mut Gateway)) -> Loopback {
        let server = Server::start_on_own_address(|config| config.forward_on = None).expect("a gateway");
        server.with_core(odd);
        // SAFETY: no other thread of this process reads the environment: the library is not initialised.
        unsafe { std::env::set_var("PLUM_GATEWAY", server.pcp_address().to_string()) };
        Loopback(server)
    }

    fn look<T>(&mut self, _: usize, act: impl FnOnce(&mut Gateway) -> T) -> T {
        self.0.with_core(act)
    }
}

/// The library on a gateway's loopback address.
pub type Sockets = Program<Loopback>;

/// A program that uses the library, and its gateways.
pub struct Program<G> {
    pub(super) gateways: G,
    start: Start,
    user_ptr: *mut std::ffi::c_void,
    heard: Receiver<Call>,
    told: BTreeMap<i32, Vec<Event>>,
}

/// What the library has logged since it was initialised.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

extern "C" fn keep_log(_level: plum_log_level_t, text: *const c_char) {
    // SAFETY: the library's messages end in NUL and live during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // So that the log of a row that fails is seen.
    println!("{text}");
    LINES.lock().expect("not poisoned").push(text);
}

impl<G: Gateways> Program<G> {
    /// The program initialises the library, which finds these gateways.
    pub fn begin_among(gateways: G, start: Start) -> Program<G> {
        let (user_ptr, heard) = ear(|_, _| {});
        let program = Program { gateways, start, user_ptr, heard, told: BTreeMap::new() };
        program.init();
        program
    }

    fn init(&self) {
        LINES.lock().expect("not poisoned").clear();
        let config = plum_config_t {
            log_level: int(1),
            log_callback: Some(keep_log),
            recheck_period: i32::try_from(self.start.recheck.as_millis()).expect("a short period"),
            ..zeroed_config()
        };
        assert_eq!(init(&config), PLUM_ERR_SUCCESS);
    }

    fn note(&mut self, call: Call) {
        let event = match call.state {
            plum_state_t::PLUM_STATE_SUCCESS => Event::Success {
                protocol: match call.mapping_protocol {
                    1 => Protocol::Pcp,
                    2 => Protocol::NatPmp,
                    3 => Protocol::UpnpIgd,
                    other => panic!("mapped by {other}"),
                },
                address: call.host.parse().expect("an address"),
                port: NonZeroU16::new(call.external_port).expect("an external port"),
            },
            plum_state_t::PLUM_STATE_FAILURE => Event::Failure,
            plum_state_t::PLUM_STATE_DESTROYED => Event::Destroyed,
            other => panic!("a callback of {other:?}"),
        };
        self.told.entry(call.id).or_default().push(event);
    }

    fn hear(&mut self) {
        while let Ok(call) = self.heard.try_recv() {
            self.note(call);
        }
    }
}

impl<G: Gateways> Stage for Program<G> {
    const HAS_EXACT_TIMES: bool = false;

    fn begin_with(start: Start, odd: impl FnOnce(&mut Gateway)) -> Program<G> {
        Program::begin_among(G::start(odd), start)
    }

    fn gateway<T>(&mut self, act: impl FnOnce(&mut Gateway) -> T) -> T {
        self.gateways.look(0, act)
    }

    fn create_wishing(&mut self, transport: Transport, internal_port: u16, external_port: u16) -> i32 {
        let protocol = int(i32::from(transport == Transport::Udp));
        let id = create(&plum_mapping_t { protocol, internal_port, external_port, ..wanted(self.user_ptr) });
        assert!(id >= 0, "{id}");
        id
    }

    fn destroy(&mut self, id: i32) {
        assert_eq!(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
    }

    fn cleanup(&mut self) -> Duration {
        let start = Instant::now();
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        start.elapsed()
    }

    fn told(&mut self, id: i32) -> Vec<Event> {
        self.hear();
        self.told.get(&id).cloned().unwrap_or_default()
    }

    fn wait(&mut self, within: Duration, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + LONG.max(within * 2);
        while !is_so(self) {
            assert!(Instant::now() < until, "it never came to pass: {what}; told: {:?}", self.told);
            match self.heard.recv_timeout(LOOK_INTERVAL) {
                Ok(call) => self.note(call),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the ear lives for ever"),
            }
        }
    }

    fn pass(&mut self, _span: Duration) {}

    fn begin_again(self) -> Program<G> {
        self.init();
        self
    }

    fn has_logged(&mut self, text: &str) -> bool {
        LINES.lock().expect("not poisoned").iter().any(|line| line.contains(text))
    }
}
