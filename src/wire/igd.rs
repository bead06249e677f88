//! UPnP device descriptions of Internet gateway devices.

#![forbid(unsafe_code)]
use super::Malformed;

/// What a description says that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// URLBase, trimmed, when present and not empty.
    pub url_base: Option<String>,
    /// deviceType of the root device.
    pub root_device_type: String,
    /// friendlyName / modelName of the root device, cleaned of control characters, for the log.
    pub name: String,
    /// The services named WANIPConnection or WANPPPConnection (any vendor), in document order.
    pub services: Vec<Service>,
}

/// A service of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// serviceType as written, trimmed.
    pub service_type: String,
    /// controlURL as written, trimmed, entities resolved.
    pub control_url: String,
}

/// The services that can map ports, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WanService {
    /// WANIPConnection:2
    Ip2,
    /// WANIPConnection:1
    Ip1,
    /// WANPPPConnection:1
    Ppp1,
}

impl Service {
    /// Which of the services we can use it is: only `urn:schemas-upnp-org`.
    pub fn kind(&self) -> Option<WanService> {
        todo!()
    }
}

/// Reads a description, however sloppy; `Malformed` when there is nothing of a device description in it.
pub fn parse(_bytes: &[u8]) -> Result<Description, Malformed> {
    todo!()
}
