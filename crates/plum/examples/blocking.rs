//! Maps a TCP port, tells what happens to it until Enter is pressed, and removes it: `cargo run --example blocking -- 8080`.
#![allow(clippy::print_stdout, reason = "that is its purpose")]

use plum::{Builder, Change, Request};
use std::io::stdin;
use std::thread;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse())?;
    let plum = Builder::new().start()?;
    let events = plum.events();
    let web = plum.map(Request::tcp(port))?;
    thread::scope(|scope| {
        scope.spawn(|| {
            // Until the session ends.
            for event in events {
                match event.change {
                    Change::Mapped(external) => println!("reachable at {external}, by {}", external.protocol),
                    Change::Pending => println!("lost, and being made again"),
                    Change::Failed => match web.obstacle() {
                        Some(obstacle) => println!("cannot be reached for now: {obstacle}"),
                        None => println!("cannot be reached for now"),
                    },
                    other => println!("{other:?}"),
                }
            }
        });
        stdin().read_line(&mut String::new())?;
        let closed = plum.close()?;
        for port in &closed.removed {
            println!("{port} is removed");
        }
        for port in &closed.unconfirmed {
            println!("the gateway may still have {port}, for two hours at most");
        }
        Ok(())
    })
}
