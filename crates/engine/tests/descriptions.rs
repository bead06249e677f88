//! What entries are called in the gateway's table, on a virtual clock.

use plum_engine::descriptions::{Description, Descriptions};
use plum_engine::io::{MappingId, Suggestion, Wanted};
use plum_gateway::core::{Action, AssignedPort, Kind, Reply};
use plum_gateway::odd;
use plum_testkit::world::World;
use plum_wire::Transport::Tcp;
use std::num::NonZeroU16;
use std::time::Duration;

fn create(world: &mut World, port: u16, description: Option<&str>) -> MappingId {
    world.create_wanted(Wanted {
        transport: Tcp,
        internal_port: NonZeroU16::new(port).expect("a port"),
        wish: Suggestion::default(),
        description: description.map(|text| Description::new(text).expect("a description")),
    })
}

fn descriptions(world: &mut World) -> Vec<String> {
    world.gateway().table().iter().map(|entry| entry.description.clone()).collect()
}

#[test]
fn an_entry_is_called_as_the_program_says_else_by_the_librarys_name() {
    let mut world = World::with_best(2);
    for (port, description) in
        [(8000, Some("Photos <& \"more\">")), (8001, None), (8002, Some("größer 日本"))]
    {
        let id = create(&mut world, port, description);
        world.run_until(|world| world.is_success(id));
    }
    assert_eq!(descriptions(&mut world), ["Photos <& \"more\">", "libplum", "größer 日本"]);
    // Renewals keep it.
    world.run_for(Duration::from_secs(10_000));
    assert_eq!(descriptions(&mut world), ["Photos <& \"more\">", "libplum", "größer 日本"]);
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn a_second_mapping_of_the_port_shares_it() {
    let mut world = World::with_best(2);
    let first = create(&mut world, 8000, Some("one"));
    world.run_until(|world| world.is_success(first));
    let second = create(&mut world, 8000, Some("other"));
    world.run_for(Duration::from_secs(10_000));
    assert!(world.is_success(second));
    assert_eq!(descriptions(&mut world), ["one"]);
}

#[test]
fn an_entry_at_an_unknown_port_is_known_by_it_after_its_mapping() {
    // The reply to AddAnyPortMapping never comes.
    let mut world = World::with_best(2);
    odd::add_any_makes_and_hangs(world.gateway());
    world.gateway().faults.assigned_port = AssignedPort::Offset(1000);
    let first = create(&mut world, 8000, Some("first"));
    world.run_until(|world| world.is_success(first));
    world.destroy(first);
    // Another mapping of the port, by another name, while entries of the first are looked for.
    let second = create(&mut world, 8000, Some("second"));
    world.run_until(|world| world.is_success(second));
    world.run_for(Duration::from_secs(30));
    world.destroy_and_wait(second);
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn an_entry_whose_reply_was_lost_is_known_by_it() {
    // The entry is made, the reply does not say so, and another one for the port is a conflict.
    let mut world = World::with_best(2);
    let mut times = 0;
    world.gateway().add_script(move |request| match request.kind {
        Kind::Soap(Action::AddPortMapping) => {
            times += 1;
            if times == 1 { Reply::http(500, "").with_effect() } else { Reply::code(718) }
        }
        _ => Reply::usual(),
    });
    let id = create(&mut world, 8000, Some("mine"));
    world.run_until(|world| world.is_success(id));
    assert_eq!(
        (descriptions(&mut world), world.success(id).map(|made| made.2)),
        (vec!["mine".into()], Some(8000))
    );
    assert_eq!(world.counts().of(Kind::Soap(Action::DeletePortMapping)), 0, "it was taken for ours");
}

#[test]
fn a_description_is_short_printable_text() {
    let longest = "x".repeat(63);
    for (text, read) in [("a", "a"), ("  two words\t", "two words"), (&longest, &longest), ("é", "é")] {
        assert_eq!(Description::new(text).as_ref().map(Description::as_str), Some(read));
    }
    let long = "é".repeat(32);
    for bad in ["", " ", "a\nb", "a\0b", "x\u{85}y", "x\u{2028}y", "x\u{ffff}y", "\u{1b}[31m", &long] {
        assert_eq!(Description::new(bad), None, "{bad:?}");
    }
    assert_eq!(format!("{:?}", Description::new("a")), "Some(\"a\")");
}

#[test]
fn descriptions_have_numbers_until_those_are_used_up() {
    let description = |n: u32| Description::new(&n.to_string()).expect("a description");
    let mut known = Descriptions::default();
    for n in 0..1024 {
        assert_eq!(known.number(description(n)), u16::try_from(n).ok());
        if n == 3 {
            assert_eq!(known.number(description(0)), Some(0));
        }
    }
    assert_eq!(known.number(description(1024)), None);
    assert_eq!((known.text(Some(17)), known.text(None)), ("17", "libplum"));
    assert!(known.are_ours("1023") && known.are_ours("libplum") && !known.are_ours("1024"));
}
