//! The table by GetListOfPortMappings (WANIPConnection:2 §2.5.21), by ranges of external ports.
//!
//! The entries of a reply have no order (miniupnpd 2.3.1: the newest first, measured), so a count of entries is no page: where a reply is too long to
//! be read, each half of the range is asked for.

use super::LIST;
use crate::inquiry::Asker;
use crate::upnp::{ActionError, Values, read};
use plum_engine::upnp::{Action, ExchangeError, Service};
use plum_wire::{Transport, listing};
use std::ops::RangeInclusive;
use std::time::Instant;

/// PortMappingNotFound: there is no entry in the range.
const NONE_IN_RANGE: i64 = 730;

/// Requests for one table, at most.
const MAX_REQUESTS: u32 = 256;

/// The entries of a range.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Entries(Vec<Values>),
    /// The reply is too long, or was cut off.
    TooLong,
}

/// Asks for the entries of a range of external ports.
pub(super) fn part(
    asker: &mut Asker,
    service: &Service,
    transport: Transport,
    ports: &RangeInclusive<u16>,
    until: Instant,
) -> Result<Part, ActionError> {
    let arguments = [
        ("NewStartPort", ports.start().to_string()),
        ("NewEndPort", ports.end().to_string()),
        ("NewProtocol", transport.to_string()),
        // The entries of all hosts.
        ("NewManage", "1".to_owned()),
        // All of the range.
        ("NewNumberOfPorts", "0".to_owned()),
    ];
    let reply = asker.exchange(service, Action::new(LIST, arguments), until);
    match (read(LIST, service, &reply), reply) {
        (_, Err(ExchangeError::Cut)) => Ok(Part::TooLong),
        (Ok(_), Ok(reply)) => {
            let unreadable = |_| ActionError::Refused { code: 0, description: "no list".into() };
            listing::parse(&reply.body).map(Part::Entries).map_err(unreadable)
        }
        (Err(ActionError::Refused { code: NONE_IN_RANGE, .. }), _) => Ok(Part::Entries(Vec::new())),
        (Err(error), _) => Err(error),
        (Ok(_), Err(_)) => Ok(Part::TooLong),
    }
}

/// A list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) entries: Vec<Values>,
    /// Why entries are missing: the gateway has stopped answering.
    pub(super) cut: Option<String>,
}

/// All entries. `None`: the gateway has no list that can be read.
pub(super) fn collect(
    mut part: impl FnMut(Transport, &RangeInclusive<u16>) -> Result<Part, ActionError>,
) -> Option<Listed> {
    let mut entries = Vec::new();
    let mut left = [Transport::Udp, Transport::Tcp].map(|transport| (transport, 0..=u16::MAX)).to_vec();
    for _ in 0..MAX_REQUESTS {
        let Some((transport, ports)) = left.pop() else { return Some(Listed { entries, cut: None }) };
        match part(transport, &ports) {
            Ok(Part::Entries(more)) => entries.extend(more),
            Ok(Part::TooLong) => {
                let (start, end) = ports.into_inner();
                let middle = start + (end - start) / 2;
                if start == end {
                    return None;
                }
                left.extend([(transport, middle + 1..=end), (transport, start..=middle)]);
            }
            Err(ActionError::NoAnswer(reason)) if !entries.is_empty() => {
                return Some(Listed { entries, cut: Some(reason) });
            }
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(port: u16) -> Values {
        vec![("NewExternalPort".into(), port.to_string())]
    }

    #[test]
    fn halves_of_a_range_have_all_entries_whatever_their_order() {
        let table: Vec<u16> = (1000..1100).rev().chain([0, 65535, 61, 9000]).collect();
        let mut asked = 0;
        let listed = collect(|transport, ports| {
            asked += 1;
            let found: Vec<Values> =
                table.iter().filter(|port| ports.contains(port)).map(|&port| entry(port)).collect();
            Ok(match (transport, found.len()) {
                (Transport::Udp, _) => Part::Entries(Vec::new()),
                (_, 0..=40) => Part::Entries(found),
                _ => Part::TooLong,
            })
        });
        let mut ports: Vec<Values> = listed.expect("a list").entries;
        ports.sort();
        let mut expected: Vec<Values> = table.iter().map(|&port| entry(port)).collect();
        expected.sort();
        assert_eq!(ports, expected);
        assert!(asked < 40, "{asked}");
    }

    #[test]
    fn an_error_is_no_list_and_silence_leaves_what_was_read() {
        assert_eq!(collect(|_, _| Err(ActionError::NoAnswer("silence".into()))), None);
        let refused = ActionError::Refused { code: 401, description: String::new() };
        assert_eq!(collect(|_, _| Err(refused.clone())), None);
        let half = collect(|transport, _| match transport {
            Transport::Tcp => Ok(Part::Entries(vec![entry(80)])),
            Transport::Udp => Err(ActionError::NoAnswer("silence".into())),
        });
        assert_eq!(half, Some(Listed { entries: vec![entry(80)], cut: Some("silence".into()) }));
        let mut asked = 0;
        let endless = collect(|_, _| {
            asked += 1;
            Ok(Part::TooLong)
        });
        // Down to one port.
        assert_eq!((endless, asked), (None, 17));
    }

    #[test]
    fn a_list_is_asked_for_so_often_at_most() {
        let mut asked = 0;
        let listed = collect(|_, ports| {
            asked += 1;
            Ok(if ports.len() > 8 { Part::TooLong } else { Part::Entries(Vec::new()) })
        });
        assert_eq!((listed, asked), (None, MAX_REQUESTS));
    }
}
