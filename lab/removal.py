"""The cases of `plum unmap` and `plum list`."""

import json

from cases import TCP_PORT, UDP_PORT, WISHED_PORT, case
from command import _end, _plum
from network import CLIENT
from program import Failed
from requester import Requester


def _left_behind(lab, transport="tcp", internal=TCP_PORT, external=WISHED_PORT, address=CLIENT):
    """A mapping by PCP of a program that is gone: nobody has its nonce."""
    reply, _ = Requester(lab.net, address=address).pcp_map(transport, internal, external)
    if not isinstance(reply, dict) or (reply["result"], reply["external"]) != (0, external):
        raise RuntimeError(f"the lab could not map the port: {reply}")


def _unmap(lab, code, pattern, *words):
    terminal = _plum(lab, "unmap", *words)
    _end(terminal, code)
    terminal.expect(pattern)
    return terminal


@case
def plum_unmap(lab):
    """`plum unmap` of what a killed program has mapped by PCP: it is removed by UPnP, and no bytes pass."""
    lab.start_gateway()
    _left_behind(lab)
    _unmap(lab, 0, rf"{TCP_PORT}/tcp removed by UPnP: the external port {WISHED_PORT} is free", TCP_PORT)
    lab.check_unmapped()
    _unmap(lab, 0, rf"{TCP_PORT}/tcp is not mapped by UPnP, PCP or NAT-PMP", TCP_PORT)
    lab.check_unmapped()


@case
def plum_unmap_without_upnp(lab):
    """`plum unmap` where NAT-PMP says success and removes nothing: PCP takes the mapping over by its external port; without that, it is still mapped."""
    lab.start_gateway(upnp=False)
    _left_behind(lab)
    reply, _ = Requester(lab.net).natpmp_map("tcp", TCP_PORT, lifetime=0)
    if reply["result"] != 0 or not lab.net.mappings():
        raise Failed(f"NAT-PMP is not as it was measured: {reply}, {lab.net.mappings()}")
    _unmap(lab, 1, rf"{TCP_PORT}/tcp is still mapped by PCP: only the program", TCP_PORT)
    if lab.net.mappings() != {("tcp", WISHED_PORT): (CLIENT, TCP_PORT)}:
        raise Failed(f"there is {lab.net.mappings()}")
    _unmap(lab, 0, rf"{TCP_PORT}/tcp removed by PCP", f"{TCP_PORT}:{WISHED_PORT}")
    lab.check_unmapped()
    _unmap(lab, 0, rf"{TCP_PORT}/tcp is not mapped by PCP or NAT-PMP", TCP_PORT)


@case
def plum_unmap_leaves_others_alone(lab):
    """`plum unmap` with another host's mapping at the same external port: it stays, and exit code 1."""
    lab.start_gateway()
    other = "192.168.77.9"
    lab.net.client.ip(f"addr add {other}/24 dev eth0")
    reply, _ = Requester(lab.net, address=other).natpmp_map("udp", UDP_PORT, UDP_PORT)
    if reply["result"] != 0:
        raise RuntimeError(f"the lab could not take the port: {reply}")
    # Both addresses are the client's own, so it is removed from another machine's place: the client without the address.
    lab.net.client.ip(f"addr del {other}/24 dev eth0")
    _unmap(lab, 1, rf"external port {UDP_PORT} is mapped to {other}:{UDP_PORT}, not to this", f"{UDP_PORT}/udp")
    if lab.net.mappings().get(("udp", UDP_PORT)) != (other, UDP_PORT):
        raise Failed("the other host's mapping is gone")


@case
def plum_unmap_all(lab):
    """`plum unmap --all` with mappings of three protocols and of another host: that one alone is left."""
    lab.start_gateway()
    other = "192.168.77.9"
    lab.net.client.ip(f"addr add {other}/24 dev eth0")
    _left_behind(lab, "udp", UDP_PORT, UDP_PORT, address=other)
    lab.net.client.ip(f"addr del {other}/24 dev eth0")
    _left_behind(lab)
    requester = Requester(lab.net)
    reply, _ = requester.natpmp_map("tcp", TCP_PORT + 2, TCP_PORT + 2)
    service = requester.find_service(requester.search()[0]["location"])
    (status, _, _), _ = requester.add_port_mapping(service, "udp", TCP_PORT + 4, TCP_PORT + 4)
    if (reply["result"], status, len(lab.net.mappings())) != (0, 200, 4):
        raise RuntimeError(f"the lab could not map the ports: {lab.net.mappings()}")
    terminal = _plum(lab, "unmap", "--all", "--dry-run")
    _end(terminal, 0)
    terminal.expect(rf"{TCP_PORT}/tcp is mapped to external port {WISHED_PORT} \(PCP MAP")
    if len(lab.net.mappings()) != 4:
        raise Failed("a dry run has removed something")
    terminal = _plum(lab, "unmap", "--all")
    _end(terminal, 0)
    terminal.expect(rf"{TCP_PORT}/tcp removed by UPnP: the external port {WISHED_PORT} is free")
    if lab.net.mappings() != {("udp", UDP_PORT): (other, UDP_PORT)}:
        raise Failed(f"there is {lab.net.mappings()}")


@case
def plum_unmap_all_natpmp(lab):
    """`plum unmap --all` without UPnP: what NAT-PMP has made is gone; what PCP has made stays, which is told, with exit code 1."""
    lab.start_gateway(upnp=False)
    _left_behind(lab)
    reply, _ = Requester(lab.net).natpmp_map("udp", UDP_PORT, UDP_PORT)
    if reply["result"] != 0:
        raise RuntimeError(f"the lab could not map the port: {reply}")
    terminal = _plum(lab, "unmap", "--all")
    _end(terminal, 1)
    terminal.expect(r"no udp port is mapped by NAT-PMP")
    terminal.expect(r"there may be more: no gateway lists what PCP has mapped")
    if lab.net.mappings() != {("tcp", WISHED_PORT): (CLIENT, TCP_PORT)}:
        raise Failed(f"there is {lab.net.mappings()}")


def plum_list(lab, action="GetListOfPortMappings", **settings):
    """`plum list` with seventy mappings of three protocols: all are there, with what each leads to."""
    lab.start_gateway(**settings)
    requester = Requester(lab.net)
    service = requester.find_service(requester.search()[0]["location"])
    for port in range(9000, 9068):
        requester.natpmp_map("tcp", port, port)
    _left_behind(lab, "udp", UDP_PORT, WISHED_PORT)
    requester.add_port_mapping(service, "udp", TCP_PORT, TCP_PORT + 100)
    listing = _plum(lab, "list", "--json")
    _end(listing, 0)
    told = json.loads(listing.text)
    if (told["action"], told["incomplete"]) != (action, None):
        raise Failed(f"it was read by {told['action']}, {told['incomplete']}")
    listed = {
        (entry["transport"].lower(), entry["external_port"]): (entry["internal_client"], entry["internal_port"])
        for entry in told["mappings"]
    }
    if listed != lab.net.mappings() or len(listed) != 70:
        raise Failed(f"`plum list` shows {listed}, and there is {lab.net.mappings()}")


case(plum_list)
case(plum_list, name="plum_list_igd1", action="GetGenericPortMappingEntry", igd1=True)
