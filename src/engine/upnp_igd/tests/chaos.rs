//! Any order of calls, any behaviour of the gateway: what has to hold all the same.

use super::bench::*;
use super::{key, no_wish, wish};
use crate::engine::driver::{Key, Notice, Status};
use crate::engine::io::Random;
use crate::wire::Transport;
use std::collections::BTreeSet;

/// The core's side of the contract: what it waits for.
#[derive(Default)]
struct Core {
    maps: BTreeSet<Key>,
    deletions: BTreeSet<Key>,
    seen: usize,
}

impl Core {
    fn take_notices(&mut self, bench: &Bench) {
        for (at, notice) in &bench.notices[self.seen..] {
            match notice {
                Notice::Granted { key, .. } | Notice::Refused { key, .. } | Notice::TimedOut { key } => {
                    assert!(self.maps.remove(key), "at {at} ms, nobody waits for {notice:?}");
                }
                Notice::Deleted { key, .. } => {
                    assert!(self.deletions.remove(key), "at {at} ms, nobody waits for {notice:?}");
                }
                Notice::Gone { key } => assert!(!self.maps.contains(key), "{key} is being made"),
                Notice::Lost => self.maps.clear(),
                _ => {}
            }
        }
        self.seen = bench.notices.len();
    }

    fn act(&mut self, bench: &mut Bench, action: u64, key: Key, port: u16) {
        match action {
            0..=4 => {
                self.deletions.remove(&key);
                self.maps.insert(key);
                bench.map(key, if action < 2 { no_wish() } else { wish(port) });
            }
            5..=7 => {
                self.maps.remove(&key);
                self.deletions.insert(key);
                bench.delete(key);
            }
            8 => {
                self.maps.remove(&key);
                bench.abandon(key);
            }
            9 => bench.check(),
            10 if bench.driver.status() != Status::Up => bench.search(),
            _ => {}
        }
        self.take_notices(bench);
    }
}

fn run(seed: u64, service_type: &'static str, moods: &[Mood]) -> Bench {
    let mut dice = Seeded(seed);
    let mut bench = Bench::with_seed(seed);
    bench.add_igd(service_type);
    let mut core = Core::default();
    bench.start();
    let mut now = 0;
    for _ in 0..120 {
        let (transport, number) = (dice.in_range(0, 1), dice.in_range(0, 3));
        let number = u16::try_from(number).expect("it is small");
        let transport = if transport == 0 { Transport::Tcp } else { Transport::Udp };
        let port = u16::try_from(dice.in_range(4000, 4005)).expect("a port");
        core.act(&mut bench, dice.in_range(0, 11), key(transport, 4000 + number), port);
        match dice.in_range(0, 9) {
            0 => {
                let at = usize::try_from(dice.in_range(0, moods.len() as u64 - 1)).expect("an index");
                bench.server().mood = moods[at];
            }
            1 => {
                let code = [718, 725, 606, 501, 402, 724, 714, 401][(seed as usize + now as usize) % 8];
                bench.igd().script.push_back(("AddPortMapping", code));
            }
            2 => bench.server().reply_ms = dice.in_range(1, 400),
            3 => bench.igd().table.clear(),
            _ => {}
        }
        now += dice.in_range(0, 1) * dice.in_range(1, 600);
        bench.run_until(now);
        core.take_notices(&bench);
    }
    // Whatever it was: in the end it is well again, and everything is removed.
    bench.server().mood = Mood::Well;
    bench.server().reply_ms = 5;
    bench.run_until(now + 60_000);
    core.take_notices(&bench);
    if bench.driver.status() != Status::Up {
        bench.search();
    }
    bench.run_until(now + 65_000);
    assert_eq!(bench.driver.status(), Status::Up, "seed {seed}");
    for transport in [Transport::Tcp, Transport::Udp] {
        for number in 0..4 {
            core.act(&mut bench, 5, key(transport, 4000 + number), 0);
        }
    }
    bench.run_until(now + 120_000);
    core.take_notices(&bench);
    assert!(core.maps.is_empty(), "seed {seed}: {:?}", core.maps);
    assert!(core.deletions.is_empty(), "seed {seed}: {:?}", core.deletions);
    assert_eq!(bench.driver.removals(), 0);
    assert_eq!(bench.driver.poll_timeout(), None, "seed {seed}");
    bench
}

#[test]
fn every_call_ends_once_and_nothing_is_left_behind() {
    for seed in 0..50 {
        for service_type in [IP1, IP2] {
            let mut bench = run(seed, service_type, &[Mood::Well, Mood::Well, Mood::Refuses]);
            assert_eq!(bench.igd().table, Default::default(), "seed {seed}");
        }
    }
}

#[test]
fn every_call_ends_once_however_the_gateway_behaves() {
    for seed in 0..50 {
        run(
            seed,
            IP1,
            &[Mood::Well, Mood::Refuses, Mood::Silent, Mood::Mute, Mood::HangsUp, Mood::Babbles, Mood::Well],
        );
    }
}
