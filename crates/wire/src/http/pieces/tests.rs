//! How often bytes are looked at that come one at a time, and what may be missing at the end of them.

use crate::http::{ReadError, ReplyReader, Rest};
use std::cell::Cell;

thread_local! {
    /// How often a byte was looked at.
    pub(super) static LOOKS: Cell<usize> = const { Cell::new(0) };
}

/// Looks at bytes that reading them takes, one at a time.
fn looks_byte_by_byte(bytes: &[u8]) -> usize {
    LOOKS.set(0);
    let mut reader = ReplyReader::new(usize::MAX);
    for byte in bytes.chunks(1) {
        assert_eq!(reader.push(byte), Ok(None), "it is not to end");
        let _ = reader.may_be_all();
    }
    LOOKS.get()
}

#[test]
fn a_reply_that_comes_byte_by_byte_costs_in_proportion_to_its_length() {
    let head = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let length = format!("{head}Content-Length: 1000000\r\n\r\n");
    let name = "a".repeat(2000);
    for (begin, repeated) in [
        // Heads, and what stands before one.
        ("", "\0"),
        ("", "\r\n"),
        (head, "x"),
        (head, "X: y\r\n"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        // Lines with a chunk's size, and chunks.
        (&chunked, "\r\n"),
        (&chunked, " "),
        (&format!("{chunked}1\r\nx\r\n1;"), "x"),
        (&chunked, "1\r\nx\r\n"),
        // Bodies that may be documents.
        (&format!("{head}\r\n"), " "),
        (&format!("{head}\r\n"), "<!>"),
        (&format!("{head}\r\n<{name}"), ">"),
        (&format!("{head}\r\n<{name}>"), "</a>"),
        (&format!("{head}\r\n<{name}></{name}"), "a>"),
        (&length, "</>"),
        (&format!("{length}<{name}>"), "\0>"),
    ] {
        let text = [begin, &repeated.repeat(1000 / repeated.len())].concat();
        let looks = looks_byte_by_byte(text.as_bytes());
        assert!((1..=8 * text.len()).contains(&looks), "{looks} looks at {} bytes: {repeated:?}", text.len());
    }
}

/// What may be missing after this reply, whose connection stays open.
fn missing_after(reply: &str) -> Option<Rest> {
    let mut reader = ReplyReader::new(usize::MAX);
    assert_eq!(reader.push(reply.as_bytes()), Ok(None), "{reply}");
    reader.may_be_all()
}

#[test]
fn a_whole_document_that_is_shorter_than_promised_may_be_all() {
    let promised =
        |body: &str| missing_after(&format!("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{body}"));
    assert_eq!(promised("<a><b/></a>"), Some(Rest::Promised));
    assert_eq!(promised("<a><b/></a>\r\n\0"), Some(Rest::Promised));
    for body in ["", "<a><b/>", "<a><b/></a", "<a><b/></aX", "<a><b/></b>", "text>"] {
        assert_eq!(promised(body), None, "{body}");
    }
}

#[test]
fn a_reply_without_length_may_be_all_before_its_body_only() {
    assert_eq!(missing_after("HTTP/1.0 200 OK\r\n\r\n"), Some(Rest::Body));
    assert_eq!(missing_after("HTTP/1.0 200 OK\r\n\r\n<a><b/>"), None);
    assert_eq!(missing_after("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), None);
}

#[test]
fn a_head_of_16_kib_is_read_and_none_of_17() {
    let head = |len: usize| {
        let rest = len - "HTTP/1.1 204 OK\r\nA: \r\n\r\n".len();
        format!("HTTP/1.1 204 OK\r\nA: {}\r\n\r\n", "x".repeat(rest))
    };
    let read = |len| ReplyReader::new(usize::MAX).push(head(len).as_bytes());
    assert_eq!(read(16 * 1024).map(|reply| reply.map(|reply| reply.status)), Ok(Some(204)));
    assert_eq!(read(17 * 1024), Err(ReadError::TooLong));
    assert_eq!(ReadError::TooLong.to_string(), "too long");
}
