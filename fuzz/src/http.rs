//! HTTP replies, fed in pieces; URLs and requests.

use plum_wire::http::{ReadError, Reply, ReplyReader, Url, emit_get, emit_post};
use std::net::SocketAddr;

/// The first octets choose the limit and how the rest is cut into pieces.
pub fn run(data: &[u8]) {
    let Some((&[limit, first, second], stream)) = data.split_first_chunk() else { return };
    let limit = match limit {
        0 => usize::MAX,
        limit => usize::from(limit) * 16,
    };
    any_cut_reads_the_same(stream, limit, [first, second].map(|length| usize::from(length) + 1));
    well_framed_bodies_arrive(stream, usize::from(first) + 1);
    urls(&String::from_utf8_lossy(stream));
}

/// Reads `stream` in pieces of the given lengths, over and over, then the close.
fn read(stream: &[u8], lengths: &[usize], limit: usize) -> Result<Reply, ReadError> {
    let mut reader = ReplyReader::new(limit);
    let mut rest = stream;
    for &length in lengths.iter().cycle() {
        let (piece, after) = rest.split_at(length.min(rest.len()));
        if let Some(reply) = reader.push(piece)? {
            return Ok(reply);
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    reader.finish()
}

fn any_cut_reads_the_same(stream: &[u8], limit: usize, lengths: [usize; 2]) {
    let by_octet = read(stream, &[1], limit);
    for cut in [read(stream, &[stream.len().max(1)], limit), read(stream, &lengths, limit)] {
        match (&cut, &by_octet) {
            (Ok(cut), Ok(by_octet)) => {
                assert_eq!((cut.status, &cut.location), (by_octet.status, &by_octet.location));
                // Only what came along behind the end that Content-Length promised is more.
                assert!(cut.body.starts_with(&by_octet.body), "{cut:?} and {by_octet:?}");
                assert!(cut.body.len() <= limit.min(stream.len()));
                assert!((200..1000).contains(&cut.status));
                if let Some(location) = &cut.location {
                    crate::text::assert_clean(location);
                    assert!(!location.is_empty());
                }
            }
            _ => assert_eq!(cut, by_octet),
        }
    }
}

/// Whatever the body is: framed as RFC 9112 §6 says, it comes out as it went in.
fn well_framed_bodies_arrive(body: &[u8], piece: usize) {
    let length = body.len();
    let with_length =
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(), body].concat();
    let until_close = [b"HTTP/1.0 500 No\r\n\r\n", body].concat();
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(piece) {
        chunked.extend(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
        chunked.extend(chunk);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    for stream in [with_length, chunked] {
        let read = read(&stream, &[piece, 1], usize::MAX);
        assert_eq!(read, Ok(Reply { status: 200, location: None, body: body.to_vec() }));
    }
    let read = read(&until_close, &[piece, 1], usize::MAX).expect("a reply");
    assert_eq!((read.status, &read.location), (500, &None));
    // Without a length a document ends the reply where its root does, or another element of that name.
    let begin = read.body.trim_ascii_start();
    let is_document =
        begin.starts_with(b"<") && !begin.starts_with(b"</") || begin.starts_with(b"\xef\xbb\xbf");
    assert!(read.body == body || is_document && body.starts_with(&read.body), "{read:?}");
}

/// URLs stay within a request line, on the host of the page that they stand on; whatever text is put into a request.
fn urls(text: &str) {
    let base = Url::parse("http://192.0.2.1:5000/a/b?c").expect("a URL");
    let joined = base.join(text);
    for url in [Url::parse(text), joined.clone()].into_iter().flatten() {
        assert!(
            url.path.starts_with('/') && url.path.bytes().all(|octet| octet.is_ascii_graphic()),
            "{url:?}"
        );
        assert!(url.address.port() != 0);
        assert!(url.path.len() <= 2048 + 3, "{} octets of path", url.path.len());
        let written = format!("http://{}{}", url.address, url.path);
        assert_eq!(Url::parse(&written), Ok(url.clone()), "the same again");
        let address = SocketAddr::new(base.address.ip(), url.address.port());
        assert_eq!(base.join(&written), Ok(Url { address, ..url.clone() }), "the host stays the base's");
        let lines = |request: &[u8]| request.iter().filter(|&&octet| octet == b'\n').count();
        assert_eq!(lines(&emit_get(&url)), 5);
        let post = emit_post(&url, text, "<body/>");
        assert_eq!(lines(&post), 8);
        assert!(post.ends_with(b"\r\n\r\n<body/>"));
    }
    if let Ok(url) = joined {
        assert_eq!(url.address.ip(), base.address.ip(), "{text:?} leads to {url:?}");
        assert!(text.contains("//") || url.address == base.address, "{text:?} leads to {url:?}");
    }
}
