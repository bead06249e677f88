//! The engine's log: messages go to the sink of the thread that runs the engine, if it has one.
//!
//! An engine belongs to one thread, so no lock is needed, and none can stay locked in the child of a fork.

use std::cell::Cell;
use std::fmt;

/// The level of a message; the numbers are those of the C API (`plum_log_level_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Packets sent, received and dropped.
    Verbose = 0,
    /// Decisions.
    Debug = 1,
    /// Events that a user wants to know of.
    Info = 2,
    /// The library works, with restrictions.
    Warn = 3,
    /// Something does not work.
    Error = 4,
    /// A defect of this library.
    Fatal = 5,
}

/// Receives messages.
#[derive(Clone, Copy)]
pub struct Sink {
    /// Whether messages of a level are wanted; others are not formatted.
    pub enabled: fn(Level) -> bool,
    /// Receives one message.
    pub write: fn(Level, fmt::Arguments<'_>),
}

thread_local! {
    static SINK: Cell<Option<Sink>> = const { Cell::new(None) };
}

/// Sets the sink of the calling thread.
pub fn set_sink(sink: Sink) {
    SINK.set(Some(sink));
}

pub(crate) fn enabled(level: Level) -> bool {
    SINK.get().is_some_and(|sink| (sink.enabled)(level))
}

/// Passes a message to the sink of the calling thread. Use the macro, which formats wanted messages only.
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
