//! The Rust API: sessions, mappings, events. The crate's root offers all of it again, and its page has the examples.
//!
//! Every session has a client, and with it a worker, of its own. No code of the program runs on the worker but its log
//! callback: events wait until somebody takes them.

#![forbid(unsafe_code)]

mod builder;
mod error;
mod events;
mod log;
mod mapping;
mod pool;
mod session;

pub use crate::engine::Reason;
pub use builder::{Builder, Gateway};
pub use error::{Cause, Error, Obstacle};
pub use events::{Change, Event, Events};
pub use mapping::{External, Mapping, MappingId, Renewal, Request, State};
pub use session::Session;

pub use crate::client::local_address;
pub use crate::engine::io::{Allowed as Protocols, Protocol};
pub use crate::log::Level;
pub use crate::wire::Transport;
