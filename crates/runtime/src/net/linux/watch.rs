//! The kernel's change notices: links, addresses, routes, and the end of a sleep.

use super::super::notices::{Notice, drain};
use super::super::{ClosedInChild, Notices, is_shortage};
use super::netlink::NETLINK_HEADER_LEN;
use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, _ROUTE, _RULE, RTMGRP_IPV6_IFADDR, _ROUTE, and the bit of
/// RTNLGRP_IPV6_RULE (19). (The libc crate does not name them for Android.)
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18;

/// The start of a notice is enough: what it is about, and the family, with which the headers of all of them begin.
const NOTICE_LEN: usize = NETLINK_HEADER_LEN + 1;
const KIND_AT: usize = 4;
const FAMILY_AT: usize = NETLINK_HEADER_LEN;

/// Becomes readable when links, addresses or routes have changed, and when the machine may have slept.
///
/// An edge-triggered mio source: call [`Watch::drain`] after each event.
pub struct Watch {
    /// `None`: a sandbox refuses it, and changes are seen at rechecks only.
    changes: Option<ClosedInChild<Socket>>,
    /// Why the notices are refused.
    obstacle: Option<io::Error>,
    /// `None`: the kernel has none, and a sleep is detected at the next wake-up for another reason.
    clock_steps: Option<ClockSteps>,
}

impl Watch {
    /// Starts watching. Needs no privilege.
    ///
    /// # Errors
    ///
    /// The system has no descriptor or no memory.
    pub fn open() -> io::Result<Watch> {
        let (changes, obstacle) = match watch_changes() {
            Ok(changes) => (Some(ClosedInChild::new(changes)), None),
            Err(error) if is_shortage(&error) => return Err(error),
            // A sandbox, which would refuse it again.
            Err(error) => (None, Some(error)),
        };
        let clock_steps = match ClockSteps::watch() {
            Err(error) if is_shortage(&error) => return Err(error),
            other => other.ok(),
        };
        // Since Android 11 an app (first those that target it, API level 30) may not bind a netlink socket: that is no news.
        let obstacle = obstacle.filter(|_| !cfg!(target_os = "android"));
        Ok(Watch { changes, obstacle, clock_steps })
    }

    /// Takes the reason why there are no change notices, to be logged once.
    pub fn take_obstacle(&mut self) -> Option<io::Error> {
        self.obstacle.take()
    }

    /// Reads all pending notices.
    pub fn drain(&mut self) -> Notices {
        if let Some(clock_steps) = &mut self.clock_steps {
            clock_steps.clear();
        }
        let Some(changes) = &self.changes else {
            return Notices::default();
        };
        drain(|| {
            let mut notice = [0; NOTICE_LEN];
            let (len, from) = changes.recv_from(&mut &mut notice[..], 0)?;
            // Port number 0 is the kernel; privileged processes may send here, too.
            Ok(if from.port_number() == 0 {
                read_notice(&notice[..len.min(NOTICE_LEN)])
            } else {
                Notice::Nothing
            })
        })
    }

    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let changes = self.changes.as_ref().map(|changes| changes.as_raw_fd());
        changes.into_iter().chain(self.clock_steps.as_ref().map(|steps| steps.timer.as_raw_fd()))
    }
}

/// What a message of the kernel tells, of which this is the start.
fn read_notice(bytes: &[u8]) -> Notice {
    let kind = bytes.get(KIND_AT..).and_then(<[u8]>::first_chunk).map(|octets| u16::from_ne_bytes(*octets));
    let of_family = matches!(
        kind,
        Some(
            libc::RTM_NEWADDR
                | libc::RTM_DELADDR
                | libc::RTM_NEWROUTE
                | libc::RTM_DELROUTE
                | libc::RTM_NEWRULE
                | libc::RTM_DELRULE
        )
    );
    let is_ipv6 = bytes.get(FAMILY_AT).is_some_and(|&family| i32::from(family) == libc::AF_INET6);
    if of_family && is_ipv6 { Notice::Ipv6 } else { Notice::Change }
}

/// A socket that gets the kernel's notices.
fn watch_changes() -> io::Result<Socket> {
    let mut changes = Socket::new(NETLINK_ROUTE)?;
    changes.set_non_blocking(true)?;
    changes.bind(&SocketAddr::new(0, GROUPS))?;
    Ok(changes)
}

impl Source for Watch {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.descriptors().try_for_each(|one| SourceFd(&one).register(registry, token, interests))
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.descriptors().try_for_each(|one| SourceFd(&one).reregister(registry, token, interests))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.descriptors().try_for_each(|one| SourceFd(&one).deregister(registry))
    }
}

/// Becomes readable when the wall clock is set or the machine wakes up, so that a sleep is detected without polling the
/// clock.
struct ClockSteps {
    timer: ClosedInChild<File>,
}

impl ClockSteps {
    // musl: deprecated since its time_t has more bits than the one of the libc crate on some processors. Any will do.
    #[cfg_attr(target_env = "musl", allow(deprecated))]
    fn watch() -> io::Result<ClockSteps> {
        // SAFETY: timerfd_create(2) takes no pointers.
        let descriptor =
            unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: timerfd_create(2) returned a new descriptor, which is nobody else's.
        let timer = ClosedInChild::new(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }));
        // timerfd_settime(2): with TFD_TIMER_CANCEL_ON_SET a step of the clock cancels the timer, which makes it
        // readable. The time itself is never to come.
        let never = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: libc::time_t::MAX, tv_nsec: 0 },
        };
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: timerfd_settime(2) reads the new value and takes null for the old one; the descriptor is open.
        let result = unsafe { libc::timerfd_settime(timer.as_raw_fd(), flags, &never, std::ptr::null_mut()) };
        if result == 0 { Ok(ClockSteps { timer }) } else { Err(io::Error::last_os_error()) }
    }

    /// Reads a step, so that the next one is reported again.
    fn clear(&mut self) {
        // timerfd_create(2): after a step the read fails with ECANCELED, else with EAGAIN. The sleep itself is detected
        // from the clocks; here the wake-up suffices.
        let _ = self.timer.read(&mut [0; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_routes_and_rules_of_ipv6_are_told_apart() {
        let notice = |kind: u16, family: i32| {
            let mut bytes = [0; NOTICE_LEN];
            bytes[KIND_AT..KIND_AT + 2].copy_from_slice(&kind.to_ne_bytes());
            bytes[FAMILY_AT] = family as u8;
            bytes
        };
        let kinds =
            [libc::RTM_NEWADDR, libc::RTM_DELADDR, libc::RTM_NEWROUTE, libc::RTM_DELROUTE, libc::RTM_NEWRULE];
        for kind in kinds {
            assert_eq!(read_notice(&notice(kind, libc::AF_INET6)), Notice::Ipv6);
            assert_eq!(read_notice(&notice(kind, libc::AF_INET)), Notice::Change);
        }
        for kind in [libc::RTM_NEWLINK, libc::RTM_DELLINK] {
            assert_eq!(read_notice(&notice(kind, libc::AF_INET6)), Notice::Change);
            assert_eq!(read_notice(&notice(kind, libc::AF_UNSPEC)), Notice::Change);
        }
        let whole = notice(libc::RTM_NEWADDR, libc::AF_INET6);
        assert!((0..whole.len()).all(|len| read_notice(&whole[..len]) == Notice::Change), "cut short");
    }
}
