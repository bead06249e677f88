//! The sockets that only listen: one for each interface, however many engines use it.

use crate::io::{EngineId, Socket, SocketId};
use std::net::SocketAddr;

/// The numbers of listeners, which no engine has, begin here. The interface's index is added.
const FIRST: u32 = 1 << 31;

/// A listening socket of an interface.
#[derive(Debug)]
struct Listener {
    id: SocketId,
    users: Vec<EngineId>,
    /// Its local address, once it is open.
    local: Option<SocketAddr>,
}

/// What an engine gets that wants to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// The socket is to be opened, by this number.
    New(EngineId),
    /// It is being opened.
    Opening,
    /// It is open.
    Open(SocketAddr),
}

#[derive(Debug, Default)]
pub(crate) struct Listeners {
    list: Vec<Listener>,
}

/// Whether a socket only listens.
pub(super) fn is_listener(socket: Socket) -> bool {
    matches!(socket, Socket::Announcements | Socket::Notifications)
}

impl Listeners {
    pub(super) fn join(&mut self, socket: Socket, interface: u32, user: EngineId) -> Joined {
        let id = SocketId { engine: EngineId(FIRST | interface), socket };
        let Some(known) = self.list.iter_mut().find(|known| known.id == id) else {
            self.list.push(Listener { id, users: vec![user], local: None });
            return Joined::New(id.engine);
        };
        if !known.users.contains(&user) {
            known.users.push(user);
        }
        known.local.map_or(Joined::Opening, Joined::Open)
    }

    /// An engine listens no more. Returns the number of the socket if it is to be closed.
    pub(super) fn leave(&mut self, socket: Socket, user: EngineId) -> Option<EngineId> {
        let of_user = |known: &Listener| known.id.socket == socket && known.users.contains(&user);
        let index = self.list.iter().position(of_user)?;
        let known = &mut self.list[index];
        known.users.retain(|&other| other != user);
        let id = known.id.engine;
        known.users.is_empty().then(|| {
            self.list.remove(index);
            id
        })
    }

    /// The engines that use a socket: those of a listener, or the one whose it is.
    pub(crate) fn users(&self, id: SocketId) -> Vec<EngineId> {
        match self.list.iter().find(|known| known.id == id) {
            Some(known) => known.users.clone(),
            None => vec![id.engine],
        }
    }

    /// A listener was opened, or could not be opened.
    pub(crate) fn note_opened(&mut self, id: SocketId, local: Option<SocketAddr>) {
        let Some(index) = self.list.iter().position(|known| known.id == id) else { return };
        match local {
            Some(local) => self.list[index].local = Some(local),
            None => drop(self.list.remove(index)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: EngineId = EngineId(1);
    const TWO: EngineId = EngineId(2);

    #[test]
    fn two_engines_of_one_interface_share_a_listener() {
        let mut listeners = Listeners::default();
        let Joined::New(listener) = listeners.join(Socket::Announcements, 2, ONE) else { panic!("not new") };
        assert_eq!(listeners.join(Socket::Announcements, 2, TWO), Joined::Opening);
        let (id, local) =
            (SocketId { engine: listener, socket: Socket::Announcements }, "[ff02::1]:5350".parse());
        listeners.note_opened(id, local.clone().ok());
        assert_eq!(listeners.join(Socket::Announcements, 2, ONE), Joined::Open(local.unwrap()));
        assert_eq!(listeners.users(id), [ONE, TWO]);
        assert_eq!(listeners.leave(Socket::Announcements, ONE), None);
        assert_eq!(listeners.leave(Socket::Announcements, TWO), Some(listener));
    }

    #[test]
    fn two_interfaces_have_two_listeners() {
        let mut listeners = Listeners::default();
        assert!(matches!(listeners.join(Socket::Announcements, 2, ONE), Joined::New(_)));
        assert!(matches!(listeners.join(Socket::Announcements, 3, TWO), Joined::New(_)));
        assert!(matches!(listeners.join(Socket::Notifications, 2, ONE), Joined::New(_)));
    }

    #[test]
    fn a_listener_that_cannot_be_opened_is_tried_again() {
        let mut listeners = Listeners::default();
        let Joined::New(listener) = listeners.join(Socket::Announcements, 2, ONE) else { panic!("not new") };
        listeners.note_opened(SocketId { engine: listener, socket: Socket::Announcements }, None);
        assert!(matches!(listeners.join(Socket::Announcements, 2, ONE), Joined::New(_)));
    }
}
