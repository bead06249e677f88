//! Where an odd gateway is played: the same row on a virtual clock and over real sockets.

mod lan;
#[cfg(target_os = "linux")] // network namespaces
mod segment;
mod sockets;
mod virtual_clock;

pub use lan::{Lan, Machine};
#[cfg(target_os = "linux")] // network namespaces
pub use segment::Segment;
pub use sockets::{Program, Sockets, row_of_this_process, run_alone};
pub use virtual_clock::VirtualClock;

use crate::{millis, secs};
use plum_engine::io::{Event, Protocol};
use plum_gateway::core::{Action, Gateway, Kind, Protocol as MadeBy};
use plum_wire::Transport;
use std::time::Duration;

/// What a row begins with.
#[derive(Clone, Copy)]
pub struct Start {
    /// `plum_config_t.recheck_period`.
    pub recheck: Duration,
}

impl Default for Start {
    fn default() -> Start {
        Start { recheck: secs(300) }
    }
}

/// An entry of the gateway's table that libplum made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub transport: Transport,
    pub external_port: u16,
    pub internal_port: u16,
    pub is_permanent: bool,
}

/// The entries of a gateway that libplum made.
fn entries_of(gateway: &mut Gateway) -> Vec<Entry> {
    let ours = gateway.table().iter().filter(|mapping| mapping.made_by != MadeBy::Script);
    ours.map(|mapping| Entry {
        transport: match mapping.transport {
            plum_gateway::core::Transport::Tcp => Transport::Tcp,
            plum_gateway::core::Transport::Udp => Transport::Udp,
        },
        external_port: mapping.external_port,
        internal_port: mapping.internal.port(),
        is_permanent: mapping.expires_at.is_none(),
    })
    .collect()
}

/// A program, the library and an odd gateway.
pub trait Stage: Sized {
    /// Whether times are judged: on the virtual clock alone. A busy machine makes real ones longer.
    const HAS_EXACT_TIMES: bool;

    /// A program and a gateway that is odd.
    fn begin_with(start: Start, odd: impl FnOnce(&mut Gateway)) -> Self;

    /// The same, with the default settings.
    fn begin(odd: impl FnOnce(&mut Gateway)) -> Self {
        Self::begin_with(Start::default(), odd)
    }

    /// Looks at the gateway, or changes it.
    fn gateway<T>(&mut self, act: impl FnOnce(&mut Gateway) -> T) -> T;

    /// The program wants a mapping; an external port of 0 is no wish.
    fn create_wishing(&mut self, transport: Transport, internal_port: u16, external_port: u16) -> i32;

    /// The program wants a mapping no more.
    fn destroy(&mut self, id: i32);

    /// The program ends: how long it took.
    fn cleanup(&mut self) -> Duration;

    /// The callbacks of a mapping so far.
    fn told(&mut self, id: i32) -> Vec<Event>;

    /// Waits until it is so. On the virtual clock it has to be so within this span.
    #[track_caller]
    fn wait(&mut self, within: Duration, what: &str, is_so: impl FnMut(&mut Self) -> bool);

    /// Lets this span pass, on the virtual clock alone.
    fn pass(&mut self, span: Duration);

    /// The program begins anew after its cleanup.
    fn begin_again(self) -> Self;

    /// Whether the library has logged a line with this text.
    fn has_logged(&mut self, text: &str) -> bool;

    // The same for all stages.

    /// The program wants a mapping of a TCP port, without a wish.
    fn create(&mut self, internal_port: u16) -> i32 {
        self.create_wishing(Transport::Tcp, internal_port, 0)
    }

    /// By whom a mapping is made, and at which external port; `None`: it is not.
    fn success(&mut self, id: i32) -> Option<(Protocol, u16)> {
        match self.told(id).last() {
            Some(Event::Success { protocol, port, .. }) => Some((*protocol, port.get())),
            _ => None,
        }
    }

    /// Waits until a mapping is made.
    #[track_caller]
    fn expect_success(&mut self, within: Duration, id: i32) -> (Protocol, u16) {
        self.wait(within, "the mapping is made", |stage| stage.success(id).is_some());
        let success = self.success(id).expect("made");
        let entries = self.entries();
        let has_entry = entries.iter().any(|entry| entry.external_port == success.1);
        assert!(has_entry, "SUCCESS at {success:?} without an entry: {entries:?}");
        success
    }

    /// Waits until a mapping has failed.
    #[track_caller]
    fn expect_failure(&mut self, within: Duration, id: i32) {
        self.wait(within, "the mapping fails", |stage| stage.told(id).last() == Some(&Event::Failure));
    }

    /// The program has been told this often that a mapping is made, and of no failure.
    #[track_caller]
    fn assert_successes(&mut self, id: i32, times: usize) {
        let told = self.told(id);
        let successes = told.iter().filter(|event| matches!(event, Event::Success { .. })).count();
        assert!(successes == times && !told.contains(&Event::Failure), "{told:?}");
    }

    /// The gateway's entries that libplum made.
    fn entries(&mut self) -> Vec<Entry> {
        self.gateway(entries_of)
    }

    /// How many requests of this kind the gateway has received.
    fn count(&mut self, kind: Kind) -> u64 {
        self.gateway(|gateway| gateway.counts.of(kind))
    }

    /// The same of an action.
    fn count_of(&mut self, action: Action) -> u64 {
        self.count(Kind::Soap(action))
    }

    /// Destroys a mapping, and waits until it is gone.
    #[track_caller]
    fn destroy_and_wait(&mut self, id: i32) {
        self.destroy(id);
        self.wait(secs(1), "the mapping is destroyed", |stage| {
            stage.told(id).last() == Some(&Event::Destroyed)
        });
    }

    /// The program ends, and nothing of it is left on the gateway.
    #[track_caller]
    fn end(mut self) {
        self.cleanup();
        // The last datagrams may be under way still: those that nobody waits for.
        self.wait(millis(20), "nothing is left behind", |stage| stage.entries().is_empty());
    }

    /// Waits for the two early looks at an entry, and a little longer.
    fn wait_for_looks(&mut self, before: u64) {
        self.wait(secs(8), "two looks at the entry", |stage| {
            stage.count_of(Action::GetSpecificPortMappingEntry) >= before + 2
        });
        self.pass(millis(3000));
    }
}

/// Rows that are played on both stages.
macro_rules! rows {
    ($($(#[$meta:meta])* fn $name:ident<$stage:ident>() $body:block)*) => {
        $($(#[$meta])* pub(crate) fn $name<$stage: $crate::stage::Stage>() $body)*

        /// The rows of this file, for real sockets.
        pub(crate) const ROWS: &[(&str, fn())] =
            &[$((concat!(module_path!(), "::", stringify!($name)), $name::<$crate::stage::Sockets>)),*];

        mod on_a_virtual_clock {
            $(#[test] fn $name() { super::$name::<$crate::stage::VirtualClock>() })*
        }
    };
}
pub(crate) use rows;

/// Rows with several machines: over real sockets they are played in a network namespace.
macro_rules! lan_rows {
    ($($(#[$meta:meta])* fn $name:ident<$stage:ident>() $body:block)*) => {
        $($(#[$meta])* pub(crate) fn $name<$stage: $crate::stage::Lan>() $body)*

        /// The rows of this file, for real sockets in a network namespace.
        #[cfg(target_os = "linux")] // network namespaces
        pub(crate) const ROWS: &[(&str, fn())] = &[$((
            concat!(module_path!(), "::", stringify!($name)),
            $name::<$crate::stage::Program<$crate::stage::Segment>>
        )),*];

        mod on_a_virtual_clock {
            $(#[test] fn $name() { super::$name::<$crate::stage::VirtualClock>() })*
        }
    };
}
pub(crate) use lan_rows;
