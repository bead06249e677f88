//! The UPnP device that the gateway is, and the XML that describes it.

use std::fmt::Write;

/// The service that maps ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WanKind {
    /// WANIPConnection:1.
    Ip1,
    /// WANIPConnection:2, with AddAnyPortMapping.
    Ip2,
    /// WANPPPConnection:1.
    Ppp1,
    /// WANIPConnection:1 of the DSL forum (TR-064).
    DslForumIp1,
    /// WANPPPConnection:1 of the DSL forum.
    DslForumPpp1,
    /// WANIPv6FirewallControl:1, which maps no ports but opens pinholes.
    Firewall1,
}

impl WanKind {
    /// Its service type.
    pub const fn service_type(self) -> &'static str {
        match self {
            WanKind::Ip1 => "urn:schemas-upnp-org:service:WANIPConnection:1",
            WanKind::Ip2 => "urn:schemas-upnp-org:service:WANIPConnection:2",
            WanKind::Ppp1 => "urn:schemas-upnp-org:service:WANPPPConnection:1",
            WanKind::DslForumIp1 => "urn:dslforum-org:service:WANIPConnection:1",
            WanKind::DslForumPpp1 => "urn:dslforum-org:service:WANPPPConnection:1",
            WanKind::Firewall1 => "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1",
        }
    }
}

/// One service of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WanService {
    /// What it is.
    pub kind: WanKind,
    /// What GetStatusInfo says; only a `Connected` or `Up` service knows the external address.
    pub status: String,
    /// The control URL as the description writes it; `None`: `/ctl/N`, N counted from 0. Actions are taken at `/ctl/N`,
    /// with or without what precedes it.
    pub control_url: Option<String>,
}

impl WanService {
    /// A connected service of this kind.
    pub fn connected(kind: WanKind) -> WanService {
        WanService { kind, status: "Connected".into(), control_url: None }
    }
}

/// The UPnP device that a gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Igd {
    /// What its device types begin with.
    pub domain: String,
    /// The kind of its root device: InternetGatewayDevice, or another that is none.
    pub root: String,
    /// InternetGatewayDevice:1 or :2.
    pub version: u8,
    /// Its services that map ports or open pinholes, in the order of the description.
    pub services: Vec<WanService>,
    /// The URLBase of the description.
    pub url_base: Option<String>,
    /// What it calls itself.
    pub friendly_name: String,
    /// The unique part of its names.
    pub uuid: String,
}

impl Default for Igd {
    /// InternetGatewayDevice:1 with one WANIPConnection:1.
    fn default() -> Igd {
        Igd::with(1, &[WanKind::Ip1])
    }
}

impl Igd {
    /// A device of this version with connected services of these kinds.
    pub fn with(version: u8, kinds: &[WanKind]) -> Igd {
        Igd {
            domain: "urn:schemas-upnp-org".into(),
            root: "InternetGatewayDevice".into(),
            version,
            services: kinds.iter().map(|&kind| WanService::connected(kind)).collect(),
            url_base: None,
            friendly_name: "Simulated gateway".into(),
            uuid: "7d1f2a60-0000-4000-8000-00c0ffee0001".into(),
        }
    }

    /// A device that is no gateway, as televisions and printers are.
    pub fn other(root: &str, uuid: &str) -> Igd {
        Igd { root: root.into(), uuid: uuid.into(), ..Igd::with(1, &[]) }
    }

    /// InternetGatewayDevice:2 with one WANIPConnection:2.
    pub fn v2() -> Igd {
        Igd::with(2, &[WanKind::Ip2])
    }

    /// Every search target that it answers, most general first. A device also answers for the versions
    /// below its own (UDA 1.1 §1.3.2).
    pub fn targets(&self) -> Vec<String> {
        let mut targets = vec!["upnp:rootdevice".to_string(), format!("uuid:{}", self.uuid)];
        let embedded = ["WANDevice", "WANConnectionDevice"];
        let embedded = embedded.into_iter().filter(|_| !self.services.is_empty());
        for device in std::iter::once(self.root.as_str()).chain(embedded) {
            targets.extend((1..=self.version).map(|v| format!("{}:device:{device}:{v}", self.domain)));
        }
        for service in &self.services {
            if service.kind == WanKind::Ip2 {
                targets.push(WanKind::Ip1.service_type().into());
            }
            targets.push(service.kind.service_type().into());
        }
        targets.dedup();
        targets
    }

    /// The device description.
    pub fn description(&self) -> String {
        let mut services = String::new();
        for (n, service) in self.services.iter().enumerate() {
            let control_url = service.control_url.clone().unwrap_or_else(|| format!("/ctl/{n}"));
            let id = match service.kind {
                WanKind::Ppp1 | WanKind::DslForumPpp1 => "WANPPPConn",
                WanKind::Firewall1 => "WANIPv6Firewall",
                WanKind::Ip1 | WanKind::Ip2 | WanKind::DslForumIp1 => "WANIPConn",
            };
            // Writing into a String cannot fail.
            let _ = write!(
                services,
                "<service><serviceType>{}</serviceType><serviceId>urn:upnp-org:serviceId:{id}{}</serviceId>\
             <SCPDURL>/scpd.xml</SCPDURL><controlURL>{}</controlURL><eventSubURL>/evt/{n}</eventSubURL></service>\r\n",
                service.kind.service_type(),
                n + 1,
                escape(&control_url),
            );
        }
        let url_base = match &self.url_base {
            Some(url) => format!("<URLBase>{}</URLBase>\r\n", escape(url)),
            None => String::new(),
        };
        let device = |kind: &str, name: &str, content: &str| {
            format!(
                "<device><deviceType>{}:device:{kind}:{}</deviceType><friendlyName>{name}</friendlyName>\
             <manufacturer>plum-gateway</manufacturer><modelName>Simulated gateway</modelName>\
             <UDN>uuid:{}</UDN>\r\n{content}</device>",
                self.domain, self.version, self.uuid,
            )
        };
        let common = "<serviceList><service><serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType>\
                  <serviceId>urn:upnp-org:serviceId:WANCommonIFC1</serviceId><SCPDURL>/scpd.xml</SCPDURL>\
                  <controlURL>/ctl/common</controlURL><eventSubURL>/evt/common</eventSubURL></service></serviceList>\r\n";
        let connection = device(
            "WANConnectionDevice",
            "Connection",
            &format!("<serviceList>\r\n{services}</serviceList>\r\n"),
        );
        let wan = device("WANDevice", "WAN", &format!("{common}<deviceList>{connection}</deviceList>\r\n"));
        let root =
            device(&self.root, &escape(&self.friendly_name), &format!("<deviceList>{wan}</deviceList>\r\n"));
        format!(
            "<?xml version=\"1.0\"?>\r\n<root xmlns=\"urn:schemas-upnp-org:device-1-0\">\r\n\
         <specVersion><major>1</major><minor>0</minor></specVersion>\r\n{url_base}{root}\r\n</root>\r\n"
        )
    }
}

/// The service description: the least that is well-formed; clients of port mapping do not need it.
pub(super) fn scpd() -> String {
    "<?xml version=\"1.0\"?>\r\n<scpd xmlns=\"urn:schemas-upnp-org:service-1-0\">\
     <specVersion><major>1</major><minor>0</minor></specVersion><actionList></actionList>\
     <serviceStateTable></serviceStateTable></scpd>\r\n"
        .into()
}

/// Text as XML content.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
