//! What the system had nothing for (descriptors, memory): tried again soon, then less and less often.

#![forbid(unsafe_code)]

use super::{Engine, Timer};
use crate::time::Time;
use std::time::Duration;

/// Programs that use up their descriptors mostly do so for moments. Doubled each time, up to the recheck interval.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How it stands with what the system gives.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    /// When it was, or will be, tried again last, and how long that waited.
    last: Option<(Time, Duration)>,
    /// The last route lookup could not be made.
    hides_route: bool,
}

impl Shortage {
    /// Whether the route was asked for in vain.
    pub(super) fn hides_route(&self) -> bool {
        self.hides_route
    }

    /// A route lookup was made.
    pub(super) fn show_route(&mut self) {
        self.hides_route = false;
    }

    /// How long to wait this time: from the start again when there was enough for a while.
    fn next_wait(&self, now: Time, longest: Duration) -> Duration {
        match self.last {
            Some((at, wait)) if now < at + 2 * wait => 2 * wait,
            _ => FIRST_WAIT,
        }
        .min(longest)
    }
}

impl Engine {
    /// The answer to `Output::LookUpRoute` where the system could not be asked: what was known of the route holds, and
    /// it is looked up again soon.
    pub fn handle_route_unknown(&mut self, now: Time) {
        if self.cleanup.is_some() {
            return;
        }
        self.shortage.hides_route = true;
        self.note_shortage(now);
        if !self.network.is_known() {
            for key in self.waiting.iter().collect::<Vec<_>>() {
                self.fail(key);
            }
        }
    }

    /// Something was not to be had: everything that is missing is tried again after a while.
    pub(super) fn note_shortage(&mut self, now: Time) {
        if self.timers.get(Timer::Shortage).is_some() || self.mappings.is_empty() || self.cleanup.is_some() {
            return;
        }
        let wait = self.shortage.next_wait(now, self.config.recheck_interval);
        self.shortage.last = Some((now + wait, wait));
        self.timers.set(Timer::Shortage, now + wait);
    }

    /// What was missing is tried again, as with a recheck.
    pub(super) fn handle_shortage_timer(&mut self) {
        if self.mappings.is_empty() || self.cleanup.is_some() {
            return;
        }
        self.network.set_check_wanted();
        self.look_up_route();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::io::{Config, Event, MappingId, Output, Random, Route, Socket, Suggestion, Wanted};
    use crate::wire::Transport;
    use std::num::NonZeroU16;

    struct Zeros;

    impl Random for Zeros {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    /// An engine on a system that may have no routes to tell, and no sockets to give.
    struct Bench {
        engine: Engine,
        now: Time,
        tells_routes: bool,
        opens: bool,
        lookups: Vec<Time>,
        sent: usize,
        events: Vec<(MappingId, Event)>,
    }

    impl Bench {
        fn new(recheck_interval: Duration) -> Bench {
            Bench {
                engine: Engine::new(Config { recheck_interval, ..Config::default() }, Box::new(Zeros)),
                now: Time::from_secs(1000),
                tells_routes: true,
                opens: true,
                lookups: Vec::new(),
                sent: 0,
                events: Vec::new(),
            }
        }

        fn create(&mut self, id: MappingId) {
            let internal_port = NonZeroU16::new(4000 + id as u16).expect("not 0");
            let wanted = Wanted { transport: Transport::Tcp, internal_port, wish: Suggestion::default() };
            self.engine.handle_create(self.now, id, wanted);
            self.drain();
        }

        fn drain(&mut self) {
            while let Some(output) = self.engine.poll_output() {
                match output {
                    Output::LookUpRoute { .. } => {
                        self.lookups.push(self.now);
                        let address = |last| [192, 168, 1, last].into();
                        let route = Route { gateway: Some(address(1)), local: address(2), interface: 2 };
                        match self.tells_routes {
                            true => self.engine.handle_route(self.now, Some(route)),
                            false => self.engine.handle_route_unknown(self.now),
                        }
                    }
                    Output::Open { socket, local, .. } => {
                        let opened = self.opens || socket == Socket::Announcements;
                        let local = opened.then_some((local, 4711).into());
                        self.engine.handle_opened(self.now, socket, local);
                    }
                    Output::Send { .. } => self.sent += 1,
                    Output::Event { id, event } => self.events.push((id, event)),
                    _ => {}
                }
            }
        }

        fn run_for(&mut self, span: Duration) {
            let end = self.now + span;
            while let Some(at) = self.engine.poll_timeout().filter(|&at| at <= end) {
                self.now = at;
                self.engine.handle_timeout(at);
                self.drain();
            }
            self.now = end;
        }

        /// Seconds since the start of each lookup.
        fn looked_up_after(&self) -> Vec<u64> {
            self.lookups.iter().map(|at| at.since(Time::from_secs(1000)).as_secs()).collect()
        }
    }

    #[test]
    fn a_route_that_cannot_be_asked_for_is_failure_and_asked_for_less_and_less_often() {
        let mut bench = Bench::new(Duration::from_secs(20));
        bench.tells_routes = false;
        bench.create(0);
        assert_eq!(bench.events, [(0, Event::Failure)]);
        bench.run_for(Duration::from_secs(65));
        // The rechecks, at 20, 40 and 60 s, go on beside it.
        assert_eq!(bench.looked_up_after(), [0, 1, 3, 7, 15, 20, 31, 40, 51, 60]);
        assert_eq!((bench.events.len(), bench.sent), (1, 0));
        bench.tells_routes = true;
        bench.run_for(Duration::from_secs(20));
        assert!(bench.sent > 0);
    }

    #[test]
    fn a_mapping_created_while_the_route_cannot_be_asked_for_is_not_left_waiting() {
        let mut bench = Bench::new(Duration::from_secs(300));
        bench.tells_routes = false;
        bench.create(0);
        bench.create(1);
        assert_eq!(bench.events, [(0, Event::Failure), (1, Event::Failure)]);
    }

    #[test]
    fn a_known_route_holds_while_it_cannot_be_asked_for() {
        let mut bench = Bench::new(Duration::from_secs(300));
        bench.create(0);
        assert!(bench.sent > 0);
        bench.tells_routes = false;
        let sent = bench.sent;
        bench.run_for(Duration::from_millis(100));
        bench.engine.handle_network_changed(bench.now);
        bench.run_for(Duration::from_millis(1200));
        assert!(bench.sent > sent, "the race goes on");
        assert_eq!(bench.events, []);
    }

    #[test]
    fn sockets_that_are_not_to_be_had_are_tried_again_soon() {
        let mut bench = Bench::new(Duration::from_secs(300));
        bench.opens = false;
        bench.create(0);
        assert_eq!((&bench.events[..], bench.sent), (&[(0, Event::Failure)][..], 0));
        bench.run_for(Duration::from_secs(10));
        assert_eq!(bench.looked_up_after(), [0, 1, 3, 7]);
        bench.opens = true;
        bench.run_for(Duration::from_secs(5));
        assert!(bench.sent > 0);
        let lookups = bench.lookups.len();
        bench.run_for(Duration::from_secs(60));
        assert_eq!(bench.lookups.len(), lookups, "nothing is missing any more");
    }
}
