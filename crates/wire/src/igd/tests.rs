use super::*;

/// A device description in the layout of InternetGatewayDevice:1 §4.
const IGD1: &str = r#"<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0">
  <specVersion><major>1</major><minor>0</minor></specVersion>
  <URLBase>http://192.0.2.1:5000/</URLBase>
  <device>
    <deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
    <friendlyName>Attic router</friendlyName>
    <manufacturer>Example</manufacturer>
    <modelName>R-1</modelName>
    <UDN>uuid:1</UDN>
    <serviceList>
      <service>
        <serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
        <serviceId>urn:upnp-org:serviceId:L3Forwarding1</serviceId>
        <SCPDURL>/l3.xml</SCPDURL><controlURL>/l3</controlURL><eventSubURL>/ev/l3</eventSubURL>
      </service>
    </serviceList>
    <deviceList>
      <device>
        <deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
        <friendlyName>WANDevice</friendlyName>
        <modelName>W-1</modelName>
        <deviceList>
          <device>
            <deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
            <serviceList>
              <service>
                <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
                <serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
                <SCPDURL>/ip.xml</SCPDURL><controlURL>/ctl?a=1&amp;b=2</controlURL><eventSubURL>/ev</eventSubURL>
              </service>
              <service>
                <serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType>
                <controlURL>/ppp</controlURL>
              </service>
            </serviceList>
          </device>
        </deviceList>
      </device>
    </deviceList>
    <presentationURL>http://192.0.2.1/</presentationURL>
  </device>
</root>
"#;

fn service(service_type: &str, control_url: &str) -> Service {
    Service { service_type: service_type.into(), control_url: control_url.into() }
}

fn igd1() -> Description {
    Description {
        url_base: Some("http://192.0.2.1:5000/".into()),
        root_device_type: "urn:schemas-upnp-org:device:InternetGatewayDevice:1".into(),
        friendly_name: "Attic router".into(),
        manufacturer: "Example".into(),
        model_name: "R-1".into(),
        udns: vec!["uuid:1".into()],
        services: vec![
            service("urn:schemas-upnp-org:service:WANIPConnection:1", "/ctl?a=1&b=2"),
            service("urn:schemas-upnp-org:service:WANPPPConnection:1", "/ppp"),
        ],
        common_interface: None,
    }
}

#[test]
fn description_is_read_as_in_the_standard() {
    assert_eq!(parse(IGD1.as_bytes()), Ok(igd1()));
}

#[test]
fn description_may_be_written_sloppily() {
    let sloppy = [
        format!("\u{feff}{IGD1}"),
        format!("\r\n  {IGD1}"),
        format!("{IGD1}\u{fffd}`("),
        IGD1.replace("\n", ""),
        IGD1.replace("\n", "\r\n"),
        IGD1.replace(">", " >").replace("? >", "?>"),
        IGD1.replace("<service", "<u:service").replace("</service", "</u:service"),
        IGD1.replace("<device>", "<device xmlns:x=\"urn:x\" a='<>'>").replace("<>", "-"),
        IGD1.replace("uuid:1", "R&N & co &nbsp; &copy;"),
        IGD1.replace("<UDN>uuid:1</UDN>", "<UDN/><X_a>VEN_1&DEV_2</X_a><!-- <device> -->"),
        IGD1.replace("</controlURL>", "</controlUrl>").replace("</serviceType>", "\n</servicetype>"),
        IGD1.replace("</device>", "</devcie>"),
        IGD1.replace("</service>", ""),
        IGD1.replace("serviceType", "SERVICETYPE").replace("controlURL", "controlUrl"),
        IGD1.replace("</root>", "/root>"),
        IGD1.trim_end().strip_suffix('>').unwrap().to_owned(),
        IGD1.split("</controlURL>").take(3).collect::<Vec<_>>().join("</controlURL>") + "</controlURL>",
    ];
    for text in sloppy {
        // Some of them have another UDN, or none.
        let read = parse(text.as_bytes()).map(|read| Description { udns: igd1().udns, ..read });
        assert_eq!(read, Ok(igd1()), "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf8_cost_only_themselves() {
    let mut bytes = IGD1.replace("Attic", "Gr\u{fc}n").into_bytes();
    let at = bytes.iter().position(|b| *b == 0xc3).unwrap();
    // ISO 8859-1, in which older firmware writes its names.
    bytes.splice(at..at + 2, [0xfc]);
    let description = parse(&bytes).unwrap();
    assert_eq!(description.name(), "Gr\u{fffd}n router / R-1");
    assert_eq!(description.services, igd1().services);
}

#[test]
fn empty_url_base_is_none() {
    for base in ["<URLBase></URLBase>", "<URLBase> \n</URLBase>", "<URLBase/>", ""] {
        let text = IGD1.replace("<URLBase>http://192.0.2.1:5000/</URLBase>", base);
        assert_eq!(parse(text.as_bytes()).unwrap().url_base, None);
    }
}

#[test]
fn name_is_fit_for_a_log() {
    let text = IGD1.replace("Attic router", "a&#10;b\u{1b}[31m").replace("R-1", &"m".repeat(5000));
    let name = parse(text.as_bytes()).unwrap().name();
    assert_eq!(name, format!("a b [31m / {}", "m".repeat(MAX_NAME_CHARS)));
    let text = IGD1.replace("Attic router", " ");
    assert_eq!(parse(text.as_bytes()).unwrap().name(), "R-1");
    assert_eq!(parse(text.replace("R-1", "").as_bytes()).unwrap().name(), "");
}

#[test]
fn service_without_control_url_is_listed_but_of_no_use() {
    let text = IGD1.replace("<controlURL>/ctl?a=1&amp;b=2</controlURL>", "");
    let services = parse(text.as_bytes()).unwrap().services;
    assert_eq!(services[0], service("urn:schemas-upnp-org:service:WANIPConnection:1", ""));
    assert_eq!(services[0].kind(), None);
    assert_eq!(services[1].control_url, "/ppp", "the next service's URL stays with it");
}

#[test]
fn udns_of_all_devices_are_kept_within_limits() {
    let text = IGD1.replace("<modelName>W-1", "<UDN> uuid:2 </UDN><UDN/><modelName>W-1");
    let description = parse(text.as_bytes()).unwrap();
    assert_eq!(description.udns, ["uuid:1", "uuid:2"], "the root's first");
    assert!(description.is_named("UUID:2") && !description.is_named("uuid:3") && !description.is_named(""));
    let long = format!("<UDN>{}</UDN>", "u".repeat(MAX_UDN_CHARS + 1));
    let many = IGD1.replace("<modelName>W-1", &(long + &"<UDN>uuid:3</UDN>".repeat(1000) + "<modelName>W-1"));
    let udns = parse(many.as_bytes()).unwrap().udns;
    assert_eq!((udns.len(), udns[1].as_str()), (MAX_UDNS, "uuid:3"));
}

#[test]
fn firewall_control_is_a_kind_of_its_own() {
    let firewall =
        |version| service(&format!("urn:schemas-upnp-org:service:WANIPv6FirewallControl:{version}"), "/ctl");
    assert_eq!(firewall(1).firewall_kind(), Some(WanService::Firewall1));
    assert_eq!(firewall(2).firewall_kind(), Some(WanService::Firewall1));
    assert_eq!((firewall(0).firewall_kind(), firewall(1).kind()), (None, None));
    let mapping = service("urn:schemas-upnp-org:service:WANIPConnection:1", "/ctl");
    assert_eq!(mapping.firewall_kind(), None);
    let text = IGD1.replace("WANPPPConnection", "WANIPv6FirewallControl");
    assert_eq!(parse(text.as_bytes()).unwrap().services[1].firewall_kind(), Some(WanService::Firewall1));
}

#[test]
fn number_of_services_is_limited() {
    let one = "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType></service>";
    assert_eq!(parse(one.repeat(1000).as_bytes()).unwrap().services.len(), MAX_SERVICES);
}

#[test]
fn kinds_are_those_of_the_standard_best_first() {
    let kind = |service_type: &str| service(service_type, "/ctl").kind();
    assert_eq!(kind("urn:schemas-upnp-org:service:WANIPConnection:1"), Some(WanService::Ip1));
    assert_eq!(kind("urn:schemas-upnp-org:service:WANIPConnection:2"), Some(WanService::Ip2));
    assert_eq!(kind("urn:schemas-upnp-org:service:WANIPConnection:3"), Some(WanService::Ip2));
    assert_eq!(kind("urn:schemas-upnp-org:service:WANPPPConnection:1"), Some(WanService::Ppp1));
    assert_eq!(kind("URN:Schemas-UPnP-org:service:wanipconnection:1"), Some(WanService::Ip1));
    assert!(WanService::Ip2 < WanService::Ip1 && WanService::Ip1 < WanService::Ppp1);
    for other in [
        "",
        "urn:dslforum-org:service:WANIPConnection:1",
        "urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1",
        "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1",
        "urn:schemas-upnp-org:device:WANIPConnection:1",
        "urn:schemas-upnp-org:service:WANIPConnection",
        "urn:schemas-upnp-org:service:WANIPConnection:0",
        "urn:schemas-upnp-org:service:WANIPConnection:x",
        "urn:schemas-upnp-org:service:WANIPConnection:1:2",
        "urn:schemas-upnp-org:service:WANIPConnection:1\r\nX: y",
    ] {
        assert_eq!(kind(other), None, "{other}");
    }
}

#[test]
fn kinds_of_the_dsl_forum_are_told_apart_from_all_others() {
    let kind = |service_type: &str, control_url: &str| service(service_type, control_url).dsl_forum_kind();
    assert_eq!(kind("urn:dslforum-org:service:WANIPConnection:1", "/ctl"), Some(WanService::Ip1));
    assert_eq!(kind("urn:DSLForum-org:service:wanpppconnection:1", "/ctl"), Some(WanService::Ppp1));
    for (other, control_url) in [
        ("urn:dslforum-org:service:WANCommonInterfaceConfig:1", "/ctl"),
        ("urn:dslforum-org:service:WANIPConnection:1", ""),
        ("urn:schemas-upnp-org:service:WANIPConnection:1", "/ctl"),
    ] {
        assert_eq!(kind(other, control_url), None, "{other} {control_url}");
    }
}

#[test]
fn services_of_other_vendors_are_listed_but_of_no_use() {
    let text = IGD1.replace("schemas-upnp-org:service", "dslforum-org:service");
    let services = parse(text.as_bytes()).unwrap().services;
    assert_eq!(services.len(), 2);
    assert!(services.iter().all(|service| service.kind().is_none()));
}

#[test]
fn anything_else_is_malformed() {
    for text in ["", "<root/>", "404", "<html><body>no</body></html>", "<scpd><actionList/></scpd>"] {
        assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text}");
    }
}

#[test]
fn the_service_of_the_link_is_kept_apart_from_those_that_map() {
    for name in
        ["schemas-upnp-org:service:WANCommonInterfaceConfig", "dslforum-org:service:wancommoninterfaceconfig"]
    {
        let text = IGD1.replace("schemas-upnp-org:service:WANPPPConnection", name);
        let description = parse(text.as_bytes()).unwrap();
        assert_eq!(description.common_interface, Some(service(&format!("urn:{name}:1"), "/ppp")));
        assert_eq!(description.services, igd1().services[..1]);
    }
}

#[test]
fn the_service_of_the_link_has_a_control_url_and_is_the_first() {
    let text = IGD1.replace("WANPPPConnection", "WANCommonInterfaceConfig");
    let common = |text: &str| parse(text.as_bytes()).unwrap().common_interface;
    assert_eq!(common(IGD1), None);
    assert_eq!(common(&text.replace("/ppp", "")), None);
    assert_eq!(common(&text.replace("urn:schemas-upnp-org:service:WANCommon", "WANCommon")), None);
    let both = text.replace("WANIPConnection", "WANCommonInterfaceConfig");
    assert_eq!(common(&both).unwrap().control_url, "/ctl?a=1&b=2");
    assert_eq!(common(&both.replace("/ctl?a=1&amp;b=2", "")).unwrap().control_url, "/ppp");
}
