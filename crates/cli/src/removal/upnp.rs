//! Removal by UPnP, entry by entry: each is read before and after.

use super::{Report, Sight, Target};
use crate::spec::Port;
use crate::table::own_addresses;
use crate::text::clean;
use crate::upnp::{ActionError, Values};
use plum_engine::upnp::code::NO_SUCH_ENTRY;
use plum_engine::upnp::{Action, Service};
use plum_wire::soap;
use std::net::IpAddr;

/// What an external port leads to.
enum Entry {
    None,
    /// To the port of this machine that is meant.
    Ours,
    /// Elsewhere, to this client and port.
    Other {
        client: String,
        is_this_machine: bool,
    },
    /// The gateway does not say; why.
    Unclear(String),
}

impl Target {
    /// Removes the entries for a port of this machine that the list has, else the one at its external port.
    pub(super) fn remove_by_upnp(&mut self, service: &Service, report: &mut Report) {
        let port = report.port;
        let (mut external_ports, mut sights) = (Vec::new(), Vec::new());
        match (port.external, self.table()) {
            (Some(external), _) => external_ports.push(external),
            (None, Ok(table)) => {
                if let Some(why) = &table.incomplete {
                    report.limit = Some(format!("the list may not be complete: {why}"));
                }
                for entry in table.own_entries(port.transport, port.internal) {
                    match &entry.remote_host {
                        None => external_ports.push(entry.external_port),
                        Some(host) => {
                            let what = format!("external port {} for {host} alone", entry.external_port);
                            report.reasons.push(format!("{what} is removed by its maker only"));
                            sights.push(Sight::Present);
                        }
                    }
                }
            }
            (None, Err(why)) => {
                let external = port.internal;
                report.limit =
                    Some(format!("the external port {external} is free; others are not known: {why}"));
            }
        }
        let likeliest = port.external_or_same();
        if external_ports.is_empty() && sights.is_empty()
            || self.others && !external_ports.contains(&likeliest)
        {
            external_ports.push(likeliest);
        }
        for external in external_ports {
            sights.push(self.remove_entry(service, external, report));
        }
        let worst = [Sight::Present, Sight::Unknown, Sight::OtherHost, Sight::Removed];
        report.upnp = worst.into_iter().find(|sight| sights.contains(sight)).unwrap_or(Sight::Absent);
    }

    fn remove_entry(&mut self, service: &Service, external: u16, report: &mut Report) -> Sight {
        let port = report.port;
        let is_ours = match self.look(service, port, external) {
            Entry::None => return Sight::Absent,
            Entry::Ours => true,
            // Gateways let any host delete any mapping. Some cannot answer the look; the deletion shows what is there.
            Entry::Other { .. } | Entry::Unclear(_) if self.others => false,
            // The external port is not one that was asked for, but the likeliest.
            Entry::Other { is_this_machine: true, .. } if port.external.is_none() => return Sight::Absent,
            Entry::Other { client, .. } => {
                let why = "not to this port of this machine: --others removes it";
                report.reasons.push(format!("external port {external} is mapped to {client}, {why}"));
                return Sight::OtherHost;
            }
            Entry::Unclear(why) => {
                let why = format!("the gateway does not say whose it is ({why}): --others removes it");
                report.reasons.push(why);
                return Sight::Unknown;
            }
        };
        let deleted = self.asker.call(service, Action::delete(port.transport, external), self.until);
        let (sight, reason) = match (deleted, self.look(service, port, external)) {
            (Err(ActionError::Refused { code: NO_SUCH_ENTRY, .. }), Entry::None) => return Sight::Absent,
            // Where the gateway cannot answer the look: it has said that it is done.
            (_, Entry::None) | (Ok(_), Entry::Unclear(_)) => {
                report.freed.push(external);
                return Sight::Removed;
            }
            // Somebody else has taken the external port.
            (Ok(_), Entry::Other { .. }) if is_ours => return Sight::Removed,
            (Ok(_), _) => (Sight::Present, "it stays, or is there again, after its removal".to_owned()),
            (Err(error), Entry::Ours) => (Sight::Present, error.to_string()),
            (Err(error), Entry::Other { .. }) if !is_ours => (Sight::Present, error.to_string()),
            (Err(error), _) => (Sight::Unknown, error.to_string()),
        };
        report.reasons.push(format!("external port {external}: {}", clean(&reason)));
        sight
    }

    fn look(&mut self, service: &Service, port: Port, external: u16) -> Entry {
        match self.asker.call(service, Action::read_entry(port.transport, external), self.until) {
            Ok(values) => self.judge(&values, port, external),
            Err(ActionError::Refused { code: NO_SUCH_ENTRY, .. }) => Entry::None,
            Err(error) => Entry::Unclear(clean(&error.to_string())),
        }
    }

    fn judge(&self, values: &Values, port: Port, external: u16) -> Entry {
        let value = |name| clean(soap::get(values, name).unwrap_or_default());
        let (client, internal) = (value("NewInternalClient"), value("NewInternalPort"));
        // Some gateways say 0 or the external port.
        let is_port = [port.internal.to_string(), "0".into(), external.to_string(), String::new()];
        let is_this_machine =
            client.parse::<IpAddr>().is_ok_and(|client| own_addresses(self.local).contains(&client));
        match is_this_machine && is_port.contains(&internal) {
            true => Entry::Ours,
            false => Entry::Other { client: format!("{client}:{internal}"), is_this_machine },
        }
    }
}
