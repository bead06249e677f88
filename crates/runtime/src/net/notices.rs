//! Reads change notices, however the system sends them.

#![forbid(unsafe_code)]

use super::Notices;
use std::io;

/// Notices read in one go; a flood must not keep the reader from other work.
const NOTICES_A_TURN: usize = 1024;

/// Consecutive errors after which the socket counts as broken: errors that report something come once each.
const ERRORS_A_TURN: usize = 8;

/// What one notice tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// No change.
    Nothing,
    /// A change of addresses or routes of IPv6.
    Ipv6,
    /// Any other change.
    Change,
}

/// Reads all pending notices; `read` takes one.
pub fn drain(mut read: impl FnMut() -> io::Result<Notice>) -> Notices {
    let mut notices = Notices::default();
    let mut errors = 0;
    for _ in 0..NOTICES_A_TURN {
        match read() {
            Ok(notice) => {
                notices.changed |= notice == Notice::Change;
                notices.ipv6_changed |= notice == Notice::Ipv6;
                errors = 0;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return notices,
                io::ErrorKind::Interrupted => {}
                // netlink(7), route(4): ENOBUFS reports lost notices, so there was a change. It is reported once, and
                // the kept notices still wait behind it. No other error is known here; a lasting one would be read for
                // ever.
                _ => {
                    notices.changed = true;
                    errors += 1;
                    if errors == ERRORS_A_TURN {
                        return Notices { broken: true, ..notices };
                    }
                }
            },
        }
    }
    Notices { more: true, ..notices }
}

#[cfg(test)]
mod tests {
    use super::Notice::{Change, Ipv6, Nothing};
    use super::*;

    fn drain_all(results: Vec<io::Result<Notice>>) -> Notices {
        let mut results = results.into_iter();
        drain(|| results.next().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into())))
    }

    #[test]
    fn tells_of_a_change_among_notices_that_are_none() {
        let nothing = Notices::default();
        assert_eq!(drain_all(vec![]), nothing);
        assert_eq!(drain_all(vec![Ok(Nothing), Ok(Nothing)]), nothing);
        let changed = Notices { changed: true, ..nothing };
        assert_eq!(drain_all(vec![Ok(Nothing), Ok(Change), Ok(Nothing)]), changed);
    }

    #[test]
    fn tells_changes_of_ipv6_from_others() {
        let ipv6 = Notices { ipv6_changed: true, ..Notices::default() };
        assert_eq!(drain_all(vec![Ok(Nothing), Ok(Ipv6), Ok(Nothing)]), ipv6);
        assert_eq!(drain_all(vec![Ok(Change), Ok(Ipv6)]), Notices { changed: true, ..ipv6 });
    }

    #[test]
    fn takes_lost_notices_for_a_change_and_reads_on() {
        let lost = || Err(io::Error::other("lost"));
        let interrupted = || Err(io::ErrorKind::Interrupted.into());
        let changed = Notices { changed: true, ..Notices::default() };
        assert_eq!(drain_all(vec![interrupted(), lost(), Ok(Nothing)]), changed);
        // Seven in a row, one notice, seven more: each may report something.
        let twice: Vec<_> = (0..15).map(|n| if n == 7 { Ok(Nothing) } else { lost() }).collect();
        assert_eq!(drain_all(twice), changed);
    }

    #[test]
    fn gives_up_a_socket_that_only_fails() {
        let broken = drain(|| Err(io::Error::other("broken")));
        assert_eq!(broken, Notices { changed: true, broken: true, ..Notices::default() });
    }

    #[test]
    fn leaves_the_rest_of_a_flood_for_later() {
        let mut count = 0;
        let flood = drain(|| {
            count += 1;
            Ok(Change)
        });
        let expected = Notices { changed: true, more: true, ..Notices::default() };
        assert_eq!((flood, count), (expected, NOTICES_A_TURN));
    }
}
