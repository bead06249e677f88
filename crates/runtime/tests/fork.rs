//! Which process this is, what is the process's own, and what the child of a fork has of it.
#![cfg(unix)]
#![allow(
    clippy::disallowed_types,
    reason = "tests wait by the clock, and no child of a fork takes their locks"
)]

use plum_runtime::net::Uplink;
use plum_runtime::net::udp::Udp;
use plum_runtime::net::{Inheritable, PerProcess, generation};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes a child as fork(2) does.
type Make = fn() -> libc::pid_t;

fn fork() -> libc::pid_t {
    // SAFETY: the child does nothing that another thread of this process may have locked.
    unsafe { libc::fork() }
}

/// A child that the C library knows nothing of.
#[cfg(target_os = "linux")]
fn clone() -> libc::pid_t {
    // clone(2): there the first two arguments stand the other way round.
    let (first, second) =
        if std::env::consts::ARCH == "s390x" { (0, libc::SIGCHLD) } else { (libc::SIGCHLD, 0) };
    // SAFETY: clone(2) with these arguments does what fork(2) does.
    unsafe { libc::syscall(libc::SYS_clone, first, second, 0, 0, 0) as libc::pid_t }
}

const MAKES: &[Make] = &[
    fork,
    #[cfg(target_os = "linux")]
    clone,
];

/// Whether this is a process that has no more than one thread at work; else runs the test in one. The child of clone(2) could
/// find the allocator's lock held by another.
fn is_alone(test: &str) -> bool {
    if std::env::var_os("PLUM_TEST_ALONE").is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().expect("this program has a path"))
        .args([test, "--exact", "--test-threads=1"])
        .env("PLUM_TEST_ALONE", "1")
        .output()
        .expect("this program can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// What `body` finds in a child of this process.
fn in_child(make: Make, body: impl FnOnce() -> bool) -> bool {
    let child = make();
    assert!(child >= 0);
    if child == 0 {
        // An assertion that fails in it is none of the test runner's.
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: no preconditions.
        unsafe { libc::_exit(i32::from(found.unwrap_or(false))) }
    }
    let mut status = 0;
    // SAFETY: the status is valid for the call.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "{status:x}");
    libc::WEXITSTATUS(status) == 1
}

#[test]
fn a_process_has_one_generation() {
    if !is_alone("a_process_has_one_generation") {
        return;
    }
    let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(generation)).collect();
    for thread in threads {
        assert_eq!(thread.join().expect("no panic"), generation());
    }
}

#[test]
fn a_child_has_a_later_generation_than_its_ancestors() {
    if !is_alone("a_child_has_a_later_generation_than_its_ancestors") {
        return;
    }
    for &make in MAKES {
        let ours = generation();
        let grandchild_is_later = |than: u32| in_child(make, || generation() > than);
        assert!(in_child(make, || generation() > ours && grandchild_is_later(generation())));
        assert!(in_child(make, || grandchild_is_later(ours)), "also where the one in between does not ask");
        assert!(in_child(make, || {
            let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(generation)).collect();
            threads.into_iter().all(|thread| thread.join().is_ok_and(|found| found == generation()))
        }));
        assert_eq!(generation(), ours);
    }
}

#[test]
fn what_is_a_process_s_own_is_made_anew_in_a_child_though_a_thread_of_the_parent_has_locked_it() {
    if !is_alone(
        "what_is_a_process_s_own_is_made_anew_in_a_child_though_a_thread_of_the_parent_has_locked_it",
    ) {
        return;
    }
    fn own() -> &'static Mutex<u32> {
        static OWN: PerProcess<Mutex<u32>> = PerProcess::new();
        OWN.get(|_| Mutex::new(0))
    }
    let mut locked = own().lock().expect("not poisoned");
    *locked = 7;
    for &make in MAKES {
        assert!(in_child(make, || {
            let threads: Vec<_> =
                (0..4).map(|_| std::thread::spawn(|| *own().lock().unwrap() += 1)).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            *own().lock().unwrap() == 4
        }));
    }
    assert_eq!(*locked, 7);
    drop(locked);
    assert_eq!(*own().lock().expect("not poisoned"), 7);
}

#[test]
fn what_is_made_anew_is_made_of_the_nearest_ancestor_s() {
    if !is_alone("what_is_made_anew_is_made_of_the_nearest_ancestor_s") {
        return;
    }
    fn own() -> &'static AtomicU32 {
        static OWN: PerProcess<AtomicU32> = PerProcess::new();
        OWN.get(|parent| AtomicU32::new(parent.map_or(1, |parent| parent.load(Ordering::Relaxed) * 10)))
    }
    for &make in MAKES {
        assert_eq!(own().load(Ordering::Relaxed), 1);
        assert!(in_child(make, || {
            own().fetch_add(1, Ordering::Relaxed) == 10
                && in_child(make, || own().load(Ordering::Relaxed) == 110)
                // The one in between has none of its own.
                && in_child(make, || in_child(make, || own().load(Ordering::Relaxed) == 110))
        }));
    }
}

#[test]
fn a_child_finds_what_its_parent_left_to_it_and_changes_nothing_of_it() {
    if !is_alone("a_child_finds_what_its_parent_left_to_it_and_changes_nothing_of_it") {
        return;
    }
    let left: Inheritable<Vec<u32>> = Inheritable::new();
    assert!(MAKES.iter().all(|&make| in_child(make, || left.inherited().is_none())));
    left.set(Some(vec![1]));
    left.set(Some(vec![1, 2, 3]));
    assert_eq!(left.inherited(), None, "this is no child");
    for &make in MAKES {
        assert!(in_child(make, || {
            left.set(Some(vec![]));
            left.inherited() == Some(&vec![1, 2, 3])
        }));
    }
    left.set(None);
    assert!(MAKES.iter().all(|&make| in_child(make, || left.inherited().is_none())));
}

/// The descriptor of a socket, found by its port.
#[cfg(target_os = "linux")]
fn descriptor_of(port: u16) -> Option<i32> {
    (0..256).find(|&number| {
        // SAFETY: the number is borrowed for the moment; of what is not open the system says so.
        let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let address =
            socket2::SockRef::from(&socket).local_addr().ok().and_then(|address| address.as_socket());
        address.is_some_and(|address| address.port() == port)
    })
}

#[test]
#[cfg(target_os = "linux")]
fn a_child_closes_the_sockets_of_the_library_and_no_others() {
    if !is_alone("a_child_closes_the_sockets_of_the_library_and_no_others") {
        return;
    }
    let open = || {
        let socket =
            Udp::unconnected(Ipv4Addr::LOCALHOST.into(), 1, 2, &Uplink::default()).expect("loopback");
        let port = socket.local_addr().expect("bound").port();
        (socket, port)
    };
    let others = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let other_port = others.local_addr().expect("bound").port();
    let (socket, port) = open();
    assert!(descriptor_of(port).is_some() && descriptor_of(other_port) == Some(others.as_raw_fd()));
    assert!(in_child(fork, || descriptor_of(port).is_none() && descriptor_of(other_port).is_some()));
    // A child that nobody told the C library of keeps them; it may have closed the numbers and used them for its own, so its
    // own child keeps them as well, but for those that it has opened.
    assert!(in_child(clone, || {
        let (_own, own_port) = open();
        descriptor_of(port).is_some()
            && in_child(fork, || descriptor_of(port).is_some() && descriptor_of(own_port).is_none())
    }));
    // A number that was the library's is nobody's when it is closed.
    let number = descriptor_of(port).expect("it is open");
    drop(socket);
    let again = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
    if again.as_raw_fd() == number {
        let port = again.local_addr().expect("bound").port();
        assert!(in_child(fork, || descriptor_of(port).is_some()));
    }
}
