//! Under `--cfg shuttle`, which tests/interleavings sets: a worker without sockets. All that it shares with other threads is
//! the real one's (the notes and the use of the bell, the front, what follows a panic); its turns are a model of `run`'s.

#![forbid(unsafe_code)]

use super::{Command, Front, Notes, Program, Wake, Worker, after_panic, mark_worker_thread};
use crate::net::{self, clock};
use crate::sync::{Condvar, Mutex};
use plum_engine::io::{Event, MappingId};
use plum_engine::ordered::Map;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Commands taken in one turn: so few that some are left for the next.
const COMMANDS_A_TURN: usize = 2;

/// What the machine does besides what it is asked to.
#[derive(Clone, Debug)]
pub struct Script {
    /// A mapping's first event, and what follows each that has been told, as long as the mapping lives.
    pub events: Vec<Event>,
    /// After so many turns it is no more, as after a panic.
    pub turns: Option<usize>,
}

/// The bell that gets the worker out of its wait, in place of one that a poll hears.
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock();
        rung = self.changed.wait_while(rung, |rung| !*rung);
        *rung = false;
    }
}

enum Delivery {
    Event(MappingId, Event),
    Finished,
}

struct Model {
    front: Front,
    bell: Arc<Bell>,
    script: Script,
    /// Mappings that the machine was not yet told to destroy, and how many of their events have been.
    live: Map<MappingId, usize>,
    deliveries: VecDeque<Delivery>,
}

impl Worker {
    /// In place of [`Worker::start_machine`].
    ///
    /// # Errors
    ///
    /// None; it is the real one's signature.
    pub fn start_explored(
        script: Script,
        make_program: impl FnOnce(Wake) -> Box<dyn Program>,
    ) -> io::Result<Worker> {
        let bell = Arc::new(Bell { rung: Mutex::new(false), changed: Condvar::new() });
        let ringing = Arc::clone(&bell);
        let notes = Arc::new(Notes::new(Box::new(move || ringing.ring())));
        let program = make_program(Wake(Arc::clone(&notes)));
        let front = Front::new(program, Arc::clone(&notes));
        let model = Model { front, bell, script, live: Map::new(), deliveries: VecDeque::new() };
        let thread = net::start_thread("plum", None, Box::new(move || model.run()))?;
        Ok(Worker { notes, thread: Some(thread) })
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
        after_panic::serve(&mut self.front);
    }

    /// One turn; `true`: it was the last.
    fn turn(&mut self) -> bool {
        let busy = !self.deliveries.is_empty() || self.front.program_due || !self.front.notes.is_empty();
        if !busy {
            self.bell.wait();
        }
        self.take_notes();
        self.deliver()
    }

    fn take_notes(&mut self) {
        self.front.notes.silence();
        for _ in 0..COMMANDS_A_TURN {
            let Some(note) = self.front.notes.take() else { return };
            let Some(command) = self.front.take_in(note) else { continue };
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

    /// Tells the program one thing; `true`: it was the last.
    fn deliver(&mut self) -> bool {
        let now = clock::now();
        if self.front.is_program_due(now) {
            self.front.program_due = self.front.program.handle_timeout(now);
            return false;
        }
        match self.deliveries.pop_front() {
            Some(Delivery::Event(id, event)) => {
                self.front.tell(now, id, event);
                self.next_event(id);
                false
            }
            Some(Delivery::Finished) => {
                self.front.program.handle_finished(now);
                true
            }
            None => false,
        }
    }
}
