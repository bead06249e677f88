//! The engines as one machine: what concerns none of them alone.

use plum_engine::Engines;
use plum_engine::io::{Config, Event, MappingId, Output, Suggestion, Wanted};
use plum_engine::machine::{Command, Machine};
use plum_engine::time::Time;
use plum_testkit::random::Seeded;
use plum_wire::Transport;
use std::num::NonZeroU16;

const START: Time = Time::from_secs(1_000_000);

fn create(engines: &mut Engines, id: MappingId) {
    let wanted = Wanted {
        transport: Transport::Tcp,
        internal_port: NonZeroU16::MIN,
        wish: Suggestion::default(),
        description: None,
    };
    engines.handle_command(START, Command::Create(id, wanted));
}

/// The events of a mapping, and whether cleanup is complete.
fn events(engines: &mut Engines, id: MappingId) -> (Vec<Event>, bool) {
    let mut told = (Vec::new(), false);
    while let Some((_, output)) = engines.poll_output() {
        match output {
            Output::Event { id: of, event } if of == id => told.0.push(event),
            Output::Finished => told.1 = true,
            _ => {}
        }
    }
    told
}

#[test]
fn a_mapping_that_crosses_cleanup_is_destroyed_where_its_family_is_excluded() {
    let gateway = Some(("fd00::1".parse().unwrap(), None));
    let mut engines = Engines::new(Config { gateway, ..Config::default() }, Box::new(Seeded::new(1)));
    create(&mut engines, 1);
    assert_eq!(events(&mut engines, 1), (vec![Event::Failure], false));
    engines.handle_command(START, Command::Cleanup);
    create(&mut engines, 2);
    assert_eq!(events(&mut engines, 2), (vec![Event::Destroyed], true));
}
