//! `plum map`: maps ports and keeps them mapped.

use crate::exit::{Exit, Failure};
use crate::network::Network;
use clap::Args;
use plum::Request;
use std::io::Write;
use std::time::Duration;

/// Map ports and keep them mapped, until Ctrl-C
#[derive(Args, Debug)]
pub struct Arguments {
    /// TCP ports of this machine
    #[arg(required = true, value_name = "PORT")]
    ports: Vec<u16>,

    #[command(flatten)]
    network: Network,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let session = arguments.network.builder().start()?;
    let (stop, stopped) = std::sync::mpsc::channel();
    ctrlc::set_handler(move || {
        // Nobody listens any more: it is ending.
        let _ = stop.send(());
    })
    .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let mut mappings = Vec::new();
    for port in arguments.ports {
        let mapping = session.map(Request::tcp(port))?;
        let external = mapping.wait(Duration::from_secs(30))?;
        writeln!(std::io::stdout(), "{port}/tcp is {external} by {}", external.protocol)?;
        mappings.push(mapping);
    }
    // The handler lives as long as the process.
    let _ = stopped.recv();
    Ok(Exit::Done)
}
