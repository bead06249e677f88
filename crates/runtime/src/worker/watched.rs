//! The engine under a glass: other threads look at it, between two of its turns, on the worker.
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

/// Looks at the engine.
type Look = Box<dyn FnOnce(Time, &Engine) + Send>;

/// The looks that wait for their turn, one for each thread that is in [`Glass::look`]; `None`: the engine is gone.
type Looks = Arc<Mutex<Option<VecDeque<Look>>>>;

/// What other threads look at the engine through.
#[derive(Clone)]
pub struct Glass {
    looks: Looks,
    wake: Wake,
}

impl Glass {
    /// Calls `look` on the worker's thread and gives back what it gave: waits for the worker's turn, which a log callback
    /// may hold up. `None`: the engine is gone, or the caller is the worker or a log callback, which cannot wait for it.
    pub fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(Time, &Engine) -> T + Send + 'static,
    ) -> Option<T> {
        if is_worker_thread() || log::in_callback() {
            return None;
        }
        let (answer, answered) = sync_channel(1);
        let look = move |now: Time, engine: &Engine| {
            // Whoever asked waits for it.
            let _ = answer.send(look(now, engine));
        };
        self.looks.lock().as_mut()?.push_back(Box::new(look));
        self.wake.wake();
        // The engine's end drops the look, and with it the other end of the channel.
        answered.recv().ok()
    }
}

/// Closes the glass when the engine is gone, also by a panic.
struct Shutter(Looks);

impl Drop for Shutter {
    fn drop(&mut self) {
        let looks = self.0.lock().take();
        // Whoever waits is told without the lock held.
        drop(looks);
    }
}

impl Worker {
    /// [`Worker::start`], with a glass to look at the engine through.
    ///
    /// # Errors
    ///
    /// The system gives no thread, no descriptor or no randomness.
    pub fn start_watched(
        config: Config,
        make_program: impl FnOnce(Wake) -> Box<dyn Program>,
    ) -> io::Result<(Worker, Glass)> {
        let random = os_random()?;
        let looks: Looks = Arc::new(Mutex::new(Some(VecDeque::new())));
        let shutter = Shutter(Arc::clone(&looks));
        let mut glass = None;
        let worker = Worker::start_machine(
            move || Watched { engine: Engine::new(config, random), shutter },
            |wake| {
                glass = Some(Glass { looks, wake: wake.clone() });
                make_program(wake)
            },
        )?;
        let glass = glass.ok_or_else(|| io::Error::other("no program was made"))?;
        Ok((worker, glass))
    }
}

struct Watched {
    engine: Engine,
    shutter: Shutter,
}

impl Watched {
    fn is_looked_at(&self) -> bool {
        self.shutter.0.lock().as_ref().is_some_and(|looks| !looks.is_empty())
    }

    fn next_look(&self) -> Option<Look> {
        self.shutter.0.lock().as_mut()?.pop_front()
    }
}

impl Machine for Watched {
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
        while let Some(look) = self.next_look() {
            look(now, &self.engine);
        }
    }
    fn poll_output(&mut self) -> Option<Output> {
        self.engine.poll_output()
    }
    fn poll_timeout(&self) -> Option<Time> {
        // Whoever looks has woken the worker; now its turn is due.
        if self.is_looked_at() { Some(Time::ZERO) } else { self.engine.poll_timeout() }
    }
}
