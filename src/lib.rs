//! libplum in Rust: opens ports on NAT gateways by PCP, NAT-PMP and UPnP-IGD.
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
//!     }
//! #   assert!(matches!(event.change, Change::Mapped(_)));
//! #   break;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Without a router at hand, `plum demo --keep` (the project's command) is a simulated one, and says what `PLUM_GATEWAY` is to be.
//!
//! The C API is in [`ffi`]; C programs include `include/plum.h`, which is made of it. The other modules are the layers below,
//! public for the project's own command and tests only and without any promise. ARCHITECTURE.md says how they fit together, and a test
//! (`tests/architecture.rs`) that they use each other as it says.

// One operation a block, so that the comment on it states the contract of that operation.
#![warn(clippy::multiple_unsafe_ops_per_block)]

mod api;
#[doc(hidden)]
pub mod client;
#[doc(hidden)]
pub mod dummytls;
#[doc(hidden)]
pub mod engine;
pub mod ffi;
#[doc(hidden)]
pub mod log;
#[doc(hidden)]
pub mod net;
#[doc(hidden)]
pub mod ordered;
mod sync;
#[doc(hidden)]
pub mod time;
#[doc(hidden)]
pub mod wire;
#[doc(hidden)]
pub mod worker;

pub use api::*;
