//! Requests to rtnetlink: one reply, or a dump of many entries.

#![forbid(unsafe_code)]

use super::super::is_shortage;
use netlink_packet_core::{
    ErrorBuffer, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NlaBuffer,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use socket2::SockRef;
use std::io;
use std::time::Duration;

/// The kernel answers during the request: this timeout expires only if netlink is broken.
const REPLY_TIMEOUT: Duration = Duration::from_millis(250);

/// Messages read for one reply, foreign ones (of privileged processes) included.
const MESSAGES_MAX: usize = 4;

/// Datagrams read of one dump, each of them of up to 8 KiB. A table that has more is not read to its end.
const DUMP_MESSAGES_MAX: usize = 256;

/// How often a dump is made again because the table changed meanwhile.
const DUMP_ATTEMPTS: usize = 4;

/// netlink_dump() in net/netlink/af_netlink.c: for a reader that has not asked for more, a datagram has up to a page, and no
/// more than this.
const DATAGRAM_LEN_MAX: usize = 8192;

pub const NETLINK_HEADER_LEN: usize = 16;

const ATTRIBUTE_HEADER_LEN: usize = 4;

/// netlink(7): NLMSG_ALIGNTO.
const ALIGNMENT: usize = 4;

/// One request for each socket, so any number will do.
const SEQUENCE_NUMBER: u32 = 1;

/// A request for one answer, with attributes whose lengths are multiples of four.
pub fn question(kind: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let attributes_len: usize = attributes.iter().map(|(_, value)| ATTRIBUTE_HEADER_LEN + value.len()).sum();
    let mut bytes = vec![0; NETLINK_HEADER_LEN + header.len() + attributes_len];
    let len = bytes.len();
    let mut message = NetlinkBuffer::new(&mut bytes[..]);
    // The lengths here are below 100.
    message.set_length(len as u32);
    message.set_message_type(kind);
    message.set_flags(NLM_F_REQUEST);
    message.set_sequence_number(SEQUENCE_NUMBER);
    let (head, mut rest) = message.payload_mut().split_at_mut(header.len());
    head.copy_from_slice(header);
    for (kind, value) in attributes {
        let (place, next) = rest.split_at_mut(ATTRIBUTE_HEADER_LEN + value.len());
        rest = next;
        let mut attribute = NlaBuffer::new(place);
        attribute.set_kind(*kind);
        attribute.set_length((ATTRIBUTE_HEADER_LEN + value.len()) as u16);
        attribute.value_mut().copy_from_slice(value);
    }
    bytes
}

/// Sends one request; `None`: there is no such object.
///
/// # Errors
///
/// The kernel could not be asked, or has no memory.
pub fn exchange<T>(
    question: &[u8],
    read_reply: impl Fn(&[u8]) -> Option<io::Result<T>>,
) -> io::Result<Option<T>> {
    let socket = send(question)?;
    let mut buffer = [0; DATAGRAM_LEN_MAX];
    for _ in 0..MESSAGES_MAX {
        let Some(len) = receive(&socket, &mut buffer)? else { continue };
        match buffer.get(..len).and_then(&read_reply) {
            Some(Ok(answer)) => return Ok(Some(answer)),
            Some(Err(error)) if is_shortage(&error) => return Err(error),
            // Unreachable, prohibited, or (EINVAL) a blackhole.
            Some(Err(_)) => return Ok(None),
            None => {}
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// All that `read_entry` reads of the entries of a table, of which it gets the header and the attributes: messages of this kind. A kernel that knows no such table has no entries.
///
/// # Errors
///
/// The kernel could not be asked, or has no memory.
pub fn dump<T, Read: IntoIterator<Item = T>>(
    question: &[u8],
    kind: u16,
    header_len: usize,
    read_entry: impl Fn(&[u8], &[u8]) -> Read,
) -> io::Result<Vec<T>> {
    let mut question = question.to_vec();
    NetlinkBuffer::new(&mut question[..]).set_flags(NLM_F_REQUEST | NLM_F_DUMP);
    let mut entries = Vec::new();
    for _ in 0..DUMP_ATTEMPTS {
        entries.clear();
        let mut part = Part { is_last: false, is_consistent: true };
        let mut buffer = [0; DATAGRAM_LEN_MAX];
        let socket = send(&question)?;
        for _ in 0..DUMP_MESSAGES_MAX {
            let Some(len) = receive(&socket, &mut buffer)? else { continue };
            let datagram = buffer.get(..len).ok_or(io::ErrorKind::InvalidData)?;
            part.read(datagram, kind, header_len, |header, attributes| {
                entries.extend(read_entry(header, attributes));
            })?;
            if part.is_last {
                break;
            }
        }
        if part.is_consistent {
            break;
        }
    }
    // A table that changes all the time is taken as it is: the notice of the change leads to the next lookup.
    Ok(entries)
}

fn send(question: &[u8]) -> io::Result<Socket> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    SockRef::from(&socket).set_read_timeout(Some(REPLY_TIMEOUT))?;
    socket.send_to(question, &SocketAddr::new(0, 0), 0)?;
    Ok(socket)
}

/// The length of a datagram of the kernel, also where that exceeds the buffer; `None`: it was another's, or a signal came.
fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // With MSG_TRUNC the length is the message's.
    match socket.recv_from(&mut &mut buffer[..], libc::MSG_TRUNC) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Ok((_, from)) if from.port_number() != 0 => Ok(None),
        other => other.map(|(len, _)| Some(len)),
    }
}

/// Reads a reply: header and attributes of a message of this kind, or the kernel's error; `None`: it is not the answer to the
/// request.
pub fn read<T>(
    bytes: &[u8],
    kind: u16,
    header_len: usize,
    read_body: impl FnOnce(&[u8], &[u8]) -> io::Result<T>,
) -> Option<io::Result<T>> {
    let message = NetlinkBuffer::new_checked(bytes).ok()?;
    if message.sequence_number() != SEQUENCE_NUMBER {
        return None;
    }
    if message.message_type() == NLMSG_ERROR {
        return Some(Err(error_of(&message)?));
    }
    let (header, attributes) = message.payload().split_at_checked(header_len)?;
    (message.message_type() == kind).then(|| read_body(header, attributes))
}

/// The error that a message reports; `None`: it reports success.
fn error_of(message: &NetlinkBuffer<&[u8]>) -> Option<io::Error> {
    let code = ErrorBuffer::new_checked(message.payload()).ok()?.code()?;
    Some(io::Error::from_raw_os_error(code.get().saturating_abs()))
}

/// What has been read of a dump.
struct Part {
    is_last: bool,
    /// The table has not changed meanwhile.
    is_consistent: bool,
}

impl Part {
    /// Reads the messages of one datagram.
    fn read(
        &mut self,
        datagram: &[u8],
        kind: u16,
        header_len: usize,
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> io::Result<()> {
        let mut rest = datagram;
        while let Ok(message) = NetlinkBuffer::new_checked(rest) {
            let len = (message.length() as usize).next_multiple_of(ALIGNMENT);
            rest = rest.get(len..).unwrap_or_default();
            if message.sequence_number() != SEQUENCE_NUMBER {
                continue;
            }
            self.is_consistent &= message.flags() & NLM_F_DUMP_INTR == 0;
            match message.message_type() {
                NLMSG_ERROR => {
                    self.is_last = true;
                    // No IPv6 in this kernel.
                    let unknown = [libc::EOPNOTSUPP, libc::EAFNOSUPPORT];
                    return match error_of(&message) {
                        Some(error) if !error.raw_os_error().is_some_and(|code| unknown.contains(&code)) => {
                            Err(error)
                        }
                        _ => Ok(()),
                    };
                }
                NLMSG_DONE => {
                    self.is_last = true;
                    return Ok(());
                }
                found if found == kind => {
                    if let Some((header, attributes)) = message.payload().split_at_checked(header_len) {
                        take(header, attributes);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIND: u16 = libc::RTM_NEWADDR;
    const HEADER_LEN: usize = 4;

    /// A message whose body is a header and nothing else.
    fn message(kind: u16, flags: u16, header: [u8; HEADER_LEN]) -> Vec<u8> {
        let mut bytes = question(kind, &header, &[]);
        NetlinkBuffer::new(&mut bytes[..]).set_flags(flags);
        bytes
    }

    /// The first octets of the headers, and the state after them.
    fn read_part(datagram: &[u8]) -> (Vec<u8>, Part, io::Result<()>) {
        let (mut found, mut part) = (Vec::new(), Part { is_last: false, is_consistent: true });
        let result = part.read(datagram, KIND, HEADER_LEN, |header, _| found.push(header[0]));
        (found, part, result)
    }

    #[test]
    fn reads_the_entries_of_a_dump_up_to_its_end() {
        let one = [message(KIND, 2, [1; 4]), message(KIND, 2, [2; 4])].concat();
        let (found, part, result) = read_part(&one);
        assert!(found == [1, 2] && !part.is_last && part.is_consistent && result.is_ok());
        let last =
            [message(KIND, 2, [3; 4]), message(NLMSG_DONE, 2, [0; 4]), message(KIND, 2, [4; 4])].concat();
        let (found, part, _) = read_part(&last);
        assert!(found == [3] && part.is_last);
    }

    #[test]
    fn an_interrupted_dump_is_not_consistent() {
        let interrupted = [message(KIND, 2 | NLM_F_DUMP_INTR, [1; 4]), message(KIND, 2, [2; 4])].concat();
        assert!(!read_part(&interrupted).1.is_consistent);
        assert!(!read_part(&message(NLMSG_DONE, NLM_F_DUMP_INTR, [0; 4])).1.is_consistent);
    }

    #[test]
    fn other_kinds_and_other_requests_are_no_entries() {
        let mut foreign = message(KIND, 2, [1; 4]);
        NetlinkBuffer::new(&mut foreign[..]).set_sequence_number(2);
        let datagram = [foreign, message(libc::RTM_NEWROUTE, 2, [2; 4]), message(KIND, 2, [3; 4])].concat();
        assert_eq!(read_part(&datagram).0, [3]);
    }

    #[test]
    fn a_kernel_without_ipv6_has_no_entries_and_a_refusal_is_an_error() {
        for (code, is_error) in [(libc::EOPNOTSUPP, false), (libc::EAFNOSUPPORT, false), (libc::EPERM, true)]
        {
            let (found, part, result) = read_part(&message(NLMSG_ERROR, 0, (-code).to_ne_bytes()));
            assert!(found.is_empty() && part.is_last && result.is_err() == is_error, "{code}");
        }
    }

    proptest! {
        #[test]
        fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_part(&bytes);
        }

        #[test]
        fn survives_damage(position in 0usize..40, value: u8) {
            let mut bytes = [message(KIND, 2, [1; 4]), message(KIND, 2, [2; 4])].concat();
            bytes[position] = value;
            let _ = read_part(&bytes);
        }

        #[test]
        fn survives_every_cut(len in 0usize..40) {
            let bytes = [message(KIND, 2, [1; 4]), message(KIND, 2, [2; 4])].concat();
            prop_assert!(read_part(&bytes[..len]).0.len() < 2);
        }
    }
}
