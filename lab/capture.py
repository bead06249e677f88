"""What passes the client's network interface, with times, and each frame in one line."""

import contextlib
import select
import socket
import struct
import time

_ETH_P_ALL = 3
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_OUTGOING = 4
_RECEIVE_BUFFER_LEN = 8 << 20
# What is given up to the reader at once; a frame of the lab is never longer.
_FRAME_LEN_MAX = 2048


class Frame:
    """One frame: when (seconds of the monotonic clock), whether the client sent it, its bytes."""

    def __init__(self, at, sent, data):
        self.at, self.sent, self.data = at, sent, data

    @property
    def ip(self):
        """The IPv4 or IPv6 packet, or None."""
        return self.data[14:] if self.data[12:14] in (b"\x08\x00", b"\x86\xdd") else None

    def is_ipv6(self):
        return self.ip is not None and self.ip[0] >> 4 == 6

    def _transport(self):
        """The number of the protocol, and the packet behind the IP header without the frame's padding."""
        ip = self.ip
        if self.is_ipv6():
            return ip[6], ip[40 : 40 + struct.unpack(">H", ip[4:6])[0]]
        return ip[9], ip[(ip[0] & 15) * 4 : struct.unpack(">H", ip[2:4])[0]]

    def udp(self):
        """(source port, destination port, payload), or None."""
        if self.ip is None:
            return None
        protocol, data = self._transport()
        if protocol != socket.IPPROTO_UDP:
            return None
        source, destination, length = struct.unpack(">HHH", data[:6])
        return source, destination, data[8:length]

    def tcp(self):
        """(source port, destination port, flags, payload), or None."""
        if self.ip is None:
            return None
        protocol, data = self._transport()
        if protocol != socket.IPPROTO_TCP:
            return None
        source, destination = struct.unpack(">HH", data[:4])
        return source, destination, data[13], data[(data[12] >> 4) * 4 :]

    def is_pcp(self):
        """PCP or NAT-PMP, a request or a reply."""
        udp = self.udp()
        return udp is not None and 5351 in udp[:2]

    def is_ssdp(self):
        udp = self.udp()
        return udp is not None and 1900 in udp[:2]

    def is_notify(self):
        """An SSDP announcement."""
        udp = self.udp()
        return udp is not None and udp[2].startswith(b"NOTIFY")

    def is_connect(self):
        """The first packet of a TCP connection."""
        tcp = self.tcp()
        return tcp is not None and tcp[2] & 0x12 == 2

    def __str__(self):
        return "".join(letter if letter.isprintable() else "?" for letter in self._line())

    def _line(self):
        arrow = "->" if self.sent else "<-"
        if self.ip is None:
            return f"{arrow} {'ARP' if self.data[12:14] == bytes([8, 6]) else self.data[12:14].hex()}"
        if self.is_ipv6():
            peer = socket.inet_ntop(socket.AF_INET6, self.ip[24:40] if self.sent else self.ip[8:24])
        else:
            peer = socket.inet_ntoa(self.ip[16:20] if self.sent else self.ip[12:16])
        return f"{arrow} {peer} {self._meaning()}"

    def _meaning(self):
        if udp := self.udp():
            source, destination, data = udp
            if 5351 in (source, destination) or destination == 5350:
                return f"{_pcp_words(data)} ({source} -> {destination})"
            words = _text_lines(data)
            told = [line for line in words[1:] if line.upper().startswith(("ST:", "NT:", "NTS:", "LOCATION:"))]
            return f"UDP {source} -> {destination} {' | '.join([*words[:1], *told])[:160]}"
        if tcp := self.tcp():
            source, destination, flags, data = tcp
            letters = "".join(letter for bit, letter in ((2, "S"), (1, "F"), (4, "R")) if flags & bit)
            lines = _text_lines(data)
            action = [line for line in lines if line.lower().startswith("soapaction")]
            return f"TCP {source} -> {destination} {letters} {' | '.join([*lines[:1], *action])[:160]}"
        protocol, data = self._transport()
        if protocol == socket.IPPROTO_ICMP:
            return f"ICMP type {data[0]} code {data[1]}"
        if protocol == socket.IPPROTO_ICMPV6:
            return f"ICMPv6 type {data[0]} code {data[1]}"
        return {socket.IPPROTO_IGMP: "IGMP"}.get(protocol, f"IP protocol {protocol}")


def _text_lines(data):
    """The lines of a text protocol; of anything else, how long it is."""
    if not data:
        return [""]
    if not data.isascii():
        return [f"{len(data)} octets"]
    return [line for line in data.decode().splitlines() if line]


def _pcp_words(data):
    if len(data) < 2:
        return f"UDP {data.hex()}"
    version, opcode = data[0], data[1]
    reply = opcode & 0x80
    names = {0: {0: "address", 1: "map UDP", 2: "map TCP"}, 2: {0: "ANNOUNCE", 1: "MAP", 2: "PEER"}}
    words = [{0: "NAT-PMP", 2: "PCP"}.get(version, f"version {version}")]
    words.append(names.get(version, {}).get(opcode & 0x7F, f"opcode {opcode & 0x7F}"))
    words.append("reply" if reply else "request")
    if version == 2 and len(data) >= 24:
        words.append(f"result {data[3]}" if reply else "")
        words.append(f"lifetime {struct.unpack('>I', data[4:8])[0]}")
        if reply:
            words.append(f"epoch {struct.unpack('>I', data[8:12])[0]}")
        if opcode & 0x7F == 1 and len(data) >= 60:
            internal, external = struct.unpack(">HH", data[40:44])
            words.append(f"{'TCP' if data[36] == 6 else 'UDP'} {internal} external {external}")
    elif version == 0:
        words.append(data[2:].hex(" ", 2))
    return " ".join(word for word in words if word)


class Capture:
    """Records what passes one interface of a namespace, from now on."""

    def __init__(self, namespace, interface="eth0"):
        with namespace:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        # Room for the announcements of a minute, where the machine allows as much.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_LEN)
        with contextlib.suppress(PermissionError):
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_LEN)
        self.socket.bind((interface, 0))
        self.socket.setblocking(False)
        self.frames = []
        self._clock_offset = time.time() - time.monotonic()

    def fileno(self):
        return self.socket.fileno()

    def read(self):
        """Takes in what has passed; gives all frames so far."""
        while True:
            try:
                data, ancillary, _, source = self.socket.recvmsg(_FRAME_LEN_MAX, 64)
            except OSError:
                # Nothing more for now; or, once, that the interface went down.
                return self.frames
            at = time.monotonic()
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                    secs, nanos = struct.unpack("qq", value)
                    at = secs + nanos / 1e9 - self._clock_offset
            self.frames.append(Frame(at, source[2] == _OUTGOING, data))

    def sent(self, since=0.0):
        """What the client sent since then."""
        return [frame for frame in self.read() if frame.sent and frame.at >= since]

    def wait(self, timeout):
        """Until something passes, or the time is over; whether something did."""
        return bool(select.select([self.socket], [], [], max(0.0, timeout))[0])

    def close(self):
        self.socket.close()
