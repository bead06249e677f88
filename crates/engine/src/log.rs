//! Where the engine's messages go: to the sink of the thread that runs it. Without one they go nowhere.
//!
//! An engine is one thread's, so no lock is needed, and none is left locked in the child of a fork.

use std::cell::Cell;
use std::fmt;

/// How much a message matters; the numbers are the C API's (`plum_log_level_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Packets, drops, timers.
    Verbose = 0,
    /// Decisions.
    Debug = 1,
    /// What a user wants to know.
    Info = 2,
    /// Works, but not as wished.
    Warn = 3,
    /// Does not work.
    Error = 4,
    /// A defect of this library.
    Fatal = 5,
}

/// Takes messages.
#[derive(Clone, Copy)]
pub struct Sink {
    /// Whether messages of a level are wanted. Others are not formatted.
    pub enabled: fn(Level) -> bool,
    /// Takes one message.
    pub write: fn(Level, fmt::Arguments<'_>),
}

thread_local! {
    static SINK: Cell<Option<Sink>> = const { Cell::new(None) };
}

/// Sets the sink of the calling thread.
pub fn set_sink(sink: Sink) {
    SINK.set(Some(sink));
}

/// Whether the sink of the calling thread wants messages of `level`.
pub(crate) fn enabled(level: Level) -> bool {
    SINK.get().is_some_and(|sink| (sink.enabled)(level))
}

/// Hands one message to the sink of the calling thread; use the macro, which formats nothing that is not wanted.
#[cold]
#[inline(never)]
pub(crate) fn write(level: Level, message: fmt::Arguments<'_>) {
    if let Some(sink) = SINK.get() {
        (sink.write)(level, message);
    }
}

/// Logs at a level of [`Level`]: `log!(Warn, "no route to {target}")`.
macro_rules! log {
    ($level:ident, $($message:tt)+) => {
        if $crate::log::enabled($crate::log::Level::$level) {
            $crate::log::write($crate::log::Level::$level, format_args!($($message)+));
        }
    };
}
pub(crate) use log;
