"""What the library must do before a real gateway: one function a case. They stand in `protocols`, `changes`, `table`
and `command`; here is what they have in common.

A case gets a Lab, does its steps, and ends with `Failed` where something expected did not come. Limits are those of
the project: from plum_create_mapping to the callback, or as said.
"""

import contextlib
import functools
import pathlib
import tempfile
import threading
import time

from capture import Capture
from miniupnpd import Miniupnpd
from network import CLIENT, ROUTER, WAN, Network
from program import Failed, Program

CASES = {}

# Two ports, as miniupnpd 2.3.1 mixes up TCP and UDP of the same one (README.md). The second one has a wish.
TCP_PORT, UDP_PORT, WISHED_PORT = 8000, 8001, 18001

# The version octet of a PCP or NAT-PMP message, behind the UDP header.
PCP_ONLY = "udp dport 5351 @th,64,8 2"


def case(function=None, **arguments):
    """Registers a case under its name; with arguments, the same steps under one more name."""
    if function is None:
        return functools.partial(case, **arguments)
    name = arguments.pop("name", function.__name__).replace("_", "-")
    CASES[name] = functools.partial(function, **arguments)
    CASES[name].__doc__ = function.__doc__
    return function


class Lab:
    """What a case works with: a fresh network, and what it starts there. All of it ends with the case.

    `rounds`: how often a case is to try what depends on chance."""

    def __init__(self, built, plum, directory, rounds):
        self.built, self.plum, self.directory, self.rounds = built, plum, pathlib.Path(directory), rounds
        self.stack = contextlib.ExitStack()
        self.times = []
        self.net = Network()
        self.stack.callback(self.net.close)
        self._live_in(self.net.client, CLIENT, "eth0")
        self.daemon = self.program = None

    def _live_in(self, host, address, interface):
        """The program runs in the namespace `host`, with this address, and its packets pass this interface."""
        self.host, self.client_address = host, address
        self.capture = Capture(host, interface)
        self.stack.callback(self.capture.close)

    def live_on_the_gateway(self, via):
        """The program runs on the router, beside the daemon, and the default route leads to `via` in the LAN."""
        self.net.router.ip(f"route replace default via {via} dev lan")
        self._live_in(self.net.router, ROUTER, "lo")

    def close(self):
        self.stack.close()

    def start_gateway(self, **settings):
        self.daemon = Miniupnpd(self.net, self.directory, **settings)
        self.stack.callback(self.daemon.kill)
        self.daemon.start()

    def add_uplink(self):
        """Gives the client a second uplink, eth1, with a router and its daemon; gives the network there."""
        net = Network(beside=self.net)
        self.stack.callback(net.close)
        directory = self.directory / "uplink"
        directory.mkdir()
        daemon = Miniupnpd(net, directory)
        self.stack.callback(daemon.kill)
        daemon.start()
        return net

    def start_program(self, **settings):
        """Starts the program, or a second time: initialises the library anew."""
        if self.program is None:
            self.program = Program(self.host, self.built, self.directory / "library.log")
            self.stack.callback(self.program.close)
        self.program.init(**settings)

    def took(self, what, seconds, limit):
        """Notes a time, and holds it against its limit (seconds)."""
        self.times.append(f"{what} {seconds * 1000:.0f} ms (of {limit * 1000:.0f})")
        if seconds < 0:
            raise Failed(f"{what} came before its cause")
        if seconds > limit:
            raise Failed(f"{what} took {seconds * 1000:.0f} ms, more than {limit * 1000:.0f} ms")

    def check_bytes(self, mapping, event):
        """TCP or UDP bytes sent by the internet host reach the client, and the answer goes back."""
        try:
            target = self.client_address, mapping.internal_port
            self.net.pass_bytes(mapping.transport, event.host, event.port, *target, client=self.host)
        except (OSError, RuntimeError) as error:
            raise Failed(f"{mapping}: no bytes through {event.host}:{event.port}: {error}") from None

    def check_mapped(self, mapping, event, protocol=None, host=WAN):
        """The callback is right, the router forwards as it says, and bytes pass."""
        if protocol and event.protocol != protocol:
            raise Failed(f"{mapping} was made by {event.protocol} instead of {protocol}")
        if event.host != host:
            raise Failed(f"{mapping} has the external address {event.host} instead of {host}")
        target = self.net.mappings().get((mapping.transport, event.port))
        if target != (self.client_address, mapping.internal_port):
            raise Failed(f"{mapping}: the router forwards external port {event.port} to {target}")
        self.check_bytes(mapping, event)

    def check_unmapped(self, *keys):
        """None of these, or nothing at all, is forwarded to the client as it is now."""
        left = {key for key, target in self.net.mappings().items() if target[0] == self.client_address}
        if left & set(keys) if keys else left:
            raise Failed(f"the router still forwards {sorted(left)}")
        if not keys and (pinholes := self.net.pinholes()):
            raise Failed(f"the router still lets {len(pinholes)} ports through: {sorted(pinholes)[:4]}")

    def map_both(self, protocol=None):
        """One TCP and one UDP mapping, created at once; gives them with their SUCCESS, bytes passed."""
        mappings = self.program.create(("tcp", TCP_PORT), ("udp", UDP_PORT))
        made = [(mapping, self.program.expect(mapping, "SUCCESS")) for mapping in mappings]
        for mapping, event in made:
            self.check_mapped(mapping, event, protocol)
        return made

    def route_appears(self, mappings, *commands):
        """The default route is there (again), and whatever else these commands do: SUCCESS within 500 ms."""
        start = time.monotonic()
        self.net.client.ip(*commands, f"route add default via {ROUTER}")
        events = [self.program.expect(mapping, "SUCCESS") for mapping in mappings]
        self.took("SUCCESS", max(event.at for event in events) - start, 0.500)
        for mapping, event in zip(mappings, events):
            self.check_mapped(mapping, event)

    def end(self, mappings=(), limit=1.0):
        """Cleanup: each mapping its DESTROYED, and nothing left in the router."""
        seconds = self.program.cleanup()
        for mapping in mappings:
            self.program.expect(mapping, "DESTROYED")
            self.program.expect_silence(mapping)
        self.check_unmapped()
        self.took("cleanup", seconds, limit)

    def wait_until(self, condition, timeout, what):
        """Looks again whenever a packet has passed."""
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed(f"{what}: not within {timeout:.1f} s")
            self.capture.wait(min(left, 0.1))
            self.capture.read()

    def age_gateway(self, seconds=4.0):
        """Lets the daemon grow old enough that its epoch can show a restart (RFC 6887 §8.5 allows 2 s of slack)."""
        time.sleep(max(0.0, self.daemon.started_at + seconds - time.monotonic()))

    def answer_unsupp_version(self):
        """Has a server that knows NAT-PMP only answer PCP: version 0, UNSUPP_VERSION (RFC 6886 §3.5)."""
        port = 15351
        server = self.net.router.udp(ROUTER, port, timeout=None)
        self.net.divert(f"{PCP_ONLY} redirect to :{port}")
        started = time.monotonic()

        def serve():
            while True:
                request, client = server.recvfrom(2048)
                if len(request) < 2:
                    return
                epoch = int(time.monotonic() - started)
                server.sendto(bytes([0, 128 | request[1], 0, 1]) + epoch.to_bytes(4, "big"), client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()

        def stop():
            with self.net.router.udp() as sock:
                sock.sendto(b"", (ROUTER, port))
            thread.join()
            server.close()

        self.stack.callback(stop)


@contextlib.contextmanager
def lab(built, plum=None, rounds=1):
    with tempfile.TemporaryDirectory(prefix="plum-lab-") as directory:
        it = Lab(built, plum, directory, rounds)
        try:
            yield it
        finally:
            it.close()
