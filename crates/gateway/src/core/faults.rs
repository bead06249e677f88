//! Scripted faults: every field may be changed at any time.

use super::counts::Kind;
use super::pcp::SHORT_LIFETIME;
use std::net::IpAddr;
use std::time::Duration;

/// How often a fault occurs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// Not at all.
    #[default]
    Never,
    /// For this many next requests.
    Next(u32),
    /// For every request.
    Always,
}

impl Times {
    /// Whether the fault occurs now; counts down.
    pub const fn strike(&mut self) -> bool {
        match self {
            Times::Never | Times::Next(0) => false,
            Times::Next(left) => {
                *left -= 1;
                true
            }
            Times::Always => true,
        }
    }
}

/// A probability for datagrams of each direction, 0.0 to 1.0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Chance {
    /// On their way to the gateway.
    pub requests: f64,
    /// On their way from it.
    pub replies: f64,
}

impl Chance {
    /// The same probability both ways.
    pub const fn both(probability: f64) -> Chance {
        Chance { requests: probability, replies: probability }
    }
}

/// Requests that are received and counted, but neither carried out nor answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// PCP requests.
    pub pcp: Times,
    /// NAT-PMP requests.
    pub natpmp: Times,
    /// SSDP searches.
    pub ssdp: Times,
    /// HTTP requests; the connection stays open.
    pub http: Times,
}

/// Ports that are closed: the kernel answers port unreachable, or refuses the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// UDP 5351 for PCP requests. Where the kernel can only close the whole port (the server), PCP alone is
    /// silent instead.
    pub pcp: bool,
    /// UDP 5351 for NAT-PMP requests; see `pcp`.
    pub natpmp: bool,
    /// UDP 1900.
    pub ssdp: bool,
    /// The TCP port of the device description and the actions.
    pub http: bool,
}

/// Whether a protocol is spoken on UDP 5351.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoken {
    /// It is.
    #[default]
    Yes,
    /// It is not: UNSUPP_VERSION, in an answer of this version (0 and 1: in the form of NAT-PMP, 2: of PCP).
    UnsuppVersion(u8),
}

/// The external port given to a new mapping, where it is not the suggested one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AssignedPort {
    /// The suggested one, or the next that is free.
    #[default]
    AsSuggested,
    /// That many above it (PCP, NAT-PMP and AddAnyPortMapping), or the next that is free.
    Offset(u16),
    /// This one, or the next that is free. 0: the answer says port 0, and nothing is mapped.
    Exactly(u16),
}

/// Where answers come from instead of the address and port that were asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongSource {
    /// Another port of the same address.
    Port,
    /// Another address, with the right port.
    Address(IpAddr),
}

/// Datagrams that are no answers: half of them cut-off answers, the rest random bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Junk {
    /// None.
    #[default]
    None,
    /// Before each answer.
    Before,
    /// After each answer.
    After,
    /// Instead of each answer.
    Instead,
}

/// An error given to certain requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which requests; `HttpDescription` gets `code` as its HTTP status.
    pub kind: Kind,
    /// Only those that name this port (internal for PCP, NAT-PMP and adding by UPnP, else external).
    pub port: Option<u16>,
    /// PCP or NAT-PMP result code, or UPnP error code.
    pub code: u16,
    /// The lifetime of a PCP error, in seconds.
    pub lifetime: u32,
    pub times: Times,
}

/// How UPnP leases are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leases {
    /// They live as long as they are granted.
    #[default]
    Kept,
    /// They are gone after this, whatever was granted. Lease 0 stays.
    GoneAfter(Duration),
    /// Renewals do not prolong them: they end with the first lease.
    NotExtended,
}

/// How the length of an HTTP body is indicated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// By a right Content-Length.
    #[default]
    ContentLength,
    /// In chunks, with extensions and a trailer.
    Chunked,
    /// By closing the connection, without Content-Length.
    UntilClose,
    /// By a Content-Length that is this much too great.
    TooLong(usize),
    /// By a Content-Length that is this much too small.
    TooShort(usize),
}

/// Faults of HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpFaults {
    /// How the body's length is told.
    pub framing: Framing,
    /// Leave the connection open after an answer, whatever the client asked for.
    pub keep_open: bool,
    /// Send so many bytes at a time, one piece each such span.
    pub dribble: Option<(usize, Duration)>,
    /// Send nothing after so many bytes of an answer, and leave the connection open.
    pub stall_after: Option<usize>,
    /// Answer with random bytes that are no HTTP.
    pub junk: Times,
    /// Close without an answer.
    pub hang_up: Times,
    /// Answer actions with this HTTP status and an empty body.
    pub soap_status: Option<u16>,
    /// Answer the request for the description with a redirect to there (`/moved.xml` has it).
    pub redirect: Option<String>,
    /// Refuse connections beyond so many at a time.
    pub max_connections: Option<usize>,
    /// Accept and reset those in place of refusing them.
    pub resets_beyond: bool,
}

/// Everything that goes wrong. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// The time every answer takes, UDP and HTTP: a round trip.
    pub delay: Duration,
    /// Datagrams lost.
    pub loss: Chance,
    /// Datagrams that come twice.
    pub duplicate: Chance,
    /// The probability that an answer is held back by `reorder_by`, so that later ones overtake it.
    pub reorder: f64,
    /// By how long.
    pub reorder_by: Duration,
    /// Requests left unanswered.
    pub silence: Silence,
    /// Ports that are closed.
    pub closed: Closed,
    /// Whether PCP is spoken.
    pub pcp: Spoken,
    /// Whether NAT-PMP is spoken.
    pub natpmp: Spoken,
    /// Errors for certain requests; the first that fits.
    pub refusals: Vec<Refusal>,
    /// The lifetime granted whatever is asked for, in seconds; 0: success that says 0, and nothing is mapped.
    pub lifetime: Option<u32>,
    /// The longest lifetime granted by PCP and NAT-PMP, in seconds.
    pub max_lifetime: Option<u32>,
    /// The external port of new mappings; pinholes have the internal one.
    pub assigned_port: AssignedPort,
    /// PCP answers with another nonce.
    pub wrong_nonce: Times,
    /// PCP and NAT-PMP answers that name another internal port.
    pub wrong_internal_port: Times,
    /// Where datagrams come from.
    pub wrong_source: Option<WrongSource>,
    /// Bytes that are no answer, around UDP answers.
    pub junk: Junk,
    /// A restart leaves the epoch as it was (miniupnpd with `system_uptime=yes`).
    pub epoch_survives_restart: bool,
    /// A restart is announced to nobody.
    pub never_announces: bool,
    /// Its UPnP messages have no BOOTID (UDA 1.0).
    pub no_boot_id: bool,
    /// What UPnP makes of leases.
    pub leases: Leases,
    /// AddPortMapping replaces no entry: it gets error 718, whoever made it.
    pub no_replacement: bool,
    /// A deletion by PCP or NAT-PMP (of a mapping, not of a pinhole) leaves the port mapped for so many seconds still, and says so (RFC 6887 §15: it carries
    /// traffic).
    pub deletion_leaves: Option<u32>,
    /// PCP and NAT-PMP have a table of their own beside UPnP's: none sees or removes the entries of the other, but an
    /// external port still belongs to one.
    pub tables_apart: bool,
    /// As miniupnpd 2.3.1 deletes: NAT-PMP only what NAT-PMP has made, though it says success to all; PCP MAP with another nonce takes
    /// a mapping over if it suggests its external port, else makes another one beside it; the deletion of what is not there gets NO_RESOURCES.
    pub deletes_as_miniupnpd: bool,
    /// Leases other than permanent ones get error 725.
    pub permanent_leases_only: bool,
    /// An external port other than the internal one gets error 724.
    pub same_ports_only: bool,
    /// AddAnyPortMapping gets error 401, whatever the version.
    pub no_add_any: bool,
    /// GetFirewallStatus says that the firewall is off; all else of firewall control gets error 702.
    pub firewall_disabled: bool,
    /// GetFirewallStatus says that no pinholes are allowed; all else of firewall control gets error 703.
    pub inbound_pinholes_forbidden: bool,
    /// PCP MAP with another nonce renews a pinhole, which keeps its nonce: deletion alone is refused (miniupnpd 2.3.1).
    pub nonce_guards_deletion_only: bool,
    /// What GetExternalIPAddress says instead of the external address.
    pub external_address_text: Option<String>,
    /// The LOCATION of SSDP answers and notifications instead of the true one.
    pub location: Option<String>,
    /// More SSDP answers, sent before the true one, with these LOCATIONs.
    pub extra_locations: Vec<String>,
    /// The unique part of the names in those answers; `None`: that of the gateway's own device.
    pub extra_uuid: Option<String>,
    /// Faults of HTTP.
    pub http: HttpFaults,
}

impl Faults {
    /// The longest list of refusals; more are ignored.
    pub const MAX_REFUSALS: usize = 1000;

    /// Answers every request of this kind with an error.
    pub fn refuse(&mut self, kind: Kind, code: u16) {
        self.refuse_some(Refusal { kind, port: None, code, lifetime: SHORT_LIFETIME, times: Times::Always });
    }

    /// Answers the next `count` requests of this kind with an error.
    pub fn refuse_next(&mut self, kind: Kind, code: u16, count: u32) {
        self.refuse_some(Refusal {
            kind,
            port: None,
            code,
            lifetime: SHORT_LIFETIME,
            times: Times::Next(count),
        });
    }

    /// Answers every request of this kind that names this port with an error.
    pub fn refuse_port(&mut self, kind: Kind, code: u16, port: u16) {
        self.refuse_some(Refusal {
            kind,
            port: Some(port),
            code,
            lifetime: SHORT_LIFETIME,
            times: Times::Always,
        });
    }

    /// Adds a refusal.
    pub fn refuse_some(&mut self, refusal: Refusal) {
        self.refusals.retain(|old| !matches!(old.times, Times::Never | Times::Next(0)));
        if self.refusals.len() < Faults::MAX_REFUSALS {
            self.refusals.push(refusal);
        }
    }

    /// The refusal that strikes this request, if any: its code and lifetime.
    pub(super) fn refusal(&mut self, kind: Kind, port: Option<u16>) -> Option<(u16, u32)> {
        self.refusals
            .iter_mut()
            .filter(|r| r.kind == kind && (r.port.is_none() || r.port == port))
            .find_map(|r| r.times.strike().then_some((r.code, r.lifetime)))
    }
}
