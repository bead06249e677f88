//! The Rust API without blocking: on tokio, on smol, and polled by hand.

mod harness;

use harness::{LONG, gateway, order, session};
use plum::{Change, Error, Events, Mapping, Obstacle, Request, Session};
use plum_gateway::server::Server;
use smol::stream::StreamExt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A gateway that leaves everything unanswered.
fn silent_gateway() -> Server {
    let server = gateway();
    for silence in ["pcp", "natpmp", "ssdp"] {
        order(&server, &format!("silence {silence} always"));
    }
    server
}

fn map(session: &Session, port: u16) -> Mapping {
    session.map(Request::tcp(port)).expect("a mapping can be asked for")
}

/// Runs a future on each executor.
fn on_each_executor<F: Future<Output = ()>>(make: impl Fn() -> F) {
    smol::block_on(make());
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(make());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime")
        .block_on(make());
}

/// A waker that counts.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn a_mapping_is_awaited_and_events_are_a_stream() {
    on_each_executor(|| async {
        let server = gateway();
        order(&server, "set epoch 1000");
        let session = session(&server);
        let mut events = session.events();
        let mapping = map(&session, 8080);
        let external = mapping.mapped().await.expect("it is made");
        assert_eq!(external.to_string(), "203.0.113.7:8080");
        assert_eq!(mapping.mapped().await.expect("it is made still"), external);
        assert_eq!(events.next().await.map(|event| event.change), Some(Change::Mapped(external)));
        order(&server, "restart-without-memory");
        session.recheck();
        // Its loss is an event, or was replaced by the newer one.
        let mut made = events.filter(|event| event.change != Change::Pending);
        assert_eq!(made.next().await.map(|event| event.change), Some(Change::Mapped(external)));
        let closed = session.closing().await.expect("its outcome");
        assert_eq!((closed.removed.len(), closed.unconfirmed.len()), (1, 0));
        assert_eq!(made.next().await, None, "the stream ends with the session");
        assert!(matches!(mapping.mapped().await, Err(Error::Removed)));
    });
}

#[test]
fn what_prevents_a_mapping_is_told_without_blocking() {
    on_each_executor(|| async {
        let server = gateway();
        order(&server, "close all");
        let session = session(&server);
        let mapping = map(&session, 80);
        for _ in 0..2 {
            let error = mapping.mapped().await.expect_err("nobody is there");
            assert!(matches!(error, Error::NotMapped(Obstacle::NoAnswer { .. })), "{error}");
        }
        // From before it can be made.
        let mut events = session.events();
        order(&server, "open all");
        session.recheck();
        while !matches!(events.next().await.expect("it is made").change, Change::Mapped(_)) {}
        mapping.mapped().await.expect("it is made in the end");
    });
}

#[test]
fn any_number_of_tasks_waits_for_one_mapping() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let server = silent_gateway();
        let session = session(&server);
        let mapping = Arc::new(map(&session, 80));
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let mapping = Arc::clone(&mapping);
                tokio::spawn(async move { mapping.mapped().await })
            })
            .collect();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let mapping = Arc::clone(&mapping);
                std::thread::spawn(move || smol::block_on(mapping.mapped()))
            })
            .collect();
        order(&server, "silence pcp never");
        for task in tasks {
            task.await.expect("no panic").expect("it is made");
        }
        for thread in threads {
            thread.join().expect("no panic").expect("it is made");
        }
    });
}

#[test]
fn a_wait_that_is_given_up_changes_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let server = silent_gateway();
        let session = session(&server);
        let mapping = map(&session, 80);
        let mut events = session.events();
        for _ in 0..100 {
            tokio::select! {
                biased;
                _ = mapping.mapped() => panic!("nobody answers"),
                _ = events.next() => panic!("nothing happens"),
                () = std::future::ready(()) => {}
            }
        }
        let in_vain = tokio::time::timeout(Duration::from_millis(1), mapping.mapped()).await;
        assert!(in_vain.is_err());
        order(&server, "silence pcp never");
        let external = mapping.mapped().await.expect("it is made");
        assert_eq!(events.next().await.map(|event| event.change), Some(Change::Mapped(external)));
    });
}

#[test]
fn the_last_waker_is_woken_and_none_is_kept() {
    let server = silent_gateway();
    let session = session(&server);
    let mapping = map(&session, 80);
    let mut events = session.events();
    let wakers: [Arc<Count>; 4] = std::array::from_fn(|_| Arc::default());
    let [first, second, dropped, of_events] = &wakers;
    let poll = |future: Pin<&mut plum::Mapped<'_>>, waker: &Arc<Count>| {
        future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))))
    };
    let mut future = pin!(mapping.mapped());
    assert!(poll(future.as_mut(), first).is_pending());
    assert!(poll(future.as_mut(), second).is_pending());
    assert_eq!(Arc::strong_count(first), 1, "the newer one has replaced it");
    let mut given_up = Box::pin(mapping.mapped());
    assert!(poll(given_up.as_mut(), dropped).is_pending());
    drop(given_up);
    assert_eq!(Arc::strong_count(dropped), 1, "it went with its future");
    let of_stream = |events: &mut Events| {
        let waker = Waker::from(Arc::clone(of_events));
        events.poll_next(&mut Context::from_waker(&waker))
    };
    assert!(of_stream(&mut events).is_pending());
    order(&server, "silence pcp never");
    mapping.wait(LONG).expect("it is made");
    // The wakers are called after the thread that waits is.
    while second.get() == 0 || of_events.get() == 0 {
        std::thread::yield_now();
    }
    assert_eq!(wakers.each_ref().map(|waker| waker.get()), [0, 1, 0, 1]);
    assert!(matches!(poll(future, second), Poll::Ready(Ok(_))));
    assert!(matches!(of_stream(&mut events), Poll::Ready(Some(_))));
    assert!(of_stream(&mut events).is_pending());
    drop(events);
    assert_eq!(Arc::strong_count(of_events), 1, "it went with its events");
}

#[test]
fn tasks_that_wait_are_woken_by_the_end_of_the_session() {
    on_each_executor(|| async {
        let server = silent_gateway();
        let session = session(&server);
        let mapping = map(&session, 80);
        let mut events = session.events();
        let mut waits = pin!(mapping.mapped());
        let mut next = pin!(events.next());
        assert!(smol::future::poll_once(&mut waits).await.is_none());
        assert!(smol::future::poll_once(&mut next).await.is_none());
        // The end goes on without its future.
        drop(session.closing());
        assert!(matches!(waits.await, Err(Error::Removed)));
        assert_eq!(next.await, None);
    });
}
