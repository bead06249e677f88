//! What the library does to the process it lives in: forks, signals, descriptors, threads, wake-ups.

use super::ground::{LONG, create, ear, in_a_process_of_its_own, init, int, next, query, silent, wanted};
use plum::ffi::*;
use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

macro_rules! contract {
    ($(fn $name:ident() $body:block)*) => {
        $(#[test] fn $name() { in_a_process_of_its_own(concat!("process::", stringify!($name)), || $body); })*
    };
}

/// Waits for the end of a child; its exit status.
fn exit_status_of(child: c_int) -> c_int {
    let begun = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: the status is valid for the call.
        let result = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if result == child {
            assert!(libc::WIFEXITED(status), "{status:x}");
            return libc::WEXITSTATUS(status);
        }
        assert_eq!(result, 0);
        if begun.elapsed() > LONG {
            // SAFETY: it is a child of this test's.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("the child does not end");
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// The child that a callback has made; 0: it has not yet. Both processes return from the callback.
static CHILD: AtomicI32 = AtomicI32::new(0);

fn fork_once(id: c_int) {
    if CHILD.load(Ordering::SeqCst) != 0 {
        return;
    }
    // SAFETY: the child calls the library, which is what this is about, and then has nothing more of its own to do.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    CHILD.store(child.max(1), Ordering::SeqCst);
    if child == 0 {
        let results = [init(&silent()), query(id).0, plum_destroy_mapping(id), plum_cleanup()];
        if results != [PLUM_ERR_FAILED; 4] {
            // SAFETY: no preconditions.
            unsafe { libc::_exit(1) }
        }
    }
}

extern "C" fn fork_in_the_log(_level: plum_log_level_t, message: *const c_char) {
    // SAFETY: a string, says the contract.
    let message = unsafe { std::ffi::CStr::from_ptr(message) };
    // Something that only the worker says.
    if message.to_bytes().ends_with(b"cannot be made for now") {
        fork_once(0);
    }
}

contract! {
    fn the_worker_does_not_live_on_in_the_child_of_a_callback() {
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        let (user_ptr, heard) = ear(|id, _| fork_once(id));
        let id = create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        // With a worker that lived on, it would not end, but speak to the gateway in the parent's name.
        assert_eq!(exit_status_of(CHILD.load(Ordering::SeqCst)), 0, "1: a function did not fail in the child");
        assert_eq!(query(id).0, PLUM_ERR_SUCCESS, "the parent goes on");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        next(&heard, plum_state_t::PLUM_STATE_DESTROYED);
    }

    fn the_worker_does_not_live_on_in_the_child_of_a_log_callback() {
        let config = plum_config_t { log_level: int(0), log_callback: Some(fork_in_the_log), ..silent() };
        assert_eq!(init(&config), PLUM_ERR_SUCCESS);
        let (user_ptr, heard) = ear(|_, _| {});
        create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        assert_eq!(exit_status_of(CHILD.load(Ordering::SeqCst)), 0, "1: a function did not fail in the child");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn a_log_that_nobody_reads_sends_no_signal() {
        // SAFETY: signal(2), dup(2) and dup2(2) have no preconditions. The test runner's SIGPIPE is ignored, a C
        // program's is not.
        let saved = unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::dup(libc::STDOUT_FILENO)
        };
        let (reader, writer) = std::io::pipe().expect("a pipe");
        // SAFETY: as above.
        assert!(unsafe { libc::dup2(writer.as_raw_fd(), libc::STDOUT_FILENO) } >= 0);
        drop((reader, writer));
        assert_eq!(init(&plum_config_t { log_level: int(0), ..silent() }), PLUM_ERR_SUCCESS);
        // This thread logs, and the worker does.
        let (user_ptr, heard) = ear(|_, _| {});
        create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        // SAFETY: as above.
        assert!(unsafe { libc::dup2(saved, libc::STDOUT_FILENO) } >= 0);
    }
}
