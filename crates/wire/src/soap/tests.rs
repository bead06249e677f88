use super::*;

const IP1: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

/// UDA 2.0 §3.2.2 and §3.2.5: what a reply's body element is put in.
fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n\
         <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\">\
         <s:Body>{body}</s:Body></s:Envelope>"
    )
}

const ADDRESS: &str = "<u:GetExternalIPAddressResponse xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\">\
    <NewExternalIPAddress>198.51.100.23</NewExternalIPAddress></u:GetExternalIPAddressResponse>";

const FAULT: &str = "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
    <UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>718</errorCode>\
    <errorDescription>ConflictInMappingEntry</errorDescription></UPnPError></detail></s:Fault>";

fn fault(code: i64, description: &str) -> Result<Reply, Malformed> {
    Ok(Reply::Fault { code, description: description.into() })
}

fn response(arguments: &[(&str, &str)]) -> Result<Reply, Malformed> {
    Ok(Reply::Response(arguments.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()))
}

#[test]
fn call_is_written_as_in_the_standard() {
    let arguments = [("NewRemoteHost", ""), ("NewExternalPort", "80"), ("NewProtocol", "TCP")];
    assert_eq!(
        emit(IP1, "DeletePortMapping", &arguments),
        "<?xml version=\"1.0\"?>\r\n\
         <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
         <u:DeletePortMapping xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\">\
         <NewRemoteHost></NewRemoteHost><NewExternalPort>80</NewExternalPort><NewProtocol>TCP</NewProtocol>\
         </u:DeletePortMapping></s:Body></s:Envelope>\r\n"
    );
    assert_eq!(
        soap_action(IP1, "DeletePortMapping"),
        "urn:schemas-upnp-org:service:WANIPConnection:1#DeletePortMapping"
    );
}

#[test]
fn arguments_are_escaped() {
    let body = emit("a\"b<c", "A", &[("N", "<x> & 'y' \"z\" \u{1}\r\n]]>")]);
    assert!(body.contains("xmlns:u=\"a&quot;b&lt;c\">"), "{body}");
    assert!(body.contains("<N>&lt;x&gt; &amp; &apos;y&apos; &quot;z&quot;    ]]&gt;</N>"), "{body}");
}

#[test]
fn response_is_read_as_in_the_standard() {
    assert_eq!(parse(envelope(ADDRESS).as_bytes()), response(&[("NewExternalIPAddress", "198.51.100.23")]));
    let two = "<u:GetStatusInfoResponse xmlns:u=\"x\"><NewConnectionStatus>Connected</NewConnectionStatus>\
               <NewUptime>0 Days, 01:00:00</NewUptime></u:GetStatusInfoResponse>";
    let Ok(Reply::Response(arguments)) = parse(envelope(two).as_bytes()) else { panic!("refused") };
    assert_eq!(get(&arguments, "newconnectionSTATUS"), Some("Connected"));
    assert_eq!(get(&arguments, "NewUptime"), Some("0 Days, 01:00:00"));
    assert_eq!(get(&arguments, "NewExternalIPAddress"), None);
}

#[test]
fn response_without_arguments_has_none() {
    for body in [
        "<u:AddPortMappingResponse xmlns:u=\"x\"></u:AddPortMappingResponse>",
        "<u:AddPortMappingResponse xmlns:u=\"x\"/>",
        "<u:AddPortMappingResponse xmlns:u=\"x\">\n</u:AddPortMappingResponse>",
        "<u:GetExternalIPAddressResponse>11.222.3.44</u:GetExternalIPAddressResponse>",
        "\n",
    ] {
        assert_eq!(parse(envelope(body).as_bytes()), response(&[]), "{body}");
    }
}

#[test]
fn empty_arguments_are_empty() {
    for value in ["<NewExternalIPAddress/>", "<NewExternalIPAddress>\n</NewExternalIPAddress>"] {
        let body = format!("<u:GetExternalIPAddressResponse>{value}</u:GetExternalIPAddressResponse>");
        assert_eq!(parse(envelope(&body).as_bytes()), response(&[("NewExternalIPAddress", "")]));
    }
}

#[test]
fn response_may_be_written_sloppily() {
    let good = envelope(ADDRESS);
    let sloppy = [
        good.replace("s:", "SOAP-ENV:"),
        good.replace("u:Get", "Get"),
        good.replace("<?xml version=\"1.0\"?>", ""),
        good.replace("<?xml", "\u{feff}<?xml"),
        good.replace("<s:Body>", "<s:Header><x/></s:Header>\n<s:Body>\n"),
        good.replace("</NewExternalIPAddress>", "</NewExternalIP>"),
        good.replace("</u:GetExternalIPAddressResponse>", "</u:Get>"),
        good.replace("</s:Body>", "").replace("</s:Envelope>", ""),
        good.replace("encodingStyle=\"", "encodingStyle="),
        good.replace("198", "\n  198").replace(".23<", ".23 \n<"),
        good.replace("198.51.100.23", "&#49;98.51.100.23"),
        good[..good.len() - 1].to_owned(),
    ];
    for text in sloppy {
        assert_eq!(parse(text.as_bytes()), response(&[("NewExternalIPAddress", "198.51.100.23")]), "{text}");
    }
}

#[test]
fn booleans_are_read_in_all_their_forms() {
    for text in ["1", "true", "TRUE", "yes"] {
        assert_eq!(boolean(text), Some(true), "{text}");
    }
    for text in ["0", "false", "False", "no"] {
        assert_eq!(boolean(text), Some(false), "{text}");
    }
    for text in ["", "2", "on", "truey"] {
        assert_eq!(boolean(text), None, "{text}");
    }
}

#[test]
fn fault_is_read_as_in_the_standard() {
    assert_eq!(parse(envelope(FAULT).as_bytes()), fault(718, "ConflictInMappingEntry"));
}

#[test]
fn fault_may_be_written_sloppily() {
    let good = envelope(FAULT);
    let sloppy = [
        good.replace("s:", "SOAP-ENV:"),
        good.replace("errorCode>", "u:errorCode>"),
        good.replace("718", "\n 718 \n"),
        good.replace("</errorCode>", "</errorcode>"),
        good.replace("<detail>", "").replace("</detail>", ""),
        good.replace("</UPnPError></detail></s:Fault></s:Body></s:Envelope>", ""),
        FAULT.replace("s:Fault", "fault"),
        good.replace("UPnPError", "ErrorResponse"),
        good.replace("</UPnPError>", "<errorCode>501</errorCode></UPnPError>"),
    ];
    for text in sloppy {
        assert_eq!(parse(text.as_bytes()), fault(718, "ConflictInMappingEntry"), "{text}");
    }
}

#[test]
fn elements_without_content_say_what_they_are() {
    for text in ["<u:AddPortMappingResponse/>", "<s:Envelope/>"] {
        assert_eq!(parse(text.as_bytes()), response(&[]), "{text}");
    }
    // What follows a fault is no response.
    let text = envelope(&format!("{FAULT}<u:AddPortMappingResponse/>"));
    assert_eq!(parse(text.as_bytes()), fault(718, "ConflictInMappingEntry"));
}

#[test]
fn the_first_of_several_descriptions_counts() {
    for name in ["errorDescription", "faultstring"] {
        let fault_of = |text: &str| format!("<{name}>{text}</{name}>");
        let text = format!("<s:Fault>{}{}</s:Fault>", fault_of("first"), fault_of("second"));
        assert_eq!(parse(text.as_bytes()), fault(0, "first"), "{name}");
    }
}

#[test]
fn fault_without_a_readable_code_has_code_0() {
    for (code, number) in [("-911", -911), ("65536", 65_536), (" 718 ", 718)] {
        let text = envelope(&FAULT.replace("718", code));
        assert_eq!(parse(text.as_bytes()), fault(number, "ConflictInMappingEntry"), "{code}");
    }
    for code in ["", "x", "99999999999999999999", "7 1 8"] {
        let text = envelope(&FAULT.replace("718", code));
        assert_eq!(parse(text.as_bytes()), fault(0, "ConflictInMappingEntry"), "{code}");
    }
    let text = envelope("<s:Fault><faultstring>Method Not Implemented</faultstring></s:Fault>");
    assert_eq!(parse(text.as_bytes()), fault(0, "Method Not Implemented"));
    assert_eq!(parse(envelope("<s:Fault/>").as_bytes()), fault(0, ""));
}

#[test]
fn fault_description_is_fit_for_a_log() {
    let long = format!("a&#13;&#10;b{}", "\u{e4}".repeat(1000));
    let text = envelope(&FAULT.replace("ConflictInMappingEntry", &long));
    assert_eq!(parse(text.as_bytes()), fault(718, &format!("a  b{}", "\u{e4}".repeat(196))));
}

#[test]
fn number_of_arguments_is_limited() {
    let text = envelope(&format!("<u:XResponse>{}</u:XResponse>", "<A>1</A>".repeat(1000)));
    let Ok(Reply::Response(arguments)) = parse(text.as_bytes()) else { panic!("refused") };
    assert_eq!(arguments.len(), MAX_ARGUMENTS);
}

#[test]
fn anything_else_is_malformed() {
    for text in [
        "",
        "ok",
        "<HTML><BODY>401<BR>no<HR></BODY></HTML>",
        "<scpd/>",
        "<Response>x</Response>",
        "</s:Body>",
    ] {
        assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text}");
    }
}
