//! What every function of the C API passes through: the fork check and the panic boundary.

use super::types::PLUM_ERR_FAILED;
use crate::client;
use crate::log::{self, log};
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

/// What a function returns when it could not run, so that a new return type has to decide.
pub(super) trait Fallback {
    /// The value for "failed".
    const FAILED: Self;
}

impl Fallback for c_int {
    const FAILED: c_int = PLUM_ERR_FAILED;
}

impl Fallback for () {
    const FAILED: () = ();
}

/// The process that first called `plum_init`; 0: none has yet.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Makes the calling process the one that may use the library, if none is.
pub(super) fn own_process() {
    // A failure means that there is an owner, and `enter` found that it is this process.
    let _ = OWNER.compare_exchange(0, std::process::id(), Ordering::Relaxed, Ordering::Relaxed);
}

/// Whether this process is the child of a fork of the one that uses the library.
fn is_forked() -> bool {
    let owner = OWNER.load(Ordering::Relaxed);
    owner != 0 && owner != std::process::id()
}

/// To be called when a function of the program's has returned, before anything else: if it has forked, the
/// child's copy of the worker ends here. It would speak to the gateway in the parent's name.
pub(super) fn leave_callback() {
    if client::is_worker_thread() && is_forked() {
        crate::net::end_thread();
    }
}

/// Runs the body of a function of the C API.
pub(super) fn enter<T: Fallback>(body: impl FnOnce() -> T) -> T {
    // Before any lock: in the child of a fork the worker does not exist, and a lock may be held by a thread that
    // does not exist either.
    if is_forked() {
        return T::FAILED;
    }
    silence_panics();
    // What a panic leaves behind is the client's to make good: its state is behind locks that do not poison, and
    // changes in steps that each leave it valid.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(payload) => {
            log!(Fatal, "defect in the library: {}", log::panic_text(&*payload));
            T::FAILED
        }
    }
}

/// Keeps panics from being written to the program's standard error, where std is this library's alone: in a
/// Rust program that links the rlib the hook is the program's.
fn silence_panics() {
    #[cfg(feature = "own-std")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| std::panic::set_hook(Box::new(hook)));
    }
}

/// In place of writing to standard error. Where it happened is known here only.
#[cfg(any(feature = "own-std", test))]
fn hook(info: &std::panic::PanicHookInfo<'_>) {
    log::keep_panic(info.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Level;
    use std::sync::{Arc, Mutex, TryLockError};

    #[test]
    fn turns_a_panic_into_failed() {
        assert_eq!(enter(|| -> c_int { panic!("of a test") }), PLUM_ERR_FAILED);
        enter(|| -> () { std::panic::panic_any(7) });
    }

    #[test]
    fn finds_the_text_of_a_panic() {
        assert_eq!(log::panic_text(&"literal"), "literal");
        assert_eq!(log::panic_text(&String::from("formatted")), "formatted");
        assert_eq!(log::panic_text(&7), "panic");
    }

    // The log callback may call the library, which takes its locks.
    #[test]
    fn logs_a_panic_when_its_locks_are_released() {
        static TABLE: Mutex<()> = Mutex::new(());
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(hook));
        let messages = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&messages);
        let on_message = move |level, text: &std::ffi::CStr| {
            let is_free = !matches!(TABLE.try_lock(), Err(TryLockError::WouldBlock));
            heard.lock().expect("not poisoned").push((level, text.to_string_lossy().into_owned(), is_free));
        };
        log::open(Some(Level::Fatal), Some(Box::new(on_message)));
        enter(|| -> () {
            let _table = TABLE.lock().expect("not poisoned");
            panic!("of a test, with a lock held")
        });
        log::close();
        std::panic::set_hook(before);
        let messages = std::mem::take(&mut *messages.lock().expect("not poisoned"));
        let about = messages.iter().filter(|(_, text, _)| text.contains("with a lock held"));
        let about: Vec<_> = about.collect();
        assert!(
            matches!(about[..], [(Level::Fatal, text, true)] if text.contains("boundary.rs")),
            "{messages:?}"
        );
    }
}
