use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap_or_else(|_| panic!("refused: {text}"))
}

#[track_caller]
fn check_url(text: &str, address: &str, path: &str) {
    assert_eq!(url(text), Url { address: address.parse().unwrap(), path: path.into() }, "{text}");
}

#[test]
fn urls_are_taken_apart() {
    check_url("http://192.0.2.1:5000/rootDesc.xml", "192.0.2.1:5000", "/rootDesc.xml");
    check_url("http://192.0.2.1", "192.0.2.1:80", "/");
    check_url(" HTTP://192.0.2.1:/\r\n", "192.0.2.1:80", "/");
    check_url("http://192.0.2.1?a=b/c", "192.0.2.1:80", "/?a=b/c");
    check_url("http://192.0.2.1:65535/a?b#c", "192.0.2.1:65535", "/a?b");
    check_url("http://192.0.2.1#c?d", "192.0.2.1:80", "/");
    check_url("http://[2001:db8::1]:5000/x", "[2001:db8::1]:5000", "/x");
    check_url("http://[fe80::1]", "[fe80::1]:80", "/");
    check_url(
        "http://192.168.0.1:5431/uuid:1/WANPPPConnection:1",
        "192.168.0.1:5431",
        "/uuid:1/WANPPPConnection:1",
    );
}

#[test]
fn paths_cannot_end_the_request_line() {
    check_url("http://192.0.2.1/a b", "192.0.2.1:80", "/a%20b");
    check_url(
        "http://192.0.2.1/ HTTP/1.1\r\nX: y\r\n\r\n?z\t\0\u{7f}",
        "192.0.2.1:80",
        "/%20HTTP/1.1%0D%0AX:%20y%0D%0A%0D%0A?z%09%00%7F",
    );
    check_url("http://192.0.2.1/ä%20%zz", "192.0.2.1:80", "/%C3%A4%20%zz");
}

#[test]
fn paths_are_as_long_as_a_request_may_have_them() {
    let long = "x".repeat(MAX_URL_BYTES - 1);
    assert_eq!(url(&format!("http://192.0.2.1/{long}")).path.len(), MAX_URL_BYTES);
    // What is encoded is three octets longer: it goes past the limit in one step.
    for more in ["x", "ä"] {
        assert_eq!(Url::parse(&format!("http://192.0.2.1/{long}{more}")), Err(Malformed), "{more}");
    }
}

#[test]
fn urls_that_must_not_be_followed_are_malformed() {
    let long = format!("http://192.0.2.1/{}", "x".repeat(MAX_URL_BYTES));
    for text in [
        "",
        "http",
        "http://",
        "http:///path",
        "http:/192.0.2.1/",
        "https://192.0.2.1/",
        "ftp://192.0.2.1/",
        "file:///etc/passwd",
        "//192.0.2.1/",
        "192.0.2.1/",
        "/path",
        "http://example.com/",
        "http://localhost/",
        "http://192.0.2.1.example.com/",
        "http://192.0.2.2.2:12345/device.xml",
        "http://192.0.2/",
        "http://3221225985/",
        "http://0xc0.0.2.1/",
        "http://192.0.2.01/",
        "http://user@192.0.2.1/",
        "http://user:password@192.0.2.1/",
        "http://192.0.2.1@198.51.100.1/",
        "http://192.0.2.1:80@198.51.100.1/",
        "http://192.0.2.1\\@198.51.100.1/",
        "http:// 192.0.2.1/",
        "http://192.0.2.1 /",
        "http://192.0.2.1\n/",
        "http://192.0.2.1:0/",
        "http://192.0.2.1:65536/",
        "http://192.0.2.1:+80/",
        "http://192.0.2.1:-1/",
        "http://192.0.2.1:8 0/",
        "http://192.0.2.1:{port}/",
        "http://[192.0.2.1]/",
        "http://[::1/",
        "http://[::1]80/",
        "http://::1/",
        "httpé://192.0.2.1/",
        long.as_str(),
    ] {
        assert_eq!(Url::parse(text), Err(Malformed), "{text}");
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[track_caller]
fn check_join(base: &str, reference: &str, expected: &str) {
    assert_eq!(url(base).join(reference), Ok(url(expected)), "{reference} on {base}");
}

#[test]
fn references_are_joined_as_in_the_standard() {
    // RFC 3986 §5.4.1 and §5.4.2, as far as they are about http and paths without parameters.
    let base = "http://192.0.2.1/b/c/d?q";
    for (reference, expected) in [
        ("g", "/b/c/g"),
        ("./g", "/b/c/g"),
        ("g/", "/b/c/g/"),
        ("/g", "/g"),
        ("?y", "/b/c/d?y"),
        ("g?y", "/b/c/g?y"),
        ("#s", "/b/c/d?q"),
        ("g#s", "/b/c/g"),
        ("g?y#s", "/b/c/g?y"),
        ("", "/b/c/d?q"),
        (".", "/b/c/"),
        ("./", "/b/c/"),
        ("..", "/b/"),
        ("../", "/b/"),
        ("../g", "/b/g"),
        ("../..", "/"),
        ("../../", "/"),
        ("../../g", "/g"),
        ("../../../g", "/g"),
        ("../../../../g", "/g"),
        ("/./g", "/g"),
        ("/../g", "/g"),
        ("g.", "/b/c/g."),
        (".g", "/b/c/.g"),
        ("g..", "/b/c/g.."),
        ("..g", "/b/c/..g"),
        ("./../g", "/b/g"),
        ("./g/.", "/b/c/g/"),
        ("g/./h", "/b/c/g/h"),
        ("g/../h", "/b/c/h"),
        ("g?y/./x", "/b/c/g?y/./x"),
        ("g?y/../x", "/b/c/g?y/../x"),
        ("g#s/../x", "/b/c/g"),
    ] {
        check_join(base, reference, &format!("http://192.0.2.1{expected}"));
    }
}

#[test]
fn references_to_other_hosts_lead_to_the_one_that_gave_them() {
    let base = "http://192.0.2.1/b/c";
    check_join(base, "//198.51.100.1:8/g", "http://192.0.2.1:8/g");
    check_join(base, "http://198.51.100.1/g", "http://192.0.2.1/g");
    check_join(base, "http://example.com/c", "http://192.0.2.1/c");
    check_join(base, "http://192.000.002.001:49000/c", "http://192.0.2.1:49000/c");
    check_join(base, "http://[::1]:5000/c", "http://192.0.2.1:5000/c");
}

#[test]
fn a_host_can_be_put_in_place_of_the_one_that_stands_there() {
    let place = |text: &str| Url::parse_at(text, |host| host.or(Some(address("192.0.2.7"))));
    assert_eq!(place("http://192.0.2.1:81/x"), Ok(url("http://192.0.2.1:81/x")));
    assert_eq!(place("http://router.lan:81/x"), Ok(url("http://192.0.2.7:81/x")));
    assert_eq!(place("http://010.0.0.1/x"), Ok(url("http://192.0.2.7/x")), "a padded number is no address");
    assert_eq!(place("http://[fe80::1%25eth0]/"), Ok(url("http://[fe80::1]/")), "a zone is the sender's");
    assert_eq!(place("http://user@router.lan/"), Err(Malformed));
    assert_eq!(place("http:///x"), Err(Malformed));
}

#[test]
fn a_zone_is_dropped_when_read_and_never_sent() {
    for text in ["http://[fe80::1%25eth0]:5000/x", "http://[fe80::1%eth0]:5000/x"] {
        let mut read = url(text);
        assert_eq!(read, url("http://[fe80::1]:5000/x"), "{text}");
        // The interface of the connection is no part of the name.
        read.address = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 5000, 0, 7).into();
        let request = String::from_utf8(emit_get(&read)).unwrap();
        assert!(request.contains("\r\nHost: [fe80::1]:5000\r\n"), "{request}");
    }
}

#[test]
fn references_of_real_gateways_are_joined() {
    let base = "http://192.0.2.1:5431/dyndev/uuid:1";
    check_join(base, "/uuid:1/WANIPConnection:1", "http://192.0.2.1:5431/uuid:1/WANIPConnection:1");
    check_join(base, "uuid:1/WANIPConnection:1", "http://192.0.2.1:5431/dyndev/uuid:1/WANIPConnection:1");
    check_join(base, " /ctl/IPConn\n", "http://192.0.2.1:5431/ctl/IPConn");
    check_join(base, "/soap.cgi?service=WANIPConn1", "http://192.0.2.1:5431/soap.cgi?service=WANIPConn1");
    check_join("http://192.0.2.1:5000", "ctl/IPConn", "http://192.0.2.1:5000/ctl/IPConn");
    check_join("http://192.0.2.1:5000/", "http://192.0.2.1:5431/c", "http://192.0.2.1:5431/c");
    check_join("http://192.0.2.1/base/", "c?u=http://x/", "http://192.0.2.1/base/c?u=http://x/");
}

#[test]
fn references_that_must_not_be_followed_are_malformed() {
    let base = url("http://192.0.2.1/b/c");
    for reference in [
        "https://192.0.2.1/",
        "ftp://192.0.2.1/",
        "//",
        "http://user@192.0.2.1/",
        "git+http://192.0.2.1/",
        "x-y.z://192.0.2.1/",
    ] {
        assert_eq!(base.join(reference), Err(Malformed), "{reference}");
    }
    let long = "x/".repeat(MAX_URL_BYTES / 2);
    assert_eq!(base.join(&long), Err(Malformed));
}

#[test]
fn get_is_written_out() {
    let version = env!("CARGO_PKG_VERSION");
    let request = String::from_utf8(emit_get(&url("http://192.0.2.1/a?b"))).unwrap();
    assert_eq!(
        request,
        format!(
            "GET /a?b HTTP/1.1\r\nHost: 192.0.2.1:80\r\nUser-Agent: libplum/{version} UPnP/1.1\r\n\
             Connection: close\r\n\r\n"
        )
    );
    let request = String::from_utf8(emit_get(&url("http://[2001:db8::1]:5000/"))).unwrap();
    assert!(request.contains("\r\nHost: [2001:db8::1]:5000\r\n"), "{request}");
}

#[test]
fn post_is_written_out() {
    let version = env!("CARGO_PKG_VERSION");
    let request = emit_post(&url("http://192.0.2.1:5000/ctl"), "urn:x:service:Y:1#Z", "<ä/>");
    assert_eq!(
        String::from_utf8(request).unwrap(),
        format!(
            "POST /ctl HTTP/1.1\r\nHost: 192.0.2.1:5000\r\nUser-Agent: libplum/{version} UPnP/1.1\r\n\
             Connection: close\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n\
             SOAPAction: \"urn:x:service:Y:1#Z\"\r\nContent-Length: 5\r\n\r\n<ä/>"
        )
    );
}

#[test]
fn soap_action_cannot_end_its_line_or_its_quotes() {
    let request = emit_post(&url("http://192.0.2.1/"), "a\"\r\nX: y\r\n\r\nz", "");
    let request = String::from_utf8(request).unwrap();
    assert!(request.contains("\r\nSOAPAction: \"a  X: y    z\"\r\n"), "{request}");
}

/// Pushes each piece, then closes: the reply, and whether it was complete by itself.
fn read_within(limit: usize, pieces: &[&[u8]]) -> Result<(Reply, bool), ReadError> {
    let mut reader = ReplyReader::new(limit);
    for piece in pieces {
        if let Some(reply) = reader.push(piece)? {
            // Nothing more comes out of it, whatever comes.
            assert_eq!(reader.push(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(None));
            assert_eq!(reader.finish(), Err(ReadError::Malformed));
            return Ok((reply, true));
        }
    }
    reader.finish().map(|reply| (reply, false))
}

/// At once and byte by byte, which must come to the same.
#[track_caller]
fn read(bytes: &str) -> Result<(Reply, bool), ReadError> {
    let at_once = read_within(usize::MAX, &[bytes.as_bytes()]);
    let by_byte: Vec<&[u8]> = bytes.as_bytes().chunks(1).collect();
    assert_eq!(read_within(usize::MAX, &by_byte), at_once, "byte by byte: {bytes}");
    at_once
}

#[track_caller]
fn check_reply(bytes: &str, status: u16, body: &str, is_complete: bool) {
    let reply = Reply { status, location: None, body: body.into() };
    assert_eq!(read(bytes), Ok((reply, is_complete)), "{bytes}");
}

#[test]
fn reply_with_content_length_is_complete_at_its_end() {
    check_reply("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true);
    check_reply("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true);
    check_reply("HTTP/1.1 500 Internal Server Error\r\nCONTENT-LENGTH: 2 \r\n\r\nno", 500, "no", true);
    check_reply("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true);
}

#[test]
fn reply_without_content_length_lasts_until_close() {
    check_reply("HTTP/1.0 200 OK\r\n\r\nhello", 200, "hello", false);
    check_reply("HTTP/1.0 200 OK\r\n\r\n", 200, "", false);
    for length in ["x", "-1", "", "99999999999999999999"] {
        let text = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\nhello");
        check_reply(&text, 200, "hello", false);
    }
}

#[test]
fn content_length_too_long_ends_at_close() {
    check_reply("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhello", 200, "hello", false);
    check_reply("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nx", 200, "x", false);
}

#[test]
fn content_length_too_short_keeps_what_came_along_but_waits_for_nothing() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    let body = |pieces: &[&[u8]]| {
        let (reply, is_complete) = read_within(usize::MAX, pieces).unwrap();
        assert!(is_complete);
        String::from_utf8(reply.body).unwrap()
    };
    assert_eq!(body(&[head, b"hello"]), "hello");
    assert_eq!(body(&[head, b"he", b"llo"]), "hello");
    assert_eq!(body(&[head, b"hell", b"o"]), "hell");
}

#[test]
fn first_readable_content_length_counts() {
    check_reply("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", 200, "hello", true);
    let text = "HTTP/1.1 200 OK\r\nContent-Length: \r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello";
    check_reply(text, 200, "hello", true);
}

#[test]
fn chunks_are_put_together() {
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    check_reply(&chunked("5\r\nhello\r\n0\r\n"), 200, "hello", true);
    check_reply(&chunked("2\r\nhe\r\n003;a=\"b\"\r\nllo\r\n0;x\r\n"), 200, "hello", true);
    check_reply(&chunked("A \r\n0123456789\r\n000\r\n"), 200, "0123456789", true);
    check_reply(&chunked("2\nhe\n3\nllo\n0\n"), 200, "hello", true);
    check_reply(&chunked("\r\n7\r\nh\r\nllo!\r\n0\r\n"), 200, "h\r\nllo!", true);
    check_reply(&chunked("0\r\n"), 200, "", true);
    // Content-Length beside it says nothing. RFC 9112 §6.3.
    let both =
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: gzip, CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n";
    check_reply(both, 200, "hello", true);
    // Cut off: what is there counts.
    check_reply(&chunked("5\r\nhel"), 200, "hel", false);
    check_reply(&chunked("5\r\nhello\r\n"), 200, "hello", false);
    check_reply(&chunked("5"), 200, "", false);
}

#[test]
fn trailers_are_not_waited_for() {
    let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Trailer: 1\r\n\r\n";
    let (reply, is_complete) = read_within(usize::MAX, &[text]).unwrap();
    assert_eq!((reply.body, is_complete), (b"x".to_vec(), true));
    let by_byte: Vec<&[u8]> = text.chunks(1).collect();
    assert!(read_within(usize::MAX, &by_byte).unwrap().1);
}

#[test]
fn promised_chunks_that_do_not_come_are_a_plain_body() {
    let plain = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n<root>\nx</root>";
    check_reply(plain, 200, "<root>\nx</root>", true);
    let with_length = plain.replace("chunked", "chunked\r\nContent-Length: 15");
    check_reply(&with_length, 200, "<root>\nx</root>", true);
}

#[test]
fn a_document_on_a_connection_that_stays_open_ends_with_its_root() {
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    for (body, is_complete) in [
        ("<?xml version=\"1.0\"?>\n<root xmlns=\"x\"><a></a></root>", true),
        ("<!-- b --><s:Envelope><s:Body/></s:Envelope>", true),
        ("<root><a></a>", false),
        ("<root></root", false),
        ("text>", false),
        ("", false),
    ] {
        check_reply(&format!("{head}{body}"), 200, body, is_complete);
    }
}

#[test]
fn bad_chunk_sizes_are_malformed() {
    for size in ["5x", "g", "-1", "11111111111111111", ";5", "0x5"] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n{size}\r\nhello");
        assert_eq!(read(&text), Err(ReadError::Malformed), "{size}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(5000));
    assert_eq!(read(&endless), Err(ReadError::Malformed));
}

#[test]
fn head_may_be_written_sloppily() {
    for head in [
        "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200OK\r\nContent-Length: 5\r\n\r\n",
        "http/1.1   200  OK  \r\nContent-Length: 5\r\n\r\n",
        "HTTP/2 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 5\n\n",
        "HTTP/1.1 200 OK\r\ncontent-length:5\n \r\n",
        "\r\n\n HTTP/1.1 200 OK\r\n  Content-Length \t:  5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno field\r\n: nameless\r\nn\u{e4}me: x\r\nx: \0\r \u{1b}\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: folded\r\n line\r\nContent-Length: 5\r\n\r\n",
    ] {
        check_reply(&format!("{head}hello"), 200, "hello", true);
    }
}

#[test]
fn interim_replies_are_passed_over() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103\r\nContent-Length: 9\r\n\r\n\
                HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    check_reply(text, 200, "hello", true);
    assert_eq!(read("HTTP/1.1 100 Continue\r\n\r\n"), Err(ReadError::Malformed));
}

#[test]
fn redirect_says_where_to() {
    let (reply, _) =
        read("HTTP/1.1 302 Found\r\nLOCATION:\r\nlocation: /b\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!((reply.status, reply.location.as_deref()), (302, Some("/b")));
}

#[test]
fn what_is_not_http_is_refused_with_its_first_line() {
    for text in [
        "<root/>\n",
        "SSH-2.0-x\r\n",
        "HTTP/1.1\r\n",
        "HTTP/1.1 OK\r\n",
        "HTTP/1.1 20\r\n",
        "HTTP/1.1 020 OK\r\n",
        "X: y\r\n",
    ] {
        let mut reader = ReplyReader::new(usize::MAX);
        assert_eq!(reader.push(text.as_bytes()), Err(ReadError::Malformed), "{text}");
    }
}

#[test]
fn what_a_reply_promises_and_does_not_send_cuts_it() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (text, is_cut) in [
        ("", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false),
        ("HTTP/1.0 200 OK\r\n\r\nhello", false),
        (chunked, true),
        (&format!("{chunked}5\r\nhel"), true),
        (&format!("{chunked}5\r\nhello\r\n"), true),
        (&format!("{chunked}5\r\nhello\r\n0\r\n"), false),
        (&format!("{chunked}hello"), false),
    ] {
        let mut reader = ReplyReader::new(usize::MAX);
        reader.push(text.as_bytes()).expect("it is HTTP");
        assert_eq!(reader.is_cut(), is_cut, "{text}");
    }
}

#[test]
fn reply_cut_in_its_head_is_malformed() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r";
    for length in 0..=whole.len() {
        assert_eq!(read(&whole[..length]), Err(ReadError::Malformed), "{length}");
    }
}

#[test]
fn reply_is_read_up_to_its_limit() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
    ] {
        let by_byte: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        for pieces in [&[text.as_bytes()][..], &by_byte] {
            assert!(read_within(text.len(), pieces).is_ok(), "{text}");
            assert_eq!(read_within(text.len() - 1, pieces), Err(ReadError::TooLong), "{text}");
        }
    }
}

#[test]
fn endless_heads_are_too_long() {
    for piece in ["x", "X: y\r\n"] {
        let text = format!("HTTP/1.1 200 OK\r\n{}", piece.repeat(20_000));
        let mut reader = ReplyReader::new(usize::MAX);
        assert_eq!(reader.push(text.as_bytes()), Err(ReadError::TooLong), "{piece}");
    }
}

#[test]
fn blank_lines_before_the_head_are_blank_however_they_are_cut() {
    let reply = b"\0\0\0\0\0\0\0\0\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let octets: Vec<&[u8]> = reply.chunks(1).collect();
    let whole = read_within(usize::MAX, &[reply]);
    assert_eq!(whole.as_ref().map(|(reply, _)| reply.body.as_slice()), Ok(&b"ok"[..]));
    assert_eq!(read_within(usize::MAX, &octets), whole);
}

#[test]
fn what_does_not_begin_like_http_is_not_waited_for() {
    for junk in [&b"\x8a\x01\xff\x00\x7f"[..], b"SSH-2.0", b"\r\n  220 mail"] {
        assert_eq!(ReplyReader::new(1000).push(junk), Err(ReadError::Malformed), "{junk:?}");
    }
    for start in [&b"HTTP"[..], b"\r\n http/1.1 2", b"  "] {
        assert_eq!(ReplyReader::new(1000).push(start), Ok(None), "{start:?}");
    }
}

#[test]
fn a_body_that_begins_with_an_end_is_no_document_and_ends_with_the_connection() {
    let mut reader = ReplyReader::new(usize::MAX);
    assert_eq!(reader.push(b"HTTP/1.1 200 OK\r\n\r\n</b><a></a>"), Ok(None));
    assert_eq!(reader.push(b"<c/>"), Ok(None));
    assert_eq!(reader.finish().map(|reply| reply.body), Ok(b"</b><a></a><c/>".to_vec()));
}
