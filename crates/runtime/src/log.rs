//! The library's log: to the program's callback, or to standard output.
//!
//! No caller may hold a lock of the library: the program's callback may call the library.

#![forbid(unsafe_code)]

use crate::net::thread_mark::{Marked, is_marked, marked_in};
use crate::net::{PerProcess, end_thread_in_child, output_is_terminal, wall_clock, write_output};
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::{Mutex, thread_local};
use plum_wire::is_disruptive;
use std::any::Any;
use std::cell::Cell;
use std::ffi::CStr;
use std::fmt::{self, Write as _};
use std::sync::Arc;

pub use plum_engine::log::Level;

/// The engine's log goes here.
pub const ENGINE_SINK: plum_engine::log::Sink = plum_engine::log::Sink { enabled, write };

const fn name(level: Level) -> &'static str {
    match level {
        Level::Verbose => "VERBOSE",
        Level::Debug => "DEBUG",
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
        Level::Fatal => "FATAL",
    }
}

/// ECMA-48 "select graphic rendition", for terminals.
const fn colour(level: Level) -> &'static str {
    match level {
        Level::Verbose | Level::Debug => "\x1b[90m",
        Level::Info => "\x1b[39m",
        Level::Warn => "\x1b[93m",
        Level::Error | Level::Fatal => "\x1b[91m",
    }
}

/// The program's log function: one message, without newline or other control characters.
pub type Callback = Arc<dyn Fn(Level, &CStr) + Send + Sync>;

/// Longer messages, in bytes, are cut.
const MESSAGE_LIMIT: usize = 2000;

/// A threshold above all levels: nothing is logged.
const SILENT: u8 = 6;
/// Like `SILENT`, but the threshold cannot be set: there is no session.
const CLOSED: u8 = 7;

/// The log of the process. In the child of a fork a thread that does not exist there may hold its locks, so the child
/// has a new log, which is closed.
struct Log {
    /// The lowest level that is logged. Not guarded by the sink's lock, since a log callback may set it.
    threshold: AtomicU8,
    /// Locked while a message is written, so that messages do not overlap and `close` waits for the last one.
    sink: Mutex<Sink>,
}

fn current() -> &'static Log {
    static LOG: PerProcess<Log> = PerProcess::new();
    LOG.get(|_| Log { threshold: AtomicU8::new(CLOSED), sink: Mutex::new(Sink::Closed) })
}

enum Sink {
    Closed,
    Callback(Callback),
    Output { coloured: bool },
}

thread_local! {
    /// Whether this thread is inside the log callback.
    static IN_CALLBACK: Cell<u32> = const { Cell::new(0) };
}

/// Opens the log: to the program's callback, or to standard output. `None` as threshold: nothing is logged yet.
pub fn open(threshold: Option<Level>, callback: Option<Callback>) {
    let log = current();
    let sink = match callback {
        Some(callback) => Sink::Callback(callback),
        None => {
            // Loads the time zone now: a child of a fork cannot.
            wall_clock();
            Sink::Output { coloured: output_is_terminal() }
        }
    };
    // An earlier callback is dropped after the lock is released.
    let _old = std::mem::replace(&mut *log.sink.lock(), sink);
    log.threshold.store(number(threshold), Ordering::Relaxed);
}

/// Closes the log, waiting for a message that is being written. Not to be called from a log callback.
pub fn close() {
    let log = current();
    log.threshold.store(CLOSED, Ordering::Relaxed);
    // The program's callback is dropped after the lock is released.
    let _callback = std::mem::replace(&mut *log.sink.lock(), Sink::Closed);
}

/// Sets the lowest level that is logged; `None`: nothing is. No effect while the log is closed.
pub fn set_threshold(threshold: Option<Level>) {
    let _ = current().threshold.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
        (old != CLOSED).then_some(number(threshold))
    });
}

fn number(threshold: Option<Level>) -> u8 {
    threshold.map_or(SILENT, |level| level as u8)
}

/// Whether the calling thread is inside the program's log callback. (In the child of a fork a callback of the parent
/// does not count: nothing waits for it.)
pub fn in_callback() -> bool {
    is_marked(&IN_CALLBACK)
}

/// Whether messages of `level` are logged.
pub fn enabled(level: Level) -> bool {
    level as u8 >= current().threshold.load(Ordering::Relaxed)
}

/// Writes one message. Use the macro, which does not format messages below the threshold.
#[cold]
#[inline(never)]
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    // Messages from inside the log callback are dropped.
    if marked_in(&IN_CALLBACK) != 0 {
        return;
    }
    let mut line = Line::default();
    // A formatting error cuts the message.
    let _ = line.write_fmt(message);
    let line = line.0;
    if line.is_empty() {
        // There is no memory for the message.
        return;
    }
    let log = current();
    let sink = log.sink.lock();
    // The threshold may have been raised while this message waited for the lock.
    if (level as u8) < log.threshold.load(Ordering::Relaxed) {
        return;
    }
    // Also for standard output: a message from inside would deadlock.
    let _inside = Marked::new(&IN_CALLBACK);
    match &*sink {
        Sink::Closed => {}
        Sink::Callback(callback) => {
            let mut line = line.into_bytes();
            line.push(0);
            // `Line` has no NUL, so this is the whole message.
            if let Ok(text) = CStr::from_bytes_until_nul(&line) {
                callback(level, text);
                end_thread_in_child();
            }
        }
        Sink::Output { coloured } => print(level, &line, *coloured),
    }
}

/// One line on standard output.
fn print(level: Level, message: &str, coloured: bool) {
    let (hours, minutes, secs) = wall_clock();
    let (on, off) = if coloured { (colour(level), "\x1b[0m") } else { ("", "") };
    let mut line = String::new();
    // 64 bytes are enough for the text around the message.
    if line.try_reserve(message.len() + 64).is_err() {
        return;
    }
    let _ = writeln!(line, "{on}{hours:02}:{minutes:02}:{secs:02} {:<7} {message}{off}", name(level));
    write_output(line.as_bytes());
}

thread_local! {
    /// The text of this thread's last panic, from the panic hook.
    static PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// For a panic hook: keeps the text of a panic with its location, for the code that catches it. It must not be logged
/// yet: the panicking thread still holds its locks, and the program's callback may call the library.
pub fn keep_panic(text: String) {
    let _ = PANIC.try_with(|kept| kept.set(Some(text)));
}

/// The text of a panic that the calling thread has caught: from the hook, or its message only.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Ok(Some(text)) = PANIC.try_with(Cell::take) {
        return text;
    }
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "panic".to_owned()
    }
}

/// A message being formatted: disruptive characters become spaces, and excess text is cut. Sanitised here so that every
/// log message passes through it.
#[derive(Default)]
struct Line(String);

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.len() + character.len_utf8() > MESSAGE_LIMIT {
                return Err(fmt::Error);
            }
            // One byte more, for the NUL.
            self.0.try_reserve(character.len_utf8() + 1).map_err(|_| fmt::Error)?;
            self.0.push(if is_disruptive(character) { ' ' } else { character });
        }
        Ok(())
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// Raises the threshold while it is formatted, as another thread may while a message waits for others.
    struct Raise;

    impl fmt::Display for Raise {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            set_threshold(Some(Level::Error));
            write!(f, "too late")
        }
    }

    #[test]
    fn a_message_below_a_threshold_that_has_risen_meanwhile_is_not_written() {
        let (sender, told) = channel();
        let callback = move |_, text: &CStr| sender.send(text.to_owned()).expect("there is room");
        open(Some(Level::Verbose), Some(Arc::new(callback)));
        log!(Debug, "in time");
        log!(Warn, "{Raise}");
        log!(Error, "the end");
        close();
        // Tests beside this one may log, too.
        let texts: Vec<_> =
            told.iter().filter(|text| [c"in time", c"too late", c"the end"].contains(&&**text)).collect();
        assert_eq!(texts, [c"in time".to_owned(), c"the end".to_owned()]);
    }
}
