//! The engines of the IPv6 addresses in use, and what they share.

use super::connections::Connections;
use super::listeners::{Joined, Listeners, is_listener};
use crate::Engine;
use crate::driver::Key;
use crate::io::{Config, EngineId, Event, ExchangeId, MappingId, Output, Random, Source, TcpEnd};
use crate::status::Counters;
use crate::time::Time;
use std::collections::LinkedList;

/// Addresses in use, at most.
const MAX_ADDRESSES: usize = 8;

/// An engine with the address that its mappings lead to.
struct AddressEngine {
    number: EngineId,
    source: Source,
    engine: Engine,
    /// It has no mapping any more, and ends after its last deletion.
    is_ending: bool,
}

/// What an engine reports.
pub(super) enum Report {
    Event {
        engine: EngineId,
        /// The mapping, by its id in the engine.
        id: MappingId,
        event: Event,
    },
    /// An engine has ended.
    Ended,
}

/// What is known of engines that have ended.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// The keys whose deletion was not confirmed.
    pub(crate) unconfirmed: Vec<Key>,
    pub(crate) counters: Counters,
}

impl Past {
    pub(crate) fn add(&mut self, ended: &Engine) {
        self.counters.add(ended.counters());
        self.unconfirmed.extend(ended.entry_keys().1);
    }
}

pub(crate) struct AddressEngines {
    config: Config,
    random: Box<dyn Random>,
    list: Vec<AddressEngine>,
    last_number: u32,
    is_cleaning_up: bool,
    pub(crate) listeners: Listeners,
    connections: Connections,
    outputs: LinkedList<(EngineId, Output)>,
    /// Of the engines that have ended.
    pub(crate) past: Past,
    /// Adds to it; `None` in the C library, which then does without that code.
    pub(crate) remember: Option<fn(&mut Past, &Engine)>,
}

impl AddressEngines {
    pub(super) fn new(config: Config, random: Box<dyn Random>) -> AddressEngines {
        AddressEngines {
            config,
            random,
            list: Vec::new(),
            last_number: EngineId::IPV4.0,
            is_cleaning_up: false,
            listeners: Listeners::default(),
            connections: Connections::default(),
            outputs: LinkedList::new(),
            past: Past::default(),
            remember: None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Engine> {
        self.list.iter().map(|known| &known.engine)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Engine> {
        self.list.iter_mut().map(|known| &mut known.engine)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn get(&self, number: EngineId) -> Option<&Engine> {
        self.list.iter().find(|known| known.number == number).map(|known| &known.engine)
    }

    pub(crate) fn get_mut(&mut self, number: EngineId) -> Option<&mut Engine> {
        self.list.iter_mut().find(|known| known.number == number).map(|known| &mut known.engine)
    }

    /// The address of an engine.
    pub(super) fn source(&self, number: EngineId) -> Option<Source> {
        self.list.iter().find(|known| known.number == number).map(|known| known.source)
    }

    /// The engine of an address; `None`: all are in use for others.
    pub(super) fn obtain(&mut self, now: Time, source: Source) -> Option<EngineId> {
        let found = self.list.iter().find(|known| known.source == source && !known.is_ending);
        if let Some(known) = found {
            return Some(known.number);
        }
        let in_use = self.list.iter().filter(|known| !known.is_ending).count();
        if in_use >= MAX_ADDRESSES {
            // One without mappings ends: its entries are deleted, or run out.
            let is_idle = |known: &AddressEngine| !known.is_ending && known.engine.has_no_mapping();
            let index = self.list.iter().position(is_idle)?;
            self.list[index].is_ending = true;
            self.list[index].engine.handle_cleanup(now);
        }
        self.last_number += 1;
        let number = EngineId(self.last_number);
        let config = Config { source: Some(source), ..self.config.clone() };
        let engine = Engine::with_id(config, self.random.fork(), number);
        self.list.push(AddressEngine { number, source, engine, is_ending: false });
        Some(number)
    }

    pub(super) fn clean_up(&mut self, now: Time) {
        self.is_cleaning_up = true;
        for engine in self.iter_mut() {
            engine.handle_cleanup(now);
        }
    }

    /// The next report, after all outputs before it were taken.
    pub(super) fn next_report(&mut self, now: Time) -> Option<Report> {
        let mut index = 0;
        while let Some(known) = self.list.get_mut(index) {
            let engine = known.number;
            match known.engine.poll_output() {
                Some(Output::Event { id, event }) => return Some(Report::Event { engine, id, event }),
                Some(Output::Finished) => {
                    let ended = self.list.remove(index);
                    if let Some(remember) = self.remember {
                        remember(&mut self.past, &ended.engine);
                    }
                    return Some(Report::Ended);
                }
                Some(output) => self.take_output(now, engine, output),
                None if !self.is_cleaning_up && !known.is_ending && known.engine.is_forgettable(now) => {
                    // It closes its sockets.
                    known.is_ending = true;
                    known.engine.handle_cleanup(now);
                }
                None => index += 1,
            }
        }
        None
    }

    fn take_output(&mut self, now: Time, number: EngineId, output: Output) {
        match output {
            Output::Open { socket, interface, .. } if is_listener(socket) => {
                match self.listeners.join(socket, interface, number) {
                    Joined::New(listener) => self.outputs.push_back((listener, output)),
                    Joined::Open(local) => {
                        if let Some(engine) = self.get_mut(number) {
                            engine.handle_opened(now, socket, Some(local));
                        }
                    }
                    Joined::Opening => {}
                }
            }
            Output::Close { socket } if is_listener(socket) => {
                if let Some(listener) = self.listeners.leave(socket, number) {
                    self.outputs.push_back((listener, output));
                }
            }
            Output::Connect { exchange, to, source: Some(source) } => {
                let output = self.connections.connect(exchange, to, source);
                self.outputs.extend(output.map(|output| (number, output)));
            }
            Output::HangUp { exchange } => {
                if self.connections.hang_up(exchange) {
                    self.outputs.push_back((number, output));
                    self.connect_next();
                }
            }
            other => self.outputs.push_back((number, other)),
        }
    }

    /// A connection has ended. Returns what its engine is to know.
    pub(crate) fn note_end(&mut self, exchange: ExchangeId, end: TcpEnd) -> TcpEnd {
        let is_crowded_out = self.connections.is_crowded_out(exchange) && end != TcpEnd::Starved;
        self.connect_next();
        if is_crowded_out { TcpEnd::CrowdedOut } else { end }
    }

    /// Opens the connections that there is room for.
    fn connect_next(&mut self) {
        while let Some(output) = self.connections.next() {
            let Output::Connect { exchange, .. } = output else { return };
            self.outputs.push_back((exchange.engine(), output));
        }
    }

    /// Adds an output that comes from no engine.
    pub(super) fn output(&mut self, output: Output) {
        self.outputs.push_back((EngineId::IPV4, output));
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        for engine in self.iter_mut().filter(|engine| engine.poll_timeout().is_some_and(|at| at <= now)) {
            engine.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.iter().filter_map(Engine::poll_timeout).min()
    }

    pub(crate) fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        self.outputs.pop_front()
    }
}
