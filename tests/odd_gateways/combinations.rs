//! Gateways that are odd in several ways at once, drawn at random. On the virtual clock alone: there are too many of them.

#![allow(clippy::print_stdout, reason = "the report of a test")]

use crate::secs;
use crate::stage::{Stage, VirtualClock};
use plum_gateway::odd::traits::{self, Trait};
use plum_wire::Transport::Tcp;

/// Draws oddities that leave a way to a mapping, each with the number of its variant.
fn draw(rng: &mut fastrand::Rng) -> Vec<(Trait, usize)> {
    let mut draw = |group: &[Trait]| {
        let passable: Vec<Trait> = group.iter().copied().filter(|odd| odd.is_passable).collect();
        (passable[rng.usize(..passable.len())], rng.usize(..))
    };
    let (datagrams, looks) = (draw(traits::DATAGRAMS), draw(traits::LOOKS));
    // What is there is taken for what is not, where looks are vague or another protocol's entry is in its place.
    let shows_all = looks.0.name.is_empty() && !datagrams.0.name.starts_with("PCP ");
    let leases = draw(if shows_all { traits::LEASES } else { &traits::LEASES[..traits::HIDDEN_LEASES] });
    let are_kept = leases.0.name.is_empty();
    let ports = draw(if are_kept { traits::PORTS } else { &traits::PORTS[..traits::PORTS.len() - 1] });
    let (services, replies) = (draw(traits::SERVICES), draw(traits::REPLIES));
    vec![datagrams, services, looks, leases, ports, replies, draw(traits::OTHERS)]
}

fn play(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let odd = draw(&mut rng);
    let wants: Vec<(u16, u16)> =
        (8000..8000 + rng.u16(1..4)).map(|port| (port, [0, 0, 9000, 443][rng.usize(..4)])).collect();
    let names: Vec<&str> = odd.iter().map(|(odd, _)| odd.name).filter(|name| !name.is_empty()).collect();
    println!("seed {seed}: {names:?}, ports and wishes {wants:?}");
    let mut stage =
        VirtualClock::begin(|gateway| odd.iter().for_each(|(odd, n)| (odd.make_odd)(gateway, *n)));
    let ids: Vec<i32> = wants.iter().map(|&(port, wish)| stage.create_wishing(Tcp, port, wish)).collect();
    let mut told = vec![0; ids.len()];
    for span in [secs(40), secs(7000)] {
        stage.pass(span);
        for ((&id, (internal, _)), told) in ids.iter().zip(&wants).zip(&mut told) {
            let (_, port) = stage.success(id).unwrap_or_else(|| panic!("{:?}", stage.told(id)));
            let entries = stage.entries();
            let is_its =
                |entry: &crate::stage::Entry| (entry.internal_port, entry.external_port) == (*internal, port);
            assert!(entries.iter().any(is_its), "SUCCESS at {port} without an entry: {entries:?}");
            let all = stage.told(id);
            assert!(all.len() <= *told + 3, "{all:?}");
            *told = all.len();
        }
    }
    if rng.bool() {
        stage.destroy_and_wait(ids[0]);
    }
    stage.end();
}

#[test]
fn several_oddities_at_once_leave_a_way_to_a_mapping() {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().expect("a number"));
    let first = number("ODD_SEED").unwrap_or(0);
    for seed in first..first + number("ODD_RUNS").unwrap_or(60) {
        play(seed);
    }
}
