"""The cases of the `plum` command, each on a terminal."""

import json

from cases import TCP_PORT, UDP_PORT, WISHED_PORT, case
from network import CLIENT, CLIENT_IPV6, ROUTER, WAN
from program import Failed
from terminal import Terminal

_CONTROL_C = b"\x03"


def _plum(lab, *words, **variables):
    terminal = Terminal(lab.net.client, [lab.plum, *words], **variables)
    lab.stack.callback(terminal.close)
    return terminal


def _end(terminal, code):
    if (ended := terminal.end()) != code:
        raise Failed(f"`plum {terminal.command}` ended with {ended} instead of {code}:\n{terminal.text}")


def _probe(lab, code, *patterns):
    """`plum probe` ends with this code and says these things, in this order."""
    terminal = _plum(lab, "probe")
    _end(terminal, code)
    for pattern in patterns:
        terminal.expect(pattern)
    if lab.net.mappings():
        raise Failed(f"a probe has mapped something: {lab.net.mappings()}")
    return terminal


@case
def plum_probe(lab):
    """`plum probe` names the interface, PCP, NAT-PMP, the UPnP device and the external address; nothing is mapped."""
    lab.start_gateway()
    address = WAN.replace(".", r"\.")
    terminal = _probe(
        lab,
        0,
        rf"Interface +eth0\nInternal +{CLIENT}\nGateway +{ROUTER}\n",
        r"PCP +version 2, up \d+ s +\d+\.\d ms\n",
        rf"NAT-PMP +external address {address}, up \d+ s +\d+\.\d ms\n",
        rf'UPnP-IGD +".+" at {ROUTER} +\d+\.\d ms\n.*IGD 2\n',
        rf"WANIPConnection:2 Connected, {address} +\d+\.\d ms\n",
        rf"External +{address}\n",
        rf"Ports can be mapped by PCP: the external address is {address}\.\n.*--try-map.*\nIPv6: this machine has no IPv6 route .*\n$",
    )
    if not terminal.is_coloured:
        raise Failed("there are no colours on a terminal")
    plain = _plum(lab, "probe", "--try-map", NO_COLOR="1")
    _end(plain, 0)
    plain.expect(rf"Trial +{address}:\d+ by PCP, removed")
    if plain.is_coloured:
        raise Failed("there are colours despite NO_COLOR")
    lab.check_unmapped()


@case
def plum_probe_upnp_only(lab):
    """`plum probe` at a router without PCP and NAT-PMP: it says so, and that UPnP would be used."""
    lab.start_gateway(natpmp=False)
    _probe(lab, 0, r"PCP +not there \(port closed\)", r"NAT-PMP +not there", r"Ports can be mapped by UPnP-IGD")


@case
def plum_probe_wan_down(lab):
    """`plum probe` at a router whose link to the internet is down: exit code 1, and what says so, though PCP would map."""
    lab.start_gateway()
    lab.net.router.ip("link set wan down")
    _probe(lab, 1, r"has no connection to the internet, by its own word \(NAT-PMP: NetworkFailure; WANIPConnection:2: Disconn")


@case
def plum_probe_map_silent(lab):
    """`plum probe` at a router that answers ANNOUNCE, but no MAP: NAT-PMP would be used."""
    lab.start_gateway()
    # The octet behind the version is the opcode.
    lab.net.cut("udp dport 5351 @th,64,16 0x0201 drop")
    _probe(lab, 0, r"PCP +no answer about mappings, up", r"Ports can be mapped by NAT-PMP")


@case
def plum_probe_nat_between(lab):
    """`plum probe` behind a NAT before the router, which PCP shows: exit code 1, though NAT-PMP answers."""
    lab.start_gateway(upnp=False)
    lab.net.client.ip("addr add 192.168.77.9/24 dev eth0")
    lab.net.client.nft(
        "table ip between {\n"
        "    chain out { type nat hook postrouting priority 100; udp dport 5351 snat to 192.168.77.9; }\n"
        "}\n"
    )
    _probe(
        lab,
        1,
        r"PCP +refuses: AddressMismatch",
        rf"NAT-PMP +external address {WAN}, behind another NAT",
        rf"Another NAT stands between this machine and the gateway {ROUTER}",
    )


@case
def plum_probe_no_answer(lab):
    """`plum probe` at a router that answers nothing: exit code 3, and what to switch on."""
    lab.net.cut("iifname lan drop")
    _probe(lab, 3, r"PCP +no answer", rf"The gateway {ROUTER} answers none of PCP, NAT-PMP and UPnP", r"Switch on|--net")


@case
def plum_probe_no_gateway(lab):
    """`plum probe` with a default route to an address that nobody has: exit code 3, and that nobody has it."""
    lab.net.client.ip("route replace default via 192.168.77.99")
    _probe(lab, 3, r"Nobody has the address of the gateway 192\.168\.77\.99")


@case
def plum_probe_no_route(lab):
    """`plum probe` without a default route: exit code 3 at once."""
    lab.net.client.ip("route del default")
    _probe(lab, 3, r"This machine has no route to the internet\.\nConnect it")


@case
def plum_probe_firewalled(lab):
    """`plum probe` where the client's own firewall stops the questions: exit code 1, and that this is the cause."""
    lab.start_gateway()
    lab.net.stop_requests()
    _probe(lab, 1, r"PCP +not asked: ", r"does not let the questions out", r"firewall")


@case
def plum_probe_ipv6(lab):
    """`plum probe` by IPv6: PCP, or firewall control where no MAP is answered; a trial pinhole agrees, and is closed again."""
    lab.net.enable_ipv6()
    lab.start_gateway(ipv6=True)
    for cut, protocol in ([], "PCP"), (["udp dport 5351 @th,64,16 0x0201 drop"], "UPnP-IGD"):
        lab.net.cut(*cut)
        _probe(lab, 0, rf"IPv6: pinholes to {CLIENT_IPV6} can be opened by {protocol}")
        terminal = _plum(lab, "probe", "--try-map")
        _end(terminal, 0)
        terminal.expect(rf"IPv6: a pinhole to {CLIENT_IPV6} was opened for a trial by {protocol}")
        lab.check_unmapped()


@case
def plum_address(lab):
    """`plum address` prints the external address alone, by NAT-PMP and by UPnP; without a connection nothing, exit code 1."""
    lab.start_gateway()
    for cut in [], ["udp dport 5351 reject"]:
        lab.net.cut(*cut)
        terminal = _plum(lab, "address")
        _end(terminal, 0)
        if terminal.text.split() != [WAN]:
            raise Failed(f"`plum address` prints {terminal.text!r}")
    lab.net.cut()
    lab.net.router.ip("link set wan down")
    terminal = _plum(lab, "address")
    _end(terminal, 1)
    terminal.expect(r"tells no external address")
    lab.check_unmapped()


@case
def plum_status(lab):
    """`plum status` tells of the connection, the link and its traffic; of a link that is down it says so, exit code 1."""
    lab.start_gateway()
    terminal = _plum(lab, "status")
    _end(terminal, 0)
    address = WAN.replace(".", r"\.")
    terminal.expect(rf'Gateway +".+" at {ROUTER}\n')
    terminal.expect(rf"Internet +connected for .* \(WANIPConnection:2: Connected\)\nExternal +{address}\nLink +\w+, Up, IP_Routed")
    terminal.expect(r"Traffic +received .*B in \d+ packets, sent .*B in \d+ packets\n")
    terminal.expect(r"PCP +up .*\nNAT-PMP +up ")
    lab.net.router.ip("link set wan down")
    terminal = _plum(lab, "status", "--json")
    _end(terminal, 1)
    told = json.loads(terminal.text)
    if (told["is_connected"], told["connection_status"]) != (False, "Disconnected"):
        raise Failed(f"`plum status` says of a link that is down: {told}")


@case
def plum_map(lab):
    """`plum map` on a terminal: bytes pass meanwhile; ^C removes the mappings, exit code 0."""
    lab.start_gateway()
    terminal = _plum(lab, "map", TCP_PORT, f"{UDP_PORT}/udp:{WISHED_PORT}")
    address = WAN.replace(".", r"\.")
    terminal.expect(rf"{UDP_PORT}/udp +mapped +{address}:{WISHED_PORT} +PCP")
    terminal.expect(r"Ctrl-C removes them\.")
    listing = _plum(lab, "list", "--json")
    _end(listing, 0)
    listed = {(entry["transport"], entry["external_port"]): entry for entry in json.loads(listing.text)["mappings"]}
    wanted = {("TCP", TCP_PORT): TCP_PORT, ("UDP", WISHED_PORT): UDP_PORT}
    if {key: entry["internal_port"] for key, entry in listed.items()} != wanted:
        raise Failed(f"`plum list` shows {listed}")
    if not all(entry["is_this_machine"] for entry in listed.values()):
        raise Failed(f"`plum list` does not know this machine: {listed}")
    for transport, external, internal in ("tcp", TCP_PORT, TCP_PORT), ("udp", WISHED_PORT, UDP_PORT):
        target = lab.net.mappings().get((transport, external))
        if target != (CLIENT, internal):
            raise Failed(f"the router forwards {transport} {external} to {target}")
        try:
            lab.net.pass_bytes(transport, WAN, external, CLIENT, internal)
        except (OSError, RuntimeError) as error:
            raise Failed(f"no bytes through {WAN}:{external}/{transport}: {error}") from None
    terminal.type(_CONTROL_C)
    terminal.expect(rf"{TCP_PORT}/tcp +removed")
    terminal.expect(rf"{UDP_PORT}/udp +removed")
    _end(terminal, 0)
    lab.check_unmapped()


@case
def plum_map_ipv6(lab, has_pcp=True, protocol="PCP"):
    """`plum map --ipv6` on a terminal: bytes of the far side pass meanwhile; ^C removes the pinholes, exit code 0."""
    lab.net.enable_ipv6()
    lab.start_gateway(ipv6=True)
    if not has_pcp:
        lab.net.cut("udp dport 5351 reject")
    terminal = _plum(lab, "map", "--ipv6", TCP_PORT, f"{UDP_PORT}/udp")
    terminal.expect(rf"{UDP_PORT}/udp.*mapped +\[?{CLIENT_IPV6}\]?:{UDP_PORT} +{protocol}")
    terminal.expect(r"Ctrl-C removes them\.")
    for transport, port in ("tcp", TCP_PORT), ("udp", UDP_PORT):
        try:
            lab.net.pass_bytes(transport, CLIENT_IPV6, port, CLIENT_IPV6, port)
        except (OSError, RuntimeError) as error:
            raise Failed(f"no bytes to [{CLIENT_IPV6}]:{port}/{transport}: {error}") from None
    terminal.type(_CONTROL_C)
    _end(terminal, 0)
    lab.check_unmapped()


case(plum_map_ipv6, name="plum_map_ipv6_firewall_control", has_pcp=False, protocol="UPnP-IGD")
