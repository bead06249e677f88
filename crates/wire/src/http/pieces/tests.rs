//! How often bytes are looked at that come one at a time.

use crate::http::ReplyReader;
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
