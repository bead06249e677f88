"""The cases in which something changes while there are mappings: the network, or the gateway."""

import random
import time

from cases import PCP_ONLY, TCP_PORT, case
from network import CLIENT, CLIENT_MOVED, ROUTER, WAN, WAN_MOVED
from program import Failed


# --- A network that changes ------------------------------------------------------------------------------------------


@case
def default_route_gone(lab):
    """The default route goes: FAILURE within 100 ms. It comes back: SUCCESS within 500 ms."""
    lab.start_gateway()
    lab.start_program()
    mappings = [mapping for mapping, _ in lab.map_both("PCP")]
    start = time.monotonic()
    lab.net.client.ip("route del default")
    events = [lab.program.expect(mapping, "FAILURE") for mapping in mappings]
    lab.took("FAILURE", max(event.at for event in events) - start, 0.100)
    lab.route_appears(mappings)
    lab.end(mappings)


@case
def client_address_changed(lab, limit=1.0, **settings):
    """The client gets another address: SUCCESS again within 1 s, bytes reach the new address. By UPnP 2 s: where the mappings were told
    FAILURE in between, their requests keep the pace."""
    lab.start_gateway(**settings)
    lab.start_program()
    mappings = [mapping for mapping, _ in lab.map_both()]
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
    lab.took("SUCCESS", max(event.at for event in events) - start, limit)
    for mapping, event in zip(mappings, events):
        lab.check_mapped(mapping, event)
    lab.end(mappings)


case(client_address_changed, name="client_address_changed_upnp", limit=2.0, natpmp=False)


@case
def external_address_changed(lab):
    """The router gets another external address and says so: SUCCESS again with it within 6.5 s."""
    lab.start_gateway()
    lab.start_program()
    mappings = [mapping for mapping, _ in lab.map_both("PCP")]
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
    mappings = [mapping for mapping, _ in lab.map_both("PCP")]
    start = time.monotonic()
    lab.net.client.ip("link set eth0 down")
    events = [lab.program.expect(mapping, "FAILURE") for mapping in mappings]
    lab.took("FAILURE", max(event.at for event in events) - start, 1.0)
    lab.route_appears(mappings, "link set eth0 up")
    lab.end(mappings)


@case
def cable_cut_far(lab):
    """The cable is cut at the router for 1.5 s: the mappings stay, bytes pass as soon as it is back."""
    lab.start_gateway()
    lab.start_program()
    made = lab.map_both("PCP")
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
    mappings = [mapping for mapping, _ in lab.map_both("PCP")]
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


def restart(lab, protocol, limit=6.5, told=True, **settings):
    """The gateway is killed and started again without its mappings; they come back by themselves.

    The library waits up to 5 s after an announcement, so that not all hosts come at once. `told`: SUCCESS is
    reported again, as the epoch, or UPnP's new location, shows the restart."""
    lab.start_program(**settings)
    made = lab.map_both(protocol)
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
    restart(lab, "PCP")


@case
def restart_pcp_system_uptime(lab):
    """PCP gateway restarted, its epoch does not show it: mapped again within 6.5 s."""
    lab.start_gateway(system_uptime=True)
    restart(lab, "PCP", told=False)


@case
def restart_pcp_unheard(lab):
    """PCP gateway restarted and its announcement lost: SUCCESS again by the recheck, every 1 s here."""
    lab.start_gateway()
    lab.net.cut_output("ip daddr 224.0.0.1 drop")
    restart(lab, "PCP", limit=2.0, recheck=1000)


@case
def restart_natpmp(lab):
    """NAT-PMP gateway restarted, its epoch shows it: SUCCESS again within 6.5 s."""
    lab.start_gateway()
    lab.net.cut(f"{PCP_ONLY} reject")
    restart(lab, "NATPMP")


@case
def restart_natpmp_system_uptime(lab):
    """NAT-PMP gateway restarted, its epoch does not show it: mapped again within 6.5 s."""
    lab.start_gateway(system_uptime=True)
    lab.net.cut(f"{PCP_ONLY} reject")
    restart(lab, "NATPMP", told=False)


@case
def restart_upnp(lab):
    """UPnP gateway restarted, its location changed: SUCCESS again within 6.5 s."""
    lab.start_gateway(natpmp=False)
    restart(lab, "UPNP")


case(restart_upnp, name="restart_upnp_system_uptime")


def restart_in_its_first_seconds(lab, protocol, **settings):
    """A gateway that has just started is restarted at a random moment of its first 2.5 s, and does it again: SUCCESS
    again within 6.5 s each time, though its epoch may be 0 before and after."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    waits = []
    for round in range(lab.rounds):
        lab.daemon.restart()
        age = chance.uniform(0.0, 2.5)
        lab.start_program(**settings)
        (mapping,) = lab.program.create(("tcp", TCP_PORT))
        lab.check_mapped(mapping, lab.program.expect(mapping, "SUCCESS"), protocol)
        # The moment is what the case is about, not something that is waited for.
        time.sleep(max(0.0, lab.daemon.started_at + age - time.monotonic()))
        lab.program.expect_silence(mapping)
        lab.daemon.kill()
        start = time.monotonic()
        lab.net.forget_mappings()
        lab.daemon.start()
        try:
            event = lab.program.expect(mapping, "SUCCESS", timeout=6.5)
        except Failed as error:
            raise Failed(f"round {round + 1} of {lab.rounds}, seed {seed}, restarted after {age:.3f} s: {error}") from None
        waits.append(event.at - start)
        lab.check_mapped(mapping, event, protocol)
        lab.end([mapping])
    lab.times = [f"{len(waits)} of {lab.rounds} rounds, {min(waits):.1f} to {max(waits):.1f} s, seed {seed}"]


@case
def restart_young_pcp(lab):
    """PCP gateway restarted in its first seconds, --rounds times: SUCCESS again within 6.5 s."""
    lab.start_gateway()
    restart_in_its_first_seconds(lab, "PCP")


@case
def restart_young_natpmp(lab):
    """NAT-PMP gateway restarted in its first seconds, --rounds times: SUCCESS again within 6.5 s."""
    lab.start_gateway()
    lab.net.cut(f"{PCP_ONLY} reject")
    restart_in_its_first_seconds(lab, "NATPMP")


@case
def cleanup_gateway_gone(lab):
    """The gateway has gone silent: cleanup within 0.9 s all the same, each mapping its DESTROYED."""
    lab.start_gateway()
    lab.start_program()
    mappings = [mapping for mapping, _ in lab.map_both("PCP")]
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
    mappings = [mapping for mapping, _ in lab.map_both("PCP")]
    lab.net.cut("iifname lan drop")
    for mapping in mappings:
        start = time.monotonic()
        lab.program.destroy(mapping)
        event = lab.program.expect(mapping, "DESTROYED")
        lab.took("DESTROYED", event.at - start, 1.0)
    lab.took("cleanup", lab.program.cleanup(), 0.900)
