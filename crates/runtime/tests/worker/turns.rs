//! In which order the worker does what is to be done: commands, datagrams, timers, callbacks; and that it rests else.

use crate::script::{Input, Reaction, Scripted, Seen};
use crate::{PATIENCE, create, event, open, peer, success};
use plum_engine::io::{Event, Socket};
use plum_runtime::net::clock;
use plum_runtime::worker::Command;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The address of the socket that was opened.
fn opened_at(worker: &Scripted) -> SocketAddr {
    worker.expect(|seen| match seen {
        Seen::Input(Input::Opened(_, local)) => *local,
        _ => None,
    })
}

#[test]
fn timers_come_when_due_and_once() {
    let span = Duration::from_millis(30);
    let worker = Scripted::start(move |now, input, reaction| {
        if matches!(input, Input::Create(_)) {
            reaction.timeout = Some(now + span);
        }
    });
    let start = clock::now();
    worker.send(create(0));
    let mut created_at = start;
    let timed_out_at = worker.expect_at(|now, seen| match seen {
        Seen::Input(Input::Create(_)) => {
            created_at = now;
            None
        }
        Seen::Input(Input::Timeout) => Some(now),
        _ => None,
    });
    assert!(created_at >= start);
    assert!(timed_out_at >= created_at + span);
    worker.send(Command::Destroy(0));
    worker.expect(|seen| match seen {
        Seen::Input(Input::Destroy(_)) => Some(()),
        Seen::Input(Input::Timeout) => panic!("again"),
        _ => None,
    });
}

/// A machine with a socket to `gateway`; each `Create` of an id above 0 gives its program two events and, where a
/// span is given, starts a timer.
fn telling(
    gateway: SocketAddr,
    span: Option<Duration>,
) -> impl FnMut(plum_engine::time::Time, &Input, &mut Reaction) {
    move |now, input, reaction| match input {
        Input::Create(0) => reaction.output(open(Socket::Pcp, Some(gateway))),
        Input::Create(id) => {
            reaction.output(event(*id, success()));
            reaction.output(event(*id, Event::Failure));
            reaction.timeout = span.map(|span| now + span);
        }
        _ => {}
    }
}

#[test]
fn what_came_during_a_callback_is_read_before_timers_and_the_next_callback() {
    let span = Duration::from_millis(20);
    let (gateway, address) = peer();
    let (to_callback, in_callback) = crossbeam_channel::unbounded::<SocketAddr>();
    let worker = Scripted::start_with(telling(address, Some(span)), move |_, event| {
        if event == success() {
            let local = in_callback.recv_timeout(PATIENCE).expect("where to send");
            gateway.send_to(b"reply", local).unwrap();
            // A slow program: the timer comes due meanwhile.
            let end = clock::now() + 2 * span;
            while clock::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    worker.send(create(0));
    to_callback.send(opened_at(&worker)).unwrap();
    worker.send(create(1));
    let mut order = Vec::new();
    worker.expect(|seen| {
        match seen {
            Seen::Told(1, event) => order.push(if *event == success() { "success" } else { "failure" }),
            Seen::Input(Input::Datagram(..)) => order.push("datagram"),
            Seen::Input(Input::Timeout) => order.push("timeout"),
            _ => {}
        }
        (order.len() == 4).then_some(())
    });
    assert_eq!(order, ["success", "datagram", "timeout", "failure"]);
}

#[test]
fn hundreds_of_replies_during_a_callback_are_all_read() {
    const REPLIES: usize = 500;
    let (gateway, address) = peer();
    let (to_callback, in_callback) = crossbeam_channel::unbounded::<SocketAddr>();
    let worker = Scripted::start_with(telling(address, None), move |_, event| {
        if event == success() {
            let local = in_callback.recv_timeout(PATIENCE).expect("where to send");
            for _ in 0..REPLIES {
                gateway.send_to(&[0; 60], local).unwrap();
            }
        }
    });
    worker.send(create(0));
    to_callback.send(opened_at(&worker)).unwrap();
    worker.send(create(1));
    let mut replies = 0;
    worker.expect(|seen| {
        replies += usize::from(matches!(seen, Seen::Input(Input::Datagram(..))));
        matches!(seen, Seen::Told(1, Event::Failure)).then_some(())
    });
    assert_eq!(replies, REPLIES);
}

#[test]
fn sockets_are_left_unread_while_too_many_events_wait_for_the_program() {
    // As many as may wait in the worker.
    const DELIVERIES_MAX: usize = 65_536;
    let (gateway, address) = peer();
    let (to_callback, in_callback) = crossbeam_channel::unbounded::<SocketAddr>();
    let machine = move |_, input: &Input, reaction: &mut Reaction| match input {
        Input::Create(0) => reaction.output(open(Socket::Pcp, Some(address))),
        Input::Create(id) => {
            // One more than may wait is left behind the first; those that are pending are told at a stroke.
            let pending = std::iter::repeat_n(Event::Pending, DELIVERIES_MAX - 3);
            let events =
                [success()].into_iter().chain([Event::Failure; 3]).chain(pending).chain([Event::Failure]);
            events.for_each(|told| reaction.output(event(*id, told)));
        }
        _ => {}
    };
    let worker = Scripted::start_with(machine, move |_, event| {
        if event == success() {
            let local = in_callback.recv_timeout(PATIENCE).expect("where to send");
            gateway.send_to(b"reply", local).unwrap();
        }
    });
    worker.send(create(0));
    to_callback.send(opened_at(&worker)).unwrap();
    worker.send(create(1));
    let mut told = Vec::new();
    worker.expect(|seen| {
        if let Seen::Told(_, event) = seen {
            told.push(*event);
        }
        matches!(seen, Seen::Input(Input::Datagram(..))).then_some(())
    });
    assert_eq!(told, [success(), Event::Failure, Event::Failure]);
}

#[test]
fn an_idle_worker_does_not_wake_up() {
    let worker = Scripted::start(|_, _, _| {});
    // Not a creation: changes of this machine's network would be told then.
    worker.send(Command::Destroy(7));
    worker.expect_input(&Input::Destroy(7));
    // It asks the machine for its timeout before each wait.
    let turns = || worker.turns.load(Ordering::SeqCst);
    let mut before = turns();
    let quiet = Duration::from_millis(200);
    let deadline = clock::now() + PATIENCE;
    // It may not have got to its wait yet.
    loop {
        assert!(worker.seen.recv_timeout(quiet).is_err(), "nothing is to happen");
        if turns() == before {
            break;
        }
        before = turns();
        assert!(clock::now() < deadline, "it never comes to rest");
    }
}

#[test]
fn wakes_call_the_program_soon() {
    let worker = Scripted::start(|_, _, _| {});
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| worker.wake.wake()));
        }
    });
    worker.expect(|seen| matches!(seen, Seen::ProgramTimeout).then_some(()));
    worker.send(Command::Destroy(7));
    let mut calls = 1;
    worker.expect(|seen| {
        calls += usize::from(matches!(seen, Seen::ProgramTimeout));
        matches!(seen, Seen::Input(Input::Destroy(7))).then_some(())
    });
    assert!(calls <= 4000);
    // Also one that comes after all that, to a worker at rest.
    worker.wake.wake();
    worker.expect(|seen| matches!(seen, Seen::ProgramTimeout).then_some(()));
}

#[test]
fn the_program_has_its_own_timer_and_is_called_while_it_has_more() {
    let worker = Scripted::start(|_, _, _| {});
    let due = clock::now() + Duration::from_millis(20);
    *worker.program_timeout.lock() = Some((due, 3));
    // It looks at the timeout when it next waits.
    worker.send(Command::Destroy(7));
    for _ in 0..3 {
        let at = worker.expect_at(|now, seen| matches!(seen, Seen::ProgramTimeout).then_some(now));
        assert!(at >= due);
    }
}

#[test]
fn commands_come_in_order_and_pending_is_told() {
    let worker = Scripted::start(|_, input, reaction| match input {
        Input::Create(id) => {
            reaction.output(event(*id, Event::Pending));
            reaction.output(event(*id, success()));
        }
        Input::Destroy(id) => reaction.output(event(*id, Event::Destroyed)),
        _ => {}
    });
    const COUNT: i32 = 300;
    for id in 0..COUNT {
        worker.send(create(id));
        worker.send(Command::Destroy(id));
    }
    let (mut inputs, mut told) = (Vec::new(), Vec::new());
    worker.expect(|seen| {
        match seen {
            Seen::Input(Input::Create(id)) => inputs.push((*id, 'c')),
            Seen::Input(Input::Destroy(id)) => inputs.push((*id, 'd')),
            Seen::Told(id, event) => told.push((*id, *event)),
            _ => {}
        }
        (told.len() == 3 * COUNT as usize).then_some(())
    });
    assert_eq!(inputs, (0..COUNT).flat_map(|id| [(id, 'c'), (id, 'd')]).collect::<Vec<_>>());
    let expected = (0..COUNT).flat_map(|id| [Event::Pending, success(), Event::Destroyed].map(|e| (id, e)));
    assert_eq!(told, expected.collect::<Vec<_>>());
}
