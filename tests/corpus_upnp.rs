//! The UPnP parsers against what real gateways send: every file of the corpus in ../shared/corpus, checked
//! against the facts of its INDEX.tsv. Where the folder is absent this says so and goes on, but not in CI.

use plum::wire::http::{Reply, ReplyReader, Url};
use plum::wire::{igd, soap, ssdp};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Enough for every reply of the corpus, and the limit for descriptions.
const LIMIT: usize = 1 << 20;

/// A row of INDEX.tsv.
struct Row {
    file: String,
    facts: Vec<String>,
    bytes: Vec<u8>,
}

impl Row {
    /// The value of the fact `name=value`, if the row has it.
    fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find_map(|fact| fact.strip_prefix(name)?.strip_prefix('='))
    }

    /// As [`Row::fact`], empty when the fact is missing or says that the field is.
    fn text(&self, name: &str) -> &str {
        match self.fact(name) {
            None | Some("(none)" | "(empty)" | "(self-closed)") => "",
            Some(text) => text,
        }
    }
}

fn corpus() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if folder.join("INDEX.tsv").is_file() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "the corpus is not at {}", folder.display());
    // Not by eprintln!, which the output of a test that passes would swallow; and in one piece.
    let text = format!("tests of the corpus were NOT run: it is not at {}\n", folder.display());
    let _ = std::io::stderr().write_all(text.as_bytes());
    None
}

/// All rows of a folder of the corpus, at least `at_least` of them.
fn rows(folder: &str, at_least: usize) -> Vec<Row> {
    let Some(corpus) = corpus() else { return Vec::new() };
    let index = std::fs::read_to_string(corpus.join("INDEX.tsv")).unwrap();
    let mut rows = Vec::new();
    for line in index.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        if columns[0].split('/').next() == Some(folder) {
            rows.push(Row {
                file: columns[0].to_owned(),
                facts: columns[6]
                    .split("; ")
                    .map(|fact| fact.replace("\\n", "\n").trim().to_owned())
                    .collect(),
                bytes: std::fs::read(corpus.join(columns[0])).unwrap(),
            });
        }
    }
    assert!(rows.len() >= at_least, "only {} files in {folder}", rows.len());
    rows
}

/// `svcN=TYPE -> URL` facts of the two kinds of services that descriptions are read for.
fn expected_services(row: &Row) -> Vec<igd::Service> {
    (1..9)
        .filter_map(|n| {
            // The fact may hold line feeds around both parts.
            let (service_type, url) = row.fact(&format!("svc{n}"))?.split_once("->").unwrap();
            let url = url.trim();
            let control_url = if url == "(none)" { "" } else { url }.to_owned();
            Some(igd::Service { service_type: service_type.trim().to_owned(), control_url })
        })
        .filter(|service| !service.service_type.contains(":WANIPv6FirewallControl:"))
        .collect()
}

#[test]
fn descriptions_say_what_the_index_says() {
    for row in rows("igd-desc", 70) {
        let description = igd::parse(&row.bytes).unwrap_or_else(|_| panic!("{}: malformed", row.file));
        let services = expected_services(&row);
        assert_eq!(description.services, services, "{}", row.file);
        assert_eq!(description.url_base.as_deref().unwrap_or_default(), row.text("URLBase"), "{}", row.file);
        // Its beginning is cut off, and with it the root device; the first device left is taken for it.
        if !row.file.contains("malformed-offbynull-truncated-head") {
            assert_eq!(description.root_device_type, row.text("rootDeviceType"), "{}", row.file);
        }
        if row.file.contains("/nonigd-") || row.file.contains("tr64desc") {
            assert!(description.services.iter().all(|service| service.kind().is_none()), "{}", row.file);
        }
        for service in description.services.iter().filter(|service| !service.control_url.is_empty()) {
            let is_upnp = service.service_type.starts_with("urn:schemas-upnp-org:");
            assert_eq!(service.kind().is_some(), is_upnp, "{}", row.file);
            let base = Url::parse("http://192.0.2.1:5000/desc/root.xml").unwrap();
            let url = base.join(&service.control_url).unwrap_or_else(|_| panic!("{}: control URL", row.file));
            assert!(url.path.len() > 1, "{}: {url:?}", row.file);
        }
    }
}

#[test]
fn soap_replies_say_what_the_index_says() {
    for row in rows("soap", 74) {
        let reply = soap::parse(&row.bytes);
        if row.file.ends_with("fritzbox-html-401-unauthorized.xml") {
            assert!(reply.is_err(), "an HTML page taken for SOAP");
            continue;
        }
        match reply.unwrap_or_else(|_| panic!("{}: malformed", row.file)) {
            soap::Reply::Fault { code, description } => {
                // No fact, or one that is no number of 16 bits, reads as 0.
                assert_eq!(code, row.text("errorCode").parse().unwrap_or(0), "{}", row.file);
                if row.fact("errorDescription").is_some() {
                    assert_eq!(description, row.text("errorDescription"), "{}", row.file);
                }
                assert!(row.text("bodyElement").ends_with("Fault"), "{}", row.file);
            }
            soap::Reply::Response(arguments) => {
                assert!(!row.text("bodyElement").ends_with("Fault"), "{}", row.file);
                for fact in &row.facts {
                    let Some((name, value)) = fact.split_once('=') else { continue };
                    if ["bodyElement", "xml"].contains(&name) {
                        continue;
                    }
                    // "value [name not spelled so-and-so]"
                    let value = value.split(" [").next().unwrap();
                    let value = if value.starts_with('(') { "" } else { value };
                    assert_eq!(soap::get(&arguments, name), Some(value), "{}: {name}", row.file);
                }
                if row.fact("NewExternalIPAddress").is_none() && row.fact("newexternalipaddress").is_none() {
                    assert_eq!(soap::get(&arguments, "NewExternalIPAddress"), None, "{}", row.file);
                }
            }
        }
    }
}

#[test]
fn ssdp_messages_say_what_the_index_says() {
    for row in rows("ssdp", 45) {
        let message = ssdp::parse(&row.bytes);
        if row.text("start").starts_with("M-SEARCH") {
            assert!(message.is_err(), "{}: a search is nobody's answer", row.file);
            continue;
        }
        // Two messages, and facts of both: only the first counts.
        let has_two = row.file.ends_with("two-messages-in-one-buffer.txt");
        let (headers, target) = match message.unwrap_or_else(|_| panic!("{}: malformed", row.file)) {
            ssdp::Message::Reply(headers) => {
                assert!(!row.text("start").starts_with("NOTIFY"), "{}", row.file);
                (headers, "ST")
            }
            ssdp::Message::Alive(headers) => {
                assert!(row.text("start").starts_with("NOTIFY"), "{}", row.file);
                assert!(["ssdp:alive", ""].contains(&row.text("NTS")), "{}", row.file);
                (headers, "NT")
            }
            ssdp::Message::ByeBye(headers) => {
                assert_eq!(row.text("NTS"), "ssdp:byebye", "{}", row.file);
                (headers, "NT")
            }
        };
        assert_eq!(headers.target, row.text(target), "{}", row.file);
        assert_eq!(headers.usn, row.text("USN"), "{}", row.file);
        assert_eq!(headers.server, row.text("SERVER"), "{}", row.file);
        let location = if has_two { "http://192.0.2.1:1900/gatedesc.xml" } else { row.text("LOCATION") };
        assert_eq!(headers.location, location, "{}", row.file);
        let is_bad = ["five-octets", "https", "bad-location"].iter().any(|bad| row.file.contains(bad));
        assert_eq!(Url::parse(&headers.location).is_err(), is_bad || location.is_empty(), "{}", row.file);
    }
}

/// The pieces of `bytes` as the network might cut them, by a seed.
fn random_pieces<'a>(bytes: &'a [u8], random: &mut fastrand::Rng) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = random.usize(1..=rest.len()).min(random.usize(1..=1500));
        let (piece, after) = rest.split_at(most);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// What a reader makes of pieces, and of the close behind them if the reply had no end of its own.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Reply {
    let mut reader = ReplyReader::new(LIMIT);
    for piece in pieces {
        if let Some(reply) = reader.push(piece).unwrap() {
            return reply;
        }
    }
    reader.finish().unwrap()
}

/// The whole body of a raw reply that is not chunked.
fn body_of(bytes: &[u8]) -> &[u8] {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    &bytes[at + 4..]
}

#[test]
fn http_replies_say_what_the_index_says_however_they_are_cut() {
    let mut random = fastrand::Rng::with_seed(0x11d);
    for row in rows("http", 54) {
        let whole = read([&row.bytes[..]]);
        let status = row.text("status").split(' ').nth(1).unwrap();
        assert_eq!(whole.status.to_string(), status, "{}", row.file);
        let is_chunked = row.fact("Transfer-Encoding") == Some("chunked");
        if is_chunked {
            assert!(whole.body.trim_ascii_end().ends_with(b">"), "{}", row.file);
            assert!(whole.body.len() < body_of(&row.bytes).len(), "{}", row.file);
        } else {
            assert_eq!(whole.body, body_of(&row.bytes), "{}", row.file);
        }

        // A promise too short is taken at its word when more would have to be waited for.
        let promised = row.facts.iter().find_map(|fact| fact.strip_prefix("Content-Length="));
        let promised = promised.map(|fact| fact.split(' ').next().unwrap().parse().unwrap());
        let by_byte = read(row.bytes.chunks(1));
        let kept = match promised {
            Some(promised) => whole.body.len().min(promised),
            None if is_chunked => whole.body.len(),
            // Without one a document ends where it ends; what follows is not waited for, be it white space or a comment.
            None => by_byte.body.len(),
        };
        assert_eq!(by_byte.status, whole.status, "{}", row.file);
        assert_eq!(by_byte.body, whole.body[..kept], "{}", row.file);
        for _ in 0..20 {
            let cut = read(random_pieces(&row.bytes, &mut random));
            assert_eq!(cut.status, whole.status, "{}", row.file);
            assert!(cut.body.len() >= kept && whole.body.starts_with(&cut.body), "{}", row.file);
        }

        // And what is in it reads the same, cut short or not.
        assert_eq!(igd::parse(&by_byte.body), igd::parse(&whole.body), "{}", row.file);
        assert_eq!(soap::parse(&by_byte.body), soap::parse(&whole.body), "{}", row.file);
    }
}

#[test]
fn every_prefix_of_an_http_reply_ends_in_a_reply_or_an_error() {
    for row in rows("http", 54) {
        let whole = read([&row.bytes[..]]);
        let head_end = row.bytes.len() - body_of(&row.bytes).len();
        for length in 0..row.bytes.len() {
            let mut reader = ReplyReader::new(LIMIT);
            let complete = reader.push(&row.bytes[..length]).unwrap();
            match complete.map_or_else(|| reader.finish(), Ok) {
                Ok(reply) => {
                    assert!(length >= head_end, "{}: a reply of {length} bytes", row.file);
                    assert_eq!(reply.status, whole.status, "{}", row.file);
                    assert!(whole.body.starts_with(&reply.body), "{}: prefix of {length}", row.file);
                }
                Err(_) => assert!(length < head_end, "{}: nothing in {length} bytes", row.file),
            }
        }
    }
}

#[test]
fn bodies_of_http_replies_equal_their_twins() {
    // The notes name the twin of many files: "body of http/X".
    let Some(corpus) = corpus() else { return };
    let index = std::fs::read_to_string(corpus.join("INDEX.tsv")).unwrap();
    let mut compared = 0;
    for line in index.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let Some(note) = columns.get(7).and_then(|note| note.strip_prefix("body of ")) else { continue };
        let file = note.split(". ").next().unwrap().trim_end_matches('.');
        let reply = read([&std::fs::read(corpus.join(file)).unwrap()[..]]);
        let twin = std::fs::read(corpus.join(columns[0])).unwrap();
        assert_eq!(reply.body.trim_ascii(), twin.trim_ascii(), "{file}");
        compared += 1;
    }
    assert!(compared > 20, "only {compared} compared");
}

#[test]
fn service_descriptions_are_neither_gateways_nor_soap() {
    for row in rows("scpd", 18) {
        assert!(igd::parse(&row.bytes).is_err(), "{}", row.file);
        assert!(soap::parse(&row.bytes).is_err(), "{}", row.file);
    }
}
