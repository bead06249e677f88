//! How each protocol stands at the present gateway. Nothing else keeps that.

use super::io::Protocol;
use super::reason::Reason;
use crate::time::Time;
use std::net::IpAddr;
use std::time::Duration;

/// How long the silence of a better protocol holds up a lesser one that has answered.
pub const GRACE: Duration = Duration::from_millis(250);

/// When silence is taken for an answer: the last retransmission, after 250, 500 and 1000 ms, has then had 2 s
/// (RFC 6886 §3.1 doubles its waits likewise).
pub const SILENCE: Duration = Duration::from_millis(3750);

/// How a protocol stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProtocolState {
    /// Not asked yet, or to be asked anew.
    #[default]
    Unasked,
    /// Asked, and silent so far.
    Asked {
        /// Since when.
        since: Time,
        /// The other protocol's answer says that it is spoken here.
        is_promised: bool,
    },
    /// It has answered something.
    Heard,
    /// It has made a mapping.
    Works,
    /// It is not asked before `until`.
    Out {
        /// Why.
        reason: Reason,
        /// When it may be asked again.
        until: Time,
    },
}

/// What is known of one protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    state: ProtocolState,
    /// It has made a mapping at this gateway, once.
    pub has_worked: bool,
    /// When it answered last.
    pub heard_at: Option<Time>,
    /// How often in a row it went out.
    pub outs: u8,
    /// When it went out last.
    pub out_at: Option<Time>,
}

/// The three protocols that ask a gateway.
#[derive(Debug, Default)]
pub struct Protocols {
    /// By protocol; direct asks nobody, and nobody asks for its state.
    records: [Record; 4],
    /// The external address that a gateway told last by PCP or NAT-PMP, and when.
    address: Option<(IpAddr, Time)>,
    /// The gateway's own UPnP device has answered.
    pub is_upnp_there: bool,
    /// Something changed that those who wait for a protocol must look at.
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

    /// How it stands.
    pub fn state(&self, protocol: Protocol) -> ProtocolState {
        self.records[protocol as usize].state
    }

    /// Whether it has answered, and is not out.
    pub fn is_up(&self, protocol: Protocol) -> bool {
        matches!(self.state(protocol), ProtocolState::Heard | ProtocolState::Works)
    }

    /// Whether it is out because the system gave no socket.
    pub fn is_out_for_shortage(&self, protocol: Protocol) -> bool {
        matches!(self.state(protocol), ProtocolState::Out { reason: Reason::Shortage, .. })
    }

    /// What is known of it.
    pub fn of(&self, protocol: Protocol) -> &Record {
        &self.records[protocol as usize]
    }

    /// It is being asked for the first time, or again.
    pub fn note_asked(&mut self, now: Time, protocol: Protocol) {
        if self.state(protocol) == ProtocolState::Unasked {
            self.set(protocol, ProtocolState::Asked { since: now, is_promised: false });
        }
    }

    /// The gateway has told its external address, by PCP or NAT-PMP.
    pub fn note_address(&mut self, now: Time, address: IpAddr) {
        self.address = Some((address, now));
    }

    /// The external address, if it was told within `span`.
    pub fn address(&self, now: Time, span: Duration) -> Option<IpAddr> {
        self.address.filter(|&(_, at)| now.since(at) <= span).map(|(address, _)| address)
    }

    /// It has answered something: it is there.
    pub fn note_heard(&mut self, now: Time, protocol: Protocol) {
        self.records[protocol as usize].heard_at = Some(now);
        if self.state(protocol) != ProtocolState::Works {
            self.note_there(now, protocol, ProtocolState::Heard);
        }
    }

    /// It is there again, unless it would map the port of another host.
    fn note_there(&mut self, now: Time, protocol: Protocol, state: ProtocolState) {
        let is_for_others = matches!(self.state(protocol), ProtocolState::Out { reason: Reason::NatBetween, until } if now < until);
        if !is_for_others {
            self.set(protocol, state);
        }
    }

    /// The other protocol's answer says that this one is spoken here.
    pub fn note_promised(&mut self, now: Time, protocol: Protocol) {
        if matches!(self.state(protocol), ProtocolState::Unasked | ProtocolState::Asked { .. }) {
            self.set(protocol, ProtocolState::Asked { since: now, is_promised: true });
        }
    }

    /// It has made a mapping.
    pub fn note_works(&mut self, now: Time, protocol: Protocol) {
        let record = &mut self.records[protocol as usize];
        (record.has_worked, record.heard_at, record.outs) = (true, Some(now), 0);
        self.note_there(now, protocol, ProtocolState::Works);
    }

    /// It cannot be used, for `wait`.
    pub fn note_out(&mut self, now: Time, protocol: Protocol, reason: Reason, wait: Duration) {
        let record = &mut self.records[protocol as usize];
        record.outs = record.outs.saturating_add(1);
        record.out_at = Some(now);
        self.set(protocol, ProtocolState::Out { reason, until: now + wait });
    }

    /// A sign of life, or another look at the network: those that were silent may be asked at once, or all.
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

    /// It has to be found again.
    pub fn doubt(&mut self, protocol: Protocol) {
        self.set(protocol, ProtocolState::Unasked);
    }

    /// Those whose time has come may be asked again, and with the first all that were silent: they are in one race. Whether
    /// there were any.
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

    /// Whether anything changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}
