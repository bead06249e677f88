//! libplum in Rust: opens ports on NAT gateways by PCP, NAT-PMP and UPnP-IGD, and pinholes for IPv6 in their firewalls.
//!
//! A [`Session`] keeps mappings up: [`Session::map`] asks for one, and dropping the [`Mapping`] removes it.
//!
//! ```
//! use plum::{Builder, Request};
//! use std::time::Duration;
//! # let server = plum_gateway::server::Server::start_on_own_address(|_| {})?;
//! # let gateway = server.address();
//!
//! // Leave `.gateway(...)` out to ask the gateway of the default route.
//! let plum = Builder::new().gateway(gateway).start()?;
//! let web = plum.map(Request::tcp(8080).external_port(80))?;
//! let external = web.wait(Duration::from_secs(10))?;
//! println!("reachable at {external}, by {}", external.protocol);
//! # assert_eq!(external.to_string(), "203.0.113.7:80");
//!
//! drop(web); // removed at the gateway
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A mapping is kept until it is dropped: it is renewed, made anew when the gateway has restarted or the network
//! changed, and what cannot be made is tried again. [`Events`] tell of it:
//!
//! ```
//! use plum::{Builder, Change, Request};
//! # let server = plum_gateway::server::Server::start_on_own_address(|_| {})?;
//! # let gateway = server.address();
//!
//! let plum = Builder::new().gateway(gateway).start()?;
//! let events = plum.events();
//! let game = plum.map(Request::udp(27015))?;
//! for event in events {
//!     match event.change {
//!         Change::Mapped(external) => println!("{} is reachable at {external}", game.internal_port()),
//!         Change::Failed => {
//!             if let Some(obstacle) = game.obstacle() {
//!                 eprintln!("cannot be reached for now: {obstacle}");
//!             }
//!         }
//!         // Change::Pending: it was lost, and is being made again.
//!         _ => {}
//!     }
//! #   assert!(matches!(event.change, Change::Mapped(_)));
//! #   break;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Request::ipv6`] asks for a pinhole: behind IPv6 there is no NAT, but a firewall in the gateway, which PCP or UPnP opens for
//! one port of one address of this machine. Both families side by side are two mappings.
//!
//! Without a router at hand, `plum demo --keep` (the project's command) is a simulated one, and says what `PLUM_GATEWAY` is to be.
//!
//! Nothing has to block: [`Mapping::mapped`] and [`Session::closing`] are futures, [`Events`] a stream, without a runtime and so for any.
//!
//! Every session has a client, and with it a worker, of its own. No code of the program runs on the worker but its log
//! callback and the wakers of tasks that wait: events wait until the program takes them.

//!
//! With the feature `log` the messages go to the logger of the `log` crate (`Builder::log_crate`); with `serde` the public values can be
//! written and read.

#![warn(missing_docs)]
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod builder;
mod counters;
mod end;
mod error;
mod events;
mod log;
#[cfg(feature = "log")]
mod log_crate;
mod mapped;
mod mapping;
mod pool;
mod request;
mod session;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use builder::{Builder, Gateway};
pub use counters::Counters;
pub use end::{Closed, Closing, MappedPort};
pub use error::{Cause, Error, Obstacle};
pub use events::{BlockingEvents, Change, Event, Events};
pub use mapped::Mapped;
pub use mapping::{External, Mapping, MappingId, Renewal, State};
pub use plum_engine::Reason;
pub use request::Request;
pub use session::Session;

pub use plum_engine::io::{Allowed as Protocols, Protocol};
pub use plum_runtime::client::local_address;
pub use plum_runtime::log::Level;
pub use plum_wire::{Transport, UnknownName};
