//! What has happened in a world, for the report of a test that failed.

#![allow(clippy::print_stderr, reason = "the report of a test")]

use super::{Input, START, World};
use plum_engine::io::Output;
use plum_engine::log::{self, Level, Sink};
use plum_engine::machine::Machine;
use std::cell::RefCell;
use std::time::Duration;

thread_local! {
    /// The messages of this thread's engine, if WORLD_LOG is set.
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what the engine logs, if WORLD_LOG is set.
pub(super) fn keep_log() {
    if std::env::var_os("WORLD_LOG").is_some() {
        log::set_sink(Sink {
            enabled: |level| level >= Level::Debug,
            write: |level, text| LOGGED.with_borrow_mut(|lines| lines.push(format!("   {level:?} {text}"))),
        });
    }
}

/// How much of what happened a failing test shows, unless WORLD_TRACE says otherwise.
const TRACE: usize = 80;

/// How much of what happens is kept.
pub(super) fn wanted_len() -> usize {
    std::env::var("WORLD_TRACE").map_or(TRACE, |text| text.parse().expect("WORLD_TRACE is a number"))
}

impl<E: Machine> World<E> {
    /// Keeps so much of what happens from now on.
    pub fn set_trace(&mut self, len: usize) {
        self.trace_len = len;
        self.trace.truncate(len);
    }

    /// What has happened lately, as far as it is kept.
    pub fn trace(&self) -> impl Iterator<Item = (Duration, &str)> {
        self.trace.iter().map(|(at, text)| (at.since(START), text.as_str()))
    }

    /// Adds to what is kept of what happens.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace_len == 0 {
            return;
        }
        self.note_log();
        self.keep(text());
    }

    /// The same with what the engine has logged.
    pub(super) fn note_log(&mut self) {
        for text in LOGGED.take() {
            self.keep(text);
        }
    }

    fn keep(&mut self, text: String) {
        if self.trace.len() >= self.trace_len {
            self.trace.pop_front();
        }
        self.trace.push_back((self.now, text));
    }
}

impl<E: Machine> Drop for World<E> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("the last that happened in this world:");
        for (at, text) in &self.trace {
            eprintln!("  {:>14.6} s  {text}", at.since(START).as_secs_f64());
        }
        for (n, node) in self.network.nodes.iter().enumerate() {
            eprintln!("gateway {n} received: {}", node.gateway.counts);
            for complaint in node.gateway.complaints() {
                eprintln!("  {complaint}");
            }
        }
        eprintln!("run this again with WORLD_SEED={}", self.seed);
    }
}

pub(super) fn describe_input(input: &Input) -> String {
    match input {
        Input::Datagram { socket, from, bytes } => format!("<- {socket:?} from {from}: {}", describe(bytes)),
        Input::TcpData { exchange, bytes } => format!("<- {exchange:?}: {}", describe(bytes)),
        other => format!("<- {other:?}"),
    }
}

pub(super) fn describe_output(output: &Output) -> String {
    match output {
        Output::Send { socket, to, bytes } => format!("-> {socket:?} to {to}: {}", describe(bytes)),
        Output::Write { exchange, bytes } => format!("-> {exchange:?}: {}", describe(bytes)),
        other => format!("-> {other:?}"),
    }
}

/// Text by its first line, anything else in hex.
fn describe(bytes: &[u8]) -> String {
    let first = bytes.split(|&octet| octet == b'\r').next().unwrap_or_default();
    if first.len() > 3 && first.iter().all(|octet| (b' '..=b'~').contains(octet)) {
        return format!(
            "{} ({} octets)",
            String::from_utf8_lossy(&first[..first.len().min(80)]),
            bytes.len()
        );
    }
    let hex: String = bytes.iter().take(64).map(|octet| format!("{octet:02x}")).collect();
    format!("{hex} ({} octets)", bytes.len())
}
