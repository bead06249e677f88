//! A host at the far end of a cable, in a network namespace of its own.

use crate::{PATIENCE, set, wait_until};
use plum_testkit::namespace::ip;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

pub struct FarSide {
    /// Run on a thread in the namespace.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl FarSide {
    /// A host with an address and fe80::1, on the interface `far`; the cable leads to it from our interface `name`, which gets
    /// another address and fe80::2.
    pub fn start(name: &str, ours: &str, theirs: &str) -> FarSide {
        let (jobs, to_do) = channel::<Job>();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: unshare(2) takes no pointers; with CLONE_NEWNET it concerns this thread and its children alone.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "the test may make namespaces");
            // SAFETY: gettid(2) has no precondition.
            tell.send(unsafe { libc::gettid() }).expect("the test waits");
            for job in to_do {
                job();
            }
        });
        let far = FarSide { jobs: Some(jobs), thread: Some(thread) };
        let thread_id = told.recv_timeout(PATIENCE).expect("a thread in a namespace of its own");
        set("default", "addr_gen_mode", "1");
        set("default", "accept_ra", "0");
        ip(&format!("link add {name} type veth peer name far netns {thread_id}"));
        ip(&format!("link set {name} up"));
        for address in [ours, "fe80::2"] {
            ip(&format!("-6 addr add {address}/64 dev {name} nodad"));
        }
        let theirs = theirs.to_owned();
        far.run(move || {
            for address in [&theirs, "fe80::1"] {
                ip(&format!("-6 addr add {address}/64 dev far nodad"));
            }
            ip("link set far up");
            wait_until_ready("far", &[&theirs, "fe80::1"]);
        });
        wait_until_ready(name, &[ours, "fe80::2"]);
        far
    }

    /// Does something in the namespace.
    pub fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let job = move || tell.send(act()).unwrap_or_else(|_| panic!("the test waits"));
        self.jobs.as_ref().expect("it runs").send(Box::new(job)).expect("the thread waits");
        told.recv_timeout(PATIENCE).expect("it has run")
    }
}

/// Waits until an interface is up and packets to its addresses are for this host: until then the kernel drops them.
fn wait_until_ready(name: &str, addresses: &[&str]) {
    let shows = |arguments: &str, part: &str| {
        let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
        String::from_utf8_lossy(&output.stdout).contains(part)
    };
    wait_until("the cable is up", || shows(&format!("link show dev {name}"), "state UP"));
    for address in addresses {
        let line = format!("local {address} dev {name} ");
        wait_until("the address is ready", || shows("-6 route show table local", &line));
    }
}

impl Drop for FarSide {
    fn drop(&mut self) {
        // The thread's work ends with those who could give it some.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
