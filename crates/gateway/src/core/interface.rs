//! WANCommonInterfaceConfig:1: what the gateway tells about its link to the internet.

use super::soap::{Arguments, INVALID_ACTION, Request};
use super::{Action, Gateway};

/// Its service type.
pub(super) const SERVICE_TYPE: &str = "urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1";

/// The link to the internet. The gateway counts no packets: it tells these numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// NewWANAccessType.
    pub access_type: String,
    /// NewPhysicalLinkStatus.
    pub status: String,
    /// NewLayer1UpstreamMaxBitRate, in bits a second.
    pub max_bit_rate_up: u32,
    /// NewLayer1DownstreamMaxBitRate, in bits a second.
    pub max_bit_rate_down: u32,
    /// NewTotalBytesSent.
    pub bytes_sent: u64,
    /// NewTotalBytesReceived.
    pub bytes_received: u64,
    /// NewTotalPacketsSent.
    pub packets_sent: u64,
    /// NewTotalPacketsReceived.
    pub packets_received: u64,
}

impl Default for Link {
    fn default() -> Link {
        Link {
            access_type: "DSL".into(),
            status: "Up".into(),
            max_bit_rate_up: 40_000_000,
            max_bit_rate_down: 100_000_000,
            bytes_sent: 123_456_789,
            bytes_received: 2_345_678_901,
            packets_sent: 345_678,
            packets_received: 1_987_654,
        }
    }
}

pub(super) fn act(gateway: &Gateway, request: &Request) -> Result<Arguments, i32> {
    let link = &gateway.config().link;
    let number = |name, number: u64| Ok(vec![(name, number.to_string())]);
    match request.action {
        Action::GetCommonLinkProperties => Ok(vec![
            ("NewWANAccessType", link.access_type.clone()),
            ("NewLayer1UpstreamMaxBitRate", link.max_bit_rate_up.to_string()),
            ("NewLayer1DownstreamMaxBitRate", link.max_bit_rate_down.to_string()),
            ("NewPhysicalLinkStatus", link.status.clone()),
        ]),
        Action::GetTotalBytesSent => number("NewTotalBytesSent", link.bytes_sent),
        Action::GetTotalBytesReceived => number("NewTotalBytesReceived", link.bytes_received),
        Action::GetTotalPacketsSent => number("NewTotalPacketsSent", link.packets_sent),
        Action::GetTotalPacketsReceived => number("NewTotalPacketsReceived", link.packets_received),
        _ => Err(INVALID_ACTION),
    }
}
