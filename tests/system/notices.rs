//! The kernel's notices, when there are too many to be kept.

use crate::harness::{Program, Router, settings};
use plum_runtime::client::News;
use plum_testkit::namespace::{ip, ip_batch, is_inside};
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::mpsc::channel;

/// How many notices the netlink sockets of this namespace have lost.
fn lost_notices() -> u64 {
    let table = std::fs::read_to_string("/proc/net/netlink").expect("procfs");
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let column =
        lines.next().and_then(|names| names.iter().position(|name| *name == "Drops")).expect("a title");
    lines.filter_map(|words| words.get(column)?.parse::<u64>().ok()).sum()
}

#[test]
fn a_change_among_notices_that_were_lost_is_seen() {
    if !is_inside("notices::a_change_among_notices_that_were_lost_is_seen") {
        return;
    }
    let _first = Router::start(1);
    let _second = Router::start(2);
    ip("route add default via 10.1.0.1");
    let program = Program::start(settings());
    let (begin, begun) = channel();
    let (end, ended) = channel::<()>();
    let ended = Mutex::new(ended);
    // The worker is in the program's callback while the kernel floods it.
    let id = program.create_with(4000, move |news| {
        if matches!(news, News::Success(external) if &*external.host == "203.0.113.1") {
            begin.send(()).expect("the test waits");
            // An error is the test's end.
            let _ = ended.lock().expect("not poisoned").recv();
        }
    });
    program.expect_success(id, 1);
    begun.recv().expect("the callback has begun");
    let mut lines = String::new();
    for number in 0..10_000 {
        writeln!(lines, "route add 10.{}.{}.0/24 dev lan1", 100 + number / 256, number % 256)
            .expect("memory");
    }
    writeln!(lines, "route replace default via 10.2.0.1").expect("memory");
    let before = lost_notices();
    ip_batch(&lines);
    assert!(lost_notices() > before, "it was not too much for this kernel");
    let work = program.work();
    drop(end);
    program.expect_success(id, 2);
    program.work().assert_little_since(work, 100);
    program.cleanup();
}
