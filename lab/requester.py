"""The smallest requests of each protocol, to try the lab itself without the library. No model of a good client."""

import os
import re
import socket
import struct
import time
import urllib.parse

import network

TRANSPORT_NUMBER = {"tcp": 6, "udp": 17}


class Requester:
    """Sends from the client's namespace. Each request gives (reply, milliseconds); no reply is None."""

    def __init__(self, net, address=network.CLIENT, timeout=1.0):
        self.net, self.address, self.timeout = net, address, timeout
        self.nonce = os.urandom(12)

    def _exchange(self, request):
        with self.net.client.udp(self.address, timeout=self.timeout) as sock:
            sock.connect((network.ROUTER, network.PCP_PORT))
            start = time.monotonic()
            sock.send(request)
            try:
                reply = sock.recv(2048)
            except TimeoutError:
                return None, self.timeout * 1000
            except ConnectionRefusedError:
                return "refused", (time.monotonic() - start) * 1000
            return reply, (time.monotonic() - start) * 1000

    def _pcp_header(self, opcode, lifetime):
        client = bytes(10) + b"\xff\xff" + socket.inet_aton(self.address)
        return struct.pack(">BBHI", 2, opcode, 0, lifetime) + client

    def pcp_announce(self):
        """RFC 6887 §14.1."""
        return _pcp_facts(self._exchange(self._pcp_header(0, 0)))

    def pcp_map(self, transport, internal, external=0, lifetime=7200, nonce=None):
        """RFC 6887 §11.1."""
        request = (
            self._pcp_header(1, lifetime)
            + (nonce or self.nonce)
            + struct.pack(">B3xHH", TRANSPORT_NUMBER[transport], internal, external)
            + bytes(10)
            + b"\xff\xff"
            + bytes(4)
        )
        return _pcp_facts(self._exchange(request))

    def natpmp_address(self):
        """RFC 6886 §3.2."""
        reply, took = self._exchange(bytes([0, 0]))
        if isinstance(reply, bytes) and len(reply) == 12:
            result, epoch = struct.unpack(">HI", reply[2:8])
            return {"result": result, "epoch": epoch, "address": socket.inet_ntoa(reply[8:12])}, took
        return reply, took

    def natpmp_map(self, transport, internal, external=0, lifetime=7200):
        """RFC 6886 §3.3."""
        opcode = {"udp": 1, "tcp": 2}[transport]
        reply, took = self._exchange(struct.pack(">BBHHHI", 0, opcode, 0, internal, external, lifetime))
        if isinstance(reply, bytes) and len(reply) == 16:
            result, epoch, internal, external, lifetime = struct.unpack(">HIHHI", reply[2:16])
            return {"result": result, "epoch": epoch, "external": external, "lifetime": lifetime}, took
        return reply, took

    def search(
        self, target="urn:schemas-upnp-org:device:InternetGatewayDevice:1", multicast=False, max_wait="MX: 1\r\n"
    ):
        """An SSDP search; its reply is the headers, lower case."""
        to = ("239.255.255.250" if multicast else network.ROUTER, network.SSDP_PORT)
        text = (
            f"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nST: {target}\r\n"
            f'MAN: "ssdp:discover"\r\n{max_wait}\r\n'
        )
        with self.net.client.udp(self.address, timeout=self.timeout) as sock:
            start = time.monotonic()
            sock.sendto(text.encode(), to)
            try:
                reply = sock.recv(2048).decode()
            except TimeoutError:
                return None, self.timeout * 1000
            took = (time.monotonic() - start) * 1000
        headers = (line.partition(":") for line in reply.splitlines()[1:] if line)
        return {name.strip().lower(): value.strip() for name, _, value in headers}, took

    def http(self, url, body=None, headers=()):
        """One exchange on a connection of its own: (status, body), milliseconds."""
        where = urllib.parse.urlsplit(url)
        head = [f"{'POST' if body else 'GET'} {where.path} HTTP/1.1", f"Host: {where.netloc}", "Connection: close"]
        head += headers
        if body:
            head += ['Content-Type: text/xml; charset="utf-8"', f"Content-Length: {len(body)}"]
        start = time.monotonic()
        with self.net.client.tcp() as sock:
            sock.bind((self.address, 0))
            sock.connect((where.hostname, where.port or 80))
            sock.sendall(("\r\n".join(head) + "\r\n\r\n" + (body or "")).encode())
            reply = b""
            while piece := sock.recv(65536):
                reply += piece
        took = (time.monotonic() - start) * 1000
        head, _, body = reply.decode().partition("\r\n\r\n")
        return (int(head.split()[1]), body), took

    def find_service(self, description_url):
        """The WANIPConnection of a device description: (service type, control URL)."""
        (_, description), _ = self.http(description_url)
        service = re.search(
            r"<serviceType>([^<]*WANIPConnection:\d)</serviceType>.*?<controlURL>([^<]*)</controlURL>",
            description,
            re.S,
        )
        return service[1], urllib.parse.urljoin(description_url, service[2])

    def action(self, service, name, **arguments):
        """A SOAP action: (HTTP status, UPnP error code or None, {argument: value}), milliseconds."""
        service_type, control_url = service
        inside = "".join(f"<{key}>{value}</{key}>" for key, value in arguments.items())
        body = (
            '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
            's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
            f'<u:{name} xmlns:u="{service_type}">{inside}</u:{name}></s:Body></s:Envelope>'
        )
        (status, reply), took = self.http(control_url, body, [f'SOAPAction: "{service_type}#{name}"'])
        error = re.search(r"<errorCode>(\d+)</errorCode>", reply)
        values = dict(re.findall(r"<(New\w+)>([^<]*)</New\w+>", reply))
        return (status, int(error[1]) if error else None, values), took

    def add_port_mapping(self, service, transport, internal, external, lifetime=7200, client=None):
        return self.action(
            service, "AddPortMapping",
            NewRemoteHost="", NewExternalPort=external, NewProtocol=transport.upper(), NewInternalPort=internal,
            NewInternalClient=client or self.address, NewEnabled=1, NewPortMappingDescription="lab",
            NewLeaseDuration=lifetime,
        )  # fmt: skip

    def get_port_mapping(self, service, transport, external):
        return self.action(
            service, "GetSpecificPortMappingEntry",
            NewRemoteHost="", NewExternalPort=external, NewProtocol=transport.upper(),
        )  # fmt: skip

    def delete_port_mapping(self, service, transport, external):
        return self.action(
            service, "DeletePortMapping", NewRemoteHost="", NewExternalPort=external, NewProtocol=transport.upper()
        )


def _pcp_facts(exchanged):
    reply, took = exchanged
    if not isinstance(reply, bytes):
        return reply, took
    if reply[0] != 2:
        return {"version": reply[0], "bytes": reply.hex()}, took
    _, opcode, result, lifetime, epoch = struct.unpack(">BBxBII", reply[:12])
    facts = {"result": result, "lifetime": lifetime, "epoch": epoch}
    if opcode == 0x81 and len(reply) >= 60:
        internal, external = struct.unpack(">HH", reply[40:44])
        facts |= {"external": external, "address": socket.inet_ntoa(reply[56:60]), "nonce": reply[24:36]}
    return facts, took
