//! When to be woken, to the microsecond.
//!
//! The wait for sockets counts whole milliseconds and rounds up: an answer that is to take 20 ms would take up to 21, and
//! whoever measures a client by this gateway would see the difference as the client's.

use mio::{Registry, Token};
use std::io;
use std::time::Duration;

#[cfg(target_os = "linux")]
pub(super) use timerfd::Alarm;

#[cfg(not(target_os = "linux"))]
pub(super) use rounding::Alarm;

#[cfg(target_os = "linux")]
mod timerfd {
    use super::{Duration, Registry, Token, io};
    use mio::Interest;
    use mio::unix::SourceFd;
    use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
    use rustix::time::{timerfd_create, timerfd_settime};
    use std::os::fd::{AsRawFd, OwnedFd};

    /// A timer of the kernel's, in the poll like a socket.
    pub(in crate::server) struct Alarm(OwnedFd);

    impl Alarm {
        pub(in crate::server) fn new(registry: &Registry, token: Token) -> io::Result<Alarm> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Alarm(timer))
        }

        /// Has the poll wake up after `span`, whatever was set before (`None`: not at all), and gives what is left for
        /// the poll's own timeout.
        pub(in crate::server) fn set(&mut self, span: Option<Duration>) -> Option<Duration> {
            if span == Some(Duration::ZERO) {
                return span;
            }
            // All zero disarms it.
            let it_value = match span {
                Some(span) => Timespec {
                    tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: i64::from(span.subsec_nanos()),
                },
                None => Timespec { tv_sec: 0, tv_nsec: 0 },
            };
            let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
            // Setting it also takes back an expiry that nobody has read: it need not be read.
            match timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once) {
                Ok(_) => None,
                Err(_) => span,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod rounding {
    use super::{Duration, Registry, Token, io};

    /// The poll's own timeout.
    pub(in crate::server) struct Alarm;

    impl Alarm {
        pub(in crate::server) fn new(_: &Registry, _: Token) -> io::Result<Alarm> {
            Ok(Alarm)
        }

        pub(in crate::server) fn set(&mut self, span: Option<Duration>) -> Option<Duration> {
            span
        }
    }
}
