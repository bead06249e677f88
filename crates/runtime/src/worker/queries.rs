//! The engine under a engine: other threads query at it, between two of its turns, on the worker.
//!
//! For the Rust API alone. The C library carries for the bare engine, and has none of this code in it.

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

/// Queries at the engine.
type Query = Box<dyn FnOnce(Time, &Engine) + Send>;

/// The queries that wait for their turn, one for each thread that is in [`EngineHandle::query`]; `None`: the engine is gone.
type Queries = Arc<Mutex<Option<VecDeque<Query>>>>;

/// What other threads query at the engine through.
#[derive(Clone)]
pub struct EngineHandle {
    queries: Queries,
    wake: Wake,
}

impl EngineHandle {
    /// Calls `query` on the worker's thread and gives back what it gave: waits for the worker's turn, which a log callback
    /// may hold up. `None`: the engine is gone, or the caller is the worker or a log callback, which cannot wait for it.
    pub fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(Time, &Engine) -> T + Send + 'static,
    ) -> Option<T> {
        if is_worker_thread() || log::in_callback() {
            return None;
        }
        let (answer, answered) = sync_channel(1);
        let query = move |now: Time, engine: &Engine| {
            // Whoever asked waits for it.
            let _ = answer.send(query(now, engine));
        };
        self.queries.lock().as_mut()?.push_back(Box::new(query));
        self.wake.wake();
        // The engine's end drops the query, and with it the other end of the channel.
        answered.recv().ok()
    }
}

/// Closes the engine when the engine is gone, also by a panic.
struct QueryQueue(Queries);

impl Drop for QueryQueue {
    fn drop(&mut self) {
        let queries = self.0.lock().take();
        // Whoever waits is told without the lock held.
        drop(queries);
    }
}

impl Worker {
    /// [`Worker::start`], with a engine to query at the engine through.
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
        // Whoever queries has woken the worker; now its turn is due.
        if self.is_queried() { Some(Time::ZERO) } else { self.engine.poll_timeout() }
    }
}
