//! Reading replies, however the bytes are cut.

use crate::wire::head::{Head, is_blank, status};

/// Longest head, in bytes; a gateway's takes some 300.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Longest line with a chunk's size, in bytes: extensions are allowed, but nobody sends any to speak of.
const MAX_CHUNK_LINE_BYTES: usize = 1024;

/// The root element of a document is looked for in so many bytes: a declaration and comments may stand before it.
const ROOT_SEARCH_BYTES: usize = 4096;

/// A complete reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// The Location header, for redirects.
    pub location: Option<String>,
    /// The body, decoded if it was chunked.
    pub body: Vec<u8>,
}

/// Why a reply cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Not HTTP, or cut short so that nothing of the body is known.
    Malformed,
    /// Over the limit.
    TooLong,
}

/// What is missing of a reply that may be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The body is a whole document, and Content-Length promises more.
    Promised,
    /// There is no body, and nothing says whether there will be.
    Body,
}

/// What the next bytes are.
#[derive(Debug)]
enum State {
    /// Lines of the head; the complete ones are in `head`.
    Head,
    /// Body until the connection is closed.
    UntilClose,
    /// This many bytes of body.
    Length(u64),
    /// A line with a chunk's size. In front of the first one, `first` holds what the body is taken for if
    /// there is no size: some devices promise chunks and send none.
    ChunkSize { first: Option<Box<State>> },
    /// This many bytes of a chunk.
    Chunk(u64),
    /// The reply was given out, or there is none.
    Done,
}

/// Reads one reply from bytes as they come, at most `limit` bytes in all.
#[derive(Debug)]
pub struct ReplyReader {
    /// How many more bytes may come.
    room: usize,
    state: State,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    head: Vec<u8>,
    reply: Reply,
}

impl ReplyReader {
    /// A reader for a reply of at most `limit` bytes, head and body together.
    pub fn new(limit: usize) -> ReplyReader {
        ReplyReader {
            room: limit,
            state: State::Head,
            line: Vec::new(),
            head: Vec::new(),
            reply: Reply { status: 0, location: None, body: Vec::new() },
        }
    }

    /// Takes more bytes; the reply once it is complete by its own account (Content-Length, last chunk).
    /// Interim replies (1xx) are passed over.
    ///
    /// What came together with the last byte that Content-Length promised counts as body too: some gateways
    /// promise too little. It is not waited for. After the reply or an error, further bytes are ignored.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Reply>, ReadError> {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        let result = match self.read(&bytes[..taken]) {
            Ok(false) if taken < bytes.len() && !matches!(self.state, State::Done) => Err(ReadError::TooLong),
            Ok(complete) => Ok(complete.then(|| self.take_reply())),
            Err(error) => Err(error),
        };
        if !matches!(result, Ok(None)) {
            self.state = State::Done;
        }
        result
    }

    /// The connection was closed by the gateway: what is there counts, also when Content-Length promised more.
    pub fn finish(mut self) -> Result<Reply, ReadError> {
        match self.state {
            State::Head | State::Done => Err(ReadError::Malformed),
            State::UntilClose | State::Length(_) | State::ChunkSize { .. } | State::Chunk(_) => {
                Ok(self.take_reply())
            }
        }
    }

    /// What may be all that comes, though the connection stays open.
    pub fn may_be_all(&self) -> Option<Rest> {
        match self.state {
            // Some servers promise too much.
            State::Length(_) if is_whole_document(&self.reply.body) => Some(Rest::Promised),
            // Some have nothing to say, and do not say so.
            State::UntilClose if self.reply.body.is_empty() => Some(Rest::Body),
            _ => None,
        }
    }

    fn take_reply(&mut self) -> Reply {
        std::mem::replace(&mut self.reply, Reply { status: 0, location: None, body: Vec::new() })
    }

    /// Works `input` off; whether the reply is complete.
    fn read(&mut self, mut input: &[u8]) -> Result<bool, ReadError> {
        loop {
            match &mut self.state {
                State::Done => return Ok(false),
                State::Head => {
                    if !take_line(&mut input, &mut self.line, MAX_HEAD_BYTES)
                        .map_err(|()| ReadError::TooLong)?
                    {
                        // What does not begin like HTTP never becomes it: its end is not waited for.
                        // (Control characters may yet turn out to be a blank line, see `is_blank`.)
                        let blank = self.line.iter().take_while(|b| is_blank(&[**b])).count();
                        return match self.line[blank..].get(..5) {
                            Some(word) if self.head.is_empty() && !word.eq_ignore_ascii_case(b"HTTP/") => {
                                Err(ReadError::Malformed)
                            }
                            _ => Ok(false),
                        };
                    }
                    self.read_head_line()?;
                }
                State::UntilClose => {
                    self.reply.body.extend_from_slice(input);
                    return Ok(is_whole_document(&self.reply.body));
                }
                State::Length(left) => {
                    *left = left.saturating_sub(input.len() as u64);
                    let complete = *left == 0;
                    self.reply.body.extend_from_slice(input);
                    return Ok(complete);
                }
                State::Chunk(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    let (data, rest) = input.split_at(here);
                    self.reply.body.extend_from_slice(data);
                    input = rest;
                    *left -= here as u64;
                    if *left > 0 {
                        return Ok(false);
                    }
                    self.state = State::ChunkSize { first: None };
                }
                State::ChunkSize { first } => {
                    let got_line = take_line(&mut input, &mut self.line, MAX_CHUNK_LINE_BYTES);
                    let begins = self.line.trim_ascii_start().first();
                    if let Some(plain) = first.take_if(|_| begins.is_some_and(|b| !b.is_ascii_hexdigit())) {
                        self.state = *plain;
                        let line = std::mem::take(&mut self.line);
                        // Whether that was all is seen in the next round, with the rest of the input.
                        self.read(&line)?;
                        continue;
                    }
                    if !got_line.map_err(|()| ReadError::Malformed)? {
                        return Ok(false);
                    }
                    let line = std::mem::take(&mut self.line);
                    // The line end behind a chunk is a blank line here.
                    if is_blank(&line) {
                        continue;
                    }
                    match chunk_size(&line).ok_or(ReadError::Malformed)? {
                        // RFC 9112 §7.1: trailers follow the last chunk; nothing in them is for us, and some
                        // devices forget even the line that ends them.
                        0 => return Ok(true),
                        size => self.state = State::Chunk(size),
                    }
                }
            }
        }
    }

    /// Takes the line of the head that is complete in `line`.
    fn read_head_line(&mut self) -> Result<(), ReadError> {
        if !is_blank(&self.line) {
            if self.head.is_empty() && status(&String::from_utf8_lossy(&self.line)).is_none() {
                return Err(ReadError::Malformed);
            }
            if self.head.len() + self.line.len() > MAX_HEAD_BYTES {
                return Err(ReadError::TooLong);
            }
            self.head.append(&mut self.line);
            return Ok(());
        }
        self.line.clear();
        if self.head.is_empty() {
            // RFC 9112 §2.2 forgives empty lines before a message.
            return Ok(());
        }
        let head = Head::parse(&self.head).map_err(|_| ReadError::Malformed)?;
        self.head.clear();
        let status = status(&head.start_line).ok_or(ReadError::Malformed)?;
        if (100..200).contains(&status) {
            return Ok(());
        }
        self.reply.status = status;
        self.reply.location = Some(head.get("Location").to_owned()).filter(|location| !location.is_empty());
        self.state = framing(status, &head);
        Ok(())
    }
}

/// Whether an XML document has come to its end: some servers give no length and keep the connection open.
fn is_whole_document(body: &[u8]) -> bool {
    // No more than that is looked at with each piece that comes.
    let tail = body.len().saturating_sub(ROOT_SEARCH_BYTES);
    let ends = body[tail..].iter().rposition(|&byte| byte != 0 && !byte.is_ascii_whitespace());
    let Some(body) = ends.map(|last| &body[..=tail + last]).filter(|body| body.ends_with(b">")) else {
        return false;
    };
    // What begins in the middle has no root whose end could be waited for. (A byte order mark may stand before it.)
    let begin = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if begin.iter().take(ROOT_SEARCH_BYTES).find(|byte| !byte.is_ascii_whitespace()) != Some(&b'<') {
        return false;
    }
    let is_start = |pair: &[u8]| pair[0] == b'<' && (pair[1].is_ascii_alphabetic() || pair[1] == b'_');
    let Some(start) = body.windows(2).take(ROOT_SEARCH_BYTES).position(is_start) else { return false };
    let name = &body[start + 1..];
    let len = name.iter().position(|byte| b" \t\r\n/>".contains(byte)).unwrap_or(0);
    let end = [b"</", &name[..len], b">"].concat();
    len > 0 && body[start..].ends_with(&end)
}

/// How the body's end is known. RFC 9112 §6.3, forgiving: a length that is no number is no length.
fn framing(status: u16, head: &Head) -> State {
    let length =
        head.all("Content-Length").flat_map(|value| value.split(',')).find_map(|n| n.trim().parse().ok());
    let plain = match length {
        _ if matches!(status, 204 | 304) => State::Length(0),
        Some(length) => State::Length(length),
        None => State::UntilClose,
    };
    let is_chunked = head
        .all("Transfer-Encoding")
        .flat_map(|value| value.split([',', ';']))
        .any(|coding| coding.trim().eq_ignore_ascii_case("chunked"));
    if is_chunked { State::ChunkSize { first: Some(Box::new(plain)) } } else { plain }
}

/// Moves bytes from `input` to `line`, up to its LF: whether that has come. `Err`: the line is over `limit`.
fn take_line(input: &mut &[u8], line: &mut Vec<u8>, limit: usize) -> Result<bool, ()> {
    let end = input.iter().position(|b| *b == b'\n').map(|at| at + 1);
    let length = end.unwrap_or(input.len());
    let taken = length.min(limit.saturating_sub(line.len()));
    line.extend_from_slice(&input[..taken]);
    *input = &input[taken..];
    if taken < length { Err(()) } else { Ok(end.is_some()) }
}

/// RFC 9112 §7.1: hexadecimal digits, then perhaps extensions.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = line.trim_ascii();
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    let rest_fits = rest.first().is_none_or(|b| *b == b';' || b.is_ascii_whitespace());
    let size = std::str::from_utf8(size).ok()?;
    if rest_fits { u64::from_str_radix(size, 16).ok() } else { None }
}
