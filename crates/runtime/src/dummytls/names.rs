//! Whether the name of an address resolves to that address.
//!
//! The system's resolver may block for any time, so it runs on threads that are not waited for.

use super::{NAME_LIMIT, System};
use crate::log::{self, log};
use crate::net::{PerProcess, start_thread};
use crate::sync::{Condvar, Mutex};
use plum_engine::time::Time;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long resolving a name may take before the address is reported instead.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an answer, or its absence, is remembered.
const ANSWER_LIFETIME: Duration = Duration::from_secs(60);

/// Resolving threads of the process, at most, those of earlier sessions included.
const THREAD_LIMIT: usize = 4;

/// The number of resolving threads. (The child of a fork has none of its parent's.)
pub(super) fn threads() -> &'static AtomicUsize {
    static THREADS: PerProcess<AtomicUsize> = PerProcess::new();
    THREADS.get(|_| AtomicUsize::new(0))
}

/// The host to report for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostStatus {
    /// The host: the name if it resolves to the address, else the address.
    Host(Arc<str>),
    /// Not known before this time at the latest.
    Wait(Time),
}

/// The names below one domain.
pub(super) struct Names {
    domain: String,
    system: Arc<dyn System>,
    shared: Arc<Shared>,
}

/// The part that the resolving threads share.
struct Shared {
    state: Mutex<Questions>,
    /// Notified when there is an answer, or a thread is about to end.
    changed: Condvar,
    notify: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Questions {
    /// At most one for each address.
    questions: Vec<Question>,
}

struct Question {
    address: IpAddr,
    /// When it was asked, or first wanted if it waits for a thread.
    asked_at: Time,
    /// Why it could not be asked yet.
    obstacle: Option<Obstacle>,
    /// Whether the name resolves to the address.
    answer: Option<bool>,
    /// The log has a warning that the address is reported instead.
    warned: bool,
}

impl Question {
    fn new(address: IpAddr, asked_at: Time, obstacle: Option<Obstacle>) -> Question {
        Question { address, asked_at, obstacle, answer: None, warned: false }
    }
}

/// Why a name cannot be resolved.
enum Obstacle {
    /// The name is too long.
    TooLong,
    /// There are THREAD_LIMIT resolving threads; the end of one wakes those that wait.
    TooMany,
    /// The system gives no thread.
    NoThread(io::Error),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::TooLong => write!(f, "it is too long"),
            Obstacle::TooMany => write!(f, "{THREAD_LIMIT} other names are still being resolved"),
            Obstacle::NoThread(error) => write!(f, "the system gives no thread for it: {error}"),
        }
    }
}

impl Questions {
    fn question(&mut self, address: IpAddr) -> Option<&mut Question> {
        self.questions.iter_mut().find(|question| question.address == address)
    }
}

impl Names {
    pub(super) fn new(domain: String, system: Arc<dyn System>, notify: Box<dyn Fn() + Send + Sync>) -> Names {
        let shared = Shared { state: Mutex::default(), changed: Condvar::new(), notify };
        Names { domain, system, shared: Arc::new(shared) }
    }

    /// The name of an address: `1-2-3-4.DOMAIN`, `2001-db8--1.DOMAIN`.
    fn name(&self, address: IpAddr) -> String {
        format!("{}.{}", label(address), self.domain)
    }

    pub(super) fn host_status(&self, now: Time, address: IpAddr) -> HostStatus {
        let address = address.to_canonical();
        let name = self.name(address);
        let mut state = self.shared.state.lock();
        state.questions.retain(|question| now.since(question.asked_at) < ANSWER_LIFETIME);
        self.ask(&mut state, now, address, &name);
        let Some(question) = state.question(address) else { return HostStatus::Host(plain(address)) };
        let timeout_at = question.asked_at + RESOLVE_TIMEOUT;
        match question.answer {
            Some(true) => return HostStatus::Host(name.into()),
            None if matches!(question.obstacle, Some(Obstacle::TooLong)) => {}
            None if now < timeout_at => return HostStatus::Wait(timeout_at),
            Some(false) | None => {}
        }
        let answered = question.answer.is_some();
        let warned = std::mem::replace(&mut question.warned, true);
        let obstacle = question.obstacle.as_ref().filter(|_| !warned).map(Obstacle::to_string);
        // The log may call the program, so no lock may be held.
        drop(state);
        if let Some(obstacle) = obstacle {
            log!(Warn, "DummyTLS: reports {address}, since {name} cannot be resolved: {obstacle}");
        } else if !warned && answered {
            log!(Warn, "DummyTLS: reports {address}, since {name} does not resolve to it");
        } else if !warned {
            log!(Warn, "DummyTLS: reports {address}, since {name} was not resolved in time");
        }
        HostStatus::Host(plain(address))
    }

    pub(super) fn wait_for(&self, address: IpAddr) -> Arc<str> {
        let address = address.to_canonical();
        loop {
            let now = self.system.now();
            match self.host_status(now, address) {
                HostStatus::Host(host) => return host,
                HostStatus::Wait(until) => {
                    let mut state = self.shared.state.lock();
                    if state.question(address).is_some_and(|question| question.answer.is_none()) {
                        drop(self.shared.changed.wait_for(state, until.since(now)));
                    }
                }
            }
        }
    }

    /// Asks whether `name` resolves to `address`, unless that was asked. A question that waits for a thread gets one
    /// within its time; after that, when the address was reported, a later call starts again.
    fn ask(&self, state: &mut Questions, now: Time, address: IpAddr, name: &str) {
        let asked_at = match state.question(address) {
            Some(Question { obstacle: None | Some(Obstacle::TooLong), .. }) => return,
            Some(question) if question.warned => now,
            Some(question) if now < question.asked_at + RESOLVE_TIMEOUT => question.asked_at,
            // Its time has passed without a thread, which is about to be reported.
            Some(_) => return,
            None => now,
        };
        let shared = Arc::clone(&self.shared);
        let then = Box::new(move |found: Vec<IpAddr>| {
            let mut state = shared.state.lock();
            // A late answer to a forgotten question does not answer a newer one for the same address.
            if let Some(question) = state.question(address)
                && question.asked_at == asked_at
            {
                question.answer = Some(found.iter().any(|found| found.to_canonical() == address));
            }
        });
        let result = match name.len() {
            0..=NAME_LIMIT => self.resolve_on_thread(name.to_owned(), then),
            _ => Err(Obstacle::TooLong),
        };
        let obstacle = result.err();
        match state.question(address) {
            Some(question) if obstacle.is_some() => question.obstacle = obstacle,
            Some(question) => *question = Question::new(address, asked_at, None),
            None => state.questions.push(Question::new(address, asked_at, obstacle)),
        }
    }

    /// The addresses of the domain itself, waiting until `deadline_at` at most; `Err`: why it was not resolved.
    pub(super) fn addresses_of_domain(&self, deadline_at: Time) -> Result<Vec<IpAddr>, String> {
        let found = Arc::new(Mutex::new(None));
        let mut state = self.shared.state.lock();
        let mut obstacle = Some(Obstacle::TooMany);
        loop {
            if let Some(Obstacle::TooMany) = obstacle {
                let slot = Arc::clone(&found);
                let then = Box::new(move |addresses| *slot.lock() = Some(addresses));
                obstacle = self.resolve_on_thread(self.domain.clone(), then).err();
            }
            if let Some(addresses) = found.lock().take() {
                return Ok(addresses);
            }
            let left = deadline_at.since(self.system.now());
            state = match &obstacle {
                Some(obstacle @ (Obstacle::TooLong | Obstacle::NoThread(_))) => {
                    return Err(obstacle.to_string());
                }
                Some(obstacle) if left.is_zero() => return Err(obstacle.to_string()),
                None if left.is_zero() => return Err(String::from("the name was not resolved in time")),
                // The resolving thread notifies when it is done.
                Some(Obstacle::TooMany) | None => self.shared.changed.wait_for(state, left),
            };
        }
    }

    /// Resolves `host` on a new thread, which then calls `then` without a lock held. The thread may outlive the
    /// session, this object and the log.
    ///
    /// # Errors
    ///
    /// There are too many such threads, or none can be started.
    fn resolve_on_thread(
        &self,
        host: String,
        then: Box<dyn FnOnce(Vec<IpAddr>) + Send>,
    ) -> Result<(), Obstacle> {
        let add_one = |running| (running < THREAD_LIMIT).then_some(running + 1);
        if threads().fetch_update(Ordering::Relaxed, Ordering::Relaxed, add_one).is_err() {
            return Err(Obstacle::TooMany);
        }
        let shared = Arc::clone(&self.shared);
        let system = Arc::clone(&self.system);
        let body = Box::new(move || {
            let _guard = ThreadGuard(shared);
            let resolved = catch_unwind(AssertUnwindSafe(|| then(system.resolve(&host))));
            if let Err(panic) = resolved {
                log!(Fatal, "defect in the library: {}", log::panic_text(&*panic));
            }
        });
        match start_thread("plum-names", None, body) {
            // The thread is not joined.
            Ok(_) => Ok(()),
            Err(error) => {
                threads().fetch_sub(1, Ordering::Relaxed);
                Err(Obstacle::NoThread(error))
            }
        }
    }
}

/// Counts the end of a resolving thread, also by a panic.
struct ThreadGuard(Arc<Shared>);

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        threads().fetch_sub(1, Ordering::Relaxed);
        // A caller that found neither an answer nor a free thread holds the lock until it waits: taking it here ensures
        // that the caller is notified.
        drop(self.0.state.lock());
        self.0.changed.notify_all();
        (self.0.notify)();
    }
}

/// The first label of the name. No label begins or ends with a hyphen (RFC 1123 §2.1), so that zeros left out at an end of an
/// address are written as one.
fn label(address: IpAddr) -> String {
    let text = address.to_string().replace(['.', ':'], "-");
    let zero = |is_wanted: bool| if is_wanted { "0" } else { "" };
    format!("{}{text}{}", zero(text.starts_with('-')), zero(text.ends_with('-')))
}

fn plain(address: IpAddr) -> Arc<str> {
    address.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn the_label_of_an_address_has_a_zero_in_place_of_a_hyphen_at_an_end() {
        for (address, expected) in [
            ("1.2.3.4", "1-2-3-4"),
            ("2001:db8::1", "2001-db8--1"),
            ("2001:db8::", "2001-db8--0"),
            ("::1", "0--1"),
            ("::", "0--0"),
            ("2600:1:2:3:4:5:6:7", "2600-1-2-3-4-5-6-7"),
            ("2600:0:0:1::7", "2600-0-0-1--7"),
        ] {
            assert_eq!(label(address.parse().expect("an address")), expected);
        }
    }
}
