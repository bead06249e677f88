//! The far end of a cable, in a network namespace of its own. The tests of the runtime and of the command include this file too.

use plum_testkit::namespace::ip;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Whatever has not happened after this long never will.
const LONG: Duration = Duration::from_secs(20);

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace at the far end of a cable, and a thread in it.
pub struct FarSide {
    /// Run on the thread.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl FarSide {
    /// A cable from our interface `near`, which is up, to the interface `far` of a new namespace, which is down. Neither has an address.
    ///
    /// The namespace lives as long as this thread or a socket in it.
    pub fn start(near: &str, far: &str) -> FarSide {
        let (jobs, to_do) = channel::<Job>();
        let thread = std::thread::spawn(move || to_do.into_iter().for_each(|job| job()));
        let side = FarSide { jobs: Some(jobs), thread: Some(thread) };
        let thread_id = side.run(|| {
            // SAFETY: unshare(2) takes no pointers; with CLONE_NEWNET it concerns this thread and its children alone.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "the test may make namespaces");
            // SAFETY: gettid(2) has no precondition.
            unsafe { libc::gettid() }
        });
        ip(&format!("link add {near} type veth peer name {far} netns {thread_id}"));
        ip(&format!("link set {near} up"));
        side
    }

    /// Does something in the namespace.
    pub fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let job = move || tell.send(act()).unwrap_or_else(|_| panic!("the test waits"));
        self.jobs.as_ref().expect("it runs").send(Box::new(job)).expect("the thread waits");
        told.recv_timeout(LONG).expect("it has run")
    }
}

impl Drop for FarSide {
    fn drop(&mut self) {
        // The thread ends when nobody can give it work any more.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
