//! A fork, in a process of its own: std's lock of starting threads may be held at the fork where other tests run beside, and a
//! child that starts a thread then waits for ever.
#![cfg(unix)] // no process is forked elsewhere

use futures_core::Stream;
use plum::{Builder, Error, Request, State};
use plum_gateway::core::Gateway as Core;
use plum_gateway::server::Server;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Whatever has not happened after this long never will.
const LONG: Duration = Duration::from_secs(20);

fn builder(server: &Server) -> Builder {
    Builder::new().gateway(server.address())
}

#[test]
fn child_of_a_fork_has_no_session() {
    let server = Server::start_on_own_address(|_| {}).expect("a gateway on loopback");
    let session = builder(&server).start().expect("a session");
    let mapping = session.map(Request::tcp(80)).expect("a mapping can be asked for");
    mapping.wait(LONG).expect("it is made");
    let mut events = session.events();
    let other = session.map(Request::tcp(79)).expect("a mapping can be asked for");
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting = Box::pin(other.mapped());
    // Made already or not: its waker may be registered.
    let _ = waiting.as_mut().poll(&mut context);
    // SAFETY: the child calls what this is about, which takes no lock that the parent's threads may hold, and ends by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let is_forked = matches!(session.map(Request::tcp(81)), Err(Error::Forked))
            && mapping.state() == State::Removed
            && session.gateway().is_none()
            && mapping.renewal().is_none()
            && matches!(mapping.wait(LONG), Err(Error::Forked))
            && matches!(pin!(mapping.mapped()).poll(&mut context), Poll::Ready(Err(Error::Forked)))
            && matches!(pin!(&mut events).poll_next(&mut context), Poll::Ready(None))
            && events.missed() == 0;
        // The task of the parent's waits in the parent alone.
        drop(waiting);
        drop(events);
        drop(mapping);
        let closing = pin!(session.closing());
        let is_forked = is_forked && matches!(closing.poll(&mut context), Poll::Ready(Err(Error::Forked)));
        // Whatever locks threads of the parent held, it can have one of its own.
        let own = builder(&server).start().expect("a session of the child's");
        own.map(Request::tcp(81)).expect("it can be asked for").wait(LONG).expect("it is made");
        own.close().expect("its outcome");
        // SAFETY: no preconditions.
        unsafe { libc::_exit(i32::from(!is_forked)) }
    }
    let mut status = -1;
    // SAFETY: waitpid(2) writes the status of the child, which is this process's.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert!(matches!(mapping.state(), State::Mapped(_)), "the parent's goes on");
    let ports =
        |core: &mut Core| core.table().iter().map(|entry| entry.internal.port()).collect::<Vec<u16>>();
    smol::block_on(waiting).expect("the parent's task goes on, too");
    let mut mapped = server.with_core(ports);
    mapped.sort_unstable();
    assert_eq!(mapped, [79, 80]);
}
