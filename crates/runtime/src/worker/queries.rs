//! Queries of other threads to the engine, run on the worker between two turns of the engine.
//!
//! For the Rust API only. The worker of the C library runs the plain engine, without this code.

#![forbid(unsafe_code)]

use super::{Command, Machine, Program, Wake, Worker, is_worker_thread, os_random};
use crate::log;
use crate::net::Uplink;
use crate::sync::Mutex;
use plum_engine::io::{Arrival, Config, EngineId, ExchangeId, Output, Route, SocketId, TcpEnd};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route};
use plum_engine::ledger::HardwareAddress;
use plum_engine::reason::Reason;
use plum_engine::time::Time;
use plum_engine::{Engines, MappedKey};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// A query to the engine.
type Query = Box<dyn FnOnce(Time, &mut Engines) + Send>;

/// The waiting queries; `None`: the engine is gone.
type Queries = Arc<Mutex<Option<VecDeque<Query>>>>;

/// What a cleanup has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// The mappings that the gateway had granted, and has deleted.
    pub deleted: Vec<MappedKey>,
    /// Those whose deletion was not confirmed.
    pub unconfirmed: Vec<MappedKey>,
}

/// Set when the engine has finished.
type Outcome = Arc<Mutex<Option<Leftovers>>>;

/// A handle for queries to the engine from other threads.
#[derive(Clone)]
pub struct EngineHandle {
    queries: Queries,
    outcome: Outcome,
    wake: Wake,
}

impl EngineHandle {
    /// Runs `query` on the worker thread and returns its result. Waits for the worker's turn, which a log callback may
    /// delay. `None`: the engine is gone, or the caller is the worker or a log callback, which must not wait for the
    /// worker.
    pub fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(Time, &mut Engines) -> T + Send + 'static,
    ) -> Option<T> {
        if is_worker_thread() || log::in_callback() {
            return None;
        }
        let (answer, answered) = sync_channel(1);
        self.post(move |now, engine| {
            // The caller waits for the answer.
            let _ = answer.send(query(now, engine));
        });
        // When the engine ends, the query and its channel are dropped.
        answered.recv().ok()
    }

    /// What the cleanup has left; `None`: it has not finished, or a defect has ended the engine.
    pub fn leftovers(&self) -> Option<Leftovers> {
        self.outcome.lock().clone()
    }

    /// Runs `query` on the worker thread soon, without waiting for it. It is dropped instead if the engine is gone, or goes before
    /// its turn; never with a lock held.
    pub fn post(&self, query: impl FnOnce(Time, &mut Engines) + Send + 'static) {
        let query: Query = Box::new(query);
        match self.queries.lock().as_mut() {
            Some(queries) => queries.push_back(query),
            None => return,
        }
        self.wake.wake();
    }
}

/// The queue on the engine's side: dropped with the engine, also by a panic, it ends all queries.
struct QueryQueue(Queries);

impl Drop for QueryQueue {
    fn drop(&mut self) {
        let queries = self.0.lock().take();
        // Dropped after the lock is released: this ends the waits.
        drop(queries);
    }
}

impl Worker {
    /// [`Worker::start`], with a handle for queries to the engine. Gateways are looked for by this uplink.
    ///
    /// # Errors
    ///
    /// The system gives no thread, no descriptor or no randomness.
    pub fn start_queried(
        config: Config,
        uplink: Uplink,
        make_program: impl FnOnce(Wake) -> Box<dyn Program>,
    ) -> io::Result<(Worker, EngineHandle)> {
        let random = os_random()?;
        let queries: Queries = Arc::new(Mutex::new(Some(VecDeque::new())));
        let queue = QueryQueue(Arc::clone(&queries));
        let outcome = Outcome::default();
        let told = Arc::clone(&outcome);
        let mut engine = None;
        let worker = Worker::start_machine(
            uplink,
            move || QueriedEngine {
                engine: Engines::with_past(config, random),
                queue,
                granted: Vec::new(),
                outcome: told,
            },
            |wake| {
                engine = Some(EngineHandle { queries, outcome, wake: wake.clone() });
                make_program(wake)
            },
        )?;
        let engine = engine.ok_or_else(|| io::Error::other("no program was made"))?;
        Ok((worker, engine))
    }
}

struct QueriedEngine {
    engine: Engines,
    queue: QueryQueue,
    /// What the gateways had granted when the cleanup began.
    granted: Vec<MappedKey>,
    outcome: Outcome,
}

impl QueriedEngine {
    fn note_finished(&mut self) {
        let (_, unconfirmed) = self.engine.entry_keys();
        let mut deleted = std::mem::take(&mut self.granted);
        deleted.retain(|key| !unconfirmed.contains(key));
        *self.outcome.lock() = Some(Leftovers { deleted, unconfirmed });
    }

    fn is_queried(&self) -> bool {
        self.queue.0.lock().as_ref().is_some_and(|queries| !queries.is_empty())
    }

    fn next_query(&self) -> Option<Query> {
        self.queue.0.lock().as_mut()?.pop_front()
    }
}

impl Machine for QueriedEngine {
    const HAS_UPLINK: bool = true;

    fn handle_command(&mut self, now: Time, command: Command) {
        if matches!(command, Command::Cleanup) {
            self.granted = self.engine.entry_keys().0;
        }
        self.engine.handle_command(now, command);
    }
    fn handle_route(
        &mut self,
        now: Time,
        engine: EngineId,
        route: Option<Route>,
        hardware: Option<HardwareAddress>,
    ) {
        self.engine.handle_route(now, engine, route, hardware);
    }
    fn handle_route_unknown(&mut self, now: Time, engine: EngineId) {
        self.engine.handle_route_unknown(now, engine);
    }
    fn handle_ipv6_route(
        &mut self,
        now: Time,
        engine: EngineId,
        route: Option<Ipv6Route>,
        hardware: Option<HardwareAddress>,
    ) {
        self.engine.handle_ipv6_route(now, engine, route, hardware);
    }
    fn handle_addresses(&mut self, now: Time, addresses: Option<Ipv6Addresses>) {
        self.engine.handle_addresses(now, addresses);
    }
    fn handle_opened(&mut self, now: Time, socket: SocketId, local: Option<SocketAddr>) {
        self.engine.handle_opened(now, socket, local);
    }
    fn handle_datagram(&mut self, now: Time, socket: SocketId, by: Arrival, bytes: &[u8]) {
        self.engine.handle_datagram(now, socket, by, bytes);
    }
    fn handle_refused(&mut self, now: Time, socket: SocketId) {
        self.engine.handle_refused(now, socket);
    }
    fn handle_unsent(&mut self, now: Time, socket: SocketId, reason: Reason) {
        self.engine.handle_unsent(now, socket, reason);
    }
    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.engine.handle_tcp_connected(now, exchange, local);
    }
    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        self.engine.handle_tcp_data(now, exchange, bytes);
    }
    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        self.engine.handle_tcp_end(now, exchange, end);
    }
    fn handle_network_changed(&mut self, now: Time) {
        self.engine.handle_network_changed(now);
    }
    fn handle_ipv6_changed(&mut self, now: Time) {
        self.engine.handle_ipv6_changed(now);
    }
    fn handle_timeout(&mut self, now: Time) {
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
        }
        while let Some(query) = self.next_query() {
            query(now, &mut self.engine);
        }
    }
    fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        let output = self.engine.poll_output();
        if let Some((_, Output::Finished)) = output {
            self.note_finished();
        }
        output
    }
    fn poll_timeout(&self) -> Option<Time> {
        // A query has woken the worker: its turn is due now.
        if self.is_queried() { Some(Time::ZERO) } else { self.engine.poll_timeout() }
    }
}
