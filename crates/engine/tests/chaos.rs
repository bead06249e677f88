//! Random programs against random gateways on random networks: whatever happens, the invariants of `world`
//! hold, and with a gateway that answers in the end, every mapping is made and nothing is left behind.
//!
//! A failing run prints its seed; `WORLD_SEED=N cargo test --test chaos` runs that one alone, `WORLD_RUNS=N` the
//! first N.

use plum_engine::io::{Allowed, MappingId, Route, Socket, Suggestion};
use plum_gateway::core::{
    Action, AssignedPort, Chance, Faults, Framing, Igd, Junk, Kind, Refusal, Spoken, Times, WanKind,
    WrongSource,
};
use plum_testkit::world::{GATEWAY, INTERFACE, LOCAL, World};
use plum_wire::Transport;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

const RUNS: u64 = 150;

/// Runs `story` with many seeds, or with the one that the environment names.
fn with_seeds(story: impl Fn(&mut fastrand::Rng, u64)) {
    let one =
        std::env::var("WORLD_SEED").ok().map(|text| text.parse::<u64>().expect("WORLD_SEED is a number"));
    let runs = std::env::var("WORLD_RUNS").map_or(RUNS, |text| text.parse().expect("WORLD_RUNS is a number"));
    let seeds = one.map_or(1..=runs, |seed| seed..=seed);
    for seed in seeds {
        story(&mut fastrand::Rng::with_seed(seed), seed);
    }
}

fn world_with(seed: u64, rng: &mut fastrand::Rng) -> World {
    let latency = Duration::from_micros(rng.u64(100..20_000));
    World::set_up(|setup| {
        setup.seed = seed;
        setup.latency = latency;
        setup.gateways[0].seed = seed;
        setup.gateways[0].announcements = 3;
    })
}

/// Faults that do not keep a mapping from being made in the end.
fn surmountable(rng: &mut fastrand::Rng) -> Faults {
    let mut faults = Faults { delay: Duration::from_millis(rng.u64(0..60)), ..Faults::default() };
    if rng.bool() {
        faults.loss = Chance::both(f64::from(rng.u32(0..30)) / 100.0);
    }
    faults.duplicate = Chance::both(f64::from(rng.u32(0..20)) / 100.0);
    faults.reorder = f64::from(rng.u32(0..30)) / 100.0;
    faults.reorder_by = Duration::from_millis(rng.u64(1..300));
    match rng.u32(0..6) {
        0 => faults.silence.pcp = Times::Always,
        1 => faults.pcp = Spoken::UnsuppVersion(rng.u8(0..2)),
        2 => (faults.closed.pcp, faults.closed.natpmp) = (true, true),
        3 => (faults.silence.pcp, faults.silence.natpmp) = (Times::Always, Times::Always),
        4 => faults.wrong_nonce = Times::Next(rng.u32(1..5)),
        _ => {}
    }
    match rng.u32(0..6) {
        0 => faults.junk = Junk::Before,
        1 => faults.junk = Junk::After,
        2 => faults.assigned_port = AssignedPort::Offset(rng.u16(1..100)),
        3 => faults.permanent_leases_only = true,
        4 => faults.max_lifetime = Some(rng.u32(60..600)),
        _ => {}
    }
    faults.http.framing = match rng.u32(0..5) {
        0 => Framing::Chunked,
        1 => Framing::UntilClose,
        _ => Framing::ContentLength,
    };
    faults.http.keep_open = faults.http.framing != Framing::UntilClose && rng.bool();
    faults
}

/// Faults that may defeat it.
fn insurmountable(rng: &mut fastrand::Rng) -> Faults {
    let mut faults = surmountable(rng);
    match rng.u32(0..8) {
        0 => faults.junk = Junk::Instead,
        1 => faults.wrong_source = Some(WrongSource::Port),
        2 => faults.wrong_source = Some(WrongSource::Address(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 66)))),
        3 => faults.refuse(Kind::PcpMap, rng.u16(1..20)),
        4 => faults.refuse(Kind::NatPmpMap, rng.u16(1..7)),
        5 => faults.lifetime = Some(rng.u32(0..5)),
        6 => faults.assigned_port = AssignedPort::Exactly(0),
        _ => faults.external_address_text = Some("0.0.0.0".into()),
    }
    faults
}

/// A gateway with UPnP alone: faults of its HTTP server and errors of its actions that end sooner or later.
fn surmountable_upnp(rng: &mut fastrand::Rng) -> Faults {
    let mut faults = surmountable(rng);
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    faults.same_ports_only = rng.u32(0..8) == 0;
    faults.no_add_any = rng.u32(0..4) == 0;
    match rng.u32(0..8) {
        0 => faults.http.max_connections = Some(rng.usize(1..4)),
        1 => faults.http.dribble = Some((rng.usize(100..1000), Duration::from_millis(rng.u64(1..100)))),
        2 => faults.silence.http = Times::Next(rng.u32(1..6)),
        3 => faults.http.hang_up = Times::Next(rng.u32(1..10)),
        4 => faults.http.junk = Times::Next(rng.u32(1..10)),
        5 => faults.http.framing = Framing::TooLong(rng.usize(1..100)),
        6 => faults.silence.ssdp = Times::Next(rng.u32(1..20)),
        _ => {}
    }
    // Framing that promises too much ends with the connection alone.
    faults.http.keep_open &= !matches!(faults.http.framing, Framing::UntilClose | Framing::TooLong(_));
    for _ in 0..rng.usize(0..4) {
        let actions = [
            Action::AddPortMapping,
            Action::AddAnyPortMapping,
            Action::GetSpecificPortMappingEntry,
            Action::GetExternalIPAddress,
        ];
        let action = actions[rng.usize(0..actions.len())];
        let codes = [401, 402, 501, 602, 606, 714, 716, 718, 724, 725, 728, 729];
        let code = codes[rng.usize(0..codes.len())];
        faults.refuse_some(Refusal {
            kind: Kind::Soap(action),
            port: None,
            // Of a gateway that says of one entry both that it is not there and that it is another host's nobody can
            // make sense.
            code: if action == Action::GetSpecificPortMappingEntry && code == 606 { 501 } else { code },
            lifetime: 30,
            times: Times::Next(rng.u32(1..5)),
        });
    }
    faults
}

/// One that never becomes any better.
fn insurmountable_upnp(rng: &mut fastrand::Rng) -> Faults {
    let mut faults = surmountable_upnp(rng);
    match rng.u32(0..8) {
        0 => faults.http.stall_after = Some(rng.usize(0..2000)),
        1 => faults.http.junk = Times::Always,
        2 => faults.http.hang_up = Times::Always,
        3 => faults.silence.http = Times::Always,
        4 => faults.closed.http = true,
        5 => faults.http.soap_status = Some(rng.u16(300..600)),
        6 => {
            faults.refuse(Kind::Soap(Action::AddPortMapping), rng.u16(400..800));
            faults.refuse(Kind::Soap(Action::DeletePortMapping), rng.u16(400..800));
        }
        _ => faults.refuse(Kind::Soap(Action::GetSpecificPortMappingEntry), rng.u16(400..800)),
    }
    faults
}

fn upnp_world(seed: u64, rng: &mut fastrand::Rng) -> World {
    let kinds = [WanKind::Ip1, WanKind::Ip2, WanKind::Ppp1];
    let services: Vec<_> = (0..rng.usize(1..3)).map(|_| kinds[rng.usize(0..kinds.len())]).collect();
    let version = if services.contains(&WanKind::Ip2) { 2 } else { 1 };
    let latency = Duration::from_micros(rng.u64(100..20_000));
    let allowed = if rng.bool() { Allowed::Any } else { Allowed::Upnp };
    World::set_up(|setup| {
        setup.seed = seed;
        setup.latency = latency;
        setup.engine.allowed = allowed;
        setup.gateways[0].seed = seed;
        setup.gateways[0].igd = Some(Igd::with(version, &services));
    })
}

fn transport(rng: &mut fastrand::Rng) -> Transport {
    if rng.bool() { Transport::Tcp } else { Transport::Udp }
}

/// A few steps of a program that creates and destroys mappings, on few ports, so that keys meet.
fn live(world: &mut World, rng: &mut fastrand::Rng, live: &mut Vec<MappingId>) {
    for _ in 0..rng.usize(1..12) {
        if !live.is_empty() && rng.u32(0..3) == 0 {
            let id = live.swap_remove(rng.usize(0..live.len()));
            world.destroy(id);
        } else {
            let wish = NonZeroU16::new(if rng.bool() { 0 } else { rng.u16(20_000..20_010) });
            let wish = Suggestion { address: None, port: wish };
            live.push(world.create_wishing(transport(rng), rng.u16(8000..8008), wish));
        }
        world.run_for(Duration::from_millis(rng.u64(0..400)));
    }
}

#[test]
fn every_mapping_is_made_and_nothing_is_left_behind() {
    with_seeds(|rng, seed| {
        let mut world = world_with(seed, rng);
        world.gateway().faults = surmountable(rng);
        let mut ids = Vec::new();
        live(&mut world, rng, &mut ids);
        // Longer than a recheck, so that a lost answer to everything has its second chance.
        assert!(world.runs_until(Duration::from_secs(700), World::all_success), "seed {seed}");
        // Three deletions in half a second may all be lost: such a mapping ends with its lease.
        let lossy = world.gateway().faults.loss != Chance::default();
        world.run_for(Duration::from_secs(rng.u64(0..10_000) + if lossy { 7300 } else { 0 }));
        world.gateway().faults = Faults::default();
        world.run_for(Duration::from_secs(20));
        world.cleanup();
        world.run_for(Duration::from_secs(2));
        world.assert_nothing_left();
    });
}

#[test]
fn restarts_changes_and_hostile_answers_break_no_promise() {
    with_seeds(|rng, seed| {
        let mut world = world_with(seed, rng);
        let mut ids = Vec::new();
        for _ in 0..rng.usize(2..10) {
            match rng.u32(0..14) {
                8 => {
                    // What is to be told within a second is told before.
                    world.run_for(Duration::from_secs(1));
                    world.sleep_for(Duration::from_secs(rng.u64(0..20_000)));
                }
                9 => world.gateway().announce(),
                10 => world.gateway().set_epoch(rng.u32(..)),
                11 => {
                    // NOT_AUTHORIZED, NO_RESOURCES, ADDRESS_MISMATCH.
                    let code = [2, 8, 12][rng.usize(0..3)];
                    world.gateway().faults.refuse_next(Kind::PcpMap, code, rng.u32(1..4));
                }
                12 => {
                    let sockets = [Socket::Pcp, Socket::NatPmp, Socket::Ssdp, Socket::Announcements];
                    world.unopenable.insert(sockets[rng.usize(0..sockets.len())]);
                }
                0 => world.gateway().faults = insurmountable(rng),
                1 => world.gateway().faults = surmountable(rng),
                2 => world.power_off(),
                3 => world.stop_gateway(),
                4 => world.start_gateway(rng.bool()),
                5 => {
                    let local = if rng.bool() { LOCAL } else { IpAddr::V4(Ipv4Addr::new(192, 168, 1, 101)) };
                    let route = Route { gateway: Some(GATEWAY), local, interface: INTERFACE };
                    world.change_route(rng.bool().then_some(route));
                }
                6 => world.network.cut = rng.bool(),
                7 => world.gateway().forget_mappings(),
                _ => world
                    .gateway()
                    .set_external_address(Ipv4Addr::new(203, 0, 113, rng.u8(1..99)), rng.bool()),
            }
            live(&mut world, rng, &mut ids);
            world.run_for(Duration::from_secs(rng.u64(0..400)));
        }
        // Peace: all that is wanted is there within two rechecks.
        world.network.cut = false;
        world.unopenable.clear();
        world.gateway().faults = Faults::default();
        world.start_gateway(true);
        world.change_route(Some(Route { gateway: Some(GATEWAY), local: LOCAL, interface: INTERFACE }));
        assert!(world.runs_until(Duration::from_secs(700), World::all_success), "seed {seed}");
        world.cleanup();
    });
}

#[test]
fn upnp_alone_makes_every_mapping_and_leaves_nothing_behind() {
    with_seeds(|rng, seed| {
        let mut world = upnp_world(seed, rng);
        world.gateway().faults = surmountable_upnp(rng);
        let mut ids = Vec::new();
        live(&mut world, rng, &mut ids);
        assert!(world.runs_until(Duration::from_secs(4000), World::all_success), "seed {seed}");
        world.run_for(Duration::from_secs(rng.u64(0..10_000)));
        world.gateway().faults.refusals.clear();
        assert!(world.runs_until(Duration::from_secs(4000), World::all_success), "seed {seed}");
        world.gateway().faults = Faults::default();
        world.run_for(Duration::from_secs(20));
        world.cleanup();
        world.run_for(Duration::from_secs(2));
        world.assert_nothing_left();
    });
}

#[test]
fn hostile_http_servers_break_no_promise() {
    with_seeds(|rng, seed| {
        let mut world = upnp_world(seed, rng);
        let mut ids = Vec::new();
        for _ in 0..rng.usize(2..10) {
            match rng.u32(0..7) {
                0 | 1 => world.gateway().faults = insurmountable_upnp(rng),
                2 => world.gateway().faults = surmountable_upnp(rng),
                3 => world.power_off(),
                4 => world.start_gateway(rng.bool()),
                5 => world.gateway().forget_mappings(),
                _ => world.gateway().set_external_address(Ipv4Addr::new(203, 0, 113, rng.u8(1..99)), false),
            }
            live(&mut world, rng, &mut ids);
            world.run_for(Duration::from_secs(rng.u64(0..400)));
        }
        world.gateway().faults = Faults::default();
        world.start_gateway(true);
        // 727 puts UPnP out of the question for an hour.
        assert!(world.runs_until(Duration::from_secs(4000), World::all_success), "seed {seed}");
        world.cleanup();
    });
}

#[test]
fn natpmp_alone_on_a_lossy_network_makes_every_mapping_and_leaves_nothing_behind() {
    with_seeds(|rng, seed| {
        let mut world = world_with(seed, rng);
        let mut faults = surmountable(rng);
        faults.silence.pcp = Times::Always;
        (faults.silence.natpmp, faults.closed.natpmp) = (Times::Never, false);
        faults.closed.ssdp = true;
        faults.loss = Chance::default();
        faults.pcp = Spoken::Yes;
        world.gateway().faults = faults;
        world.network.loss = f64::from(rng.u32(0..30)) / 100.0;
        world.network.jitter = Duration::from_millis(rng.u64(0..100));
        let mut ids = Vec::new();
        live(&mut world, rng, &mut ids);
        assert!(world.runs_until(Duration::from_secs(2000), World::all_success), "seed {seed}");
        // Three requests in half a second may all be lost: such a mapping ends with its lease.
        world.run_for(Duration::from_secs(rng.u64(7300..10_000)));
        world.network.loss = 0.0;
        world.gateway().faults = Faults::default();
        world.run_for(Duration::from_secs(20));
        world.cleanup();
        world.run_for(Duration::from_secs(2));
        world.assert_nothing_left();
    });
}
