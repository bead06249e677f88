//! Refusals of the system, each warned of once: a lasting fault would fill the log.

#![forbid(unsafe_code)]

use plum_engine::io::Socket;
use plum_engine::time::Time;
use std::io;
use std::time::Duration;

/// The shortest time between two warnings of a fault that comes and goes.
const INTERVAL_MIN: Duration = Duration::from_secs(10);

/// A request to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    LookUpRoute,
    Watch,
    Open(Socket),
    Send(Socket),
    Receive(Socket),
    Connect,
}

/// The refused requests, one entry each.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<Refusal>);

#[derive(Debug)]
struct Refusal {
    request: Request,
    error: Option<i32>,
    said_at: Time,
    granted_since: bool,
}

impl Refusals {
    /// Records a refusal; returns whether to warn of it.
    pub(super) fn is_news(&mut self, now: Time, request: Request, error: &io::Error) -> bool {
        let error = error.raw_os_error();
        let refusal = Refusal { request, error, said_at: now, granted_since: false };
        match self.0.iter_mut().find(|old| old.request == request) {
            None => self.0.push(refusal),
            Some(old) if old.error == error && !old.granted_since => return false,
            Some(old) if now < old.said_at + INTERVAL_MIN => return false,
            Some(old) => *old = refusal,
        }
        true
    }

    /// Records that a request was granted.
    pub(super) fn note_granted(&mut self, request: Request) {
        if let Some(refusal) = self.0.iter_mut().find(|refusal| refusal.request == request) {
            refusal.granted_since = true;
        }
    }
}

/// A hint for the user about an error, as the end of a sentence; empty: none.
pub(super) fn advice(request: Request, error: &io::Error) -> &'static str {
    match (request, error.kind()) {
        (Request::Open(Socket::Announcements), io::ErrorKind::AddrInUse) => {
            "; another program has UDP port 5350 for itself: a restart of the gateway is noticed later"
        }
        (Request::Open(Socket::Notifications), io::ErrorKind::AddrInUse) => {
            "; another program has UDP port 1900 for itself: a restart of the gateway is noticed later"
        }
        (Request::Send(_) | Request::Connect, io::ErrorKind::PermissionDenied) => {
            "; a firewall of this machine seems to forbid it"
        }
        (Request::Watch, _) => "; they are seen at the next recheck only",
        _ if crate::net::is_shortage(error) => "; it is tried again",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    fn what_lasts_is_said_once() {
        let mut refusals = Refusals::default();
        assert!(refusals.is_news(Time::ZERO, Request::Connect, &error(24)));
        for secs in [1, 100, 10_000] {
            assert!(!refusals.is_news(Time::from_secs(secs), Request::Connect, &error(24)));
        }
        assert!(refusals.is_news(Time::from_secs(1), Request::Watch, &error(24)));
    }

    #[test]
    fn what_comes_again_is_said_again_but_not_at_once() {
        let mut refusals = Refusals::default();
        let send = Request::Send(Socket::Pcp);
        assert!(refusals.is_news(Time::ZERO, send, &error(1)));
        refusals.note_granted(send);
        assert!(!refusals.is_news(Time::from_secs(9), send, &error(1)));
        assert!(refusals.is_news(Time::from_secs(10), send, &error(1)));
        assert!(refusals.is_news(Time::from_secs(20), send, &error(101)), "another error");
    }
}
