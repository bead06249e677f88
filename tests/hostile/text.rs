//! Hostile text in every string of the network that reaches a log, a request or the program.

use crate::harness::{
    GATEWAY_HTTP, IGD, ROGUE, WAN, bare_harness, description, page, secs, service, soap, upnp_harness,
};
use crate::world::GATEWAY;
use plum_engine::io::Socket;
use plum_runtime::log::{self, Level};
use plum_wire::Transport::Tcp;
use std::cell::RefCell;
use std::ffi::CStr;
use std::net::SocketAddr;
use std::sync::Once;

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Every line that the calling thread logs meanwhile, its level in front.
pub fn logged<T>(act: impl FnOnce() -> T) -> (Vec<String>, T) {
    static OPEN: Once = Once::new();
    OPEN.call_once(|| {
        // Called on the thread that logs; the tests' engines run on the tests' own.
        let keep = |level: Level, text: &CStr| {
            LINES.with_borrow_mut(|lines| {
                if let Some(lines) = lines {
                    // What is no UTF-8 shows as U+FFFD, which no line may have beside what came so.
                    lines.push(format!("{level:?} {}", text.to_string_lossy()));
                }
            });
        };
        log::open(Some(Level::Verbose), Some(std::sync::Arc::new(keep)));
    });
    plum_engine::log::set_sink(log::ENGINE_SINK);
    LINES.set(Some(Vec::new()));
    let result = act();
    (LINES.take().unwrap_or_default(), result)
}

/// Ends lines, rings bells, colours and retitles terminals, reorders text, ends strings, and is no UTF-8.
pub const NASTY: [&str; 9] = [
    "a\r\nb\nc",
    "a\0b",
    "\u{1b}[31mred\u{1b}]0;title\u{7}\u{1b}[2J",
    "\u{9b}31m\u{85}\u{8}\u{7f}",
    "\u{202e}txt.exe\u{202a}\u{202b}\u{202d}\u{2066}\u{2067}\u{2068}",
    "\u{200e}\u{200f}\u{61c}\u{2028}line\u{2029}",
    "%n%s%x%p",
    "</NewExternalIPAddress><script>&\"'",
    "\u{fffd}\u{feff}\u{e0041}\u{200b}\u{fff9}",
];

/// Whether a terminal or a reader of a log shows this character as itself, in its place.
fn is_plain(c: char) -> bool {
    let reorders =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !reorders
}

#[track_caller]
fn assert_plain(lines: &[String]) {
    for line in lines {
        assert!(line.chars().all(is_plain), "{line:?}");
        assert!(line.len() <= 2000 + "Verbose ".len(), "{} bytes in a line", line.len());
    }
}

/// At least one line has this.
#[track_caller]
fn assert_logged(lines: &[String], text: &str) {
    assert!(lines.iter().any(|line| line.contains(text)), "{text} is not in {lines:#?}");
}

#[test]
fn names_of_devices_reach_the_log_as_plain_text() {
    for nasty in NASTY {
        let xml = description(&format!("marker{nasty}"), "", &[(WAN, "/ctl")])
            .replace("</friendlyName>", &format!("</friendlyName><modelName>model{nasty}</modelName>"));
        let (lines, ()) = logged(|| {
            let mut harness = upnp_harness();
            let mut service = service("203.0.113.9".into());
            harness.serve_answers(GATEWAY_HTTP, move |request| {
                if request.starts_with("GET") { page(&xml) } else { service(request) }
            });
            let id = harness.create(Tcp, 8000);
            harness.run_until(|harness| harness.is_success(id));
            harness.assert_ends();
        });
        assert_plain(&lines);
        assert_logged(&lines, "marker");
        assert_logged(&lines, "model");
    }
}

#[test]
fn texts_of_faults_reach_the_log_as_plain_text() {
    for nasty in NASTY {
        let (lines, ()) = logged(|| {
            let mut harness = upnp_harness();
            harness.serve_answers(GATEWAY_HTTP, move |request| {
                if request.starts_with("GET") {
                    return page(description("Gateway", "", &[(WAN, "/ctl")]));
                }
                page(soap(&format!(
                    "<s:Fault><detail><UPnPError><errorCode>606</errorCode><errorDescription>marker{nasty}\
                     </errorDescription></UPnPError></detail></s:Fault>"
                )))
            });
            let id = harness.create(Tcp, 8000);
            harness.run_until(|harness| harness.is_failure(id));
            harness.assert_ends();
        });
        assert_plain(&lines);
        assert_logged(&lines, "marker");
    }
}

#[test]
fn external_addresses_with_anything_else_in_them_reach_nobody() {
    // (An end tag behind an address ends it, and that is all there is to it.)
    for nasty in NASTY.into_iter().filter(|nasty| !nasty.starts_with('<')) {
        for text in [format!("203.0.113.9{nasty}"), format!("{nasty}203.0.113.9"), nasty.to_owned()] {
            let (lines, ()) = logged(|| {
                let mut harness = upnp_harness();
                harness.serve_answers(GATEWAY_HTTP, service(text.clone()));
                let id = harness.create(Tcp, 8000);
                // An address is a value, or none: no text of the network can reach `external_host`.
                harness.assert_fails(id, secs(21));
                harness.assert_ends();
            });
            assert_plain(&lines);
        }
    }
}

#[test]
fn urls_reach_requests_and_the_log_encoded() {
    for nasty in NASTY {
        let (lines, requests) = logged(|| {
            let mut harness = bare_harness();
            let location = format!("http://192.168.1.66:80/marker{}", nasty.replace(['\r', '\n'], " "));
            harness.answers_with(SocketAddr::new(ROGUE, 1900), &location);
            let xml =
                description("Rogue", "", &[(WAN, &format!("/control{}", nasty.replace(['<', '&'], "")))]);
            let mut service = service("203.0.113.9".into());
            harness.serve_answers(SocketAddr::new(ROGUE, 80), move |request| {
                if request.starts_with("GET") { page(&xml) } else { service(request) }
            });
            let id = harness.create(Tcp, 8000);
            harness.run_until(|harness| harness.is_success(id));
            harness.assert_ends();
            harness.wire(|wired| wired.requests.clone())
        });
        assert_plain(&lines);
        // (The harness has checked that their heads are ASCII without control characters.)
        for (_, request) in &requests {
            let lines: Vec<&str> =
                request.split("\r\n\r\n").next().unwrap_or_default().split("\r\n").collect();
            let mut words = lines[0].split(' ');
            assert!(matches!(words.next(), Some("GET" | "POST")), "{request}");
            assert!(
                words.next().is_some_and(|path| path.starts_with("/marker") || path.starts_with("/control")),
                "{request}"
            );
            assert_eq!((words.next(), words.next()), (Some("HTTP/1.1"), None), "{request}");
            let known = [
                "Host: 192.168.1.66:80",
                "User-Agent: libplum/",
                "Connection: close",
                "Content-Type: text/xml",
                "SOAPAction: \"urn:",
                "Content-Length: ",
            ];
            for line in &lines[1..] {
                assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
            }
        }
        assert!(requests.len() >= 3, "{requests:?}");
    }
}

#[test]
fn types_of_services_reach_requests_as_names_only() {
    for nasty in NASTY {
        for kind in [
            format!("{WAN}{nasty}"),
            format!("{nasty}{WAN}"),
            WAN.replace(":1", &format!(":1{nasty}")),
            WAN.replace("schemas", nasty),
        ] {
            let (lines, posts) = logged(|| {
                let mut harness = upnp_harness();
                let xml = description("Gateway", "", &[(&kind, "/ctl")]);
                harness.serve_answers(GATEWAY_HTTP, move |request| {
                    if request.starts_with("GET") { page(&xml) } else { page(soap("<s:Fault/>")) }
                });
                let id = harness.create(Tcp, 8000);
                harness.assert_fails(id, secs(21));
                harness.wire(|wired| {
                    wired
                        .requests
                        .iter()
                        .filter(|(_, text)| text.starts_with("POST"))
                        .cloned()
                        .collect::<Vec<_>>()
                })
            });
            assert_plain(&lines);
            for (_, post) in posts {
                let action = post
                    .split("SOAPAction: ")
                    .nth(1)
                    .and_then(|rest| rest.split("\r\n").next())
                    .unwrap_or_default();
                assert!(action.starts_with(&format!("\"{WAN}#")) && action.ends_with('"'), "{action}");
            }
        }
    }
}

#[test]
fn headers_of_datagrams_reach_the_log_as_plain_text() {
    let (lines, ()) = logged(|| {
        let mut harness = upnp_harness();
        let id = harness.create(Tcp, 8000);
        for nasty in NASTY {
            for text in [
                format!(
                    "HTTP/1.1 200 OK\r\nST: {nasty}\r\nUSN: {nasty}\r\nSERVER: {nasty}\r\nLOCATION: http://192.168.1.66/{nasty}\r\n\r\n"
                ),
                format!("{nasty}\r\nST: {IGD}\r\nLOCATION: {nasty}\r\n\r\n"),
                format!(
                    "NOTIFY {nasty} HTTP/1.1\r\nNTS: ssdp:alive\r\nNT: {IGD}\r\nUSN: {nasty}\r\nLOCATION: http://192.168.1.1/{nasty}\r\n\r\n"
                ),
                nasty.to_owned(),
            ] {
                for from in [GATEWAY, ROGUE] {
                    for socket in [
                        Socket::Ssdp,
                        Socket::Notifications,
                        Socket::Announcements,
                        Socket::Pcp,
                        Socket::NatPmp,
                    ] {
                        harness.inject(socket, SocketAddr::new(from, 1900), text.as_bytes());
                    }
                }
            }
        }
        harness.run_until(|harness| harness.is_success(id));
        harness.assert_ends();
    });
    assert!(lines.len() > 20, "{lines:#?}");
    assert_plain(&lines);
}

#[test]
fn what_is_no_utf8_is_logged_as_plain_text() {
    let (lines, ()) = logged(|| {
        let mut harness = upnp_harness();
        let xml = description("marker!", "", &[(WAN, "/ctl")]).into_bytes();
        let xml: Vec<u8> = xml
            .iter()
            .flat_map(|&b| if b == b'!' { vec![0xff, 0xc0, 0x80, 0xed, 0xa0, 0x80] } else { vec![b] })
            .collect();
        let mut service = service("203.0.113.9".into());
        harness.serve_answers(GATEWAY_HTTP, move |request| {
            if request.starts_with("GET") { page(&xml) } else { service(request) }
        });
        let id = harness.create(Tcp, 8000);
        harness.run_until(|harness| harness.is_success(id));
    });
    assert_plain(&lines);
    assert_logged(&lines, "marker");
}

#[test]
fn what_the_environment_and_the_program_say_reaches_standard_output_as_plain_text() {
    const ALONE: &str = "PLUM_TEST_ALONE";
    const NAME: &str = "text::what_the_environment_and_the_program_say_reaches_standard_output_as_plain_text";
    // A NUL ends each, and is nothing to be tried.
    let nasty = |text: &str| format!("!{}", text.replace('\0', ""));
    if let Ok(number) = std::env::var(ALONE) {
        let domain = nasty(NASTY[number.parse::<usize>().expect("a number")]);
        let domain = std::ffi::CString::new(domain).expect("no NUL in it");
        // SAFETY: all zero is a valid configuration: NULL pointers, and the ints are 0.
        let mut config: plum::plum_config_t = unsafe { std::mem::zeroed() };
        config.dummytls_domain = domain.as_ptr();
        // SAFETY: valid for the call.
        assert_eq!(unsafe { plum::plum_init(&raw const config) }, 0);
        assert_eq!(plum::plum_cleanup(), 0);
        return;
    }
    for (number, text) in NASTY.into_iter().enumerate() {
        let output = std::process::Command::new(std::env::current_exe().expect("the path of this program"))
            .args(["--exact", NAME, "--nocapture"])
            .env(ALONE, number.to_string())
            .env("PLUM_GATEWAY", nasty(text))
            .env("PLUM_ON_CLEANUP", nasty(text))
            .output()
            .expect("this program can be run");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success(), "{text}");
        let lines: Vec<String> =
            text.lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_logged(&lines, "PLUM_GATEWAY");
        assert_logged(&lines, "PLUM_ON_CLEANUP");
        assert_logged(&lines, "DummyTLS");
        assert_plain(&lines);
    }
}
