//! The kernel's change notices: links, addresses and routes.

#![forbid(unsafe_code)]

use super::super::notices::{Notice, drain};
use super::super::route_message::HERE;
use super::super::{ClosedInChild, Notices};
use super::open_routing_socket;
use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;
use std::io::{self, Read};
use std::os::fd::AsRawFd;

/// The start of a notice, with the flags of a route, is enough; the whole of one about a route is needed to tell its family.
const NOTICE_LEN: usize = 512;

/// Becomes readable when links, addresses or routes have changed.
///
/// An edge-triggered mio source: call [`Watch::drain`] after each event.
pub struct Watch {
    changes: ClosedInChild<Socket>,
}

impl Watch {
    /// Starts watching. Needs no privilege.
    ///
    /// # Errors
    ///
    /// Those of opening a routing socket (a sandbox, too many open files).
    pub fn open() -> io::Result<Watch> {
        let changes = open_routing_socket()?;
        changes.set_nonblocking(true)?;
        Ok(Watch { changes: ClosedInChild::new(changes) })
    }

    /// An open watch always has notices.
    pub fn take_obstacle(&mut self) -> Option<io::Error> {
        None
    }

    /// Reads all pending notices.
    pub fn drain(&mut self) -> Notices {
        drain(|| {
            let mut notice = [0; NOTICE_LEN];
            let len = self.changes.read(&mut notice)?;
            let notice = &notice[..len];
            Ok(match HERE.tells_of_change(notice) {
                false => Notice::Nothing,
                true if HERE.is_of_ipv6_route(notice) => Notice::Ipv6,
                true => Notice::Change,
            })
        })
    }
}

impl Source for Watch {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.changes.as_raw_fd()).register(registry, token, interests)
    }
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.changes.as_raw_fd()).reregister(registry, token, interests)
    }
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.changes.as_raw_fd()).deregister(registry)
    }
}
