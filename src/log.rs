//! The library's log: levels, the program's callback or standard output.

#![forbid(unsafe_code)]

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

/// Whether messages of `level` go anywhere.
pub fn enabled(_level: Level) -> bool {
    false
}

/// Writes one message; use the macros, which format nothing below the level.
pub fn write(_level: Level, _message: std::fmt::Arguments<'_>) {}

/// Logs at a level of [`Level`]: `log!(Warn, "no route to {target}")`.
#[macro_export]
#[doc(hidden)]
macro_rules! plum_log {
    ($level:ident, $($message:tt)+) => {
        if $crate::log::enabled($crate::log::Level::$level) {
            $crate::log::write($crate::log::Level::$level, format_args!($($message)+));
        }
    };
}
pub use crate::plum_log as log;
