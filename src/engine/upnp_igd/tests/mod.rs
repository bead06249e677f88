//! The driver against scripted devices on a virtual clock: no time passes but the one that is written down.

mod bench;
mod chaos;
mod devices;
mod discovery;
mod faults;
mod mapping;
mod removal;
mod watch;

use crate::engine::driver::Key;
use crate::engine::io::Suggestion;
use crate::wire::Transport;
use std::num::NonZeroU16;

fn tcp(port: u16) -> Key {
    key(Transport::Tcp, port)
}

fn udp(port: u16) -> Key {
    key(Transport::Udp, port)
}

fn key(transport: Transport, port: u16) -> Key {
    Key { transport, internal_port: NonZeroU16::new(port).expect("a port") }
}

fn no_wish() -> Suggestion {
    Suggestion::default()
}

fn wish(port: u16) -> Suggestion {
    Suggestion { address: None, port: NonZeroU16::new(port) }
}
