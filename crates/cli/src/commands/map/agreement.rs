//! Ports that are to agree: of `/both`, the external ports of TCP and UDP; of port 0, the internal port and the external one.
//!
//! A gateway assigns each external port by itself. Where ports differ, a mapping is removed and asked for again with the external port that
//! another has; in the next round it is the other's turn. Of port 0 the internal port moves along, so a program can listen at the port that
//! others see. A mapping is shown when its partner is decided, too.

use super::wishes::Wishes;
use super::{Input, MappingTable};
use crate::exit::Failure;
use crate::free_port;
use crate::spec::Port;
use crate::view::{Row, Status};
use plum::{External, Mapping, Session};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

/// How often the ports of a group are asked for again. A port that is free for both is found in the second round, unless the gateway
/// ignores suggestions.
const MAX_ROUNDS: usize = 4;

/// What is known of one mapping that is to agree with others.
#[derive(Default)]
struct Tie {
    /// The place of the other transport's mapping.
    partner: Option<usize>,
    /// Where it is mapped, shown or not.
    granted: Option<External>,
    /// What to ask for once it is removed.
    next: Option<Port>,
    /// How often it and its partner were asked for again.
    rounds: usize,
}

/// What ties the mappings of the table.
pub(super) struct Ties {
    by_place: HashMap<usize, Tie>,
    mover: Option<Mover>,
}

/// Waits for removals, on a thread of its own.
struct Mover {
    leaving: Sender<(usize, Mapping)>,
    thread: JoinHandle<bool>,
}

impl Mover {
    fn start(inputs: Sender<Input>) -> io::Result<Mover> {
        let (leaving, received) = channel::<(usize, Mapping)>();
        let thread = thread::Builder::new().name("removals".into()).spawn(move || {
            let mut all_confirmed = true;
            for (place, mapping) in received {
                all_confirmed &= mapping.remove();
                // The receiver is gone: the command is ending.
                let _ = inputs.send(Input::Vacated(place));
            }
            all_confirmed
        })?;
        Ok(Mover { leaving, thread })
    }
}

impl Ties {
    pub(super) fn new(ports: &[Port], inputs: Sender<Input>) -> io::Result<Ties> {
        let mut by_place: HashMap<usize, Tie> = HashMap::new();
        let mut firsts = HashMap::new();
        for (place, port) in ports.iter().enumerate() {
            if port.is_chosen {
                by_place.insert(place, Tie::default());
            }
            if !port.is_paired {
                continue;
            }
            let Some(first) = firsts.insert((port.internal, port.is_ipv6()), place) else { continue };
            by_place.insert(first, Tie { partner: Some(place), ..Tie::default() });
            by_place.insert(place, Tie { partner: Some(first), ..Tie::default() });
        }
        let mover = if by_place.is_empty() { None } else { Some(Mover::start(inputs)?) };
        Ok(Ties { by_place, mover })
    }

    /// Whether a mapping is to agree with others.
    pub(super) fn has(&self, place: usize) -> bool {
        self.by_place.contains_key(&place)
    }

    /// The places of those that are to agree, in order.
    fn group(&self, place: usize) -> Vec<usize> {
        let partner = self.by_place.get(&place).and_then(|tie| tie.partner);
        let mut group: Vec<usize> = partner.into_iter().chain([place]).collect();
        group.sort_unstable();
        group
    }

    /// Waits until all are removed that were given up; whether the gateway has confirmed that.
    pub(super) fn finish(&mut self) -> bool {
        let Some(Mover { leaving, thread }) = self.mover.take() else { return true };
        drop(leaving);
        thread.join().unwrap_or(false)
    }
}

impl MappingTable {
    /// A mapping that is to agree with others was made, or has moved.
    pub(super) fn handle_grant(&mut self, place: usize, external: External) -> Result<(), Failure> {
        let Some(tie) = self.ties.by_place.get_mut(&place) else { return Ok(()) };
        tie.granted = Some(external);
        self.agree(place)
    }

    /// Such a mapping was lost: what is agreed on may change.
    pub(super) fn handle_loss(&mut self, place: usize) {
        for member in self.ties.group(place) {
            if let Some(tie) = self.ties.by_place.get_mut(&member) {
                tie.rounds = 0;
            }
        }
        self.forget_grant(place);
    }

    pub(super) fn forget_grant(&mut self, place: usize) {
        if let Some(tie) = self.ties.by_place.get_mut(&place) {
            tie.granted = None;
        }
    }

    /// Shows the mappings of a group if they agree, or cannot; else has one asked for again.
    pub(super) fn agree(&mut self, place: usize) -> Result<(), Failure> {
        let group = self.ties.group(place);
        let is_decided = |place: &usize| {
            let tie = &self.ties.by_place[place];
            tie.next.is_none() && (tie.granted.is_some() || self.rows[*place].failure().is_some())
        };
        if !self.ties.has(place) || !group.iter().all(is_decided) {
            return Ok(());
        }
        let rounds = self.ties.by_place[&place].rounds;
        let moves = self.moves(&group, rounds);
        let (rounds, moves) = match &moves[..] {
            [] => (0, moves),
            _ if rounds >= MAX_ROUNDS || !moves.iter().all(|&(place, port)| self.can_be(place, port)) => {
                (rounds, Vec::new())
            }
            _ => (rounds + 1, moves),
        };
        for &member in &group {
            if let Some(tie) = self.ties.by_place.get_mut(&member) {
                tie.rounds = rounds;
            }
        }
        if moves.is_empty() {
            return self.reveal(&group);
        }
        moves.into_iter().try_for_each(|(place, port)| self.give_up_for(place, port))
    }

    /// Which mappings of a group have to be asked for again so that it agrees, each with what is to be asked for, the newest first.
    ///
    /// With one that moves, those that are newer move too. miniupnpd 2.3.1 with nftables confuses the filter rules of one internal port:
    /// the deletion of either transport removes the newest rule, and a newer mapping of the other transport carries no bytes any more.
    fn moves(&self, group: &[usize], rounds: usize) -> Vec<(usize, Port)> {
        let external = |place: usize| Some(self.ties.by_place[&place].granted?.address.port());
        let granted: Vec<(usize, u16)> =
            group.iter().filter_map(|&place| Some((place, external(place)?))).collect();
        let chosen = if rounds.is_multiple_of(2) { granted.first() } else { granted.last() };
        let Some(&(_, target)) = chosen else { return Vec::new() };
        let inside = |port: Port| if port.is_chosen { target } else { port.internal };
        let agrees = |place: usize, external: u16| {
            let port = self.rows[place].port;
            (port.internal, external) == (inside(port), target)
        };
        let age = |place: usize| self.mappings[place].as_ref().map(Mapping::id);
        let moving = granted.iter().filter(|&&(place, external)| !agrees(place, external));
        let Some(oldest) = moving.map(|&(place, _)| age(place)).min() else { return Vec::new() };
        let mut places: Vec<usize> = granted.iter().map(|&(place, _)| place).collect();
        places.retain(|&place| age(place) >= oldest);
        places.sort_unstable_by_key(|&place| Reverse(age(place)));
        let next = |place: usize| {
            let port = self.rows[place].port;
            (place, Port { internal: inside(port), external: Some(target), ..port })
        };
        places.into_iter().map(next).collect()
    }

    /// Whether this machine has the internal port of a move.
    fn can_be(&self, place: usize, port: Port) -> bool {
        let internal = self.rows[place].port.internal;
        port.internal == internal || self.is_free_for(port)
    }

    /// Whether no other mapping has this internal port, and no program listens there.
    fn is_free_for(&self, port: Port) -> bool {
        let is_it = |row: &Row| (row.port.transport, row.port.internal) == (port.transport, port.internal);
        !self.rows.iter().any(is_it) && free_port::is_free(port.transport, port.internal)
    }

    /// Removes a mapping, to ask for this one.
    fn give_up_for(&mut self, place: usize, port: Port) -> Result<(), Failure> {
        let Some(mapping) = self.mappings[place].take() else { return Ok(()) };
        mapping.start_removal();
        self.places.remove(&mapping.id());
        if let Some(tie) = self.ties.by_place.get_mut(&place) {
            (tie.granted, tie.next) = (None, Some(port));
        }
        if let Some(mover) = &self.ties.mover {
            // If its thread has panicked, the end says so.
            let _ = mover.leaving.send((place, mapping));
        }
        match self.rows[place].status {
            Status::Mapped(_) => self.show(place, Status::Lost),
            _ => Ok(()),
        }
    }

    /// A mapping was removed that is to be asked for with another port.
    pub(super) fn handle_vacated(
        &mut self,
        place: usize,
        session: &Session,
        wishes: &Wishes,
    ) -> Result<(), Failure> {
        let next = self.ties.by_place.get_mut(&place).and_then(|tie| tie.next.take());
        let port = next.unwrap_or(self.rows[place].port);
        // What was wished for stays in the row.
        self.rows[place].port.internal = port.internal;
        let mapping = session.map(wishes.request(port)?)?;
        self.places.insert(mapping.id(), place);
        self.mappings[place] = Some(mapping);
        Ok(())
    }

    /// Shows what was granted to a group.
    fn reveal(&mut self, group: &[usize]) -> Result<(), Failure> {
        for &place in group {
            let tie = &self.ties.by_place[&place];
            let note = self.note(place);
            let Some(granted) = tie.granted else { continue };
            let row = &mut self.rows[place];
            row.note = note;
            if row.status != Status::Mapped(granted) {
                self.show(place, Status::Mapped(granted))?;
            }
        }
        Ok(())
    }

    /// In what a mapping does not agree.
    fn note(&self, place: usize) -> Option<String> {
        let (tie, internal) = (&self.ties.by_place[&place], self.rows[place].port.internal);
        let external = tie.granted?.address.port();
        if self.rows[place].port.is_chosen && internal != external {
            return Some(format!(
                "listen at port {internal}: the gateway gives external port {external}, and port {external} of this machine was not to be \
                 had for it; a VPN server that ignores internal ports needs it"
            ));
        }
        let other = tie.partner.and_then(|partner| self.ties.by_place[&partner].granted)?;
        let port = other.address.port();
        (port != external)
            .then(|| format!("the other transport has external port {port}: no port was to be had for both"))
    }

    /// Shows what was granted so far: the time is up.
    pub(super) fn reveal_all(&mut self) -> Result<(), Failure> {
        let mut places: Vec<usize> = self.ties.by_place.keys().copied().collect();
        places.sort_unstable();
        self.reveal(&places)
    }
}
