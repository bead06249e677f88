"""The cases of which ports `plum map` accepts: one that is free, one for both transports, exactly one."""

import re

from cases import TCP_PORT, WISHED_PORT, case
from command import _end, _plum
from network import CLIENT, WAN
from program import Failed
from requester import Requester

_CONTROL_C = b"\x03"
_ADDRESS = re.escape(WAN)
_OTHER = "192.168.77.9"


def _take(lab, transport, port):
    """Another host of the network has this external port. Returns the router's table with it alone."""
    lab.net.client.ip(f"addr add {_OTHER}/24 dev eth0")
    reply, _ = Requester(lab.net, address=_OTHER).natpmp_map(transport, port, port)
    lab.net.client.ip(f"addr del {_OTHER}/24 dev eth0")
    taken = {(transport, port): (_OTHER, port)}
    if reply["result"] != 0 or lab.net.mappings() != taken:
        raise RuntimeError(f"the lab could not take the port: {reply}")
    return taken


def _expect_table(lab, wanted):
    if lab.net.mappings() != wanted:
        raise Failed(f"the router forwards {lab.net.mappings()} instead of {wanted}")


def _pass(lab, transport, external, internal):
    try:
        lab.net.pass_bytes(transport, WAN, external, CLIENT, internal)
    except (OSError, RuntimeError) as error:
        raise Failed(f"no bytes through {WAN}:{external}/{transport}: {error}") from None


@case
def plum_map_free_port(lab):
    """`plum map 0/both` chooses a free port, the same inside and outside for TCP and UDP: bytes pass, and ^C removes both."""
    lab.start_gateway()
    terminal = _plum(lab, "map", "0/both", "--plain")
    mapped = rf"(\d+)/(tcp|udp) mapped {_ADDRESS}:(\d+) by PCP\n"
    ports = {int(port) for _ in range(2) for port in terminal.expect(mapped).group(1, 3)}
    if len(ports) != 1:
        raise Failed(f"the ports are {ports}, not one")
    (port,) = ports
    _expect_table(lab, {(transport, port): (CLIENT, port) for transport in ("tcp", "udp")})
    for transport in "tcp", "udp":
        _pass(lab, transport, port, port)
    terminal.type(_CONTROL_C)
    _end(terminal, 0)
    lab.check_unmapped()


def plum_map_both_taken(lab, has_pcp=True, protocol="PCP"):
    """`plum map PORT/both` where another host has the UDP port: TCP and UDP get another one, the same, and what was given up is gone."""
    lab.start_gateway()
    taken = _take(lab, "udp", WISHED_PORT)
    if not has_pcp:
        lab.net.cut("udp dport 5351 reject")
    terminal = _plum(lab, "map", f"{TCP_PORT}/both:{WISHED_PORT}", "--plain")
    mapped = rf"{TCP_PORT}/(tcp|udp) mapped {_ADDRESS}:(\d+) by {protocol}\n"
    externals = {int(terminal.expect(mapped)[2]) for _ in range(2)}
    if len(externals) != 1 or WISHED_PORT in externals:
        raise Failed(f"the external ports are {externals}, not one other")
    (external,) = externals
    _expect_table(lab, taken | {(transport, external): (CLIENT, TCP_PORT) for transport in ("tcp", "udp")})
    for transport in "tcp", "udp":
        _pass(lab, transport, external, TCP_PORT)
    terminal.type(_CONTROL_C)
    _end(terminal, 0)
    _expect_table(lab, taken)


case(plum_map_both_taken)
case(plum_map_both_taken, name="plum_map_both_taken_upnp", has_pcp=False, protocol="UPnP-IGD")


@case
def plum_map_exact_taken(lab):
    """`plum map --exact` of a port that another host has: exit code 12 by each protocol, and nothing is left; a free one is mapped."""
    lab.start_gateway()
    taken = _take(lab, "tcp", WISHED_PORT)
    for protocol in "pcp-only", "nat-pmp", "upnp":
        words = ("--exact", "--plain", "--protocol", protocol)
        terminal = _plum(lab, "map", f"{TCP_PORT}/tcp:{WISHED_PORT}", *words)
        _end(terminal, 12)
        terminal.expect(rf"{TCP_PORT}/tcp failed: the gateway .* does not assign the external port")
        _expect_table(lab, taken)
        terminal = _plum(lab, "map", f"{TCP_PORT}/tcp:{WISHED_PORT + 2}", *words)
        terminal.expect(rf"{TCP_PORT}/tcp mapped {_ADDRESS}:{WISHED_PORT + 2} by")
        terminal.type(_CONTROL_C)
        _end(terminal, 0)
        _expect_table(lab, taken)
