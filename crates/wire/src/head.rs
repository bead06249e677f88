//! The head of an HTTP-like message: start line and header fields, as HTTP and SSDP share them.

#![forbid(unsafe_code)]
use super::{Malformed, printable};

/// Header fields kept of one head, at most: more than twice as many as any known gateway sends. Later ones are ignored.
const MAX_FIELDS: usize = 64;

/// Characters kept of a line, at most: longer than any URL that is followed.
const MAX_VALUE_CHARS: usize = 4096;

/// A parsed head.
#[derive(Debug)]
pub(super) struct Head {
    /// The start line, trimmed; empty when the message starts with a header field (seen in SSDP replies).
    pub(super) start_line: String,
    fields: Vec<(String, String)>,
}

/// Whether a line ends the head: nothing in it but white space and control characters.
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|b| *b == b' ' || b.is_ascii_control())
}

/// The status code of a line like `HTTP/1.1 200 OK`: the reason may be missing, versions are not looked at.
pub(super) fn status(line: &str) -> Option<u16> {
    let mut words = line.split_ascii_whitespace();
    let protocol = words.next()?;
    if !is_http_version(protocol) {
        return None;
    }
    // RFC 9112 §4: status-code = 3DIGIT. Some devices glue the reason to it.
    let digits = words.next()?.get(..3)?;
    // RFC 9110 §15: status codes start at 100.
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
        .filter(|&code| code >= 100)
}

fn is_http_version(word: &str) -> bool {
    word.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("HTTP/"))
}

impl Head {
    /// Reads the head that `bytes` begin with, up to the first blank line or the end. Empty lines before it are
    /// skipped, lines that are no header field ignored.
    pub(super) fn parse(bytes: &[u8]) -> Result<Head, Malformed> {
        // httparse takes a lone CR, NUL or other control characters for an attack and gives up; gateways send
        // them. So they become spaces, and lines end in LF alone.
        let mut lines = bytes
            .split(|b| *b == b'\n')
            .skip_while(|line| is_blank(line))
            .take_while(|line| !is_blank(line))
            .map(|line| {
                let spaced = |b: &u8| if b.is_ascii_control() { b' ' } else { *b };
                line.iter().map(spaced).collect::<Vec<u8>>().trim_ascii().to_vec()
            })
            .peekable();
        let is_start = |line: &Vec<u8>| {
            let line = String::from_utf8_lossy(line);
            let mut words = line.split_ascii_whitespace();
            words.next().is_some_and(is_http_version) || words.next_back().is_some_and(is_http_version)
        };
        let start_line = lines.next_if(is_start).unwrap_or_default();

        // httparse skips invalid lines for responses only, so the fields go under a status line of our own.
        let mut text = b"HTTP/1.1 200 OK\n".to_vec();
        for line in lines.take(MAX_FIELDS) {
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        text.push(b'\n');
        let mut headers = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut headers);
        httparse::ParserConfig::default()
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .parse_response(&mut response, &text)
            .map_err(|_| Malformed)?;
        let fields = response
            .headers
            .iter()
            .map(|header| {
                let value = printable(&String::from_utf8_lossy(header.value), MAX_VALUE_CHARS);
                (header.name.to_owned(), value)
            })
            .collect();
        Ok(Head { start_line: printable(&String::from_utf8_lossy(&start_line), MAX_VALUE_CHARS), fields })
    }

    /// All values of a field, in order, its name compared without case.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The first value of a field that is not empty; empty when there is none.
    pub(super) fn get<'a>(&'a self, name: &'a str) -> &'a str {
        self.all(name).find(|value| !value.is_empty()).unwrap_or_default()
    }
}
