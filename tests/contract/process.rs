//! What the library does to the process it lives in: forks, signals, descriptors, threads, wake-ups.

use super::harness::{
    LONG, create, ear, gateway, in_a_process_of_its_own, init, int, next, query, silent, wanted,
};
use plum::*;
use std::ffi::{c_char, c_int};
use std::fs::{File, read_dir, read_to_string};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

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
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `body` in a child of this process; its exit status, which is 0 if nothing panicked there.
pub fn in_child(body: impl FnOnce()) -> c_int {
    // SAFETY: the child calls the library, which is what this is about, and _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: no preconditions.
        unsafe { libc::_exit(c_int::from(result.is_err())) }
    }
    exit_status_of(child)
}

/// The child that a callback has made; 0: it has not yet. Both processes return from the callback.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// The child uses the library as if it were inside no callback, and then has nothing more of its own to do.
fn fork_once(id: c_int) {
    if CHILD.load(Ordering::SeqCst) != 0 {
        return;
    }
    // SAFETY: the child calls the library, which is what this is about, and returns.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    CHILD.store(child.max(1), Ordering::SeqCst);
    if child == 0 {
        let (user_ptr, heard) = ear(|_, _| {});
        let works = query(id).0 == PLUM_ERR_NOT_AVAIL
            && plum_destroy_mapping(id) == PLUM_ERR_NOT_AVAIL
            && create(&wanted(user_ptr)) > id
            && next(&heard, plum_state_t::PLUM_STATE_FAILURE).id > id
            && plum_cleanup() == PLUM_ERR_SUCCESS
            && init(&silent()) == PLUM_ERR_SUCCESS
            && plum_cleanup() == PLUM_ERR_SUCCESS;
        if !works {
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

/// Where the log callback forks on a thread of the program's.
static FORKS_AT: std::sync::Mutex<&str> = std::sync::Mutex::new("");

extern "C" fn fork_in_a_call(_level: plum_log_level_t, message: *const c_char) {
    // SAFETY: a string, says the contract.
    let message = unsafe { std::ffi::CStr::from_ptr(message) }.to_string_lossy();
    let at = *FORKS_AT.lock().expect("not poisoned");
    if !at.is_empty() && message.contains(at) {
        // SAFETY: the child returns to the test, which ends it.
        let child = unsafe { libc::fork() };
        CHILD.store(if child == 0 { -1 } else { child }, Ordering::SeqCst);
        *FORKS_AT.lock().expect("not poisoned") = "";
    }
}

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    read_dir("/proc/self/fd").expect("procfs").count()
}

/// Opens files until the process has no descriptor left, of a hundred.
fn use_up_descriptors() -> Vec<File> {
    let limit = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
    // SAFETY: the limit is valid for the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// How many threads this process has.
pub fn threads() -> usize {
    read_dir("/proc/self/task").expect("procfs").count()
}

/// A number of /proc/self/status, or of a thread's.
fn status(task: &str, field: &str) -> u64 {
    let text = read_to_string(format!("/proc/self/{task}/status")).expect("procfs");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim_start_matches(':').split_whitespace().next().expect("a value").parse().expect("a number")
}

/// How often the worker went to sleep so far.
fn sleeps_of_worker() -> u64 {
    for task in read_dir("/proc/self/task").expect("procfs").flatten() {
        let name = read_to_string(task.path().join("comm")).unwrap_or_default();
        if name == "plum\n" {
            return status(
                &format!("task/{}", task.file_name().to_string_lossy()),
                "voluntary_ctxt_switches",
            );
        }
    }
    panic!("there is no worker");
}

/// Waits for what the system does in its own time.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "it never came to pass that {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

contract! {
    fn a_thousand_sessions_leave_nothing_behind() {
        let _gateway = gateway();
        let (user_ptr, heard) = ear(|_, _| {});
        let session = |number| {
            assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
            create(&wanted(user_ptr));
            if number % 4 == 0 {
                next(&heard, plum_state_t::PLUM_STATE_SUCCESS);
            }
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
            while heard.try_recv().is_ok() {}
        };
        (0..200).for_each(session);
        let (open, running) = (descriptors(), threads());
        let (resident, mapped) = (status("", "VmRSS"), status("", "VmSize"));
        (200..1000).for_each(session);
        // The gateway of this process closes its end of a connection a moment later.
        wait_until("the descriptors are closed", || descriptors() <= open);
        // A thread that was joined may be seen for a moment more.
        wait_until("the threads are gone", || threads() <= running);
        let grown = status("", "VmRSS").saturating_sub(resident);
        assert!(grown < 2048, "{grown} kB of memory");
        // One stack a session would be 6 GB.
        let grown = status("", "VmSize").saturating_sub(mapped);
        assert!(grown < 100_000, "{grown} kB of address space");
    }

    fn init_and_cleanup_without_mappings_take_no_time() {
        let fastest = (0..50).map(|_| {
            let begun = Instant::now();
            assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
            begun.elapsed()
        });
        // The fastest: this machine may be busy with other things.
        let fastest = fastest.min().expect("there were some");
        assert!(fastest < Duration::from_millis(5), "{fastest:?}");
    }

    fn the_worker_sleeps_while_nothing_happens() {
        let _gateway = gateway();
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        let (user_ptr, heard) = ear(|_, _| {});
        create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_SUCCESS);
        // The machine's network may change meanwhile, and the last of the search may still be under way: one quiet spell is
        // enough, which nothing periodic would leave it.
        let is_quiet = |_| {
            let before = sleeps_of_worker();
            std::thread::sleep(Duration::from_secs(3));
            sleeps_of_worker() == before
        };
        assert!((0..5).any(is_quiet), "it wakes up all the time");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn init_without_descriptors_fails_and_works_later() {
        let (user_ptr, heard) = ear(|_, _| {});
        let mut hoard = use_up_descriptors();
        // None, then one more at a time, until there are enough.
        let mut failures = 0;
        while init(&silent()) != PLUM_ERR_SUCCESS {
            failures += 1;
            assert_eq!(create(&wanted(user_ptr)), PLUM_ERR_FAILED);
            assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
            hoard.pop().expect("one descriptor fewer is needed");
        }
        assert!(failures > 0);
        // For sockets there is none, so nobody can be asked.
        create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        next(&heard, plum_state_t::PLUM_STATE_DESTROYED);
        drop(hoard);
        let _gateway = gateway();
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn init_without_memory_for_a_thread_fails_and_works_later() {
        // So that what is set up once is.
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        let mut stacks: Vec<_> = Vec::new();
        let limit = |bytes| {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: the limit is valid for the call.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
        };
        limit(((status("", "VmSize") + 4096) * 1024) as libc::rlim_t);
        // Stacks that the C library has kept are used again: hold them.
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = std::sync::Arc::new(std::sync::Mutex::new(released));
        let hold = || {
            let released = std::sync::Arc::clone(&released);
            std::thread::Builder::new().stack_size(8 << 20).spawn(move || {
                let _ = released.lock().expect("not poisoned").recv();
            })
        };
        while let Ok(stack) = hold() {
            stacks.push(stack);
        }
        assert_eq!(init(&silent()), PLUM_ERR_FAILED);
        assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
        limit(libc::RLIM_INFINITY);
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        drop(release);
        stacks.into_iter().for_each(|stack| stack.join().expect("no panic"));
    }

    fn a_callback_may_use_megabytes_of_stack() {
        #[inline(never)]
        fn fill(depth: usize) -> u8 {
            let block = std::hint::black_box([depth as u8; 65_536]);
            if depth == 0 { block[0] } else { fill(depth - 1).wrapping_add(block[depth % block.len()]) }
        }
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        // 2.6 MiB, twice that without optimisation; threads of a C program have 8.
        let (user_ptr, heard) = ear(|_, _| { std::hint::black_box(fill(40)); });
        create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn a_child_may_use_the_library_when_its_parent_has_not() {
        let mut buffer = [0; 64];
        // SAFETY: the buffer is valid for the call.
        unsafe { plum_get_local_address(buffer.as_mut_ptr(), 64) };
        assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
        let found = in_child(|| {
            let (user_ptr, heard) = ear(|_, _| {});
            assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
            assert_eq!(create(&wanted(user_ptr)), 0);
            assert_eq!(next(&heard, plum_state_t::PLUM_STATE_FAILURE).id, 0);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        });
        assert_eq!(found, 0);
        // The child's session is not this process's.
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn the_child_of_a_callback_uses_the_library_and_ends_when_it_returns() {
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        let (user_ptr, heard) = ear(|id, _| fork_once(id));
        let id = create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        // With a worker that lived on, it would not end, but speak to the gateway in the parent's name.
        assert_eq!(exit_status_of(CHILD.load(Ordering::SeqCst)), 0, "1: a function did not work in the child");
        assert_eq!(query(id).0, PLUM_ERR_SUCCESS, "the parent goes on");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        next(&heard, plum_state_t::PLUM_STATE_DESTROYED);
    }

    fn the_child_of_a_log_callback_on_the_worker_uses_the_library_and_ends_when_it_returns() {
        let config = plum_config_t { log_level: int(0), log_callback: Some(fork_in_the_log), ..silent() };
        assert_eq!(init(&config), PLUM_ERR_SUCCESS);
        let (user_ptr, heard) = ear(|_, _| {});
        create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        assert_eq!(exit_status_of(CHILD.load(Ordering::SeqCst)), 0, "1: a function did not work in the child");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn the_child_of_a_log_callback_in_a_call_returns_from_that_call() {
        let config = plum_config_t { log_level: int(0), log_callback: Some(fork_in_a_call), ..silent() };
        let (user_ptr, _heard) = ear(|_, _| {});
        // What the child finds the library to be when it has returned: initialised or not.
        let calls: [(&str, bool, &dyn Fn()); 6] = [
            ("is initialised", true, &|| assert_eq!(init(&config), PLUM_ERR_SUCCESS)),
            ("created", true, &|| assert!(create(&wanted(user_ptr)) >= 0)),
            ("is being destroyed", true, &|| assert_eq!(plum_destroy_mapping(0), PLUM_ERR_SUCCESS)),
            ("cleaning up", false, &|| {
                let result = plum_cleanup();
                // In the child there is no session that it could have ended.
                let expected = if CHILD.load(Ordering::SeqCst) == -1 { PLUM_ERR_FAILED } else { PLUM_ERR_SUCCESS };
                assert_eq!(result, expected);
            }),
            ("is initialised", true, &|| assert_eq!(init(&config), PLUM_ERR_SUCCESS)),
            ("cleaned up", false, &|| {
                plum_cleanup();
            }),
        ];
        for (at, is_initialised, call) in calls {
            CHILD.store(0, Ordering::SeqCst);
            *FORKS_AT.lock().expect("not poisoned") = at;
            call();
            let child = CHILD.load(Ordering::SeqCst);
            if child == -1 {
                let (user_ptr, heard) = ear(|_, _| {});
                let stands = query(0).0 == if is_initialised { PLUM_ERR_NOT_AVAIL } else { PLUM_ERR_FAILED };
                let works = (is_initialised || init(&silent()) == PLUM_ERR_SUCCESS)
                    && create(&wanted(user_ptr)) >= 0
                    && next(&heard, plum_state_t::PLUM_STATE_FAILURE).id >= 0
                    && plum_cleanup() == PLUM_ERR_SUCCESS;
                // SAFETY: no preconditions.
                unsafe { libc::_exit(if !stands { 2 } else { c_int::from(!works) }) }
            }
            assert!(child > 0, "it forked at {at:?}");
            assert_eq!(exit_status_of(child), 0, "after {at:?}: 1: it does not work in the child, 2: as it stands");
        }
    }

    fn a_child_that_gets_no_descriptors_says_so_and_tries_again() {
        static ERRORS: AtomicI32 = AtomicI32::new(0);
        extern "C" fn count(level: plum_log_level_t, _: *const c_char) {
            // It may call back, as any callback.
            assert_eq!(query(0).0, PLUM_ERR_NOT_AVAIL);
            // SAFETY: a level.
            unsafe { plum_set_log_level(int(4)) };
            ERRORS.fetch_add(c_int::from(level == plum_log_level_t::PLUM_LOG_LEVEL_ERROR), Ordering::SeqCst);
        }
        let config = plum_config_t { log_level: int(4), log_callback: Some(count), ..silent() };
        assert_eq!(init(&config), PLUM_ERR_SUCCESS);
        let found = in_child(|| {
            let (user_ptr, heard) = ear(|_, _| {});
            let hoard = use_up_descriptors();
            for errors in 1..3 {
                assert_eq!(create(&wanted(user_ptr)), PLUM_ERR_FAILED);
                assert_eq!(ERRORS.load(Ordering::SeqCst), errors);
            }
            assert_eq!(in_child(|| assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS)), 0);
            drop(hoard);
            assert_eq!(create(&wanted(user_ptr)), 0, "no id was used up");
            next(&heard, plum_state_t::PLUM_STATE_FAILURE);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        });
        assert_eq!(found, 0);
        assert_eq!(ERRORS.load(Ordering::SeqCst), 0);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn a_child_has_no_descriptors_of_its_parent_s_but_one() {
        let before = descriptors();
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        let (user_ptr, heard) = ear(|_, _| {});
        create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        assert!(descriptors() > before + 3);
        // The waker's, whose number mio keeps to itself.
        assert_eq!(in_child(|| assert_eq!(descriptors(), before + 1)), 0);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        assert_eq!(in_child(|| assert_eq!(descriptors(), before)), 0);
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
