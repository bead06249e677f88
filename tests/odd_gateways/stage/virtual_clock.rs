//! The engine and the simulated gateway on a virtual clock.

#![allow(clippy::print_stderr, reason = "the report of a test")]

use super::{Lan, Machine, Stage, Start};
use plum_engine::Engine;
use plum_engine::io::{self, Event, Suggestion};
use plum_engine::log::{self, Level, Sink};
use plum_gateway::core::{Config, Gateway};
use plum_testkit::random::Seeded;
use plum_testkit::world::{GATEWAY, Power, World};
use plum_wire::Transport;
use std::cell::RefCell;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

pub struct VirtualClock(pub World);

thread_local! {
    /// What the engine of this thread's test has logged.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Has each thread keep what its engine logs.
fn keep_log() {
    log::set_sink(Sink {
        enabled: |level| level >= Level::Debug,
        write: |_, text| LINES.with_borrow_mut(|lines| lines.push(text.to_string())),
    });
    LINES.with_borrow_mut(Vec::clear);
}

impl Stage for VirtualClock {
    const HAS_EXACT_TIMES: bool = true;

    fn begin_with(start: Start, odd: impl FnOnce(&mut Gateway)) -> VirtualClock {
        keep_log();
        let mut world = World::set_up(|setup| setup.engine.recheck_interval = start.recheck);
        odd(world.gateway());
        VirtualClock(world)
    }

    fn gateway<T>(&mut self, act: impl FnOnce(&mut Gateway) -> T) -> T {
        act(self.0.gateway())
    }

    fn create_wishing(&mut self, transport: Transport, internal_port: u16, external_port: u16) -> i32 {
        let port = NonZeroU16::new(external_port);
        self.0.create_wishing(
            transport,
            internal_port,
            Suggestion { address: None, port, ..Suggestion::default() },
        )
    }

    fn destroy(&mut self, id: i32) {
        self.0.destroy(id);
    }

    fn cleanup(&mut self) -> Duration {
        self.0.cleanup()
    }

    fn told(&mut self, id: i32) -> Vec<Event> {
        self.0.callbacks(id)
    }

    fn wait(&mut self, within: Duration, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let until = self.0.now() + within;
        while !is_so(self) {
            if !self.0.step(until) {
                assert!(is_so(self), "not within {within:?}: {what}");
                return;
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        self.0.run_for(span);
    }

    fn begin_again(mut self) -> VirtualClock {
        let seed = self.0.seed();
        self.0
            .begin_again(|engine| *engine = Engine::new(io::Config::default(), Box::new(Seeded::new(!seed))));
        self
    }

    fn has_logged(&mut self, text: &str) -> bool {
        LINES.with_borrow(|lines| lines.iter().any(|line| line.contains(text)))
    }
}

impl Lan for VirtualClock {
    fn begin_lan(start: Start, machines: Vec<Machine>) -> VirtualClock {
        keep_log();
        let addresses =
            (1..=u8::try_from(machines.len()).expect("few")).map(|n| IpAddr::from([192, 168, 1, n]));
        let mut world = World::set_up(|setup| {
            setup.engine.recheck_interval = start.recheck;
            setup.gateways = addresses.map(Config::at).collect();
        });
        for (n, odd) in machines.into_iter().enumerate() {
            odd(world.gateway_at(n));
        }
        VirtualClock(world)
    }

    fn begin_at_home(start: Start, homes: Vec<Machine>) -> VirtualClock {
        keep_log();
        let mut world = World::set_up(|setup| {
            setup.engine.recheck_interval = start.recheck;
            setup.gateways = homes.iter().map(|_| Config::at(GATEWAY)).collect();
        });
        for (n, odd) in homes.into_iter().enumerate() {
            world.network.nodes[n].home = n;
            odd(world.gateway_at(n));
        }
        VirtualClock(world)
    }

    fn go_to(&mut self, home: usize) {
        self.0.network.move_to_home(home);
        self.0.change_network();
    }

    fn machine<T>(&mut self, n: usize, act: impl FnOnce(&mut Gateway) -> T) -> T {
        act(self.0.gateway_at(n))
    }

    fn set_power(&mut self, n: usize, is_on: bool) {
        let now = self.0.now();
        self.0.network.set_power(now, n, if is_on { Power::On } else { Power::Off });
    }

    fn spend(&mut self, span: Duration) {
        self.0.run_for(span);
    }
}

impl Drop for VirtualClock {
    fn drop(&mut self) {
        if std::thread::panicking() {
            LINES.with_borrow(|lines| lines.iter().for_each(|line| eprintln!("  {line}")));
        }
    }
}
