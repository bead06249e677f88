//! What the mappings are to be like: the options that go into the requests.

use crate::exit::{Exit, Failure};
use crate::network::{Allowed, parse_span};
use crate::spec::Port;
use clap::Args;
use plum::Request;
use std::time::Duration;

/// The longest lifetime that a protocol can ask for.
const LONGEST_LIFETIME: Duration = Duration::from_secs(u32::MAX as u64);

/// How long the mappings are to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    Lasts(Duration),
    Permanent,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Mappings")]
pub struct Wishes {
    /// Ask the gateway for this lifetime, as in 1h or 7d; 0: for mappings without end, which UPnP alone has [default: 2h, IPv6: 1h]
    ///
    /// The gateway decides: many grant a day at most, some UPnP gateways grant mappings without end only, others end those after a week
    /// (plum list shows it). While the command runs it renews the mappings in any case; so this is for --leave, and for what is left
    /// behind if it is killed.
    #[arg(long, visible_alias = "lease", value_name = "TIME", value_parser = parse_lifetime)]
    lifetime: Option<Lifetime>,

    /// What the ports are called in the gateway's table, if UPnP maps them: at most 63 bytes [default: libplum]
    #[arg(long, value_name = "TEXT", value_parser = parse_description)]
    description: Option<String>,

    /// Map each port at the external port that is wished for (the same one, if none is named), or not at all
    ///
    /// If the gateway assigns another, that is removed again, and the port fails as port-taken. The command goes on with the other ports
    /// and tries it again later; if no port is mapped, it ends with exit code 12.
    #[arg(long)]
    exact: bool,

    /// End as soon as the ports are mapped, and leave the mappings: say until when each stays
    #[arg(long, conflicts_with = "span")]
    pub leave: bool,
}

impl Wishes {
    /// What the library is asked for.
    pub fn request(&self, port: Port) -> Result<Request, plum::Error> {
        let mut request = port.request();
        if self.exact {
            request = request.exact_external_port(port.external_or_same());
        }
        match self.lifetime {
            None => {}
            Some(Lifetime::Lasts(lifetime)) => request = request.lifetime(lifetime),
            Some(Lifetime::Permanent) => request = request.permanent(),
        }
        match &self.description {
            None => Ok(request),
            Some(description) => request.description(description),
        }
    }

    /// Refuses what no gateway can do.
    pub fn check(&self, ports: &[Port], protocol: Allowed) -> Result<(), Failure> {
        let usage = |message: &str| Err(Failure::new(Exit::Usage, message));
        if self.exact && ports.iter().any(|port| port.is_chosen) {
            return usage("--exact needs a port: name one in place of 0, or leave out --exact");
        }
        let has_ipv6 = ports.iter().any(|port| port.is_ipv6());
        if has_ipv6 && protocol == Allowed::NatPmp {
            return usage("NAT-PMP opens no pinholes for IPv6: leave out --protocol, or ask for IPv4 alone");
        }
        if self.lifetime == Some(Lifetime::Permanent) {
            if has_ipv6 {
                return usage(
                    "pinholes for IPv6 end within a day unless they are renewed: --lifetime 0 is for IPv4",
                );
            }
            if !matches!(protocol, Allowed::Any | Allowed::Upnp) {
                return usage("only UPnP has mappings without end: leave out --protocol, or name a lifetime");
            }
        }
        Ok(())
    }
}

fn parse_description(text: &str) -> Result<String, String> {
    match Request::tcp(1).description(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// `0`, or a span of time.
fn parse_lifetime(text: &str) -> Result<Lifetime, String> {
    if ["0", "0s"].contains(&text) {
        return Ok(Lifetime::Permanent);
    }
    match parse_span(text)? {
        lifetime if lifetime > LONGEST_LIFETIME => {
            Err("no protocol can ask for more than 136 years; 0 is without end".into())
        }
        lifetime => Ok(Lifetime::Lasts(lifetime)),
    }
}
