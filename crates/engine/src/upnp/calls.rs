//! Calls of actions for their caller, who gets the replies: what the command asks.

use super::action::{Action, ExchangeError};
use super::devices::CommonInterface;
use super::exchange::Job;
use super::{Reply, Upnp};
use crate::driver::Rung;
use crate::io::Cx;
use std::time::Duration;

/// A call by its caller's number, which is no request for a mapping.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) action: Action,
    /// It is of this one, and not of a service that maps ports.
    pub(super) of: Option<CommonInterface>,
}

impl Upnp {
    /// Calls an action of a service, by a number of the caller's, within `timeout`.
    pub fn call(&mut self, cx: &mut Cx, rung: Rung, number: u32, action: Action, timeout: Duration) {
        self.calls.push(Call { number, action, of: None });
        self.enqueue(Job::Call(rung, number), timeout);
        self.settle(cx);
    }

    /// Likewise an action of the WANCommonInterfaceConfig of the service's device. Returns whether it has one.
    pub fn call_common(
        &mut self,
        cx: &mut Cx,
        rung: Rung,
        number: u32,
        action: Action,
        timeout: Duration,
    ) -> bool {
        let device = self.services.get(rung).and_then(|service| self.devices.get(service.device));
        let Some(common) = device.and_then(|device| device.common.clone()) else { return false };
        self.exchanges.enqueue(Job::Call(rung, number), common.url.clone(), timeout);
        self.calls.push(Call { number, action, of: Some(common) });
        self.settle(cx);
        true
    }

    /// A reply to a call, with its number.
    pub fn poll_reply(&mut self) -> Option<(u32, Result<Reply, ExchangeError>)> {
        self.replies.pop()
    }

    pub(super) fn call_of(&self, number: u32) -> Option<&Call> {
        self.calls.iter().find(|call| call.number == number)
    }
}
