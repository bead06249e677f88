"""The cases of each protocol: how soon it maps, and what is not asked; and those in which nothing is to be asked, or
nobody is there."""

import statistics
import time

from cases import PCP_ONLY, TCP_PORT, UDP_PORT, WISHED_PORT, case
from network import CLIENT_PUBLIC, PCP_PORT, ROUTER_PUBLIC
from program import Failed


# --- The protocols ---------------------------------------------------------------------------------------------------


def maps(lab, made_by, limit, rounds=3, **settings):
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
    maps(lab, "PCP", 0.060)
    if connections := [frame for frame in lab.capture.sent() if frame.is_connect()]:
        raise Failed(f"{len(connections)} TCP connections to the gateway, though PCP answered")


@case
def natpmp_pcp_rejected(lab):
    """PCP refused, NAT-PMP answers: SUCCESS within 80 ms."""
    lab.start_gateway()
    lab.net.cut(f"{PCP_ONLY} reject")
    maps(lab, "NATPMP", 0.080)


@case
def natpmp_unsupp_version(lab):
    """PCP answered by UNSUPP_VERSION of version 0, as a NAT-PMP server does: SUCCESS within 80 ms."""
    lab.start_gateway()
    lab.answer_unsupp_version()
    maps(lab, "NATPMP", 0.080)


@case
def natpmp_pcp_dropped(lab):
    """PCP unanswered, NAT-PMP answers: SUCCESS within 350 ms."""
    lab.start_gateway()
    lab.net.cut(f"{PCP_ONLY} drop")
    maps(lab, "NATPMP", 0.350)


@case
def upnp_5351_closed(lab):
    """No PCP or NAT-PMP server: UPnP, SUCCESS within 150 ms."""
    lab.start_gateway(natpmp=False)
    maps(lab, "UPNP", 0.150)


@case
def upnp_5351_dropped(lab):
    """UDP port 5351 silent: UPnP, SUCCESS within 500 ms."""
    lab.start_gateway()
    lab.net.cut(f"udp dport {PCP_PORT} drop")
    maps(lab, "UPNP", 0.500)


@case
def upnp_igd1(lab):
    """A gateway that describes itself as IGD:1: UPnP, SUCCESS within 150 ms."""
    lab.start_gateway(natpmp=False, igd1=True)
    maps(lab, "UPNP", 0.150)


@case
def only_pcp_allowed(lab):
    """protocol=PCP: no SSDP packet at all."""
    lab.start_gateway()
    maps(lab, "PCP", 0.060, protocol="pcp")
    if any(frame.is_ssdp() for frame in lab.capture.sent()):
        raise Failed("an SSDP packet was sent")


@case
def only_upnp_allowed(lab):
    """protocol=UPNP: no PCP or NAT-PMP packet at all."""
    lab.start_gateway()
    maps(lab, "UPNP", 0.150, protocol="upnp")
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
        mappings = [mapping for mapping, _ in lab.map_both()]
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
    lab.route_appears([mapping])
    lab.end([mapping])
