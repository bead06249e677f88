"""What the library must do before a real gateway: one function a case.

A case gets a Lab, does its steps, and ends with `Failed` where something expected did not come. Limits are those of
the project: from plum_create_mapping to the callback, or as said.
"""

import contextlib
import functools
import pathlib
import statistics
import tempfile
import threading
import time

from capture import Capture
from miniupnpd import Miniupnpd
from network import (
    CLIENT,
    CLIENT_MOVED,
    CLIENT_PUBLIC,
    PCP_PORT,
    ROUTER,
    ROUTER_PUBLIC,
    WAN,
    WAN_MOVED,
    Network,
)
from program import Failed, Program
from requester import Requester

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
    """What a case works with: a fresh network, and what it starts there. All of it ends with the case."""

    def __init__(self, built, plum, directory):
        self.built, self.plum, self.directory = built, plum, pathlib.Path(directory)
        self.stack = contextlib.ExitStack()
        self.times = []
        self.net = Network()
        self.stack.callback(self.net.close)
        self.capture = Capture(self.net.client)
        self.stack.callback(self.capture.close)
        self.client_address = CLIENT
        self.daemon = self.program = None

    def close(self):
        self.stack.close()

    def start_gateway(self, **settings):
        self.daemon = Miniupnpd(self.net, self.directory, **settings)
        self.stack.callback(self.daemon.kill)
        self.daemon.start()

    def start_program(self, **settings):
        """Starts the program, or a second time: initialises the library anew."""
        if self.program is None:
            self.program = Program(self.net.client, self.built, self.directory / "library.log")
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
            self.net.pass_bytes(mapping.transport, event.host, event.port, self.client_address, mapping.internal_port)
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
def lab(built, plum=None):
    with tempfile.TemporaryDirectory(prefix="plum-lab-") as directory:
        it = Lab(built, plum, directory)
        try:
            yield it
        finally:
            it.close()


def _map_both(lab, protocol=None):
    """One TCP and one UDP mapping, created at once; gives them with their SUCCESS, bytes passed."""
    mappings = lab.program.create(("tcp", TCP_PORT), ("udp", UDP_PORT))
    made = [(mapping, lab.program.expect(mapping, "SUCCESS")) for mapping in mappings]
    for mapping, event in made:
        lab.check_mapped(mapping, event, protocol)
    return made


# --- The protocols ---------------------------------------------------------------------------------------------------


def _maps(lab, made_by, limit, rounds=3, **settings):
    """From create to SUCCESS by the protocol `made_by`, bytes both ways, deletion by destroy and by cleanup, three
    times over (the middle one of the times is held against the limit)."""
    slowest = []
    for round in range(rounds):
        lab.start_program(**settings)
        mappings = lab.program.create(("tcp", TCP_PORT), ("udp", UDP_PORT, WISHED_PORT))
        made = [(mapping, lab.program.expect(mapping, "SUCCESS")) for mapping in mappings]
        slowest.append(max(event.at - mapping.created_at for mapping, event in made))
        for mapping, event in made:
            lab.check_mapped(mapping, event, made_by)
        (tcp, tcp_event), (udp, udp_event) = made
        if udp_event.port != WISHED_PORT:
            raise Failed(f"{udp}: external port {udp_event.port} instead of the wished {WISHED_PORT}")
        if round == 0:
            lab.program.destroy(tcp)
            event = lab.program.expect(tcp, "DESTROYED", timeout=1.0)
            lab.check_unmapped(("tcp", tcp_event.port))
            lab.check_mapped(udp, udp_event)
            if lab.program.query(tcp)[0] != -3:
                raise Failed("a destroyed mapping is not NOT_AVAIL")
            lab.end([udp])
        else:
            lab.end([tcp, udp])
    rounds_told = ", ".join(f"{seconds * 1000:.0f}" for seconds in slowest)
    lab.times = [f"rounds {rounds_told} ms"]
    lab.took("SUCCESS", statistics.median(slowest), limit)


@case
def pcp(lab):
    """PCP: SUCCESS within 60 ms, and nothing asked of UPnP but the search."""
    lab.start_gateway()
    _maps(lab, "PCP", 0.060)
    if connections := [frame for frame in lab.capture.sent() if frame.is_connect()]:
        raise Failed(f"{len(connections)} TCP connections to the gateway, though PCP answered")


@case
def natpmp_pcp_rejected(lab):
    """PCP refused, NAT-PMP answers: SUCCESS within 80 ms."""
    lab.start_gateway()
    lab.net.cut(f"{PCP_ONLY} reject")
    _maps(lab, "NATPMP", 0.080)


@case
def natpmp_unsupp_version(lab):
    """PCP answered by UNSUPP_VERSION of version 0, as a NAT-PMP server does: SUCCESS within 80 ms."""
    lab.start_gateway()
    lab.answer_unsupp_version()
    _maps(lab, "NATPMP", 0.080)


@case
def natpmp_pcp_dropped(lab):
    """PCP unanswered, NAT-PMP answers: SUCCESS within 350 ms."""
    lab.start_gateway()
    lab.net.cut(f"{PCP_ONLY} drop")
    _maps(lab, "NATPMP", 0.350)


@case
def upnp_5351_closed(lab):
    """No PCP or NAT-PMP server: UPnP, SUCCESS within 150 ms."""
    lab.start_gateway(natpmp=False)
    _maps(lab, "UPNP", 0.150)


@case
def upnp_5351_dropped(lab):
    """UDP port 5351 silent: UPnP, SUCCESS within 500 ms."""
    lab.start_gateway()
    lab.net.cut(f"udp dport {PCP_PORT} drop")
    _maps(lab, "UPNP", 0.500)


@case
def upnp_igd1(lab):
    """A gateway that describes itself as IGD:1: UPnP, SUCCESS within 150 ms."""
    lab.start_gateway(natpmp=False, igd1=True)
    _maps(lab, "UPNP", 0.150)


@case
def only_pcp_allowed(lab):
    """protocol=PCP: no SSDP packet at all."""
    lab.start_gateway()
    _maps(lab, "PCP", 0.060, protocol="pcp")
    if any(frame.is_ssdp() for frame in lab.capture.sent()):
        raise Failed("an SSDP packet was sent")


@case
def only_upnp_allowed(lab):
    """protocol=UPNP: no PCP or NAT-PMP packet at all."""
    lab.start_gateway()
    _maps(lab, "UPNP", 0.150, protocol="upnp")
    if any(frame.is_pcp() for frame in lab.capture.sent()):
        raise Failed("a PCP or NAT-PMP packet was sent")


@case
def direct(lab):
    """A public address: DIRECT at once, nothing asked of anyone."""
    lab.start_gateway()
    lab.client_address = CLIENT_PUBLIC
    lab.net.client.ip(
        "addr flush dev eth0", f"addr add {CLIENT_PUBLIC}/24 dev eth0", f"route add default via {ROUTER_PUBLIC}"
    )
    lab.start_program()
    start = time.monotonic()
    mappings = lab.program.create(("tcp", TCP_PORT), ("udp", UDP_PORT))
    for mapping in mappings:
        event = lab.program.expect(mapping, "SUCCESS")
        lab.took("SUCCESS", event.at - mapping.created_at, 0.100)
        if (event.protocol, event.host, event.port) != ("DIRECT", CLIENT_PUBLIC, mapping.internal_port):
            raise Failed(f"{mapping}: {event}")
        lab.check_bytes(mapping, event)
    if asked := [frame for frame in lab.capture.sent(start) if frame.is_pcp() or frame.is_ssdp() or frame.is_connect()]:
        raise Failed(f"asked: {asked[0]}")
    lab.end(mappings)


# --- Quiet, and nobody there -----------------------------------------------------------------------------------------


@case
def quiet_before_and_after(lab):
    """No packet leaves before the first create, nor after cleanup."""
    lab.start_gateway()
    for _ in range(2):
        start = time.monotonic()
        lab.start_program()
        # Absence has no event to wait for: 0.3 s is thrice what the slowest answer takes.
        time.sleep(0.3)
        if early := lab.capture.sent(start):
            raise Failed(f"before the first create: {', '.join(map(str, early))}")
        mappings = [mapping for mapping, _ in _map_both(lab)]
        lab.end(mappings)
        after = time.monotonic()
        time.sleep(0.3)
        # The kernel's own: leaving a multicast group, ARP for the router's sake.
        if late := [frame for frame in lab.capture.sent(after) if frame.udp() or frame.is_connect()]:
            raise Failed(f"after cleanup: {', '.join(map(str, late))}")


@case
def no_answer(lab):
    """A router that drops everything: FAILURE within 4 s; SUCCESS by itself when a gateway appears."""
    lab.net.cut("iifname lan drop")
    lab.start_program(recheck=1000)
    (mapping,) = lab.program.create(("tcp", TCP_PORT))
    event = lab.program.expect(mapping, "FAILURE")
    lab.took("FAILURE", event.at - mapping.created_at, 4.0)
    lab.net.cut()
    lab.start_gateway()
    start = time.monotonic()
    event = lab.program.expect(mapping, "SUCCESS")
    lab.took("SUCCESS", event.at - start, 2.5)
    lab.check_mapped(mapping, event)
    lab.end([mapping])


@case
def no_gateway(lab):
    """A default route to an address that nobody has: FAILURE within 4 s."""
    lab.net.client.ip("route replace default via 192.168.77.99")
    lab.start_program()
    (mapping,) = lab.program.create(("udp", UDP_PORT))
    event = lab.program.expect(mapping, "FAILURE")
    lab.took("FAILURE", event.at - mapping.created_at, 4.0)
    lab.end([mapping])


@case
def no_default_route(lab):
    """No default route: FAILURE within 100 ms, SUCCESS within 500 ms after one appears."""
    lab.start_gateway()
    lab.net.client.ip("route del default")
    lab.start_program()
    (mapping,) = lab.program.create(("tcp", TCP_PORT))
    event = lab.program.expect(mapping, "FAILURE")
    lab.took("FAILURE", event.at - mapping.created_at, 0.100)
    _route_appears(lab, [mapping])
    lab.end([mapping])


def _route_appears(lab, mappings, *commands):
    start = time.monotonic()
    lab.net.client.ip(*commands, f"route add default via {ROUTER}")
    events = [lab.program.expect(mapping, "SUCCESS") for mapping in mappings]
    lab.took("SUCCESS", max(event.at for event in events) - start, 0.500)
    for mapping, event in zip(mappings, events):
        lab.check_mapped(mapping, event)


# --- A network that changes ------------------------------------------------------------------------------------------


@case
def default_route_gone(lab):
    """The default route goes: FAILURE within 100 ms. It comes back: SUCCESS within 500 ms."""
    lab.start_gateway()
    lab.start_program()
    mappings = [mapping for mapping, _ in _map_both(lab, "PCP")]
    start = time.monotonic()
    lab.net.client.ip("route del default")
    events = [lab.program.expect(mapping, "FAILURE") for mapping in mappings]
    lab.took("FAILURE", max(event.at for event in events) - start, 0.100)
    _route_appears(lab, mappings)
    lab.end(mappings)


@case
def client_address_changed(lab, **settings):
    """The client gets another address: SUCCESS again within 1 s, bytes reach the new address."""
    lab.start_gateway(**settings)
    lab.start_program()
    mappings = [mapping for mapping, _ in _map_both(lab)]
    lab.client_address = CLIENT_MOVED
    start = time.monotonic()
    # Removing the primary address takes the default route along.
    lab.net.client.ip(
        f"addr add {CLIENT_MOVED}/24 dev eth0",
        f"addr del {CLIENT}/24 dev eth0",
        f"addr replace {CLIENT_MOVED}/24 dev eth0",
        f"route replace default via {ROUTER}",
    )
    events = []
    for mapping in mappings:
        # In between there was no route, and the library may have noticed.
        seen = lab.program.events(mapping)
        if seen and seen[0].state == "FAILURE":
            lab.program.expect(mapping, "FAILURE")
        events.append(lab.program.expect(mapping, "SUCCESS"))
    lab.took("SUCCESS", max(event.at for event in events) - start, 1.0)
    for mapping, event in zip(mappings, events):
        lab.check_mapped(mapping, event)
    lab.end(mappings)


case(client_address_changed, name="client_address_changed_upnp", natpmp=False)


@case
def external_address_changed(lab):
    """The router gets another external address and says so: SUCCESS again with it within 6.5 s."""
    lab.start_gateway()
    lab.start_program()
    mappings = [mapping for mapping, _ in _map_both(lab, "PCP")]
    start = time.monotonic()
    lab.net.router.ip(
        f"addr add {WAN_MOVED}/24 dev wan", f"addr del {WAN}/24 dev wan", f"addr replace {WAN_MOVED}/24 dev wan"
    )
    for mapping in mappings:
        event = lab.program.expect(mapping, "SUCCESS")
        lab.took("SUCCESS", event.at - start, 6.5)
        lab.check_mapped(mapping, event, host=WAN_MOVED)
    lab.end(mappings)


@case
def cable_cut_near(lab):
    """The client's own link goes down: FAILURE within 1 s. It comes back with its route: SUCCESS within 500 ms."""
    lab.start_gateway()
    lab.start_program()
    mappings = [mapping for mapping, _ in _map_both(lab, "PCP")]
    start = time.monotonic()
    lab.net.client.ip("link set eth0 down")
    events = [lab.program.expect(mapping, "FAILURE") for mapping in mappings]
    lab.took("FAILURE", max(event.at for event in events) - start, 1.0)
    _route_appears(lab, mappings, "link set eth0 up")
    lab.end(mappings)


@case
def cable_cut_far(lab):
    """The cable is cut at the router for 1.5 s: the mappings stay, bytes pass as soon as it is back."""
    lab.start_gateway()
    lab.start_program()
    made = _map_both(lab, "PCP")
    lab.net.router.ip("link set lan down")
    # How long the cable is out: longer than the library waits for any one answer.
    time.sleep(1.5)
    for mapping, _ in made:
        lab.program.expect_silence(mapping)
    lab.net.router.ip("link set lan up")
    for mapping, event in made:
        lab.check_mapped(mapping, event)
        if lab.program.query(mapping)[1] != "SUCCESS":
            raise Failed(lab.program.describe(mapping))
    lab.end([mapping for mapping, _ in made])


@case
def cable_cut_far_gateway_restarted(lab):
    """The router loses everything while the cable is out: SUCCESS again within 6.5 s after it is back."""
    lab.start_gateway()
    lab.start_program()
    mappings = [mapping for mapping, _ in _map_both(lab, "PCP")]
    lab.age_gateway()
    lab.net.router.ip("link set lan down")
    lab.daemon.kill()
    lab.net.forget_mappings()
    lab.net.router.ip("link set lan up")
    lab.daemon.start()
    start = time.monotonic()
    for mapping in mappings:
        event = lab.program.expect(mapping, "SUCCESS")
        lab.took("SUCCESS", event.at - start, 6.5)
        lab.check_mapped(mapping, event)
    lab.end(mappings)


# --- A gateway that restarts, or goes --------------------------------------------------------------------------------


def _restart(lab, protocol, limit=6.5, told=True, **settings):
    """The gateway is killed and started again without its mappings; they come back by themselves.

    The library waits up to 5 s after an announcement, so that not all hosts come at once. `told`: SUCCESS is
    reported again, as the epoch, or UPnP's new location, shows the restart."""
    lab.start_program(**settings)
    made = _map_both(lab, protocol)
    lab.age_gateway()
    for mapping, _ in made:
        lab.program.expect_silence(mapping)
    start = time.monotonic()
    lab.daemon.restart()
    for mapping, event in made:
        if told:
            event = lab.program.expect(mapping, "SUCCESS")
            seconds = event.at - start
        else:
            key = (mapping.transport, event.port)
            lab.wait_until(lambda: key in lab.net.mappings(), limit, f"{mapping} in the router again")
            seconds = time.monotonic() - start
        lab.took("back", seconds, limit)
        lab.check_mapped(mapping, event, protocol)
    for mapping, _ in made:
        if lab.program.query(mapping)[1] != "SUCCESS":
            raise Failed(lab.program.describe(mapping))
    lab.end([mapping for mapping, _ in made])


@case
def restart_pcp(lab):
    """PCP gateway restarted, its epoch shows it: SUCCESS again within 6.5 s."""
    lab.start_gateway()
    _restart(lab, "PCP")


@case
def restart_pcp_system_uptime(lab):
    """PCP gateway restarted, its epoch does not show it: mapped again within 6.5 s."""
    lab.start_gateway(system_uptime=True)
    _restart(lab, "PCP", told=False)


@case
def restart_pcp_unheard(lab):
    """PCP gateway restarted and its announcement lost: SUCCESS again by the recheck, every 1 s here."""
    lab.start_gateway()
    lab.net.cut_output("ip daddr 224.0.0.1 drop")
    _restart(lab, "PCP", limit=2.0, recheck=1000)


@case
def restart_natpmp(lab):
    """NAT-PMP gateway restarted, its epoch shows it: SUCCESS again within 6.5 s."""
    lab.start_gateway()
    lab.net.cut(f"{PCP_ONLY} reject")
    _restart(lab, "NATPMP")


@case
def restart_natpmp_system_uptime(lab):
    """NAT-PMP gateway restarted, its epoch does not show it: mapped again within 6.5 s."""
    lab.start_gateway(system_uptime=True)
    lab.net.cut(f"{PCP_ONLY} reject")
    _restart(lab, "NATPMP", told=False)


@case
def restart_upnp(lab):
    """UPnP gateway restarted, its location changed: SUCCESS again within 6.5 s."""
    lab.start_gateway(natpmp=False)
    _restart(lab, "UPNP")


case(restart_upnp, name="restart_upnp_system_uptime")


@case
def cleanup_gateway_gone(lab):
    """The gateway has gone silent: cleanup within 0.9 s all the same, each mapping its DESTROYED."""
    lab.start_gateway()
    lab.start_program()
    mappings = [mapping for mapping, _ in _map_both(lab, "PCP")]
    lab.net.cut("iifname lan drop")
    seconds = lab.program.cleanup()
    for mapping in mappings:
        lab.program.expect(mapping, "DESTROYED")
    lab.took("cleanup", seconds, 0.900)


@case
def destroy_gateway_gone(lab):
    """The gateway has gone silent: DESTROYED within 1 s of plum_destroy_mapping all the same."""
    lab.start_gateway()
    lab.start_program()
    mappings = [mapping for mapping, _ in _map_both(lab, "PCP")]
    lab.net.cut("iifname lan drop")
    for mapping in mappings:
        start = time.monotonic()
        lab.program.destroy(mapping)
        event = lab.program.expect(mapping, "DESTROYED")
        lab.took("DESTROYED", event.at - start, 1.0)
    lab.took("cleanup", lab.program.cleanup(), 0.900)


# --- Many, taken, short ----------------------------------------------------------------------------------------------


def _fifty(lab, protocol, limit):
    lab.start_program()
    wanted = [(transport, port) for port in range(9000, 9025) for transport in ("tcp", "udp")]
    # TCP and UDP on ports of their own: README.md.
    wanted = [(transport, port if transport == "tcp" else port + 100) for transport, port in wanted]
    mappings = lab.program.create(*wanted)
    made = [(mapping, lab.program.expect(mapping, "SUCCESS")) for mapping in mappings]
    first = min(mapping.created_at for mapping in mappings)
    lab.took("last SUCCESS", max(event.at for _, event in made) - first, limit)
    for mapping, event in made:
        lab.check_mapped(mapping, event, protocol)
    lab.end(mappings, limit=2.0)


@case
def fifty_mappings_pcp(lab):
    """50 mappings at once by PCP: all SUCCESS within 1 s, all gone after cleanup."""
    lab.start_gateway()
    _fifty(lab, "PCP", 1.0)


@case
def fifty_mappings_upnp(lab):
    """50 mappings at once by UPnP: all SUCCESS within 3 s, all gone after cleanup."""
    lab.start_gateway(natpmp=False)
    _fifty(lab, "UPNP", 3.0)


def _take_port(lab):
    """Has another host of the LAN own an external port; gives that host's address."""
    other = "192.168.77.9"
    lab.net.client.ip(f"addr add {other}/24 dev eth0")
    reply, _ = Requester(lab.net, address=other).natpmp_map("tcp", TCP_PORT, TCP_PORT)
    if not isinstance(reply, dict) or (reply["result"], reply["external"]) != (0, TCP_PORT):
        raise RuntimeError(f"the lab could not take the port: {reply}")
    return other


def _map_beside(lab, other, protocol):
    """A mapping whose natural external port the other host owns."""
    lab.start_program()
    (mapping,) = lab.program.create(("tcp", TCP_PORT))
    event = lab.program.expect(mapping, "SUCCESS")
    if event.port == TCP_PORT:
        raise Failed("got the port that another host has")
    lab.check_mapped(mapping, event, protocol)
    lab.took("SUCCESS", event.at - mapping.created_at, 1.0)
    lab.end([mapping])
    if lab.net.mappings().get(("tcp", TCP_PORT)) != (other, TCP_PORT):
        raise Failed("the other host's mapping is gone")


@case
def port_taken_pcp(lab):
    """PCP, and the external port is another host's: SUCCESS with another port."""
    lab.start_gateway()
    _map_beside(lab, _take_port(lab), "PCP")


@case
def port_taken_natpmp(lab):
    """NAT-PMP, and the external port is another host's: SUCCESS with another port."""
    lab.start_gateway()
    other = _take_port(lab)
    lab.net.cut(f"{PCP_ONLY} reject")
    _map_beside(lab, other, "NATPMP")


@case
def port_taken_upnp(lab):
    """UPnP, and the external port is another host's: SUCCESS with another port."""
    lab.start_gateway()
    other = _take_port(lab)
    lab.net.cut(f"udp dport {PCP_PORT} reject")
    _map_beside(lab, other, "UPNP")


@case
def renewal_pcp(lab):
    """PCP leases of 8 s: the mapping is still there after 12 s, without a callback."""
    lab.start_gateway(lifetime=8)
    lab.start_program()
    made = _map_both(lab, "PCP")
    # Time has to pass here: without a renewal the leases would run out.
    time.sleep(12)
    for mapping, event in made:
        lab.program.expect_silence(mapping)
        lab.check_mapped(mapping, event)
    lab.end([mapping for mapping, _ in made])
