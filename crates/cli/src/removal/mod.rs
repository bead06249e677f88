//! Removes mappings to this machine, and finds out what is left of them: by UPnP, PCP and NAT-PMP.

mod report;
mod server;
mod upnp;

pub use report::{Outcome, Report, Sight};

use crate::exit::{Exit, Failure};
use crate::inquiry::Asker;
use crate::spec::Port;
use crate::table::{self, Entry, Table};
use plum_engine::driver::Key;
use plum_engine::upnp::Service;
use plum_wire::Transport;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Instant;

/// The gateway, and the protocols by which to ask it.
pub struct Target {
    pub asker: Asker,
    pub upnp: Option<Service>,
    /// Whether PCP is to be asked.
    pub pcp: bool,
    /// Whether NAT-PMP is to be asked.
    pub natpmp: bool,
    /// The address of this machine.
    pub local: IpAddr,
    /// UPnP: entries for other hosts may be removed.
    pub others: bool,
    pub until: Instant,
    /// The time was over before all protocols had answered.
    pub is_cut: bool,
    /// The list of the service; the reason why there is none. `None`: it is not read yet.
    table: Option<Result<Table, String>>,
    /// What PCP says to the deletion of what is not there. `None`: not asked yet.
    answer_for_absent: Option<server::Answer>,
}

impl Target {
    pub fn new(asker: Asker, local: IpAddr, until: Instant) -> Target {
        let (table, answer_for_absent) = (None, None);
        Target {
            asker,
            upnp: None,
            pcp: false,
            natpmp: false,
            local,
            others: false,
            until,
            is_cut: false,
            table,
            answer_for_absent,
        }
    }

    /// The list of the UPnP service, read once.
    pub fn table(&mut self) -> Result<&Table, &str> {
        if self.table.is_none() {
            let read = match &self.upnp {
                Some(service) => table::read(&mut self.asker, service, self.local, self.until)
                    .map_err(|error| error.to_string()),
                None => Err("no gateway answers by UPnP".to_owned()),
            };
            self.table = Some(read);
        }
        match &self.table {
            Some(Ok(table)) => Ok(table),
            Some(Err(reason)) => Err(reason),
            None => Err(""),
        }
    }

    /// Removes the mappings of a port of this machine by each protocol, and looks at what is left.
    pub fn remove(&mut self, port: Port) -> Result<Report, Failure> {
        let mut report = Report::new(port);
        if let Some(service) = self.upnp.clone() {
            self.remove_by_upnp(&service, &mut report);
        }
        if let Some(internal_port) = NonZeroU16::new(port.internal) {
            self.remove_by_server(Key { transport: port.transport, internal_port }, &mut report)?;
        }
        Ok(report)
    }

    /// The ports of this machine that the UPnP list has, with the rows of each.
    pub fn listed(&mut self) -> Result<Vec<(Port, Vec<Entry>)>, String> {
        let mut listed: Vec<(Port, Vec<Entry>)> = Vec::new();
        for entry in self.table()?.mappings.iter().filter(|entry| entry.is_this_machine) {
            let Some(port) = entry.port() else { continue };
            match listed.iter_mut().find(|(known, _)| *known == port) {
                Some((_, rows)) => rows.push(entry.clone()),
                None => listed.push((port, vec![entry.clone()])),
            }
        }
        Ok(listed)
    }

    /// Removes what NAT-PMP has mapped to this machine by a transport, which it has no list of.
    pub fn remove_unlisted(&mut self, transport: Transport) -> Result<Report, Failure> {
        let mut report = Report::new(Port::new(transport, 0));
        if self.natpmp {
            self.remove_all_by_natpmp(transport, &mut report)?;
        }
        Ok(report)
    }

    /// Removes a row of the UPnP list; `None`: there is no such row.
    pub fn remove_row(
        &mut self,
        transport: Transport,
        external_port: u16,
    ) -> Result<Option<Report>, Failure> {
        let name = transport.to_string();
        let is_it = |entry: &&Entry| entry.external_port == external_port && entry.transport == name;
        let table = self.table().map_err(|why| {
            Failure::new(Exit::Failed, format!("the gateway does not show its mappings: {why}"))
        })?;
        let Some(entry) = table.mappings.iter().find(is_it).cloned() else { return Ok(None) };
        let internal = entry.internal_port;
        let port = Port { external: Some(external_port), ..Port::new(transport, internal) };
        if entry.is_this_machine {
            return self.remove(port).map(Some);
        }
        // PCP and NAT-PMP know ports of this machine alone.
        let mut report = Report::new(port);
        if let Some(service) = self.upnp.clone() {
            self.remove_by_upnp(&service, &mut report);
        }
        Ok(Some(report))
    }
}
