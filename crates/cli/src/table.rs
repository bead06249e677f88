//! A gateway's table of mappings: its list by GetListOfPortMappings, else read entry by entry.

mod listing;

use crate::inquiry::Asker;
use crate::spec::Port;
use crate::text::clean;
use crate::upnp::{ActionError, parse_bool};
use plum_engine::upnp::{Action, Service};
use plum_wire::igd::WanService;
use plum_wire::{Transport, soap};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

/// Entries that are read at most: home gateways have room for some hundred.
const MAX_ENTRIES: u32 = 5000;

/// A gateway that gives the same entry so often in a row does not count them.
const MAX_REPEATED: u32 = 8;

/// Placeholders that are read in a row, at most: some gateways have a table of fixed size, whose free places they show.
const MAX_PLACEHOLDERS: u32 = 256;

/// The actions that a table is read by.
const LIST: &str = "GetListOfPortMappings";
const ENTRY: &str = "GetGenericPortMappingEntry";

/// How gateways say that there is no such entry: SpecifiedArrayIndexInvalid (WANIPConnection:1 §2.4.14), and NoSuchEntryInArray
/// as some have it.
const ENDS: [i64; 2] = [713, 714];

/// Invalid Args and Action Failed (UDA 2.0 §3.2.5): some have these instead.
const SLOPPY_ENDS: [i64; 2] = [402, 501];

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// By external port and transport.
    pub mappings: Vec<Entry>,
    /// The action that it was read by.
    pub action: &'static str,
    /// Why entries may be missing.
    pub incomplete: Option<String>,
    /// The gateway has stopped answering, so entries may be missing.
    #[serde(skip)]
    pub is_cut: bool,
}

/// A mapping, as the gateway tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// 0: every port.
    pub external_port: u16,
    /// `TCP` or `UDP`, or what the gateway says instead.
    pub transport: String,
    /// The only host outside that it is for; `None`: everyone.
    pub remote_host: Option<String>,
    pub internal_client: String,
    pub internal_port: u16,
    /// 0: it does not end; `None`: not told.
    pub lease_left_secs: Option<u32>,
    pub description: String,
    /// `None`: not told.
    pub enabled: Option<bool>,
    pub is_this_machine: bool,
}

impl Table {
    /// The entries for a port of this machine.
    pub fn own_entries(&self, transport: Transport, internal_port: u16) -> Vec<Entry> {
        let is_its = |port: Port| (port.transport, port.internal) == (transport, internal_port);
        let is_it = |entry: &&Entry| entry.is_this_machine && entry.port().is_some_and(is_its);
        self.mappings.iter().filter(is_it).cloned().collect()
    }
}

impl Entry {
    /// The port that it leads to; `None`: none that the gateway names.
    pub fn port(&self) -> Option<Port> {
        let transport = match self.transport.as_str() {
            "TCP" => Transport::Tcp,
            "UDP" => Transport::Udp,
            _ => return None,
        };
        // Some gateways say 0 in place of the internal port.
        let internal = [self.internal_port, self.external_port].into_iter().find(|&port| port != 0)?;
        Some(Port::new(transport, internal))
    }

    /// Whether it is a free place of the table.
    fn is_placeholder(&self) -> bool {
        let leads_nowhere = ["", "0.0.0.0"].contains(&self.internal_client.as_str());
        leads_nowhere && (self.external_port == 0 || self.internal_port == 0)
    }

    /// Identifies an entry; entries are sorted by it.
    fn key(&self) -> (u16, String, Option<String>, String, u16) {
        (
            self.external_port,
            self.transport.clone(),
            self.remote_host.clone(),
            self.internal_client.clone(),
            self.internal_port,
        )
    }
}

/// Reads the table, until then at most: by GetListOfPortMappings where the service has it and shows entries by it, else by
/// GetGenericPortMappingEntry (WANIPConnection:1 §2.4.14). `local`: the address of this machine there.
///
/// # Errors
/// Not even the first entry is to be had, and not because there is none.
pub fn read(
    asker: &mut Asker,
    service: &Service,
    local: IpAddr,
    until: Instant,
) -> Result<Table, ActionError> {
    let own = own_addresses(local);
    if service.named.kind == WanService::Ip2 {
        let listed =
            listing::collect(|transport, ports| listing::part(asker, service, transport, ports, until));
        let table = listed.map(|listed| {
            let entries = listed.entries.iter().map(|values| entry(values, &own));
            let mappings = entries.filter(|entry| !entry.is_placeholder());
            let sorted: BTreeMap<_, _> = mappings.map(|entry| (entry.key(), entry)).collect();
            let is_cut = listed.cut.is_some();
            let incomplete = listed.cut.map(|reason| format!("the list did not go on: {reason}"));
            Table { mappings: sorted.into_values().collect(), action: LIST, incomplete, is_cut }
        });
        // Of an empty list the entries have to tell that there are none.
        if let Some(table) = table.filter(|table| !table.mappings.is_empty()) {
            return Ok(table);
        }
    }
    collect(|index| {
        let action = Action::new(ENTRY, Some(("NewPortMappingIndex", index.to_string())));
        Ok(entry(&asker.call(service, action, until)?, &own))
    })
}

/// The addresses of this machine.
pub fn own_addresses(local: IpAddr) -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().map(|interface| interface.ip()).chain([local]).collect()
}

/// Collects the entries that `get` returns by index.
fn collect(mut get: impl FnMut(u32) -> Result<Entry, ActionError>) -> Result<Table, ActionError> {
    let mut seen = BTreeMap::new();
    let (mut repeated, mut placeholders) = (0, 0);
    let mut is_cut = false;
    let mut incomplete = Some(format!("only the first {MAX_ENTRIES} were asked for"));
    for index in 0..MAX_ENTRIES {
        match get(index) {
            Ok(entry) if entry.is_placeholder() => {
                placeholders += 1;
                if placeholders == MAX_PLACEHOLDERS {
                    let first = index + 1 - MAX_PLACEHOLDERS;
                    incomplete = Some(format!("from index {first} on the gateway shows empty entries only"));
                    break;
                }
            }
            // Entries that end or begin meanwhile move others, so that one may come twice.
            Ok(entry) => match seen.insert(entry.key(), entry) {
                None => (repeated, placeholders) = (0, 0),
                Some(_) if repeated + 1 == MAX_REPEATED => {
                    incomplete = Some("the gateway repeats itself".into());
                    break;
                }
                Some(_) => repeated += 1,
            },
            Err(ActionError::Refused { code, .. }) if ENDS.contains(&code) => {
                incomplete = None;
                break;
            }
            Err(ActionError::Refused { code, .. }) if SLOPPY_ENDS.contains(&code) && index > 0 => {
                incomplete = None;
                break;
            }
            Err(ActionError::Refused { code, .. }) if SLOPPY_ENDS.contains(&code) => {
                incomplete = Some(format!("the gateway says no more than error {code}"));
                break;
            }
            Err(error) if index == 0 => return Err(error),
            Err(error @ ActionError::Refused { .. }) => {
                incomplete = Some(format!("then there was {error}"));
                break;
            }
            Err(ActionError::NoAnswer(reason)) => {
                is_cut = true;
                incomplete = Some(format!("the entry of index {index} did not come: {reason}"));
                break;
            }
        }
    }
    Ok(Table { mappings: seen.into_values().collect(), action: ENTRY, incomplete, is_cut })
}

fn entry(values: &[(String, String)], own: &[IpAddr]) -> Entry {
    let value = |name| clean(soap::get(values, name).unwrap_or_default());
    let number = |name| value(name).parse::<u16>().unwrap_or(0);
    // A list has names of its own.
    let either = |name, other| soap::get(values, name).map_or_else(|| value(other), clean);
    let internal_client = value("NewInternalClient");
    let is_this_machine = internal_client.parse().is_ok_and(|address: IpAddr| own.contains(&address));
    // A wildcard is the empty text (§2.2.18), and as some write it.
    let remote_host =
        Some(value("NewRemoteHost")).filter(|host| !["", "0.0.0.0", "*"].contains(&host.as_str()));
    Entry {
        external_port: number("NewExternalPort"),
        transport: value("NewProtocol").to_ascii_uppercase(),
        remote_host,
        internal_port: number("NewInternalPort"),
        lease_left_secs: either("NewLeaseDuration", "NewLeaseTime").parse().ok(),
        description: either("NewPortMappingDescription", "NewDescription"),
        enabled: parse_bool(&value("NewEnabled")),
        internal_client,
        is_this_machine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i64) -> ActionError {
        ActionError::Refused { code, description: String::new() }
    }

    fn mapping(port: u16) -> Entry {
        let client = ("NewInternalClient".into(), "192.168.1.5".into());
        entry(
            &[("NewExternalPort".into(), port.to_string()), client, ("NewInternalPort".into(), "80".into())],
            &[],
        )
    }

    #[test]
    fn every_way_to_say_that_there_are_no_more_ends_the_list() {
        for code in [713, 714, 402, 501] {
            let get = |index| if index < 3 { Ok(mapping(9000 - index as u16)) } else { Err(refused(code)) };
            let table = collect(get).unwrap();
            let ports: Vec<u16> = table.mappings.iter().map(|entry| entry.external_port).collect();
            assert_eq!((ports, table.incomplete), (vec![8998, 8999, 9000], None), "{code}");
        }
    }

    #[test]
    fn an_error_in_between_leaves_what_was_read_and_the_doubt() {
        let table =
            collect(|index| if index < 2 { Ok(mapping(index as u16)) } else { Err(refused(800)) }).unwrap();
        assert_eq!(
            (table.mappings.len(), table.incomplete.as_deref()),
            (2, Some("then there was error 800"))
        );
    }

    #[test]
    fn silence_in_between_leaves_what_was_read_and_no_doubt() {
        let silence = |index| match index {
            0 => Ok(mapping(80)),
            _ => Err(ActionError::NoAnswer("no answer in time".into())),
        };
        let table = collect(silence).unwrap();
        let why = "the entry of index 1 did not come: no answer in time";
        assert_eq!((table.mappings.len(), table.incomplete.as_deref(), table.is_cut), (1, Some(why), true));
    }

    #[test]
    fn no_entry_and_no_reason_why_is_told_as_it_is() {
        let empty = collect(|_| Err(refused(713))).unwrap();
        assert_eq!((empty.mappings.len(), empty.incomplete), (0, None));
        assert_eq!(collect(|_| Err(refused(606))), Err(refused(606)));
        let table = collect(|_| Err(refused(501))).unwrap();
        assert_eq!(table.incomplete.as_deref(), Some("the gateway says no more than error 501"));
    }

    #[test]
    fn a_gateway_that_gives_the_same_entry_for_ever_is_not_asked_for_ever() {
        let mut asked = 0;
        let table = collect(|_| {
            asked += 1;
            Ok(mapping(80))
        });
        assert_eq!(asked, 1 + MAX_REPEATED);
        assert_eq!(table.unwrap().mappings.len(), 1);
        let table = collect(|index| Ok(Entry { internal_port: index as u16, ..mapping(80) })).unwrap();
        assert_eq!(table.mappings.len(), MAX_ENTRIES as usize);
        assert!(table.incomplete.is_some());
    }

    #[test]
    fn free_places_are_no_mappings() {
        let free = || entry(&[("NewInternalClient".into(), "0.0.0.0".into())], &[]);
        let places = |index| match index {
            40 => Ok(mapping(80)),
            0..60 => Ok(free()),
            _ => Err(refused(713)),
        };
        let table = collect(places).unwrap();
        assert_eq!((table.mappings.len(), table.incomplete), (1, None));
        let mut asked = 0;
        let table = collect(|index| {
            asked += 1;
            Ok(if index == 3 { mapping(80) } else { free() })
        });
        let why = "from index 4 on the gateway shows empty entries only";
        assert_eq!(table.unwrap().incomplete.as_deref(), Some(why));
        assert_eq!(asked, 4 + MAX_PLACEHOLDERS);
        // What leads somewhere is one, whatever else it lacks.
        assert!(!Entry { internal_client: "192.168.1.5".into(), ..free() }.is_placeholder());
    }

    #[test]
    fn an_entry_is_read_and_cleaned() {
        let values = [
            ("NewRemoteHost", "0.0.0.0"),
            ("NewExternalPort", "8080"),
            ("NewProtocol", "tcp"),
            ("NewInternalPort", "80"),
            ("NewInternalClient", "192.168.1.5"),
            ("NewEnabled", "1"),
            ("NewPortMappingDescription", "a\u{1b}[31mb\u{202e}"),
            ("NewLeaseDuration", "3600"),
        ];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let expected = Entry {
            external_port: 8080,
            transport: "TCP".into(),
            remote_host: None,
            internal_client: "192.168.1.5".into(),
            internal_port: 80,
            lease_left_secs: Some(3600),
            description: "a [31mb".into(),
            enabled: Some(true),
            is_this_machine: true,
        };
        assert_eq!(entry(&values, &["192.168.1.5".parse().unwrap()]), expected);
        assert!(!entry(&values, &["192.168.1.6".parse().unwrap()]).is_this_machine);
    }
}
