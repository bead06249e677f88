//! A worker without sockets, for tests/interleavings (`--cfg shuttle`). All that it shares with other threads is the
//! real worker's (inbox, wake-ups, program side, behaviour after a panic); its turns are a model of those of `run`.

#![forbid(unsafe_code)]

use super::{Command, Inbox, Program, ProgramSide, Wake, Worker, after_panic, mark_worker_thread};
use crate::net::{self, clock};
use crate::sync::{Condvar, Mutex};
use plum_engine::io::{Event, MappingId};
use plum_engine::ordered::Map;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Commands taken in one turn: few enough to leave some for the next.
const COMMANDS_A_TURN: usize = 2;

/// What the machine does besides handling commands.
#[derive(Clone, Debug)]
pub struct Script {
    /// The events of each mapping, each sent after the previous one was delivered.
    pub events: Vec<Event>,
    /// The number of turns after which the machine is gone, as after a panic.
    pub turns: Option<usize>,
}

/// Wakes the worker, in place of a poll's waker.
struct WakeSignal {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl WakeSignal {
    fn set(&self) {
        *self.is_set.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut is_set = self.is_set.lock();
        is_set = self.changed.wait_while(is_set, |is_set| !*is_set);
        *is_set = false;
    }
}

enum Delivery {
    Event(MappingId, Event),
    Finished,
}

struct Model {
    side: ProgramSide,
    signal: Arc<WakeSignal>,
    script: Script,
    /// The mappings not destroyed yet, with the number of events that each has had.
    live: Map<MappingId, usize>,
    deliveries: VecDeque<Delivery>,
}

impl Worker {
    /// In place of [`Worker::start_machine`].
    ///
    /// # Errors
    ///
    /// None; the signature is that of the real worker.
    pub fn start_explored(
        script: Script,
        make_program: impl FnOnce(Wake) -> Box<dyn Program>,
    ) -> io::Result<Worker> {
        let signal = Arc::new(WakeSignal { is_set: Mutex::new(false), changed: Condvar::new() });
        let signal_of_inbox = Arc::clone(&signal);
        let inbox = Arc::new(Inbox::new(Box::new(move || signal_of_inbox.set())));
        let program = make_program(Wake(Arc::clone(&inbox)));
        let side = ProgramSide::new(program, Arc::clone(&inbox));
        let model = Model { side, signal, script, live: Map::new(), deliveries: VecDeque::new() };
        let thread = net::start_thread("plum", None, Box::new(move || model.run()))?;
        Ok(Worker { inbox, thread: Some(thread) })
    }
}

impl Model {
    fn run(mut self) {
        mark_worker_thread();
        let mut turns = 0;
        while self.script.turns != Some(turns) {
            if self.turn() {
                return;
            }
            turns += 1;
        }
        after_panic::serve(&mut self.side);
    }

    /// One turn; `true`: it was the last.
    fn turn(&mut self) -> bool {
        let busy = !self.deliveries.is_empty() || self.side.program_due || !self.side.inbox.is_empty();
        if !busy {
            self.signal.wait();
        }
        self.take_messages();
        self.deliver()
    }

    fn take_messages(&mut self) {
        self.side.inbox.clear_signal();
        for _ in 0..COMMANDS_A_TURN {
            let Some(message) = self.side.inbox.take() else { return };
            let Some(command) = self.side.take_in(message) else { continue };
            match command {
                Command::Create(id, _) => {
                    assert!(self.live.insert(id, 0).is_none(), "{id} is created once");
                    self.next_event(id);
                }
                Command::Destroy(id) => {
                    assert!(self.live.remove(&id).is_some(), "{id} is destroyed once, after it was created");
                    self.push(id, Event::Destroyed);
                }
                Command::Cleanup => {
                    for id in self.live.keys() {
                        self.push(id, Event::Destroyed);
                    }
                    self.live = Map::new();
                    self.deliveries.push_back(Delivery::Finished);
                }
            }
        }
    }

    fn push(&mut self, id: MappingId, event: Event) {
        self.deliveries.push_back(Delivery::Event(id, event));
    }

    fn next_event(&mut self, id: MappingId) {
        if let Some(told) = self.live.get_mut(&id)
            && let Some(event) = self.script.events.get(*told).copied()
        {
            *told += 1;
            self.push(id, event);
        }
    }

    /// Delivers one event to the program; `true`: it was the last.
    fn deliver(&mut self) -> bool {
        let now = clock::now();
        if self.side.is_program_due(now) {
            self.side.program_due = self.side.program.handle_timeout(now);
            return false;
        }
        match self.deliveries.pop_front() {
            Some(Delivery::Event(id, event)) => {
                self.side.tell(now, id, event);
                self.next_event(id);
                false
            }
            Some(Delivery::Finished) => {
                self.side.program.handle_finished(now);
                true
            }
            None => false,
        }
    }
}
