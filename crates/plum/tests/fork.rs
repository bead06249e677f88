//! A fork, in a process of its own: std's lock of starting threads may be held at the fork where other tests run beside, and a
//! child that starts a thread then waits for ever.
#![cfg(unix)] // no process is forked elsewhere

use plum::{Builder, Error, Request, State};
use plum_gateway::core::Gateway as Core;
use plum_gateway::server::Server;
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
    // SAFETY: the child calls what this is about, which takes no lock that the parent's threads may hold, and ends by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let is_forked = matches!(session.map(Request::tcp(81)), Err(Error::Forked))
            && mapping.state() == State::Removed
            && session.gateway().is_none()
            && mapping.renewal().is_none();
        drop(mapping);
        drop(session);
        // Whatever locks threads of the parent held, it can have one of its own.
        let own = builder(&server).start().expect("a session of the child's");
        own.map(Request::tcp(81)).expect("it can be asked for").wait(LONG).expect("it is made");
        drop(own);
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
    assert_eq!(server.with_core(ports), [80]);
}
