"""The cases of what `plum map` is asked for: leave, lifetimes, descriptions, protocols, commands; and of why it fails."""

import json
import re

from cases import TCP_PORT, UDP_PORT, WISHED_PORT, case
from command import _end, _plum
from network import CLIENT, CLIENT_IPV6, UPLINK, UPLINK_CLIENT, UPLINK_WAN, WAN
from program import Failed

_CONTROL_C = b"\x03"
_ADDRESS = WAN.replace(".", r"\.")


def _expect_mappings(lab, wanted):
    if lab.net.mappings() != wanted:
        raise Failed(f"there is {lab.net.mappings()} instead of {wanted}")


@case
def plum_map_leave(lab):
    """`plum map --leave` ends when the port is mapped, and says until when; the mapping stays, and `plum unmap --row` removes it."""
    lab.start_gateway()
    terminal = _plum(lab, "map", f"{UDP_PORT}/udp:{WISHED_PORT}", "--leave", "--lifetime", "1h")
    _end(terminal, 0)
    terminal.expect(rf"{UDP_PORT}/udp mapped {_ADDRESS}:{WISHED_PORT} by PCP\n{UDP_PORT}/udp stays until 2\d{{3}}-")
    _expect_mappings(lab, {("udp", WISHED_PORT): (CLIENT, UDP_PORT)})
    _end(_plum(lab, "unmap", "--row", f"{WISHED_PORT}/udp"), 0)
    lab.check_unmapped()


@case
def plum_map_leave_ipv6(lab):
    """`plum map --ipv6 --leave` leaves a pinhole: bytes of the far side pass after its end."""
    lab.net.enable_ipv6()
    lab.start_gateway(ipv6=True)
    terminal = _plum(lab, "map", TCP_PORT, "--ipv6", "--leave", "--lifetime", "10m")
    _end(terminal, 0)
    terminal.expect(rf"{TCP_PORT}/tcp stays by IPv6 until 2\d{{3}}-")
    try:
        lab.net.pass_bytes("tcp", CLIENT_IPV6, TCP_PORT, CLIENT_IPV6, TCP_PORT)
    except (OSError, RuntimeError) as error:
        raise Failed(f"no bytes to [{CLIENT_IPV6}]:{TCP_PORT}: {error}") from None


def plum_map_without_end(lab, **settings):
    """`plum map --lease 0 --description` makes a UPnP entry of this name, of which miniupnpd makes one for a week."""
    lab.start_gateway(**settings)
    terminal = _plum(lab, "map", TCP_PORT, "--lease", "0", "--leave", "--description", "Photos & more")
    _end(terminal, 0)
    terminal.expect(rf"{TCP_PORT}/tcp mapped {_ADDRESS}:{TCP_PORT} by UPnP-IGD\n{TCP_PORT}/tcp stays until it is removed, or the gateway ends it\n")
    listing = _plum(lab, "list", "--json")
    _end(listing, 0)
    told = [(entry["description"], entry["internal_port"]) for entry in json.loads(listing.text)["mappings"]]
    if told != [("Photos & more", TCP_PORT)]:
        raise Failed(f"`plum list` shows {told}")
    left = json.loads(listing.text)["mappings"][0]["lease_left_secs"]
    if not 604_000 < left <= 604_800:
        raise Failed(f"the entry ends in {left} s")


case(plum_map_without_end)
case(plum_map_without_end, name="plum_map_without_end_igd1", igd1=True)


@case
def plum_map_protocols(lab):
    """`plum map --protocol` maps by PCP, NAT-PMP or UPnP alone, though all are there."""
    lab.start_gateway()
    for words, name in ("pcp-only", "PCP"), ("nat-pmp", "NAT-PMP"), ("upnp", "UPnP-IGD"):
        terminal = _plum(lab, "map", TCP_PORT, "--plain", "--protocol", words)
        terminal.expect(rf"{TCP_PORT}/tcp mapped {_ADDRESS}:{TCP_PORT} by {name}\n")
        terminal.type(_CONTROL_C)
        _end(terminal, 0)
        lab.check_unmapped()


@case
def plum_map_interface(lab):
    """`plum map --interface` maps at the router of a second uplink, by each protocol, and bytes pass there; the first has nothing."""
    lab.start_gateway()
    second = lab.add_uplink()
    for words, name in ("pcp-only", "PCP"), ("nat-pmp", "NAT-PMP"), ("upnp", "UPnP-IGD"):
        options = "--plain", "--interface", UPLINK, "--protocol", words
        terminal = _plum(lab, "map", TCP_PORT, *options)
        terminal.expect(rf"{TCP_PORT}/tcp mapped {re.escape(UPLINK_WAN)}:{TCP_PORT} by {name}\n")
        if (target := second.mappings().get(("tcp", TCP_PORT))) != (UPLINK_CLIENT, TCP_PORT):
            raise Failed(f"the second router forwards to {target}")
        if lab.net.mappings():
            raise Failed(f"the first router forwards {lab.net.mappings()}")
        second.pass_bytes("tcp", UPLINK_WAN, TCP_PORT, UPLINK_CLIENT, TCP_PORT)
        terminal.type(_CONTROL_C)
        _end(terminal, 0)
        if second.mappings():
            raise Failed(f"the second router still forwards {second.mappings()}")
    terminal = _plum(lab, "map", TCP_PORT, "--plain")
    terminal.expect(rf"{TCP_PORT}/tcp mapped {_ADDRESS}:{TCP_PORT} by PCP\n")
    terminal.type(_CONTROL_C)
    _end(terminal, 0)
    lab.check_unmapped()


@case
def plum_map_exec(lab):
    """`plum map --exec` runs its command when the port is mapped and when it is removed, with the state in its environment."""
    lab.start_gateway()
    told = lab.directory / "states"
    command = f'echo "$PLUM_STATE $PLUM_PROTOCOL $PLUM_EXTERNAL_HOST:$PLUM_EXTERNAL_PORT $PLUM_INTERNAL_PORT" >>{told}'
    _end(_plum(lab, "map", f"{TCP_PORT}/tcp:{WISHED_PORT}", "--for", "1s", "--exec", command), 0)
    rest = f"PCP {WAN}:{WISHED_PORT} {TCP_PORT}\n"
    if told.read_text() != f"mapped {rest}removed {rest}":
        raise Failed(f"the command was told {told.read_text()}")
    lab.check_unmapped()


@case
def plum_map_no_answer(lab):
    """`plum map` at a router that answers nothing: exit code 3, and what to switch on, once."""
    lab.net.cut("iifname lan drop")
    terminal = _plum(lab, "map", TCP_PORT, "--plain", "--discover-timeout", "1s")
    _end(terminal, 3)
    terminal.expect(r"failed: the gateway .* does not answer: switch on UPnP.*\nplum: nothing is mapped \(plum probe tells more\)\n$")


@case
def plum_map_no_gateway(lab):
    """`plum map` with a default route to an address that nobody has: exit code 10, by the silence of ARP."""
    lab.net.client.ip("route replace default via 192.168.77.99")
    terminal = _plum(lab, "map", TCP_PORT, "--plain")
    _end(terminal, 10)
    terminal.expect(r"failed: no host answers at the address of the gateway 192\.168\.77\.99")


@case
def plum_map_firewalled(lab):
    """`plum map` where the client's own firewall stops the requests: exit code 9, and that this is the cause."""
    lab.start_gateway()
    lab.net.stop_requests()
    terminal = _plum(lab, "map", TCP_PORT, "--plain")
    _end(terminal, 9)
    terminal.expect(r"failed: a firewall of this machine lets no request out")


@case
def plum_map_wan_down(lab):
    """`plum map` at a router whose link to the internet is down, without PCP: exit code 7, and that this is the cause."""
    lab.start_gateway(upnp=False)
    lab.net.router.ip("link set wan down")
    lab.net.cut("udp dport 5351 @th,64,8 2 reject")
    terminal = _plum(lab, "map", TCP_PORT, "--plain")
    _end(terminal, 7)
    terminal.expect(r"failed: the gateway .* has no connection to the internet")


@case
def plum_map_not_allowed(lab):
    """`plum map` by PCP alone of a port that the router's rules forbid: exit code 11, as PCP refuses a left-over mapping in the same way."""
    lab.start_gateway()
    terminal = _plum(lab, "map", 80, "--plain", "--protocol", "pcp-only")
    _end(terminal, 11)
    terminal.expect(r"80/tcp failed: the gateway .* refuses this port: .*, or allows none \(PCP: .*NOT_AUTHORIZED, code 2\)\): ")
    lab.check_unmapped()
