//! What the library calls, and what those callbacks do to it.

use super::books::{self, Context, LIVE, Tally, count};
use super::calls;
use plum::*;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

thread_local! {
    /// Whether this thread is one of the program's.
    pub static IS_PROGRAM: Cell<bool> = const { Cell::new(false) };
    /// The log callback's choices, a state a thread: it must not order the threads either.
    static LOG_RANDOM: RefCell<fastrand::Rng> = RefCell::new(fastrand::Rng::with_seed(THREADS.fetch_add(1, Ordering::Relaxed)));
}

/// Counts what is done to it, without an atomic: ThreadSanitizer is to see whether it is done by two at once.
struct Plain(std::cell::UnsafeCell<u64>);

// SAFETY: by the contract under test.
unsafe impl Sync for Plain {}

impl Plain {
    /// # Safety
    ///
    /// No two threads call this at once: which is what the contract promises, where it is called.
    unsafe fn count(&self) -> u64 {
        // SAFETY: as above.
        unsafe {
            *self.0.get() += 1;
            *self.0.get()
        }
    }
}

/// What SUCCESS and FAILURE callbacks of a mapping use, and its DESTROYED does not: whoever has destroyed the mapping may free it.
pub struct Notebook {
    told: u64,
}

/// Who frees the notebook: whoever takes it out first.
pub struct Slot(AtomicPtr<Notebook>);

impl Slot {
    fn free(&self) {
        let notebook = self.0.swap(null_mut(), Ordering::AcqRel);
        if !notebook.is_null() {
            // SAFETY: it is from a Box, and taken out once.
            drop(unsafe { Box::from_raw(notebook) });
        }
    }

    /// `plum_destroy_mapping` has returned: its callbacks use it no more.
    pub fn free_after_destroy(&self) {
        self.free();
    }
}

/// What a mapping's `user_ptr` points to. Freed on DESTROYED, so that whatever comes later is a use after free.
pub struct Record {
    port: u16,
    calls: u64,
    random: fastrand::Rng,
    notebook: *mut Notebook,
    slot: Arc<Slot>,
}

impl Record {
    /// A new one, for a mapping of this port; freed by its DESTROYED, or by `forget`.
    pub fn make(port: u16, seed: u64) -> (*mut Record, Arc<Slot>) {
        let notebook = Box::into_raw(Box::new(Notebook { told: 0 }));
        let slot = Arc::new(Slot(AtomicPtr::new(notebook)));
        let random = fastrand::Rng::with_seed(seed);
        let record = Record { port, calls: 0, random, notebook, slot: Arc::clone(&slot) };
        (Box::into_raw(Box::new(record)), slot)
    }

    /// # Safety
    ///
    /// From `make`, and the library knows nothing of it (any more).
    pub unsafe fn forget(record: *mut Record) {
        // SAFETY: from a Box, says the contract.
        let record = unsafe { Box::from_raw(record) };
        record.slot.free();
    }
}

/// Threads that have logged.
static THREADS: AtomicU64 = AtomicU64::new(0);

static INSIDE: AtomicBool = AtomicBool::new(false);
static CALLS: Plain = Plain(std::cell::UnsafeCell::new(0));

pub extern "C" fn on_mapping(id: c_int, state: plum_state_t, mapping: *const plum_mapping_t) {
    assert!(!IS_PROGRAM.get(), "a callback on a thread of the program's");
    assert!(!INSIDE.swap(true, Ordering::Relaxed), "two callbacks at once");
    // SAFETY: callbacks come one after the other.
    unsafe { CALLS.count() };
    // SAFETY: valid during this call, says the contract.
    let mapping = unsafe { mapping.as_ref() }.expect("mapping is never NULL");
    let record: *mut Record = mapping.user_ptr.cast();
    // SAFETY: it is freed on DESTROYED only, after which there is no callback.
    let one = unsafe { &mut *record };
    one.calls += 1;
    assert_eq!(mapping.internal_port, one.port, "the mapping is not what was created");
    let host = mapping.external_host.iter().position(|&c| c == 0).expect("the host ends in NUL");
    let has_external = state == plum_state_t::PLUM_STATE_SUCCESS;
    assert_eq!((host > 0, mapping.external_port > 0), (has_external, has_external), "{state:?}");
    match state {
        plum_state_t::PLUM_STATE_SUCCESS | plum_state_t::PLUM_STATE_FAILURE => tell(id, state, one),
        plum_state_t::PLUM_STATE_DESTROYED => {
            count(Tally::DestroyedCallbacks);
            books::destroyed(id);
            LIVE.fetch_sub(1, Ordering::Relaxed);
            assert_eq!(calls::query(Context::Mapping, id), PLUM_ERR_NOT_AVAIL, "of {id}");
            assert_eq!(calls::destroy(Context::Mapping, id), PLUM_ERR_NOT_AVAIL, "of {id}");
            calls::any_from_inside(&mut one.random, Context::Mapping, id);
            // SAFETY: it was the last callback of this id.
            unsafe { Record::forget(record) };
        }
        other => panic!("{other:?} is told to nobody"),
    }
    INSIDE.store(false, Ordering::Relaxed);
}

/// A SUCCESS or FAILURE.
fn tell(id: c_int, state: plum_state_t, one: &mut Record) {
    count(if state == plum_state_t::PLUM_STATE_SUCCESS { Tally::Successes } else { Tally::Failures });
    books::told(id);
    // SAFETY: nobody frees it before a destroy has returned, which waits for this callback.
    unsafe { (*one.notebook).told += 1 };
    calls::any_from_inside(&mut one.random, Context::Mapping, id);
    if one.random.u8(..) < 16 {
        count(Tally::SlowCallbacks);
        // A slow callback: that time passes is what it is about.
        std::thread::sleep(Duration::from_millis(one.random.u64(1..20)));
    }
    // SAFETY: as above, to the very end of the callback.
    unsafe { (*one.notebook).told += 1 };
    books::told(id);
}

static INSIDE_LOG: AtomicUsize = AtomicUsize::new(0);
static MESSAGES: Plain = Plain(std::cell::UnsafeCell::new(0));

pub extern "C" fn on_message(level: plum_log_level_t, message: *const c_char) {
    assert_eq!(INSIDE_LOG.fetch_add(1, Ordering::Relaxed), 0, "two log callbacks at once");
    // SAFETY: they come one after the other.
    unsafe { MESSAGES.count() };
    count(Tally::Messages);
    // SAFETY: NUL-terminated, says the contract.
    let text = unsafe { CStr::from_ptr(message) }.to_bytes();
    assert!(!text.is_empty() && !text.contains(&b'\n'), "{text:?}");
    // The library calls its own defects so.
    assert!(level != plum_log_level_t::PLUM_LOG_LEVEL_FATAL, "{}", String::from_utf8_lossy(text));
    LOG_RANDOM.with_borrow_mut(|random| {
        if random.u8(..) < 64 {
            let id = random.i32(0..books::ids().max(1));
            calls::any_from_inside(random, Context::Log, id);
        }
    });
    INSIDE_LOG.fetch_sub(1, Ordering::Relaxed);
}
