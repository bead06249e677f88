//! Removal by PCP and NAT-PMP.
//!
//! NAT-PMP says success to the deletion of what is not there (RFC 6886 §3.4), and some gateways delete only what NAT-PMP has made.
//! PCP knows a mapping by its nonce, which only its maker has: another nonce is NOT_AUTHORIZED, and success means that no mapping is
//! there (RFC 6887 §15). To the deletion of what is not there some gateways have an error, too (miniupnpd 2.3.1 NO_RESOURCES), so what they say is
//! compared with what they say of a port that nothing uses. miniupnpd 2.3.1 lets a MAP request with another nonce take a mapping over if it
//! suggests its external port, and makes another one beside it if not (all measured).

use super::{Report, Sight, Target};
use crate::exit::{Exit, Failure};
use crate::inquiry::Map;
use plum_engine::Reason;
use plum_engine::driver::{DeletionOutcome, Key};
use plum_wire::Transport;
use plum_wire::natpmp;
use plum_wire::pcp::ResultCode;
use std::net::UdpSocket;
use std::num::NonZeroU16;
use std::time::Instant;

/// The lifetime of a request that takes a mapping over, to delete it: it ends soon if the deletion is lost.
const TAKEOVER_SECS: u32 = 120;

const ONLY_ITS_MAKER: &str = "only the program that made the mapping can remove it by PCP; it ends with its lifetime, within some hours";

const DOES_NOT_SAY: &str = "the gateway refuses by PCP (not authorized), and does not say whether a mapping of another program is there";

/// The answer to a deletion with a nonce that no mapping has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Success: no mapping is there.
    Absent,
    /// The mapping stays for so many seconds.
    Kept(u32),
    Error(ResultCode),
    /// The gateway does not answer by PCP.
    None,
}

impl Target {
    pub(super) fn remove_by_server(&mut self, key: Key, report: &mut Report) -> Result<(), Failure> {
        let answer = if self.pcp { self.delete_by_pcp(key)? } else { Answer::None };
        // A gateway that is silent about one port is not asked about the others: each would take as long.
        self.pcp = answer != Answer::None;
        self.remove_by_natpmp(key, report)?;
        report.pcp = match answer {
            Answer::None => Sight::NoAnswer,
            Answer::Absent => Sight::Absent,
            Answer::Kept(secs) => {
                report.reasons.push(keeps(secs.into()));
                Sight::Present
            }
            Answer::Error(code) => self.remove_by_pcp(key, code, report)?,
        };
        Ok(())
    }

    /// Goes on after this error.
    fn remove_by_pcp(&mut self, key: Key, code: ResultCode, report: &mut Report) -> Result<Sight, Failure> {
        let of_absent = self.answer_for_absent()?;
        match (code, of_absent == Answer::Error(code)) {
            (ResultCode::NotAuthorized, false) => {}
            (ResultCode::NotAuthorized, true) => {
                report.reasons.push(DOES_NOT_SAY.to_owned());
                return Ok(Sight::Unknown);
            }
            (_, true) => return Ok(Sight::Absent),
            (_, false) => {
                report.reasons.push(format!("the gateway refuses by PCP: {code:?}"));
                return Ok(Sight::Unknown);
            }
        }
        if report.natpmp == Sight::Absent && self.delete_by_pcp(key)? == of_absent {
            report.natpmp = Sight::Removed;
            return Ok(Sight::Absent);
        }
        if let Some(secs) = self.take_over(key, report.port.external_or_same())? {
            report.reasons.push(format!("its deletion by PCP was not confirmed; it ends within {secs} s"));
            return Ok(Sight::Unknown);
        }
        if self.delete_by_pcp(key)? == of_absent {
            return Ok(Sight::Removed);
        }
        report.reasons.push(ONLY_ITS_MAKER.to_owned());
        Ok(Sight::Present)
    }

    fn delete_by_pcp(&mut self, key: Key) -> Result<Answer, Failure> {
        Ok(match self.asker.map_by_pcp(Map::deletion(key), None, self.until) {
            Ok((header, _)) => match (header.result, header.lifetime_secs) {
                (ResultCode::Success, 0) => Answer::Absent,
                (ResultCode::Success, secs) => Answer::Kept(secs),
                (code, _) => Answer::Error(code),
            },
            Err(reason) => {
                self.unanswered(reason)?;
                Answer::None
            }
        })
    }

    /// What the gateway says to the deletion of what is not there: of a UDP port that no program has.
    fn answer_for_absent(&mut self) -> Result<Answer, Failure> {
        if let Some(known) = self.answer_for_absent {
            return Ok(known);
        }
        let unused = UdpSocket::bind((self.local, 0))?;
        let Some(internal_port) = NonZeroU16::new(unused.local_addr()?.port()) else {
            return Ok(Answer::None);
        };
        let answer = self.delete_by_pcp(Key { transport: Transport::Udp, internal_port })?;
        self.answer_for_absent = Some(answer);
        Ok(answer)
    }

    /// Has the gateway give a mapping to another nonce, and deletes it then; the seconds for which one may be there that was not deleted.
    fn take_over(&mut self, key: Key, external_port: u16) -> Result<Option<u32>, Failure> {
        let request = Map { key, external_port, lifetime_secs: TAKEOVER_SECS };
        let taken = match self.asker.map_by_pcp(request, None, self.until) {
            Ok((header, nonce)) if header.result == ResultCode::Success => (nonce, header.lifetime_secs),
            Ok(_) => return Ok(None),
            Err(reason) => {
                self.unanswered(reason)?;
                // The request may have arrived.
                return Ok(Some(TAKEOVER_SECS));
            }
        };
        let deleted = self.asker.map_by_pcp(Map::deletion(key), Some(taken), self.until);
        let is_deleted = deleted.is_ok_and(|(header, _)| header.result == ResultCode::Success);
        Ok(Some(taken.1).filter(|_| !is_deleted))
    }

    fn remove_by_natpmp(&mut self, key: Key, report: &mut Report) -> Result<(), Failure> {
        if !self.natpmp {
            return Ok(());
        }
        report.natpmp = match self.asker.delete(key.transport, key.internal_port, self.until) {
            DeletionOutcome::Deleted => Sight::Absent,
            DeletionOutcome::DeletedIn(left) => {
                report.reasons.push(keeps(left.as_secs()));
                Sight::Present
            }
            DeletionOutcome::NotConfirmed(Reason::Unsupported | Reason::Result { code: 1, .. }) => {
                Sight::NoAnswer
            }
            DeletionOutcome::NotConfirmed(Reason::Result { code, .. }) => {
                let result = natpmp::ResultCode::from(code);
                report.reasons.push(format!("the gateway refuses by NAT-PMP: {result:?}"));
                Sight::Unknown
            }
            DeletionOutcome::NotConfirmed(reason) => self.unanswered(reason)?,
        };
        // As with PCP.
        self.natpmp = report.natpmp != Sight::NoAnswer;
        Ok(())
    }

    /// Deletes all that NAT-PMP has mapped to this machine by a transport.
    pub(super) fn remove_all_by_natpmp(
        &mut self,
        transport: Transport,
        report: &mut Report,
    ) -> Result<(), Failure> {
        report.natpmp = match self.asker.delete_all(transport, self.until) {
            Ok(()) => Sight::Absent,
            Err(Reason::Result { code: 1, .. }) => Sight::NoAnswer,
            Err(Reason::Result { code, .. }) => {
                let result = natpmp::ResultCode::from(code);
                report.reasons.push(format!("the gateway refuses by NAT-PMP: {result:?}"));
                Sight::Unknown
            }
            Err(reason) => self.unanswered(reason)?,
        };
        self.natpmp = report.natpmp != Sight::NoAnswer;
        Ok(())
    }

    /// Whether the gateway answers by PCP.
    pub fn speaks_pcp(&mut self) -> Result<bool, Failure> {
        Ok(self.pcp && self.answer_for_absent()? != Answer::None)
    }

    /// What no answer shows.
    fn unanswered(&mut self, reason: Reason) -> Result<Sight, Failure> {
        if matches!(reason, Reason::Firewall | Reason::Unreachable | Reason::Shortage | Reason::NoRandomness)
        {
            return Err(Failure::new(Exit::Failed, reason.to_string()));
        }
        self.is_cut |= reason == Reason::Silence && self.until <= Instant::now();
        Ok(Sight::NoAnswer)
    }
}

/// RFC 6887 §15: a mapping may carry traffic.
fn keeps(secs: u64) -> String {
    format!("the gateway keeps it for {secs} s more")
}
