//! How the engine's own work grows with the number of mappings, on a virtual clock: creation, two hours, cleanup.
//!
//!   cargo run --release --package plum-testkit --example many [MOST]
//!
//! Prints a line for each protocol and number. Ends with 1 where MOST mappings (4000) by UPnP cost more than 4.4 times as much as
//! a quarter of them.

#![allow(clippy::print_stdout, reason = "a program")]

use plum_testkit::world::World;
use plum_wire::Transport;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The gateway speaks the protocol of this index (PCP, NAT-PMP, UPnP), and lesser ones.
fn work(index: usize, count: u16) -> Duration {
    let mut world = World::new();
    let closed = &mut world.gateway().faults.closed;
    (closed.pcp, closed.natpmp) = (index > 0, index > 1);
    let begun = Instant::now();
    for port in 1..=count {
        world.create(Transport::Udp, 1024 + port);
    }
    // To look after every step would be the most of the work.
    world.run_for(Duration::from_secs(7200));
    assert!(world.all_success(), "{count} mappings");
    world.cleanup();
    begun.elapsed()
}

fn main() -> ExitCode {
    let most: u16 = std::env::args().nth(1).map_or(4000, |text| text.parse().expect("a number of mappings"));
    let mut growth = 0.0;
    for (index, protocol) in ["PCP", "NAT-PMP", "UPnP-IGD"].into_iter().enumerate() {
        let [few, _, many] = [most / 4, most / 2, most].map(|count| {
            // The best of three: the others were disturbed.
            let took = (0..3).map(|_| work(index, count)).min().unwrap_or_default();
            println!("{protocol:8} {count:5} mappings {:7.1} ms", took.as_secs_f64() * 1000.0);
            took.as_secs_f64()
        });
        growth = many / few;
        println!("{protocol:8} {growth:.2} times the work for four times the mappings");
    }
    if growth > 4.4 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
