"""The cases in which the daemon runs on the very host of the program: both are on the router."""

import time

from cases import PCP_ONLY, case
from changes import restart, restart_in_its_first_seconds
from network import CLIENT, ROUTER
from protocols import maps


@case
def own_host_pcp(lab):
    """The default route leads to an own address: PCP, SUCCESS within 60 ms; again within 6.5 s of a restart."""
    lab.start_gateway()
    lab.live_on_the_gateway(ROUTER)
    maps(lab, "PCP", 0.060)
    restart(lab, "PCP")


@case
def own_host_natpmp(lab):
    """The same by NAT-PMP, where PCP is refused: within 80 ms, and 6.5 s."""
    lab.start_gateway()
    lab.live_on_the_gateway(ROUTER)
    lab.net.cut(f"{PCP_ONLY} reject")
    maps(lab, "NATPMP", 0.080)
    restart(lab, "NATPMP")


@case
def own_host_upnp(lab):
    """The same by UPnP, where neither is spoken: within 150 ms. No NOTIFY is heard of a daemon on the same host, so the
    restart is seen by the recheck, every 1 s here: 3 s."""
    lab.start_gateway(natpmp=False)
    lab.live_on_the_gateway(ROUTER)
    maps(lab, "UPNP", 0.150)
    restart(lab, "UPNP", limit=3.0, recheck=1000)


@case
def own_host_upnp_elsewhere(lab):
    """The default route leads to another host that speaks nothing: UPnP by the own daemon all the same, within 1.5 s (one that is
    not the gateway is taken when all have had the time to answer), and 5 s of a restart."""
    lab.start_gateway(natpmp=False)
    lab.live_on_the_gateway(CLIENT)
    maps(lab, "UPNP", 1.500)
    restart(lab, "UPNP", limit=5.0, recheck=1000)


@case
def own_host_upnp_away(lab):
    """The own daemon is away for longer than the first searches for it: SUCCESS by one of the next, 7 s after the first, long
    before the next recheck. Meanwhile the mapping stays SUCCESS: a gateway that is silent may have kept it."""
    lab.start_gateway(natpmp=False)
    lab.live_on_the_gateway(CLIENT)
    lab.start_program()
    mappings = [mapping for mapping, _ in lab.map_both("UPNP")]
    lab.daemon.kill()
    lab.net.forget_mappings()
    # Any change of the network has the gateway looked at.
    lab.net.router.ip("addr add 192.168.77.9/24 dev lan")
    # The first four searches are over within 1.75 s.
    time.sleep(3)
    assert not any(lab.program.events(mapping) for mapping in mappings), "something was told"
    start = time.monotonic()
    lab.daemon.start()
    for mapping in mappings:
        event = lab.program.expect(mapping, "SUCCESS")
        lab.took("SUCCESS", event.at - start, 6.0)
        lab.check_mapped(mapping, event, "UPNP")
    lab.end(mappings)


@case
def own_host_restart_young(lab):
    """A daemon on the same host restarted in its first seconds, --rounds times, with a recheck every 0.5 s: SUCCESS again
    within 6.5 s."""
    lab.start_gateway()
    lab.live_on_the_gateway(ROUTER)
    restart_in_its_first_seconds(lab, "PCP", discover=2000, recheck=500)
