//! Gateways that do many things wrong in turn: everything heals, and nothing is left.

use super::*;
use plum_engine::Engines;
use std::collections::BTreeSet;

/// One trouble begins or ends.
fn trouble(world: &mut World, number: u64) {
    let faults = &mut world.gateway().faults;
    match number {
        0 => faults.closed.pcp = !faults.closed.pcp,
        1 => faults.silence.pcp = Times::Next(3),
        2 => faults.silence.http = Times::Next(2),
        3 => faults.http.hang_up = Times::Next(3),
        4 => faults.firewall_disabled = !faults.firewall_disabled,
        5 => faults.inbound_pinholes_forbidden = !faults.inbound_pinholes_forbidden,
        6 => faults.refuse_next(ADD, 701, 2),
        7 => faults.refuse_next(ADD, 402, 1),
        8 => faults.refuse_next(DELETE, 606, 1),
        9 => faults.refuse_next(UPDATE, 704, 1),
        10 => faults.refuse_next(ADD, 501, 3),
        11 => faults.nonce_guards_deletion_only = !faults.nonce_guards_deletion_only,
        12 => faults.never_announces = !faults.never_announces,
        13 => world.start_gateway(true),
        14 => world.start_gateway(false),
        15 => world.gateway().forget_mappings(),
        16 => world.power_off(),
        17 => world.stop_gateway(),
        18 => world.network.other_source = Some(LINK_LOCAL),
        19 => world.network.other_source = None,
        20 => faults.delay = millis(700),
        21 => faults.delay = Duration::ZERO,
        _ => world.change_network(),
    }
}

#[test]
fn after_any_row_of_troubles_all_mappings_are_made_and_nothing_is_left() {
    for seed in 1..=60 {
        let mut world = world_with(|setup| (setup.seed, setup.engine.recheck_interval) = (seed, secs(60)));
        let mut random = gateway::Random::new(seed);
        world.gateway().faults.closed.pcp = seed % 2 == 0;
        let mut ids = Vec::new();
        for _ in 0..40 {
            match random.below(10) {
                0..3 => {
                    let port = 8000 + random.below(6) as u16;
                    ids.push((world.create(Tcp, port), port));
                }
                3 if !ids.is_empty() => {
                    let (id, _) = ids.swap_remove(random.below(ids.len() as u64) as usize);
                    world.destroy(id);
                }
                _ => trouble(&mut world, random.below(23)),
            }
            let span = [0, 5, 300, 2000, 30_000, 200_000][random.below(6) as usize];
            world.run_for(millis(span));
        }
        world.start_gateway(true);
        world.gateway().faults = gateway::Faults::default();
        world.gateway().faults.closed.pcp = seed % 2 == 0;
        world.network.other_source = None;
        world.run_for(secs(2000));
        assert!(world.all_success(), "seed {seed}: {:?}", world.mappings().collect::<Vec<_>>());
        // What was lost in silence is renewed, and what was left behind has ended.
        world.run_for(secs(7200));
        let wanted: BTreeSet<u16> = ids.iter().map(|&(_, port)| port).collect();
        let open: BTreeSet<u16> = world.gateway().pinholes().iter().map(|pinhole| pinhole.key.port).collect();
        assert_eq!(open, wanted, "seed {seed}");
        world.cleanup();
        world.run_for(secs(2));
        world.assert_nothing_left();
    }
}

#[test]
fn beside_ipv4_the_pinhole_engine_asks_for_its_own_route_of_ipv4() {
    let mut world: World<Engines> = World::with_both();
    world.gateway().faults.closed.pcp = true;
    world.gateway().add_script(|request| match request.kind {
        Kind::SsdpSearch if request.from.is_ipv6() => Reply::nothing(),
        _ => Reply::usual(),
    });
    let mapping = world.create(Tcp, 8000);
    let pinhole = world.create_pinhole(Tcp, 8000);
    world.run_until(World::all_success);
    assert_eq!(world.success(pinhole), Some((Protocol::UpnpIgd, IPV6_LOCAL.into(), 8000)));
    assert!(world.success(mapping).unwrap().1.is_ipv4());
    assert_eq!((world.pinholes_of(0).len(), world.table().len()), (1, 1));
    world.cleanup();
    world.assert_nothing_left();
}
