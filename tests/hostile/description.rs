//! Hostile device descriptions and SOAP replies, well transported.

use crate::harness::{
    FIRST_RACES, GATEWAY_HTTP, Harness, RACES, ROGUE, Speech, WAN, description, page, secs, service, soap,
    upnp_harness,
};
use crate::memory::peak_of;
use plum_wire::Transport::Tcp;
use std::fmt::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

/// The largest description is 1 MiB: its buffer, this test's own copies, and where it is all start tags, eight bytes for
/// each of them in the XML reader.
const MAX_BYTES: usize = 12 << 20;

/// A million elements deep, in what 1 MiB holds of it and once more around a good description.
fn deep(inner: &str) -> String {
    format!("{}{inner}{}", "<a>".repeat(300_000), "</a>".repeat(3))
}

/// Ten levels of ten: 10^10 of the innermost, were it expanded.
fn billion_laughs() -> String {
    let mut text = String::from("<?xml version=\"1.0\"?><!DOCTYPE root [<!ENTITY l0 \"http://127.0.0.1/\">");
    for level in 1..=10 {
        let _ = write!(text, "<!ENTITY l{level} \"{}\">", format!("&l{};", level - 1).repeat(10));
    }
    text + "]><root><device><friendlyName>&l10;</friendlyName><serviceList><service><serviceType>&l10;</serviceType>\
            <controlURL>&l10;</controlURL></service></serviceList></device></root>"
}

fn external_entity(system: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><!DOCTYPE root [<!ENTITY x SYSTEM \"{system}\"><!ENTITY % p SYSTEM \"{system}\"> %p;]>\
         <root><device><friendlyName>&x;</friendlyName><serviceList><service><serviceType>{WAN}</serviceType>\
         <controlURL>&x;</controlURL></service></serviceList></device></root>"
    )
}

/// Descriptions of no use; of those that are filled up a quarter of what is read at most, that this stays quick.
fn bombs() -> Vec<(&'static str, String)> {
    let fill = |piece: &str| piece.repeat((1 << 18) / piece.len());
    vec![
        ("deep", deep("")),
        ("deep and closed", format!("{}{}", "<a>".repeat(40_000), "</a>".repeat(40_000))),
        ("a million end tags", fill("</a>")),
        ("billion laughs", billion_laughs()),
        ("quadratic blowup", format!("<!DOCTYPE r [<!ENTITY a \"{}\">]><r>{}</r>", "x".repeat(400_000), "&a;".repeat(150_000))),
        ("external entity, file", external_entity("file:///etc/passwd")),
        ("external entity, http", external_entity("http://127.0.0.1/")),
        ("doctype without end", format!("<!DOCTYPE r [{}", fill("<!ENTITY a \"b\">"))),
        ("comments without end", fill("<!--")),
        ("CDATA without end", fill("<![CDATA[")),
        ("an attribute without end", format!("<root a=\"{}\"/>", fill("x"))),
        ("a million attributes", format!("<root {}/>", fill("a=\"b\" "))),
        ("a name without end", format!("<{}>", fill("x"))),
        ("a text without end", format!("<root><device><friendlyName>{}", fill("x"))),
        ("references", fill("&#x202e;&amp;")),
        ("quotes that never close", fill("<a b=\"")),
        ("brackets", fill("<")),
        ("processing instructions", fill("<?x ")),
        ("nothing but bytes", fill("\0\u{1b}\u{7}")),
        ("XInclude", "<root xmlns:xi=\"http://www.w3.org/2001/XInclude\"><xi:include href=\"file:///etc/passwd\"/></root>".into()),
    ]
}

fn serve_at_the_gateway(harness: &mut Harness, xml: &Rc<str>) {
    let xml = Rc::clone(xml);
    harness.serve_answers(GATEWAY_HTTP, move |_| page(&*xml));
}

#[test]
fn bombs_are_a_failure_in_time_and_cost_little() {
    for (bomb, xml) in bombs() {
        let xml: Rc<str> = xml.into();
        let mut harness = upnp_harness();
        serve_at_the_gateway(&mut harness, &xml);
        let started = Instant::now();
        let (peak, ()) = peak_of(|| {
            let id = harness.create(Tcp, 8000);
            harness.assert_fails(id, secs(11));
            harness.run_for(secs(25));
        });
        assert!(peak < MAX_BYTES, "{bomb}: {peak} bytes");
        // Some milliseconds each in a release build; quadratic time would be minutes.
        assert!(started.elapsed() < secs(60), "{bomb}: {:?}", started.elapsed());
        // Three fetches a race; an entity that is not resolved is a control URL on the gateway like any other, and is tried.
        let connects = harness.connected_to().len();
        assert!(
            connects <= if bomb.starts_with("external") { 40 } else { 3 * FIRST_RACES },
            "{bomb}: {connects} connections"
        );
        harness.assert_ends();
    }
}

#[test]
fn bombs_beside_an_honest_gateway_do_not_keep_it_from_its_mapping() {
    for (bomb, xml) in bombs() {
        let xml: Rc<str> = xml.into();
        let mut harness = upnp_harness();
        harness.serve_answers(SocketAddr::new(ROGUE, 80), move |_| page(&*xml));
        harness.answers_with(SocketAddr::new(ROGUE, 1900), "http://192.168.1.66:80/x");
        let (peak, ()) = peak_of(|| {
            let id = harness.create(Tcp, 8000);
            harness.assert_made_by_the_gateway(id, secs(1));
        });
        assert!(peak < MAX_BYTES, "{bomb}: {peak} bytes");
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn a_description_deep_in_a_bomb_is_still_read() {
    // Depth is not kept, so none is too deep.
    let xml: Rc<str> = deep(&description("Gateway", "", &[(WAN, "/ctl")])).into();
    let mut harness = upnp_harness();
    let mut service = service("203.0.113.9".into());
    harness.serve_answers(GATEWAY_HTTP, move |request| {
        if request.starts_with("GET") { page(&*xml) } else { service(request) }
    });
    let id = harness.create(Tcp, 8000);
    assert!(harness.runs_until(secs(2), |harness| harness.is_success(id)), "{:?}", harness.timeline(id));
}

#[test]
fn a_million_services_cost_a_few_requests() {
    // Each with a control URL of its own, all on the gateway, all dead.
    let services: String = (0..8000)
        .map(|n| format!("<service><serviceType>{WAN}</serviceType><controlURL>/{n}</controlURL></service>"))
        .collect();
    let xml: Rc<str> =
        description("Gateway", "", &[]).replace("<serviceList>", &format!("<serviceList>{services}")).into();
    assert!(xml.len() < 1 << 20, "{}", xml.len());
    let mut harness = upnp_harness();
    let page_of = Rc::clone(&xml);
    harness.serve_answers(GATEWAY_HTTP, move |request| -> Speech {
        if request.starts_with("GET") { page(&*page_of) } else { page(soap("<s:Fault/>")) }
    });
    let (peak, ()) = peak_of(|| {
        let id = harness.create(Tcp, 8000);
        assert!(harness.runs_until(secs(21), |harness| harness.is_failure(id)), "{:?}", harness.timeline(id));
        harness.run_for(secs(200));
    });
    assert!(peak < MAX_BYTES, "{peak} bytes");
    let connects = harness.connected_to().len();
    // Eight services count: status, address and twelve requests each, then one request and the address in each race.
    let most = 8 * (14 + 2 * RACES);
    assert!(connects <= most, "{connects} connections");
    harness.assert_ends();
}

#[test]
fn soap_replies_of_all_shapes_are_a_failure_and_cost_little() {
    let mut bodies: Vec<(String, Vec<u8>)> =
        bombs().into_iter().map(|(name, xml)| (name.to_owned(), xml.into_bytes())).collect();
    let many: String = (0..2000).map(|n| format!("<NewExternalPort{n}>1</NewExternalPort{n}>")).collect();
    for (name, body) in [
        ("arguments without end", soap(&format!("<u:AddPortMappingResponse>{many}"))),
        ("a fault without code", soap("<s:Fault><faultstring>\u{1b}[31m</faultstring></s:Fault>")),
        (
            "a fault of 99999",
            soap("<s:Fault><detail><UPnPError><errorCode>99999</errorCode></UPnPError></detail></s:Fault>"),
        ),
        (
            "a fault of -1",
            soap("<s:Fault><detail><UPnPError><errorCode>-1</errorCode></UPnPError></detail></s:Fault>"),
        ),
        ("HTML", "<html><body>Please log in</body></html>".to_owned()),
    ] {
        bodies.push((name.to_owned(), body.into_bytes()));
    }
    bodies.push(("invalid UTF-8".to_owned(), vec![0xff; 60_000]));
    for (name, body) in bodies {
        // What is longer is cut off as it comes.
        let body: Rc<[u8]> = body.into();
        let mut harness = upnp_harness();
        harness.serve_answers(GATEWAY_HTTP, move |request| {
            if request.starts_with("GET") {
                page(description("Gateway", "", &[(WAN, "/ctl")]))
            } else if request.contains("#GetExternalIPAddress") {
                page(soap("<u:GetExternalIPAddressResponse><NewExternalIPAddress>203.0.113.9</NewExternalIPAddress></u:GetExternalIPAddressResponse>"))
            } else {
                page(&*body)
            }
        });
        let (peak, ()) = peak_of(|| {
            let id = harness.create(Tcp, 8000);
            harness.run_for(secs(250));
            let told = harness.callbacks(id).len();
            assert_eq!(told, 1, "{name}: {:?}", harness.timeline(id));
        });
        assert!(peak < MAX_BYTES, "{name}: {peak} bytes");
        let connects = harness.connected_to().len();
        assert!(connects <= 150, "{name}: {connects} connections");
        harness.assert_ends();
    }
}
