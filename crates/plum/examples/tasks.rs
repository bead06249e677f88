//! Maps a TCP and a UDP port and waits for both at once, on smol; on tokio it is the same: `cargo run --example tasks -- 8080`.
#![allow(clippy::print_stdout, reason = "that is its purpose")]

use plum::{Builder, Error, Mapping, Request};
use smol::future::{or, zip};
use std::time::Duration;

/// Waits for a mapping, for ten seconds at most.
async fn show(mapping: &Mapping) {
    let timeout = async {
        smol::Timer::after(Duration::from_secs(10)).await;
        Err(Error::TimedOut)
    };
    match or(mapping.mapped(), timeout).await {
        Ok(external) => {
            println!("{} {} is reachable at {external}", mapping.transport(), mapping.internal_port())
        }
        Err(error) => println!("{} {}: {error}", mapping.transport(), mapping.internal_port()),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse())?;
    smol::block_on(async {
        let plum = Builder::new().start()?;
        let (tcp, udp) = (plum.map(Request::tcp(port))?, plum.map(Request::udp(port))?);
        zip(show(&tcp), show(&udp)).await;
        let closed = plum.closing().await?;
        println!("removed {}, not confirmed {}", closed.removed.len(), closed.unconfirmed.len());
        Ok(())
    })
}
