"""The cases of IPv6: pinholes through the router's firewall, by PCP and by WANIPv6FirewallControl."""

import time

from cases import TCP_PORT, UDP_PORT, case
from network import CLIENT_IPV6, CLIENT_IPV6_RENUMBERED, ROUTER_LINK
from program import Failed

# Asks for an address that the library chooses.
ANY = "::"


def start(lab, has_pcp=True):
    """The router, with a PCP server or without: with IPv6, miniupnpd has one whatever `enable_natpmp` says."""
    lab.net.enable_ipv6()
    lab.start_gateway(ipv6=True)
    if not has_pcp:
        lab.net.cut("udp dport 5351 reject")


def create(lab, *ports):
    return lab.program.create(*((transport, port, 0, ANY) for transport, port in ports))


def check_open(lab, mapping, event, protocol=None, address=CLIENT_IPV6):
    """The callback is right, the router has the pinhole, and bytes of the internet host pass."""
    if protocol and event.protocol != protocol:
        raise Failed(f"{mapping} was opened by {event.protocol} instead of {protocol}")
    if (event.host, event.port) != (address, mapping.internal_port):
        raise Failed(f"{mapping} leads to [{event.host}]:{event.port}")
    if (mapping.transport, address, event.port) not in lab.net.pinholes():
        raise Failed(f"{mapping}: the router has {sorted(lab.net.pinholes())} only")
    try:
        lab.net.pass_bytes(mapping.transport, address, event.port, address, mapping.internal_port)
    except (OSError, RuntimeError) as error:
        raise Failed(f"{mapping}: no bytes to [{address}]:{event.port}: {error}") from None


def check_closed(lab, mapping, address=CLIENT_IPV6):
    """The router has no such pinhole, and no bytes pass."""
    if (mapping.transport, address, mapping.internal_port) in lab.net.pinholes():
        raise Failed(f"{mapping}: the router still has the pinhole")
    try:
        lab.net.pass_bytes(mapping.transport, address, mapping.internal_port, address, mapping.internal_port, 0.2)
    except OSError:
        return
    raise Failed(f"{mapping}: bytes still pass")


def open_both(lab, protocol=None):
    mappings = create(lab, ("tcp", TCP_PORT), ("udp", UDP_PORT))
    made = [(mapping, lab.program.expect(mapping, "SUCCESS")) for mapping in mappings]
    for mapping, event in made:
        check_open(lab, mapping, event, protocol)
    return made


def opens(lab, protocol, limit):
    """From create to SUCCESS, bytes from the far side, and none after destroy and after cleanup."""
    lab.start_program()
    made = open_both(lab, protocol)
    (tcp, _), (udp, udp_event) = made
    lab.took("SUCCESS", max(event.at - mapping.created_at for mapping, event in made), limit)
    lab.program.destroy(tcp)
    lab.program.expect(tcp, "DESTROYED", timeout=1.0)
    check_closed(lab, tcp)
    check_open(lab, udp, udp_event)
    lab.end([udp])
    check_closed(lab, udp)


@case
def ipv6_pcp(lab):
    """Pinholes by PCP: SUCCESS within 60 ms, bytes pass, and none after destroy and cleanup."""
    start(lab)
    opens(lab, "PCP", 0.060)


@case
def ipv6_firewall_control(lab):
    """No PCP: pinholes by WANIPv6FirewallControl within 400 ms, bytes pass, and none after destroy and cleanup."""
    start(lab, has_pcp=False)
    opens(lab, "UPNP", 0.400)


@case
def ipv6_firewall_control_pcp_silent(lab):
    """PCP is not answered: pinholes by WANIPv6FirewallControl within 1 s."""
    start(lab)
    lab.net.cut("udp dport 5351 drop")
    opens(lab, "UPNP", 1.0)


@case
def ipv6_beside_ipv4(lab):
    """Mappings of both families on the same ports: opening and destroying those of IPv6 disturbs none of IPv4."""
    start(lab)
    lab.start_program()
    ipv4 = lab.map_both("PCP")
    pinholes = open_both(lab, "PCP")
    for mapping, event in ipv4:
        lab.check_mapped(mapping, event)
    for mapping, _ in pinholes:
        lab.program.destroy(mapping)
        lab.program.expect(mapping, "DESTROYED", timeout=1.0)
        check_closed(lab, mapping)
    for mapping, event in ipv4:
        lab.check_mapped(mapping, event)
        lab.program.expect_silence(mapping)
    lab.end([mapping for mapping, _ in ipv4])


@case
def ipv6_only(lab):
    """A machine without IPv4: an IPv4 mapping fails at once, a pinhole is opened, and no IPv4 packet leaves."""
    start(lab)
    lab.net.client.ip("addr flush dev eth0 scope global", f"addr add {CLIENT_IPV6}/64 dev eth0 nodad")
    lab.net.client.ip(f"route replace default via {ROUTER_LINK} dev eth0")
    lab.start_program()
    (ipv4,) = lab.program.create(("tcp", TCP_PORT))
    lab.took("FAILURE", lab.program.expect(ipv4, "FAILURE").at - ipv4.created_at, 0.100)
    (mapping,) = create(lab, ("tcp", TCP_PORT))
    check_open(lab, mapping, lab.program.expect(mapping, "SUCCESS"))
    if (answer := lab.program.call("local")) != [str(len(CLIENT_IPV6)), CLIENT_IPV6]:
        raise Failed(f"plum_get_local_address gives {answer}")
    if sent := [frame for frame in lab.capture.sent() if not frame.is_ipv6()]:
        raise Failed(f"IPv4 packets: {', '.join(map(str, sent))}")
    lab.end([ipv4, mapping])


def daemon_restarts(lab, protocol, **settings):
    start(lab, **settings)
    lab.start_program(recheck=1000)
    made = open_both(lab, protocol)
    lab.age_gateway()
    lab.daemon.kill()
    lab.net.forget_mappings()
    lab.daemon.start()
    deadline = time.monotonic() + 10
    wanted = {(mapping.transport, CLIENT_IPV6, mapping.internal_port) for mapping, _ in made}
    lab.wait_until(lambda: wanted <= lab.net.pinholes(), deadline - time.monotonic(), "the pinholes are not made anew")
    for mapping, _ in made:
        check_open(lab, mapping, lab.program.expect(mapping, "SUCCESS"), protocol)
    lab.end([mapping for mapping, _ in made], limit=2.0)


@case
def ipv6_restart_pcp(lab):
    """The router restarts without its table: the pinholes are there again, and nothing is left after cleanup."""
    daemon_restarts(lab, "PCP")


@case
def ipv6_restart_firewall_control(lab):
    """The same by WANIPv6FirewallControl, whose UniqueIDs begin at 1 again."""
    daemon_restarts(lab, "UPNP", has_pcp=False)


def renumbers(lab, protocol, **settings):
    start(lab, **settings)
    lab.start_program()
    made = open_both(lab, protocol)
    lab.net.client.ip(
        f"addr add {CLIENT_IPV6_RENUMBERED}/64 dev eth0 nodad",
        f"addr change {CLIENT_IPV6}/64 dev eth0 preferred_lft 0 valid_lft 600",
    )
    for mapping, _ in made:
        event = lab.program.expect(mapping, "SUCCESS")
        check_open(lab, mapping, event, protocol, CLIENT_IPV6_RENUMBERED)
    old = lambda: any(address == CLIENT_IPV6 for _, address, _ in lab.net.pinholes())  # noqa: E731
    lab.wait_until(lambda: not old(), 2.0, "the pinholes of the old address are not deleted")
    lab.net.client.ip(f"addr del {CLIENT_IPV6}/64 dev eth0")
    for mapping, _ in made:
        lab.program.expect_silence(mapping)
    lab.end([mapping for mapping, _ in made])


@case
def ipv6_renumbered(lab):
    """The prefix is renumbered: SUCCESS with the new address, the pinholes of the old one go."""
    renumbers(lab, "PCP")


@case
def ipv6_renumbered_firewall_control(lab):
    """The same by WANIPv6FirewallControl."""
    renumbers(lab, "UPNP", has_pcp=False)


def killed_and_started(lab, **settings):
    start(lab, **settings)
    lab.start_program()
    open_both(lab)
    lab.program.close()
    lab.program = None
    if len(lab.net.pinholes()) != 2:
        raise Failed("the pinholes went with the program that was killed")
    lab.start_program()
    made = open_both(lab)
    lab.end([mapping for mapping, _ in made], limit=2.0)


@case
def ipv6_killed_and_started(lab):
    """A program that was killed and starts again gets its pinholes back, and leaves nothing (miniupnpd refuses a PCP deletion
    with another nonce: firewall control deletes them)."""
    killed_and_started(lab)


@case
def ipv6_killed_and_started_firewall_control(lab):
    """The same by WANIPv6FirewallControl."""
    killed_and_started(lab, has_pcp=False)


@case
def ipv6_off_in_the_kernel(lab):
    """A kernel without IPv6: FAILURE at once, and an IPv4 mapping is made as ever."""
    lab.start_gateway()
    lab.start_program()
    (pinhole,) = create(lab, ("tcp", TCP_PORT))
    lab.took("FAILURE", lab.program.expect(pinhole, "FAILURE").at - pinhole.created_at, 0.100)
    made = lab.map_both("PCP")
    lab.end([pinhole, *(mapping for mapping, _ in made)])


def requests(lab):
    """What the client has sent to PCP, SSDP or HTTP servers (its kernel looks for neighbours and reports groups)."""
    return [frame for frame in lab.capture.sent() if frame.is_pcp() or frame.is_ssdp() or frame.is_connect()]


@case
def ipv6_router_advertisements(lab):
    """Notices that only refresh the lifetime of the address, every 100 ms for 2 s: no packet."""
    start(lab)
    lab.start_program()
    (mapping,) = create(lab, ("tcp", TCP_PORT))
    check_open(lab, mapping, lab.program.expect(mapping, "SUCCESS"))
    before = len(requests(lab))
    for n in range(20):
        lab.net.client.ip(f"addr change {CLIENT_IPV6}/64 dev eth0 preferred_lft {1800 + n} valid_lft 3600")
        time.sleep(0.1)
    if sent := requests(lab)[before:]:
        raise Failed(f"packets: {', '.join(map(str, sent))}")
    lab.end([mapping])


@case
def ipv6_hundred(lab):
    """100 pinholes at once by PCP: all SUCCESS within 3 s, none is left after cleanup."""
    start(lab)
    lab.start_program()
    mappings = create(lab, *(("tcp", 10000 + n) for n in range(100)))
    events = [lab.program.expect(mapping, "SUCCESS") for mapping in mappings]
    first, last = mappings[0].created_at, max(event.at for event in events)
    if len(lab.net.pinholes()) != 100:
        raise Failed(f"the router has {len(lab.net.pinholes())} pinholes")
    lab.took("last SUCCESS", last - first, 3.0)
    lab.end(mappings, limit=3.0)
