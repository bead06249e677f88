//! The way to an external port: what to ask next, and what each answer means for one mapping.

use super::action::{Action, Answer, Entry, Owner, code};
use crate::engine::driver::{Key, Refusal};
use crate::engine::io::Random;
use std::net::IpAddr;
use std::time::Duration;

/// The lease we ask for, seconds.
const LEASE_SECS: u32 = 7200;
/// At most this many requests an attempt.
const MAX_REQUESTS: u8 = 12;
/// How long "this gateway maps no single ports" (727) holds.
const NEXT_PROTOCOL_HOLDS: Duration = Duration::from_secs(3600);
/// The ports to choose from at random.
const RANDOM_PORTS: std::ops::RangeInclusive<u64> = 1024..=65535;
/// How often the dice are thrown for a port that none of ours has.
const MAX_THROWS: usize = 64;

/// What we have learnt about a gateway from its errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quirks {
    /// Lease 0 only (725, or 402 to any other lease).
    pub(super) permanent_leases_only: bool,
    /// External port = internal port only (724).
    pub(super) same_ports_only: bool,
    /// WANIPConnection:2 without its AddAnyPortMapping.
    pub(super) no_add_any: bool,
    /// GetSpecificPortMappingEntry does not find what is there, or has no answer.
    pub(super) hides_entries: bool,
    /// That is so because it did not find what it had just made.
    pub(super) denies_entries: bool,
    /// The longest lease that it keeps, where that is less than it is asked for and says it grants.
    pub(super) longest_lease: Option<Duration>,
    /// A look has shown how long a lease is.
    pub(super) has_shown_lease: bool,
}

/// What is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// GetSpecificPortMappingEntry before adding: servers overwrite an entry of the same host.
    LookFirst,
    /// AddPortMapping.
    Add,
    /// AddAnyPortMapping.
    AddAny,
    /// GetSpecificPortMappingEntry after a conflict: is it ours?
    LookAgain,
    /// DeletePortMapping of an entry of ours that is in the way.
    Clear,
}

/// What an answer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ask on: the attempt has its next request.
    AskOn,
    /// This external port is not to be had: ask on after [`Attempt::choose_other_port`].
    OtherPort,
    /// Made at this external port.
    Granted(u16),
    /// Not to be made.
    Refused(Refusal),
}

/// One attempt to make or renew a mapping.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    key: Key,
    wish: Option<u16>,
    /// We have an entry at the first external port.
    renews: bool,
    /// The external port that is asked for now.
    port: u16,
    step: Step,
    lease_secs: u32,
    /// Lease 0 is being tried because of 402, because of 501.
    zero_after: Option<u16>,
    zero_tried_after_failure: bool,
    cleared: bool,
    had_nonsense: bool,
    requests: u8,
    /// External ports that are not to be had.
    lost_ports: Vec<u16>,
}

impl Attempt {
    /// An attempt for `key` that begins at the wished external port, else at the internal one. `renews`: we have
    /// an entry there. `has_add_any`: the service is WANIPConnection:2.
    pub(super) fn new(
        key: Key,
        wish: Option<u16>,
        renews: bool,
        has_add_any: bool,
        quirks: &Quirks,
    ) -> Attempt {
        let internal_port = key.internal_port.get();
        let wish = wish.filter(|_| renews || !quirks.same_ports_only);
        let port = wish.unwrap_or(internal_port);
        let mut attempt = Attempt {
            key,
            wish,
            renews,
            port,
            step: Step::Add,
            lease_secs: if quirks.permanent_leases_only { 0 } else { LEASE_SECS },
            zero_after: None,
            zero_tried_after_failure: false,
            cleared: false,
            had_nonsense: false,
            requests: 0,
            lost_ports: Vec::new(),
        };
        if !renews {
            if has_add_any && !quirks.no_add_any && !quirks.same_ports_only {
                attempt.step = Step::AddAny;
            } else {
                attempt.add();
            }
        }
        attempt
    }

    /// The external port that is asked for now.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether the next request may make an entry.
    pub(super) fn adds(&self) -> bool {
        matches!(self.step, Step::Add | Step::AddAny)
    }

    /// Whether there was an entry of ours when it began.
    pub(super) fn renews(&self) -> bool {
        self.renews
    }

    /// Whether the next request is AddPortMapping.
    pub(super) fn adds_by_number(&self) -> bool {
        self.step == Step::Add
    }

    /// Whether the next request removes our own entry.
    pub(super) fn clears(&self) -> bool {
        self.step == Step::Clear
    }

    /// How long an entry made now lives; `None`: for ever.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        (self.lease_secs != 0).then(|| Duration::from_secs(self.lease_secs.into()))
    }

    /// Counts a request; `false` when there were enough.
    pub(super) fn count_request(&mut self) -> bool {
        self.requests += 1;
        self.requests <= MAX_REQUESTS
    }

    /// How many requests were counted.
    pub(super) fn requests(&self) -> u32 {
        self.requests.into()
    }

    /// The next request; `client` is our address on its connection.
    pub(super) fn action(&self, client: IpAddr) -> Action {
        let entry = Entry { key: self.key, port: self.port, client, lease_duration: self.lease_secs };
        let (transport, port) = (self.key.transport, self.port);
        match self.step {
            Step::LookFirst | Step::LookAgain => Action::GetSpecificPortMappingEntry { transport, port },
            Step::Add => Action::AddPortMapping(entry),
            Step::AddAny => Action::AddAnyPortMapping(entry),
            Step::Clear => Action::DeletePortMapping { transport, port },
        }
    }

    /// Takes another external port to ask for: the internal one, then random ones, of those that none of our
    /// other mappings has (`is_free`). `false`: there is none.
    pub(super) fn choose_other_port(
        &mut self,
        quirks: &Quirks,
        random: &mut dyn Random,
        is_free: impl Fn(u16) -> bool,
    ) -> bool {
        self.lost_ports.push(self.port);
        let is_new = |port: u16| !self.lost_ports.contains(&port) && is_free(port);
        let internal_port = self.key.internal_port.get();
        let mut chosen = Some(internal_port).filter(|&port| is_new(port));
        if chosen.is_none() && !quirks.same_ports_only {
            chosen = (0..MAX_THROWS)
                .filter_map(|_| {
                    u16::try_from(random.in_range(*RANDOM_PORTS.start(), *RANDOM_PORTS.end())).ok()
                })
                .find(|&port| is_new(port));
        }
        let Some(port) = chosen else { return false };
        self.port = port;
        self.cleared = false;
        if self.step != Step::AddAny || self.requests > 0 {
            self.add();
        }
        true
    }

    /// Takes the answer to the request that [`Attempt::action`] gave.
    pub(super) fn take(&mut self, answer: &Answer, client: IpAddr, quirks: &mut Quirks) -> Verdict {
        if matches!(answer, Answer::Nonsense) && self.step != Step::Clear {
            return self.take_nonsense();
        }
        match self.step {
            Step::LookFirst => match answer {
                Answer::Done(entry) if entry.owner(self.key, client) == Owner::Foreign => Verdict::OtherPort,
                // WANIPConnection:2 section 2.5.19: the entries of others are not for every control point to see.
                Answer::Error(code::NOT_AUTHORIZED) => Verdict::OtherPort,
                // Free, ours, or a gateway that does not tell: adding will show.
                _ => self.ask(Step::Add),
            },
            Step::LookAgain => {
                let is_ours = match answer {
                    Answer::Done(entry) => match entry.owner(self.key, client) {
                        Owner::Ours => true,
                        Owner::Foreign => false,
                        Owner::Unclear => self.holds(),
                    },
                    Answer::Error(code::NOT_AUTHORIZED) => false,
                    // Nothing there, and yet a conflict: a gateway that hides what it has. Ours could be in the way.
                    Answer::Error(_) | Answer::Nonsense => self.holds(),
                };
                if is_ours && !self.cleared { self.ask(Step::Clear) } else { Verdict::OtherPort }
            }
            Step::Clear => {
                self.cleared = true;
                if quirks.same_ports_only && self.port != self.key.internal_port.get() {
                    return Verdict::OtherPort;
                }
                self.ask(Step::Add)
            }
            Step::Add | Step::AddAny => match answer {
                Answer::Done(arguments) => self.take_success(arguments.reserved_port(), quirks),
                Answer::Error(error) => self.take_error(*error, quirks),
                Answer::Nonsense => self.take_nonsense(),
            },
        }
    }

    /// Takes a reply that says nothing, or a connection that ended without one: once that may happen.
    pub(super) fn take_nonsense(&mut self) -> Verdict {
        if self.had_nonsense {
            return Verdict::Refused(Refusal::Failed { retry_after: Duration::ZERO });
        }
        self.had_nonsense = true;
        // Asked twice for any port, it might give two.
        if self.step == Step::AddAny { self.add() } else { Verdict::AskOn }
    }

    fn take_success(&mut self, reserved_port: Option<u16>, quirks: &mut Quirks) -> Verdict {
        if self.step == Step::AddAny {
            let Some(port) = reserved_port else {
                // It does not say which port it took: ask for a certain one.
                quirks.no_add_any = true;
                return self.add();
            };
            self.port = port;
        }
        if self.zero_after == Some(code::INVALID_ARGS) {
            quirks.permanent_leases_only = true;
        }
        Verdict::Granted(self.port)
    }

    fn take_error(&mut self, error: u16, quirks: &mut Quirks) -> Verdict {
        let failed = Verdict::Refused(Refusal::Failed { retry_after: Duration::ZERO });
        let is_any = self.step == Step::AddAny;
        match error {
            code::PERMANENT_LEASES_ONLY if self.lease_secs != 0 => {
                quirks.permanent_leases_only = true;
                self.lease_secs = 0;
                Verdict::AskOn
            }
            code::INVALID_ARGS | code::ACTION_FAILED
                if self.lease_secs != 0
                    && !(error == code::ACTION_FAILED && self.zero_tried_after_failure) =>
            {
                self.zero_tried_after_failure |= error == code::ACTION_FAILED;
                self.zero_after = Some(error);
                self.lease_secs = 0;
                Verdict::AskOn
            }
            code::ACTION_FAILED => {
                if self.zero_after == Some(code::ACTION_FAILED) {
                    // It was not for the lease.
                    self.zero_after = None;
                    self.lease_secs = LEASE_SECS;
                }
                if is_any {
                    self.zero_tried_after_failure = false;
                    return self.add();
                }
                self.ask(Step::LookAgain)
            }
            code::CONFLICT | code::CONFLICT_WITH_OTHER => self.ask(Step::LookAgain),
            code::NOT_AUTHORIZED if self.wish == Some(self.port) => self.ask(Step::LookAgain),
            code::SAME_PORTS_REQUIRED => {
                quirks.same_ports_only = true;
                if self.port == self.key.internal_port.get() {
                    failed
                } else if self.holds() {
                    // The entry there was made before; it shall not stay behind.
                    self.ask(Step::Clear)
                } else {
                    Verdict::OtherPort
                }
            }
            code::EXTERNAL_PORT_WILDCARD_ONLY => {
                Verdict::Refused(Refusal::NextProtocol { retry_after: NEXT_PROTOCOL_HOLDS })
            }
            code::NO_PORT_MAPS_AVAILABLE => failed,
            // Not there, not for us, or broken: AddPortMapping is what all gateways know.
            _ if is_any => {
                quirks.no_add_any |=
                    matches!(error, code::INVALID_ACTION | code::INVALID_ARGS | code::OPTIONAL_ACTION);
                if self.zero_after == Some(code::INVALID_ARGS) {
                    self.zero_after = None;
                    self.lease_secs = LEASE_SECS;
                }
                self.add()
            }
            _ => failed,
        }
    }

    /// Whether we have an entry at the port that is asked for now.
    fn holds(&self) -> bool {
        self.renews && self.lost_ports.is_empty() && !self.cleared
    }

    /// Asks for the port by AddPortMapping, with a look first where an entry of ours might be in the way: at the
    /// internal port an entry of ours could only be this one.
    fn add(&mut self) -> Verdict {
        let same_ports = self.port == self.key.internal_port.get();
        self.ask(if same_ports { Step::Add } else { Step::LookFirst })
    }

    fn ask(&mut self, step: Step) -> Verdict {
        self.step = step;
        Verdict::AskOn
    }
}
