//! Cleanup, a worker that is dropped, and panics: every mapping gets its end.

use crate::script::{Input, Reaction, Scripted, Seen};
use crate::{LOOPBACK, PATIENCE, create, event};
use plum_engine::io::{Event, Output};
use plum_runtime::worker::Command;

/// Answers `Destroy` and `Cleanup` as the engine does.
fn obedient(live: &mut Vec<i32>, input: &Input, reaction: &mut Reaction) {
    match input {
        Input::Create(id) => live.push(*id),
        Input::Destroy(id) => {
            live.retain(|other| other != id);
            reaction.output(event(*id, Event::Destroyed));
        }
        Input::Cleanup => {
            live.drain(..).for_each(|id| reaction.output(event(id, Event::Destroyed)));
            reaction.output(Output::Finished);
        }
        _ => {}
    }
}

#[test]
fn cleanup_tells_all_and_ends_the_thread() {
    let mut live = Vec::new();
    let worker = Scripted::start(move |_, input, reaction| obedient(&mut live, input, reaction));
    (0..3).for_each(|id| worker.send(create(id)));
    worker.send(Command::Cleanup);
    worker.send(Command::Cleanup);
    let wake = worker.wake.clone();
    let seen = worker.join();
    let end: Vec<_> = seen.into_iter().filter(|seen| !matches!(seen, Seen::Input(_))).collect();
    let destroyed = |id| Seen::Told(id, Event::Destroyed);
    assert_eq!(end, [destroyed(0), destroyed(1), destroyed(2), Seen::Finished]);
    wake.wake();
}

#[test]
fn a_worker_that_is_dropped_cleans_up() {
    let mut live = Vec::new();
    let worker = Scripted::start(move |_, input, reaction| obedient(&mut live, input, reaction));
    worker.send(create(0));
    let seen = worker.seen.clone();
    drop(worker);
    let deadline = std::iter::from_fn(|| seen.recv_timeout(PATIENCE).ok()).map(|(_, seen)| seen);
    let told: Vec<_> = deadline.filter(|seen| !matches!(seen, Seen::Input(_))).collect();
    assert_eq!(told, [Seen::Told(0, Event::Destroyed), Seen::Finished]);
}

#[test]
fn after_a_panic_every_mapping_still_gets_its_end() {
    let mut live = Vec::new();
    let worker = Scripted::start(move |_, input, reaction| {
        assert!(*input != Input::Destroy(2), "this panic is part of a test");
        obedient(&mut live, input, reaction);
    });
    (0..4).for_each(|id| worker.send(create(id)));
    worker.send(Command::Destroy(0));
    worker.expect(|seen| matches!(seen, Seen::Told(0, Event::Destroyed)).then_some(()));
    worker.send(Command::Destroy(2));
    worker.expect(|seen| matches!(seen, Seen::Panicked).then_some(()));
    // The one whose destruction panicked, at once.
    worker.expect(|seen| matches!(seen, Seen::Told(2, Event::Destroyed)).then_some(()));
    worker.send(Command::Destroy(1));
    worker.send(Command::Destroy(1));
    worker.send(create(4));
    worker.wake.wake();
    worker.expect(|seen| matches!(seen, Seen::Told(1, Event::Destroyed)).then_some(()));
    worker.expect(|seen| matches!(seen, Seen::Told(4, Event::Failure)).then_some(()));
    worker.expect(|seen| matches!(seen, Seen::ProgramTimeout).then_some(()));
    worker.send(Command::Cleanup);
    let destroyed = |id| Seen::Told(id, Event::Destroyed);
    assert_eq!(worker.join(), [destroyed(3), destroyed(4), Seen::Finished]);
}

#[test]
fn a_panic_in_cleanup_does_not_hold_it_up() {
    let worker = Scripted::start(|_, input, reaction| {
        if *input == Input::Cleanup {
            reaction.output(event(0, Event::Destroyed));
            reaction.output(Output::LookUpRoute { toward: Some(LOOPBACK) });
        }
        assert!(!matches!(input, Input::Route(_)), "this panic is part of a test");
    });
    (0..2).for_each(|id| worker.send(create(id)));
    worker.send(Command::Cleanup);
    let seen = worker.join();
    let end: Vec<_> = seen.into_iter().filter(|seen| !matches!(seen, Seen::Input(_))).collect();
    let destroyed = |id| Seen::Told(id, Event::Destroyed);
    assert_eq!(end, [Seen::Panicked, destroyed(0), destroyed(1), Seen::Finished]);
}

#[test]
fn a_panic_in_a_callback_is_survived() {
    let mut live = Vec::new();
    let worker = Scripted::start_with(
        move |_, input, reaction| obedient(&mut live, input, reaction),
        |id, _| assert!(id != 0, "this panic is part of a test"),
    );
    (0..2).for_each(|id| worker.send(create(id)));
    worker.send(Command::Destroy(0));
    worker.expect(|seen| matches!(seen, Seen::Panicked).then_some(()));
    worker.send(Command::Cleanup);
    // Not a second time for the one that panicked on it.
    assert_eq!(worker.join(), [Seen::Told(1, Event::Destroyed), Seen::Finished]);
}
