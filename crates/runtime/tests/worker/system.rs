//! What the worker is to the system: a thread with a name, descriptors, a listener for its notices.

use crate::script::{Input, Scripted, Seen};
use crate::{EXCHANGE, PATIENCE, create, event, listener, open, success};
use plum_engine::io::{Output, Socket};
use plum_runtime::worker::is_worker_thread;
use plum_testkit::namespace;

#[test]
fn callbacks_are_on_a_thread_named_plum_with_all_signals_blocked() {
    fn status(field: &str) -> String {
        let text = std::fs::read_to_string("/proc/thread-self/status").expect("procfs");
        let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
        line.trim_start_matches(':').trim().to_owned()
    }
    let before = status("SigBlk");
    let (report, reported) = crossbeam_channel::unbounded();
    let worker = Scripted::start_with(
        |_, input, reaction| {
            if let Input::Create(id) = input {
                reaction.output(event(*id, success()));
            }
        },
        move |_, _| report.send((status("Name"), status("SigBlk"), is_worker_thread())).unwrap(),
    );
    assert_eq!(status("SigBlk"), before, "the caller's signals are as they were");
    worker.send(create(0));
    let (name, blocked, is_worker) = reported.recv_timeout(PATIENCE).expect("a callback");
    assert_eq!(name, "plum");
    assert!(is_worker && !is_worker_thread());
    // All of 1..=64 but KILL, STOP, and those that the C library keeps for itself (32 and 33; musl 34 too).
    let never =
        [9, 19].into_iter().chain(32..libc::SIGRTMIN()).fold(0u64, |mask, signal| mask | 1 << (signal - 1));
    let blocked = u64::from_str_radix(&blocked, 16).expect("hexadecimal");
    assert_eq!(blocked | never, u64::MAX, "{blocked:x}");
}

#[test]
fn descriptors_are_closed_on_exec() {
    let (listener, address) = listener();
    let worker = Scripted::start(move |_, input, reaction| {
        if matches!(input, Input::Create(_)) {
            reaction.output(open(Socket::Pcp, Some(address)));
            reaction.output(open(Socket::Ssdp, None));
            reaction.output(open(Socket::Announcements, None));
            reaction.output(Output::Connect { exchange: EXCHANGE, to: address, source: None });
        }
    });
    worker.send(create(0));
    worker.expect(|seen| matches!(seen, Seen::Input(Input::Connected(..))).then_some(()));
    let mut kinds = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").expect("procfs").flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let info = std::path::Path::new("/proc/self/fdinfo").join(entry.file_name());
        let Ok(info) = std::fs::read_to_string(info) else { continue };
        if !target.starts_with("socket:") && !target.starts_with("anon_inode:") {
            continue;
        }
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
        let flags = u32::from_str_radix(flags, 8).expect("octal");
        // The standard streams may be anything. O_CLOEXEC is 02000000.
        let standard = ["0", "1", "2"].contains(&entry.file_name().to_string_lossy().as_ref());
        assert!(standard || flags & 0o2_000_000 != 0, "{target} is inherited");
        kinds.push(target);
    }
    for kind in ["socket:", "anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[timerfd]"] {
        assert!(kinds.iter().any(|target| target.starts_with(kind)), "{kind} is not among {kinds:?}");
    }
    drop(listener);
}

#[test]
fn a_change_of_the_network_reaches_the_machine() {
    if !plum_testkit::namespace::is_inside("system::a_change_of_the_network_reaches_the_machine") {
        return;
    }
    namespace::ip("link set lo up");
    let worker = Scripted::start(|_, _, _| {});
    worker.send(create(0));
    worker.expect_input(&Input::Create(0));
    // While nobody else changes anything here.
    namespace::ip("addr add 10.1.0.2/24 dev lo");
    worker.expect_input(&Input::NetworkChanged);
    namespace::add_cable("lan", "10.2.0.2/24");
    worker.expect_input(&Input::NetworkChanged);
}
