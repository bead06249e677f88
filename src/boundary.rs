//! What every function of the C API passes through: the boundary of panics and of cancellation.

use super::types::PLUM_ERR_FAILED;
use plum_runtime::log::{self, log};
use plum_runtime::net::Uncancelled;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// Runs the body of a function of the C API.
pub(super) fn enter<T: Fallback>(body: impl FnOnce() -> T) -> T {
    let _uncancelled = Uncancelled::begin();
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
        use std::sync::atomic::{AtomicBool, Ordering};
        // Not `Once`, which would wait in the child of a fork for a thread that is not there.
        static IS_SET: AtomicBool = AtomicBool::new(false);
        if !IS_SET.swap(true, Ordering::Relaxed) {
            std::panic::set_hook(Box::new(hook));
        }
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
    use plum_runtime::log::Level;
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
        log::open(Some(Level::Fatal), Some(Arc::new(on_message)));
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
