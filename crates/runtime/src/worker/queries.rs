//! Queries of other threads to the engine, run on the worker between two turns of the engine.
//!
//! For the Rust API only. The worker of the C library runs the plain engine, without this code.

#![forbid(unsafe_code)]

use super::{Command, Machine, Program, Wake, Worker, is_worker_thread, os_random};
use crate::log;
use crate::sync::Mutex;
use plum_engine::Engine;
use plum_engine::io::{Arrival, Config, ExchangeId, Output, Route, Socket, TcpEnd};
use plum_engine::ledger::HardwareAddress;
use plum_engine::reason::Reason;
use plum_engine::time::Time;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// A query to the engine.
type Query = Box<dyn FnOnce(Time, &Engine) + Send>;

/// The waiting queries, one for each thread in [`EngineHandle::query`]; `None`: the engine is gone.
type Queries = Arc<Mutex<Option<VecDeque<Query>>>>;

/// A handle for queries to the engine from other threads.
#[derive(Clone)]
pub struct EngineHandle {
    queries: Queries,
    wake: Wake,
}

impl EngineHandle {
    /// Runs `query` on the worker thread and returns its result. Waits for the worker's turn, which a log callback may
    /// delay. `None`: the engine is gone, or the caller is the worker or a log callback, which must not wait for the
    /// worker.
    pub fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(Time, &Engine) -> T + Send + 'static,
    ) -> Option<T> {
        if is_worker_thread() || log::in_callback() {
            return None;
        }
        let (answer, answered) = sync_channel(1);
        let query = move |now: Time, engine: &Engine| {
            // The caller waits for the answer.
            let _ = answer.send(query(now, engine));
        };
        self.queries.lock().as_mut()?.push_back(Box::new(query));
        self.wake.wake();
        // When the engine ends, the query and its channel are dropped.
        answered.recv().ok()
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
    /// [`Worker::start`], with a handle for queries to the engine.
    ///
    /// # Errors
    ///
    /// The system gives no thread, no descriptor or no randomness.
    pub fn start_queried(
        config: Config,
        make_program: impl FnOnce(Wake) -> Box<dyn Program>,
    ) -> io::Result<(Worker, EngineHandle)> {
        let random = os_random()?;
        let queries: Queries = Arc::new(Mutex::new(Some(VecDeque::new())));
        let queue = QueryQueue(Arc::clone(&queries));
        let mut engine = None;
        let worker = Worker::start_machine(
            move || QueriedEngine { engine: Engine::new(config, random), queue },
            |wake| {
                engine = Some(EngineHandle { queries, wake: wake.clone() });
                make_program(wake)
            },
        )?;
        let engine = engine.ok_or_else(|| io::Error::other("no program was made"))?;
        Ok((worker, engine))
    }
}

struct QueriedEngine {
    engine: Engine,
    queue: QueryQueue,
}

impl QueriedEngine {
    fn is_queried(&self) -> bool {
        self.queue.0.lock().as_ref().is_some_and(|queries| !queries.is_empty())
    }

    fn next_query(&self) -> Option<Query> {
        self.queue.0.lock().as_mut()?.pop_front()
    }
}

impl Machine for QueriedEngine {
    fn handle_command(&mut self, now: Time, command: Command) {
        Machine::handle_command(&mut self.engine, now, command);
    }
    fn handle_route(&mut self, now: Time, route: Option<Route>, hardware: Option<HardwareAddress>) {
        self.engine.handle_route_via(now, route, hardware);
    }
    fn handle_route_unknown(&mut self, now: Time) {
        self.engine.handle_route_unknown(now);
    }
    fn handle_opened(&mut self, now: Time, socket: Socket, local: Option<SocketAddr>) {
        self.engine.handle_opened(now, socket, local);
    }
    fn handle_datagram(&mut self, now: Time, socket: Socket, by: Arrival, bytes: &[u8]) {
        self.engine.handle_datagram(now, socket, by, bytes);
    }
    fn handle_refused(&mut self, now: Time, socket: Socket) {
        self.engine.handle_refused(now, socket);
    }
    fn handle_unsent(&mut self, now: Time, socket: Socket, reason: Reason) {
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
    fn handle_timeout(&mut self, now: Time) {
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
        }
        while let Some(query) = self.next_query() {
            query(now, &self.engine);
        }
    }
    fn poll_output(&mut self) -> Option<Output> {
        self.engine.poll_output()
    }
    fn poll_timeout(&self) -> Option<Time> {
        // A query has woken the worker: its turn is due now.
        if self.is_queried() { Some(Time::ZERO) } else { self.engine.poll_timeout() }
    }
}
