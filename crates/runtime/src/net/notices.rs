//! Reads change notices, however the system sends them.

#![forbid(unsafe_code)]

use super::Notices;
use std::io;

/// Notices read in one go; a flood must not keep the reader from other work.
const NOTICES_A_TURN: usize = 1024;

/// Consecutive errors after which the socket counts as broken: errors that report something come once each.
const ERRORS_A_TURN: usize = 8;

/// Reads all pending notices; `read` takes one and returns whether it reports a change.
pub fn drain(mut read: impl FnMut() -> io::Result<bool>) -> Notices {
    let mut changed = false;
    let mut errors = 0;
    for _ in 0..NOTICES_A_TURN {
        match read() {
            Ok(tells) => {
                changed |= tells;
                errors = 0;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Notices { changed, more: false, broken: false },
                io::ErrorKind::Interrupted => {}
                // netlink(7), route(4): ENOBUFS reports lost notices, so there was a change. It is reported once, and
                // the kept notices still wait behind it. No other error is known here; a lasting one would be read for
                // ever.
                _ => {
                    changed = true;
                    errors += 1;
                    if errors == ERRORS_A_TURN {
                        return Notices { changed, more: false, broken: true };
                    }
                }
            },
        }
    }
    Notices { changed, more: true, broken: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain_all(results: Vec<io::Result<bool>>) -> Notices {
        let mut results = results.into_iter();
        drain(|| results.next().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into())))
    }

    #[test]
    fn tells_of_a_change_among_notices_that_are_none() {
        let nothing = Notices { changed: false, more: false, broken: false };
        assert_eq!(drain_all(vec![]), nothing);
        assert_eq!(drain_all(vec![Ok(false), Ok(false)]), nothing);
        assert_eq!(drain_all(vec![Ok(false), Ok(true), Ok(false)]), Notices { changed: true, ..nothing });
    }

    #[test]
    fn takes_lost_notices_for_a_change_and_reads_on() {
        let lost = || Err(io::Error::other("lost"));
        let interrupted = || Err(io::ErrorKind::Interrupted.into());
        let changed = Notices { changed: true, more: false, broken: false };
        assert_eq!(drain_all(vec![interrupted(), lost(), Ok(false)]), changed);
        // Seven in a row, one notice, seven more: each may report something.
        let twice: Vec<_> = (0..15).map(|n| if n == 7 { Ok(false) } else { lost() }).collect();
        assert_eq!(drain_all(twice), changed);
    }

    #[test]
    fn gives_up_a_socket_that_only_fails() {
        let broken = drain(|| Err(io::Error::other("broken")));
        assert_eq!(broken, Notices { changed: true, more: false, broken: true });
    }

    #[test]
    fn leaves_the_rest_of_a_flood_for_later() {
        let mut count = 0;
        let flood = drain(|| {
            count += 1;
            Ok(true)
        });
        assert_eq!((flood, count), (Notices { changed: true, more: true, broken: false }, NOTICES_A_TURN));
    }
}
