//! HTTP replies.

use crate::{documents, messages, read_shared};
use plum_wire::http::{ReadError, Reply, ReplyReader};
use plum_wire::{igd, soap};

/// Enough for every reply of the corpora, and the limit for descriptions.
const LIMIT: usize = 1 << 20;

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

/// What ends a reply: `itself`, or the `close` of the connection.
type End = &'static str;

/// What a reader makes of pieces, and of the close behind them if the reply had no end of its own.
fn read_to_end<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Reply, End), ReadError> {
    let mut reader = ReplyReader::new(LIMIT);
    for piece in pieces {
        if let Some(reply) = reader.push(piece)? {
            return Ok((reply, "itself"));
        }
    }
    Ok((reader.finish()?, "close"))
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Reply, ReadError> {
    Ok(read_to_end(pieces)?.0)
}

/// Where the body of a raw reply begins.
fn body_at(bytes: &[u8]) -> usize {
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.by_ref().take_while(|line| !line.trim_ascii().is_empty()).for_each(drop);
    bytes.len() - lines.map(<[u8]>::len).sum::<usize>()
}

#[test]
fn replies_say_what_the_index_says_however_they_are_cut() {
    let mut random = fastrand::Rng::with_seed(0x11d);
    for row in messages("http") {
        let refused = |error| panic!("{}: {error:?}", row.file);
        let whole = read([&row.bytes[..]]).unwrap_or_else(refused);
        let (by_byte, end) =
            read_to_end(row.bytes.chunks(1)).unwrap_or_else(|error| panic!("{}: {error:?}", row.file));
        let status = row.text("status");
        assert!(row.has_line(status), "{}: {status}", row.file);
        assert_eq!(whole.status.to_string(), status.split(' ').nth(1).unwrap(), "{}", row.file);
        let raw_body = &row.bytes[body_at(&row.bytes)..];
        let is_chunked = row.fact("Transfer-Encoding") == Some("chunked");
        if is_chunked {
            assert!(whole.body.trim_ascii_end().ends_with(b">"), "{}", row.file);
            assert!(whole.body.len() < raw_body.len(), "{}", row.file);
        } else {
            assert_eq!(whole.body, raw_body, "{}", row.file);
        }
        if let Some(length) = row.number("body") {
            assert_eq!(whole.body.len(), length as usize, "{}: the body's length", row.file);
        }

        assert_eq!(end, row.fact("end").unwrap_or(end), "{}: what ends it", row.file);

        // A promise too short is taken at its word when more would have to be waited for.
        let promised = row.number("Content-Length");
        let field = promised.map(|length| format!("Content-Length: {length}"));
        assert!(field.is_none_or(|field| row.has_line(&field)), "{}: {promised:?}", row.file);
        let kept = match promised {
            Some(promised) => whole.body.len().min(promised as usize),
            None if is_chunked => whole.body.len(),
            // Without one a document ends where it ends; what follows is not waited for, be it white space or a comment.
            None => by_byte.body.len(),
        };
        assert_eq!(by_byte.status, whole.status, "{}", row.file);
        assert_eq!(by_byte.body, whole.body[..kept], "{}", row.file);
        for _ in 0..20 {
            let cut = read(random_pieces(&row.bytes, &mut random)).unwrap_or_else(refused);
            assert_eq!(cut.status, whole.status, "{}", row.file);
            assert!(cut.body.len() >= kept && whole.body.starts_with(&cut.body), "{}", row.file);
        }

        // And what is in it reads the same, cut short or not.
        assert_eq!(igd::parse(&by_byte.body), igd::parse(&whole.body), "{}", row.file);
        assert_eq!(soap::parse(&by_byte.body), soap::parse(&whole.body), "{}", row.file);
        if row.fact("rootDeviceType").is_some() {
            documents::check_description(&row, &whole.body);
        }
        if row.fact("bodyElement").is_some() {
            documents::check_soap(&row, &whole.body);
        }
        row.assert_all_read();
    }
}

#[test]
fn every_prefix_of_a_reply_ends_in_a_reply_or_an_error() {
    for row in messages("http") {
        let whole = read([&row.bytes[..]]).unwrap();
        let head_end = body_at(&row.bytes);
        for length in 0..row.bytes.len() {
            match read([&row.bytes[..length]]) {
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
fn bodies_of_replies_equal_their_twins() {
    // The notes name the twin of many files: "body of http/X". None of ours has one.
    let rows = read_shared();
    let mut compared = 0;
    for twin in &rows {
        let Some(note) = twin.note.strip_prefix("body of ") else { continue };
        let file = note.split(". ").next().unwrap().trim_end_matches('.');
        let reply = rows.iter().find(|row| row.file == file).unwrap_or_else(|| panic!("no file {file}"));
        let reply = read([&reply.bytes[..]]).unwrap_or_else(|error| panic!("{file}: {error:?}"));
        assert_eq!(reply.body.trim_ascii(), twin.bytes.trim_ascii(), "{file}");
        compared += 1;
    }
    assert!(rows.is_empty() || compared > 20, "only {compared} compared");
}
