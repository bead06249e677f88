//! A session whose engine can be queried: for the Rust API.

use super::{Client, Listener, Settings};
use crate::dummytls::RealSystem;
use crate::net::Uplink;
use crate::worker::{EngineHandle, Worker};
use std::io;
use std::sync::Arc;

impl<L: Listener> Client<L> {
    /// [`Client::init`], with a handle for queries to the engine. Gateways are looked for by this uplink.
    ///
    /// # Errors
    ///
    /// The system gives no thread, no descriptor or no randomness; or there is a session already, or the caller is a log
    /// callback.
    pub fn init_queried(&'static self, settings: Settings, uplink: Uplink) -> io::Result<EngineHandle> {
        let mut started = None;
        let done = self.init_with(Some(settings), Arc::new(RealSystem), |config, make_program| {
            let (worker, engine) = Worker::start_queried(config, uplink, make_program).map_err(|error| {
                let copy = io::Error::new(error.kind(), error.to_string());
                started = Some(Err(error));
                copy
            })?;
            started = Some(Ok(engine));
            Ok(worker)
        });
        match (done, started) {
            (Ok(()), Some(Ok(engine))) => Ok(engine),
            (_, Some(Err(error))) => Err(error),
            (_, _) => Err(io::Error::other("there is a session already")),
        }
    }
}
