"""A client, a router and an internet host, each in a network namespace of its own.

    client 192.168.77.2 ---- lan 192.168.77.1  router  wan 11.0.0.1 ---- 11.0.0.2 internet

The namespaces have no name and no link to the machine's own network: they live as long as this process holds their
descriptors, or a process runs in them. So nothing is left behind, however the lab ends.

The addresses on the far side are public ones (miniupnpd refuses to map behind a special-purpose address); inside a
namespace any address is ours to use.
"""

import contextlib
import ctypes
import json
import os
import socket
import subprocess

CLIENT = "192.168.77.2"
CLIENT_MOVED = "192.168.77.3"
ROUTER = "192.168.77.1"
WAN = "11.0.0.1"
WAN_MOVED = "11.0.0.3"
INTERNET = "11.0.0.2"
# The same hosts by IPv6. The documentation prefix will not do: the library and miniupnpd refuse it.
CLIENT_IPV6 = "2a0b:1:1::2"
CLIENT_IPV6_RENUMBERED = "2a0b:1:2::2"
ROUTER_IPV6 = "2a0b:1:1::1"
ROUTER_LINK = "fe80::1"
CLIENT_LINK = "fe80::2"
INTERNET_IPV6 = "2a0b:2::2"
# The address of a client that needs no mapping; the router forwards to it freely.
CLIENT_PUBLIC = "12.0.0.2"
ROUTER_PUBLIC = "12.0.0.1"

PCP_PORT = 5351
SSDP_PORT = 1900

# The second uplink of a client: its interface, and the same hosts there.
UPLINK = "eth1"
UPLINK_CLIENT = "192.168.78.2"
UPLINK_WAN = "11.0.1.1"

_TRANSPORTS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", "tcp": "tcp", "udp": "udp"}
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _check(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def run(command, input=None):
    """Runs a command to its end and gives its standard output; its failure is an exception that quotes it."""
    done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{input or ''}")
    return done.stdout


def _family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Namespace:
    """A network namespace. What is opened or started `with namespace:` belongs to it from then on."""

    def __init__(self):
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        try:
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _check(_libc.setns(_home, _CLONE_NEWNET), "setns")
        # As `ip link ... netns` wants it.
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        # No IPv6: its own chatter (router solicitations) would be counted as the library's.
        with self:
            for scope in "all", "default":
                self.sysctl(f"net/ipv6/conf/{scope}/disable_ipv6", 1)
        self.ip("link set lo up")

    def __enter__(self):
        _check(_libc.setns(self.fd, _CLONE_NEWNET), "setns")
        return self

    def __exit__(self, *_):
        _check(_libc.setns(_home, _CLONE_NEWNET), "setns")

    def close(self):
        os.close(self.fd)

    def sysctl(self, name, value):
        # /proc/sys/net shows the namespace of the thread that opens it.
        with contextlib.suppress(FileNotFoundError), self, open(f"/proc/sys/{name}", "w") as file:
            file.write(str(value))

    def ip(self, *commands):
        """Runs `ip` commands in order, in one process."""
        with self:
            run(["ip", "-batch", "-"], "\n".join(commands) + "\n")

    def nft(self, script):
        with self:
            run(["nft", "-f", "-"], script)

    def popen(self, command, **arguments):
        """Starts a program in the namespace; the kernel kills it should this process end first."""
        with self:
            return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], **arguments)

    def udp(self, address="", port=0, timeout=2.0):
        with self:
            sock = socket.socket(_family(address), socket.SOCK_DGRAM)
        sock.settimeout(timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        return sock

    def tcp(self, timeout=2.0, address=""):
        with self:
            sock = socket.socket(_family(address), socket.SOCK_STREAM)
        sock.settimeout(timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return sock


class Pair:
    """A client and a gateway, linked up, with the client's default route to the gateway."""

    def __init__(self):
        self.client, self.gateway = Namespace(), Namespace()
        self.client.ip(
            f"link add eth0 type veth peer name lan netns {self.gateway.path}",
            f"addr add {CLIENT}/24 dev eth0",
            "link set eth0 up",
        )
        self.gateway.ip(f"addr add {ROUTER}/24 dev lan", "link set lan up")
        # The system limits ICMP over all runs together: here each refusal is to be seen.
        self.gateway.sysctl("net/ipv4/icmp_ratelimit", 0)
        self.client.ip(f"route add default via {ROUTER}")

    def close(self):
        self.client.close()
        self.gateway.close()


# The chains of miniupnpd start empty. Nothing from the internet passes to the client, or to a program on the router, but
# what miniupnpd let in.
_RULESET = """
table inet lab {
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
    chain cut { }
    chain cut_output { }
    chain divert { }
    chain input {
        type filter hook input priority 0; policy accept;
        iifname wan ct status dnat accept
        iifname wan drop
        jump cut
    }
    chain output {
        type filter hook output priority 0; policy accept;
        jump cut_output
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname lan accept
        ip daddr CLIENT_PUBLIC accept
        jump miniupnpd
    }
    chain prerouting {
        type nat hook prerouting priority -100;
        iifname lan jump divert
        jump prerouting_miniupnpd
    }
    chain postrouting {
        type nat hook postrouting priority 100;
        jump postrouting_miniupnpd
        oifname wan ip saddr LAN.0/24 masquerade
    }
}
"""


class Network:
    """The three hosts, linked up, with NAT in the router; no gateway protocol is spoken yet.

    `beside`: the network of a client that gets a second uplink here, with a router and an internet host of its own. Its default
    route comes after the first one, but a rule has what is sent from its address go by it."""

    def __init__(self, beside=None):
        link, lan, wan = ("eth0", "192.168.77", "11.0.0") if beside is None else (UPLINK, "192.168.78", "11.0.1")
        self.client = Namespace() if beside is None else beside.client
        self.router, self.internet = Namespace(), Namespace()
        self._own = [self.router, self.internet, *([self.client] if beside is None else [])]
        self.client.ip(
            f"link add {link} type veth peer name lan netns {self.router.path}",
            f"addr add {lan}.2/24 dev {link}",
            f"link set {link} up",
        )
        self.internet.ip(
            f"link add eth0 type veth peer name wan netns {self.router.path}",
            f"addr add {wan}.2/24 dev eth0",
            "link set eth0 up",
        )
        self.router.ip(
            f"addr add {lan}.1/24 dev lan",
            f"addr add {ROUTER_PUBLIC}/24 dev lan",
            "link set lan up",
            f"addr add {wan}.1/24 dev wan",
            "link set wan up",
        )
        self.internet.ip(f"route add 12.0.0.0/24 via {wan}.1")
        if beside is None:
            self.client.ip(f"route add default via {lan}.1")
        else:
            self.client.ip(
                f"route add default via {lan}.1 dev {link} metric 200",
                f"route add default via {lan}.1 dev {link} table 78",
                f"rule add from {lan}.2 table 78",
            )
        self.router.sysctl("net/ipv4/ip_forward", 1)
        # The router sends no redirects and limits no ICMP: each refusal is to be seen.
        self.router.sysctl("net/ipv4/icmp_ratelimit", 0)
        self.router.nft(_RULESET.replace("CLIENT_PUBLIC", CLIENT_PUBLIC).replace("LAN", lan))

    def enable_ipv6(self):
        """Gives the hosts IPv6 addresses; the router's firewall lets nothing from the internet pass that miniupnpd did not
        let in."""
        links = (self.client, "eth0"), (self.router, "lan"), (self.router, "wan"), (self.internet, "eth0")
        for namespace, link in links:
            for name, value in ("disable_ipv6", 0), ("accept_ra", 0), ("addr_gen_mode", 1):
                namespace.sysctl(f"net/ipv6/conf/{link}/{name}", value)
        self.router.sysctl("net/ipv6/conf/all/forwarding", 1)
        self.router.sysctl("net/ipv6/icmp/ratelimit", 0)
        self.router.ip(
            f"addr add {ROUTER_LINK}/64 dev lan nodad",
            f"addr add {ROUTER_IPV6}/64 dev lan nodad",
            "addr add 2a0b:1:2::1/64 dev lan nodad",
            "addr add 2a0b:2::1/64 dev wan nodad",
        )
        self.client.ip(
            f"addr add {CLIENT_LINK}/64 dev eth0 nodad",
            f"addr add {CLIENT_IPV6}/64 dev eth0 nodad",
            f"route add default via {ROUTER_LINK} dev eth0",
        )
        self.internet.ip(f"addr add {INTERNET_IPV6}/64 dev eth0 nodad", "route add 2a0b:1::/32 via 2a0b:2::1")
        # The internet host asks for the router's hardware address.
        self.router.nft("insert rule inet lab input meta l4proto ipv6-icmp accept\n")

    def close(self):
        for namespace in self._own:
            namespace.close()

    def stop_requests(self):
        """The client's own firewall stops all requests. It drops SSDP announcements too: they would tell of a router that TCP still reaches."""
        self.client.nft(
            "table inet own {\n"
            "    chain output { type filter hook output priority 0; udp dport { 1900, 5351 } drop; }\n"
            "    chain input { type filter hook input priority 0; udp dport 1900 drop; }\n"
            "}\n"
        )

    def cut(self, *rules):
        """Has the router's input chain begin with these rules; none: all pass."""
        self._replace_chain("cut", rules)

    def cut_output(self, *rules):
        """The same for what the router itself sends."""
        self._replace_chain("cut_output", rules)

    def divert(self, *rules):
        """Has the router's destination NAT for what comes from the client begin with these rules."""
        self._replace_chain("divert", rules)

    def _replace_chain(self, chain, rules):
        lines = [f"flush chain inet lab {chain}", *(f"add rule inet lab {chain} {rule}" for rule in rules)]
        self.router.nft("\n".join(lines) + "\n")

    def forget_mappings(self):
        """Empties miniupnpd's chains, as a reboot of the router does."""
        self.router.nft(
            "flush chain inet lab miniupnpd\n"
            "flush chain inet lab prerouting_miniupnpd\n"
            "flush chain inet lab postrouting_miniupnpd\n"
        )

    def mappings(self):
        """What the router forwards: {(transport, external port): (internal address, internal port)}."""
        with self.router:
            listing = json.loads(run(["nft", "-j", "list", "chain", "inet", "lab", "prerouting_miniupnpd"]))
        found = {}
        for item in listing["nftables"]:
            if "rule" not in item:
                continue
            transport = external = target = None
            for statement in item["rule"]["expr"]:
                match statement:
                    case {"match": {"left": {"payload": {"field": "dport"}}, "right": int(port)}}:
                        external = port
                    # The transport: octet 9 of the IPv4 header (2.3.1), or by name.
                    case {"match": {"left": {"payload": {"base": "nh", "offset": 72}}, "right": value}}:
                        transport = _TRANSPORTS.get(value)
                    case {"match": {"left": {"meta": {"key": "l4proto"}}, "right": value}}:
                        transport = _TRANSPORTS.get(value)
                    case {"dnat": {"addr": str(address), "port": int(port)}}:
                        target = (address, port)
            if None in (transport, external, target):
                raise RuntimeError(f"a rule of miniupnpd's that the lab cannot read: {item}")
            found[transport, external] = target
        return found

    def pinholes(self):
        """What the router lets through by IPv6: {(transport, address, port)}."""
        with self.router:
            listing = json.loads(run(["nft", "-j", "list", "chain", "inet", "lab", "miniupnpd"]))
        found = set()
        for item in listing["nftables"]:
            transport = address = port = None
            for statement in item.get("rule", {}).get("expr", []):
                match statement:
                    case {"match": {"left": {"payload": {"field": "dport"}}, "right": int(value)}}:
                        port = value
                    # The next header: octet 6 of the IPv6 header; the destination: from octet 24 on.
                    case {"match": {"left": {"payload": {"base": "nh", "offset": 48}}, "right": value}}:
                        transport = _TRANSPORTS.get(value)
                    case {"match": {"left": {"payload": {"base": "nh", "offset": 192}}, "right": str(value)}}:
                        address = socket.inet_ntop(socket.AF_INET6, int(value, 16).to_bytes(16, "big"))
            if address is not None:
                found.add((transport, address, port))
        return found

    def pass_bytes(self, transport, host, port, client_address, client_port, timeout=2.0, client=None):
        """Sends bytes from the internet host to an external address and port, and an answer back; raises unless both
        arrive, and arrive whence they should. `client`: the namespace that they are for, if not the client's."""
        client = client or self.client
        words = os.urandom(16)
        if transport == "udp":
            outside = self.internet.udp("::" if ":" in host else "")
            with client.udp(client_address, client_port, timeout) as inside, outside:
                outside.settimeout(timeout)
                outside.sendto(words, (host, port))
                got, sender = inside.recvfrom(2048)
                inside.sendto(got[::-1], sender)
                back, whence = outside.recvfrom(2048)
                whence = whence[:2]
        else:
            with client.tcp(timeout, host) as listener, self.internet.tcp(timeout, host) as outside:
                listener.bind((client_address, client_port))
                listener.listen()
                outside.connect((host, port))
                inside, _ = listener.accept()
                with inside:
                    inside.settimeout(timeout)
                    outside.sendall(words)
                    got = _receive_exactly(inside, len(words))
                    inside.sendall(got[::-1])
                    back = _receive_exactly(outside, len(words))
                    whence = outside.getpeername()[:2]
                    # The client's side closes last: its port is free for the next listener at once.
                    outside.close()
        if (got, back, whence) != (words, words[::-1], (host, port)):
            raise RuntimeError(f"other bytes than those sent came from {whence}")


def _receive_exactly(sock, length):
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        if not piece:
            raise ConnectionError("closed early")
        data += piece
    return data
