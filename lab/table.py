"""The cases of what is in the router's table: many mappings, ports that another host has, leases that are short."""

import time

from cases import PCP_ONLY, TCP_PORT, UDP_PORT, WISHED_PORT, case
from network import PCP_PORT, WAN
from program import Failed
from requester import Requester


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


def ports_allowed(lab, cut=None, limit=1.5, **settings):
    """The daemon maps external ports 20000 to 29999 only: SUCCESS with one of them."""
    lab.start_gateway(allowed="20000-29999", **settings)
    if cut:
        lab.net.cut(cut)
    lab.start_program()
    mappings = lab.program.create(("tcp", TCP_PORT), ("udp", UDP_PORT, WISHED_PORT))
    for mapping in mappings:
        event = lab.program.expect(mapping, "SUCCESS")
        if not 20000 <= event.port <= 29999:
            raise Failed(f"{mapping} got port {event.port}")
        lab.took("SUCCESS", event.at - mapping.created_at, limit)
        lab.check_mapped(mapping, event)
    # The daemon answers no one while it looks for a port, and does so for each repetition of a request.
    Requester(lab.net, timeout=5.0).natpmp_address()
    lab.end(mappings)


# By PCP and NAT-PMP the daemon itself looks for a port, for up to a second each.
case(ports_allowed, name="ports_allowed_pcp", limit=6.0)
case(ports_allowed, name="ports_allowed_natpmp", limit=6.0, cut=f"{PCP_ONLY} reject")
case(ports_allowed, name="ports_allowed_upnp", natpmp=False)
case(ports_allowed, name="ports_allowed_upnp_igd1", natpmp=False, igd1=True)


def wan_lost(lab, cut=None, **settings):
    """The router loses its internet connection, then the program ends: nothing is left."""
    lab.start_gateway(**settings)
    if cut:
        lab.net.cut(cut)
    lab.start_program()
    mappings = [mapping for mapping, _ in lab.map_both()]
    (third,) = lab.program.create(("tcp", TCP_PORT + 10))
    lab.program.expect(third, "SUCCESS")
    lab.net.router.ip(f"addr del {WAN}/24 dev wan")
    # The daemon takes notice, and the library of what it then says.
    time.sleep(7)
    lab.program.destroy(third)
    lab.program.expect_at_last(third, "DESTROYED")
    lab.check_unmapped(("tcp", TCP_PORT + 10))
    seconds = lab.program.cleanup()
    for mapping in mappings:
        lab.program.expect_at_last(mapping, "DESTROYED")
    lab.check_unmapped()
    lab.took("cleanup", seconds, 1.0)


case(wan_lost, name="wan_lost_pcp")
case(wan_lost, name="wan_lost_natpmp", cut=f"{PCP_ONLY} reject")
case(wan_lost, name="wan_lost_upnp", natpmp=False)


@case
def renewal_pcp(lab):
    """PCP leases of 8 s: the mapping is still there after 12 s, without a callback."""
    lab.start_gateway(lifetime=8)
    lab.start_program()
    made = lab.map_both("PCP")
    # Time has to pass here: without a renewal the leases would run out.
    time.sleep(12)
    for mapping, event in made:
        lab.program.expect_silence(mapping)
        lab.check_mapped(mapping, event)
    lab.end([mapping for mapping, _ in made])
