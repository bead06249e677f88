//! The state of each protocol at the present gateway, kept nowhere else.

use super::io::Protocol;
use super::reason::Reason;
use crate::time::Time;
use std::net::IpAddr;
use std::time::Duration;

/// How long a silent, preferred protocol delays a less preferred one that has answered.
pub const GRACE: Duration = Duration::from_millis(250);

/// After this, silence counts as a failure: the last retransmission, after 250, 500 and 1000 ms, has had 2 s (RFC 6886
/// §3.1 doubles its waits likewise).
pub const SILENCE: Duration = Duration::from_millis(3750);

/// The state of a protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProtocolState {
    /// Not asked yet, or to be asked again.
    #[default]
    Unasked,
    /// Asked, without an answer so far.
    Asked {
        /// Since when.
        since: Time,
        /// The other protocol's reply says that this one is supported.
        is_promised: bool,
    },
    /// It has answered.
    Heard,
    /// It has granted a mapping.
    Works,
    /// It is not asked before `until`.
    Out {
        reason: Reason,
        /// When it may be asked again.
        until: Time,
    },
}

/// What is known of one protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    state: ProtocolState,
    /// It has granted a mapping at this gateway at least once.
    pub has_worked: bool,
    /// When it answered last.
    pub heard_at: Option<Time>,
    /// How many times in a row it went out.
    pub outs: u8,
    /// When it went out last.
    pub out_at: Option<Time>,
}

/// The three protocols that ask a gateway.
#[derive(Debug, Default)]
pub struct Protocols {
    /// By protocol; the one of `Direct` is not used.
    records: [Record; 4],
    /// The last external address from PCP or NAT-PMP, and when it was received.
    address: Option<(IpAddr, Time)>,
    /// The gateway's own UPnP device has answered.
    pub is_upnp_there: bool,
    /// A state has changed since the last `take_changed`.
    changed: bool,
}

impl Protocols {
    fn set(&mut self, protocol: Protocol, state: ProtocolState) {
        let record = &mut self.records[protocol as usize];
        if record.state != state {
            record.state = state;
            self.changed = true;
        }
    }

    /// The state of a protocol.
    pub fn state(&self, protocol: Protocol) -> ProtocolState {
        self.records[protocol as usize].state
    }

    /// Whether a protocol has answered and is not out.
    pub fn is_up(&self, protocol: Protocol) -> bool {
        matches!(self.state(protocol), ProtocolState::Heard | ProtocolState::Works)
    }

    /// Whether a protocol is out because no socket could be opened.
    pub fn is_out_for_shortage(&self, protocol: Protocol) -> bool {
        matches!(self.state(protocol), ProtocolState::Out { reason: Reason::Shortage, .. })
    }

    pub fn of(&self, protocol: Protocol) -> &Record {
        &self.records[protocol as usize]
    }

    /// Records a request by a protocol.
    pub fn note_asked(&mut self, now: Time, protocol: Protocol) {
        if self.state(protocol) == ProtocolState::Unasked {
            self.set(protocol, ProtocolState::Asked { since: now, is_promised: false });
        }
    }

    /// Records the external address from PCP or NAT-PMP.
    pub fn note_address(&mut self, now: Time, address: IpAddr) {
        self.address = Some((address, now));
    }

    /// The external address, if it was received within `span`.
    pub fn address(&self, now: Time, span: Duration) -> Option<IpAddr> {
        self.address.filter(|&(_, at)| now.since(at) <= span).map(|(address, _)| address)
    }

    /// Records an answer of a protocol.
    pub fn note_heard(&mut self, now: Time, protocol: Protocol) {
        self.records[protocol as usize].heard_at = Some(now);
        if self.state(protocol) != ProtocolState::Works {
            self.note_there(now, protocol, ProtocolState::Heard);
        }
    }

    /// Sets the state of a protocol that answers, unless a NAT stands before its server.
    fn note_there(&mut self, now: Time, protocol: Protocol, state: ProtocolState) {
        let is_for_others = matches!(self.state(protocol), ProtocolState::Out { reason: Reason::NatBetween, until } if now < until);
        if !is_for_others {
            self.set(protocol, state);
        }
    }

    /// Records that the other protocol's reply says that this one is supported.
    pub fn note_promised(&mut self, now: Time, protocol: Protocol) {
        if matches!(self.state(protocol), ProtocolState::Unasked | ProtocolState::Asked { .. }) {
            self.set(protocol, ProtocolState::Asked { since: now, is_promised: true });
        }
    }

    /// It has granted a mapping.
    pub fn note_works(&mut self, now: Time, protocol: Protocol) {
        let record = &mut self.records[protocol as usize];
        (record.has_worked, record.heard_at, record.outs) = (true, Some(now), 0);
        self.note_there(now, protocol, ProtocolState::Works);
    }

    /// Records that a protocol cannot be used for `wait`.
    pub fn note_out(&mut self, now: Time, protocol: Protocol, reason: Reason, wait: Duration) {
        let record = &mut self.records[protocol as usize];
        record.outs = record.outs.saturating_add(1);
        record.out_at = Some(now);
        self.set(protocol, ProtocolState::Out { reason, until: now + wait });
    }

    /// Allows protocols that are out to be asked at once: all of them, or the silent ones only.
    pub fn revive(&mut self, silent_only: bool) {
        for protocol in Protocol::ASKING {
            if let ProtocolState::Out { reason, .. } = self.state(protocol)
                && (reason.is_silence() || !silent_only)
            {
                self.records[protocol as usize].out_at = None;
                self.set(protocol, ProtocolState::Unasked);
            }
        }
    }

    /// Records that a protocol has to be found again.
    pub fn doubt(&mut self, protocol: Protocol) {
        self.set(protocol, ProtocolState::Unasked);
    }

    /// Allows protocols whose retry time has come to be asked again, and with them all silent ones, so that they
    /// compete in one race. Returns whether there were any.
    pub fn handle_timeout(&mut self, now: Time) -> bool {
        let is_due = self.poll_timeout().is_some_and(|at| at <= now);
        for protocol in Protocol::ASKING {
            if let ProtocolState::Out { until, reason } = self.state(protocol)
                && (until <= now || is_due && reason.is_silence())
            {
                self.set(protocol, ProtocolState::Unasked);
            }
        }
        is_due
    }

    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Time> {
        let until = |protocol| match self.state(protocol) {
            ProtocolState::Out { until, .. } => Some(until),
            _ => None,
        };
        Protocol::ASKING.into_iter().filter_map(until).min()
    }

    /// Whether a state has changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}
