//! Gateways that misbehave in the ways real ones do: what the program must get from them all the same.
//!
//! The odd gateways are those of `plum_gateway::odd`. A row (`rows!`) plays one and asserts what its owner gets; it is played
//! twice: on a virtual clock, where times are judged, and through the C API over real sockets.
//!
//! What takes hours on the gateway's clock, or has to come between two answers of milliseconds, is on the virtual clock alone, and
//! says so.

#![allow(clippy::print_stderr, reason = "the report of a test")]
#![cfg(plum_abi = "0.6.2")]

mod additions;
mod addresses;
mod answers;
mod combinations;
mod connections;
mod devices;
#[path = "../contract/harness.rs"]
#[allow(dead_code)] // What the contract alone needs.
mod harness;
mod leases;
mod ledger;
mod looks;
mod natpmp;
mod neighbours;
mod pace;
mod pcp;
mod ports;
mod protocols;
mod refusals;
mod removals;
mod restarts;
#[cfg(target_os = "linux")] // network namespaces
#[path = "../system/harness.rs"]
#[allow(dead_code)] // What tests of the system alone need.
mod router;
mod stage;
mod tables;
mod whereabouts;

use plum_engine::io::{MappingId, Protocol, Route};
use plum_gateway::core::Kind;
use plum_testkit::world::{GATEWAY, INTERFACE, LOCAL, World};
use plum_wire::Transport::Tcp;
use std::sync::Mutex;
use std::time::Duration;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

const ROUTE: Route = Route { gateway: Some(GATEWAY), local: LOCAL, interface: INTERFACE };

fn mapped_by(world: &World, id: MappingId) -> Option<Protocol> {
    world.success(id).map(|(protocol, _, _)| protocol)
}

/// A mapping that UPnP made at a gateway whose PCP is up, but had refused it.
fn upnp_mapping_beside_pcp(world: &mut World) -> MappingId {
    world.gateway().faults.closed.natpmp = true;
    // NOT_AUTHORIZED.
    world.gateway().faults.refuse_port(Kind::PcpMap, 2, 8000);
    let id = world.create(Tcp, 8000);
    let other = world.create(Tcp, 9000);
    world.run_until(World::all_success);
    assert_eq!(mapped_by(world, id), Some(Protocol::UpnpIgd));
    assert_eq!(mapped_by(world, other), Some(Protocol::Pcp));
    world.gateway().faults.refusals.clear();
    id
}

/// All rows that are played over real sockets.
fn rows() -> Vec<(&'static str, fn())> {
    // Those with the longest rows first.
    [
        restarts::ROWS,
        leases::ROWS,
        tables::ROWS,
        addresses::ROWS,
        natpmp::ROWS,
        looks::ROWS,
        pcp::ROWS,
        refusals::ROWS,
        additions::ROWS,
        devices::ROWS,
        removals::ROWS,
        ports::ROWS,
        connections::ROWS,
    ]
    .concat()
}

/// How many processes run at once: most of them wait most of the time.
const PROCESSES: usize = 24;

/// A row, and the words before the command that plays it.
type Turn = (&'static str, &'static [&'static str]);

/// Plays a row in a process of its own; the error is its output.
fn play(&(name, by_way_of): &Turn) -> Result<(), String> {
    let output = stage::run_alone(name, by_way_of);
    let texts = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() { Ok(()) } else { Err(format!("{name}:\n{}", texts.join("\n"))) }
}

/// Plays rows, several at once. On a busy machine one protocol may overtake another: a row that fails is played once more,
/// with no other beside it.
fn play_all(turns: Vec<Turn>) {
    let failed = Mutex::new(Vec::new());
    let turns = Mutex::new(turns.into_iter());
    let work = || {
        loop {
            let next = turns.lock().expect("not poisoned").next();
            let Some(turn) = next else { return };
            if let Err(output) = play(&turn) {
                eprintln!("beside others, this row fails: {output}");
                failed.lock().expect("not poisoned").push(turn);
            }
        }
    };
    std::thread::scope(|scope| (0..PROCESSES).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().expect("not poisoned");
    let failures: Vec<String> = failed.iter().filter_map(|turn| play(turn).err()).collect();
    assert!(failures.is_empty(), "{} rows fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn all_odd_gateways_over_real_sockets() {
    let mut turns: Vec<Turn> = Vec::new();
    #[cfg(target_os = "linux")] // network namespaces
    if let Some(way) = plum_testkit::namespace::way_in("the odd neighbours over real sockets") {
        turns.extend(neighbours::ROWS.iter().map(|&(name, _)| (name, way)));
    }
    if std::env::var_os("PLUM_TEST_LOOPBACK").is_some() {
        eprintln!("the odd gateways were NOT run: each needs a loopback address of its own");
    } else {
        let none: &[&str] = &[];
        turns.extend(rows().iter().map(|&(name, _)| (name, none)));
    }
    play_all(turns);
}

/// What a process of its own does, see `all_odd_gateways_over_real_sockets`.
#[test]
fn the_row_of_this_process() {
    let Some(name) = stage::row_of_this_process() else { return };
    harness::end_in_time();
    let mut rows = rows();
    #[cfg(target_os = "linux")] // network namespaces
    rows.extend(neighbours::ROWS);
    let (_, row) = rows.iter().find(|(known, _)| *known == name).expect("a row of this name");
    row();
}
