//! The loop on the caller's own thread, for a program that asks and waits.

#![forbid(unsafe_code)]

use super::inbox::Inbox;
use super::sockets::Sockets;
use super::{Machine, Program, ProgramSide, make_buffer, run};
use crate::net::Uplink;
use plum_engine::io::{Event, MappingId};
use plum_engine::time::Time;
use std::io;
use std::sync::Arc;

/// A machine with its sockets, which stay open from one run to the next.
pub struct Blocking<M> {
    /// What the sockets are carried for.
    pub machine: M,
    uplink: Uplink,
    sockets: Sockets,
    side: ProgramSide,
    buffer: Vec<u8>,
}

impl<M: Machine> Blocking<M> {
    /// Nothing is carried before [`Blocking::run`]; what is sent goes by this uplink.
    ///
    /// # Errors
    ///
    /// The system gives no descriptor or no memory.
    pub fn new(machine: M, uplink: Uplink) -> io::Result<Blocking<M>> {
        let side = ProgramSide::new(Box::new(Nobody), Arc::new(Inbox::new(Box::new(|| {}))));
        Ok(Blocking { machine, uplink, sockets: Sockets::new()?, side, buffer: make_buffer()? })
    }

    /// Carries until the machine says [`Output::Finished`](plum_engine::io::Output::Finished).
    pub fn run(&mut self) {
        run::run(&mut self.machine, &self.uplink, &mut self.sockets, &mut self.side, &mut self.buffer);
    }
}

/// There are no mappings, so no event is told.
struct Nobody;

impl Program for Nobody {
    fn handle_event(&mut self, _now: Time, _id: MappingId, _event: Event) {}

    fn poll_timeout(&self) -> Option<Time> {
        None
    }

    fn handle_timeout(&mut self, _now: Time) -> bool {
        false
    }

    fn handle_finished(&mut self, _now: Time) {}

    fn handle_panic(&mut self) {}
}
