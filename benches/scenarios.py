"""What is measured: one function a scenario, its rows with the figure to reach, and the limit that no client can pass.

A row's figure and reference hold at 20 ms; its limit is computed from the delay. All times are milliseconds.
"""

import math
from dataclasses import dataclass
from typing import Callable

from stage import Failed

DELAY_MS = 20
OTHER_DELAYS_MS = (0, 100)


@dataclass
class Row:
    key: str
    title: str
    unit: str = "ms"
    # What is to be reached at DELAY_MS; None: the row only informs.
    target: float | None = None
    # What the figure is compared with: "median", "all" runs, "19 of 20" runs.
    judged_by: str = "median"
    at_least: bool = False
    # From the delay in ms to what is possible at best; None: there is no such bound.
    limit: Callable[[float], float] | None = None
    # The C library 0.5.3, measured at DELAY_MS in such a set-up.
    reference: float | str | None = None


@dataclass
class Scenario:
    key: str
    rows: list[Row]
    # (stage, library, delay_ms, seed) -> {row key: value, ..., "notes": [...]}
    measure: Callable
    at_other_delays: bool = False
    # At least this many runs, in the full form.
    runs: int = 1
    # Takes one stage a run, all at once: (stages, libraries, delay_ms, short) -> [values]
    together: bool = False


# RFC 6887 sets no window; docs/protocols.md does: 64 requests in flight at the start, 128 at most.
def windows(count):
    return 1 + math.ceil(max(0, count - 64) / 128)


def upnp_rounds(actions):
    """Search and description, then the actions, four at a time, with GetExternalIPAddress among the first."""
    return 2 + math.ceil((actions + 1) / 4)


SILENCE = [f"silence {protocol}" for protocol in ("pcp", "natpmp", "ssdp", "http")]
CLOSED_5351 = ["close pcp", "close natpmp"]
SILENT_5351 = ["silence pcp", "silence natpmp"]


def limit_secs(count):
    """How long to wait for so many mappings: enough for a library that makes one after the other."""
    return 20 + 0.15 * count


def finish(client, gateway, notes):
    """plum_cleanup, and what it left behind; gives when it was called and when it returned."""
    called_at, returned_at = client.cleanup()
    report = client.report()
    if report["destroyed"] != report["created"]:
        notes.append(f"{report['created'] - report['destroyed']} of {report['created']} mappings without DESTROYED")
    if report["doubled"]:
        notes.append(f"{report['doubled']} callbacks after DESTROYED")
    if left := len(gateway.table()):
        notes.append(f"{left} mappings left on the gateway after plum_cleanup")
    return called_at, returned_at


def expect_protocol(gateway, protocol, count, notes):
    """By whom the gateway says that its mappings were made."""
    made_by = [entry[1] for entry in gateway.table().values()]
    if made_by != [protocol] * count:
        found = ", ".join(f"{made_by.count(name)} {name}" for name in sorted(set(made_by)))
        notes.append(f"expected {count} mappings made by {protocol}, the gateway has {found or 'none'}")


def mappings(row, count, commands=(), protocol="Pcp"):
    """From plum_init to the last SUCCESS of `count` mappings created at once."""

    def measure(stage, library, delay_ms, seed):
        notes = []
        with stage.run(library, *commands, delay_ms=delay_ms, seed=seed) as (client, gateway):
            began_at = client.begin()
            client.create(count)
            made_at = client.wait("success", count, limit_secs(count))
            expect_protocol(gateway, protocol, count, notes)
            finish(client, gateway, notes)
        return {row: made_at - began_at, "notes": notes}

    return measure


def destroying(count, memory=False):
    """The same by PCP; then plum_destroy_mapping for all and plum_cleanup."""

    def measure(stage, library, delay_ms, seed):
        notes = []
        with stage.run(library, delay_ms=delay_ms, seed=seed) as (client, gateway):
            began_at = client.begin()
            client.create(count)
            made_at = client.wait("success", count, limit_secs(count))
            expect_protocol(gateway, "Pcp", count, notes)
            resident, peak = client.ask("memory")
            destroyed_at = client.destroy()
            _, returned_at = finish(client, gateway, notes)
        values = {f"map-{count}": made_at - began_at, f"destroy-{count}": returned_at - destroyed_at, "notes": notes}
        if memory:
            values |= {f"memory-{count}": max(resident, peak) / 1024}
        return values

    return measure


def nothing_answers(stage, library, delay_ms, seed):
    notes = []
    with stage.run(library, *SILENCE, delay_ms=delay_ms, seed=seed) as (client, gateway):
        began_at = client.begin()
        client.create(1)
        failed_at = client.wait("failure", 1, 30)
        finish(client, gateway, notes)
    return {"nothing": failed_at - began_at, "notes": notes}


def no_route(stage, library, delay_ms, seed):
    notes = []
    stage.remove_route()
    is_there = False
    try:
        with stage.run(library, delay_ms=delay_ms, seed=seed) as (client, gateway):
            began_at = client.begin()
            client.create(1)
            failed_at = client.wait("failure", 1, 15)
            route_at = stage.add_route()
            is_there = True
            made_at = client.wait("success", 1, 15)
            finish(client, gateway, notes)
        return {"no-route": failed_at - began_at, "route-appears": made_at - route_at, "notes": notes}
    finally:
        if not is_there:
            stage.add_route()


def gateway_gone(stage, library, delay_ms, seed):
    notes = []
    with stage.run(library, delay_ms=delay_ms, seed=seed) as (client, gateway):
        client.begin()
        client.create(10)
        client.wait("success", 10, limit_secs(10))
        for command in "set loss 1", "silence http":
            gateway.command(command)
        called_at, returned_at = client.cleanup()
        report = client.report()
        if report["destroyed"] != 10:
            notes.append(f"{10 - report['destroyed']} of 10 mappings without DESTROYED")
    return {"gone": returned_at - called_at, "notes": notes}


def loss(stage, library, delay_ms, seed):
    count, notes = 20, []
    with stage.run(library, "set loss 0.3", delay_ms=delay_ms, seed=seed) as (client, gateway):
        began_at = client.begin()
        client.create(count)
        made_at = client.wait("success", count, 60)
        table, made = gateway.table(), client.made()
        others = sum(1 for _, protocol in table.values() if protocol != "Pcp")
        unknown = len(set(table) - set(made))
        client.cleanup()
        left = len(gateway.table())
    return {
        "loss": made_at - began_at,
        "loss-others": others,
        "loss-unknown": unknown,
        "loss-left": left,
        "notes": notes,
    }


def one_refused(stage, library, delay_ms, seed):
    # NO_RESOURCES (8) for one port: that mapping is made by the next protocol, and holds no other up.
    count, notes = 100, []
    with stage.run(library, "refuse pcp-map 8 port 20050", delay_ms=delay_ms, seed=seed) as (client, gateway):
        began_at = client.begin()
        client.create(count)
        made_at = client.wait("success", count - 1, limit_secs(count))
        all_made_at = client.wait("success", count, 30)
        report = client.report()
        if (report["success"], report["failure"]) != (count, 0):
            notes.append(f"{report['success']} SUCCESS and {report['failure']} FAILURE of {count}")
        finish(client, gateway, notes)
    return {"refused-others": made_at - began_at, "refused-one": all_made_at - began_at, "notes": notes}


def idle(stages, libraries, delay_ms, short):
    """All at the same time: a library at rest is in nobody's way."""
    count, settle_secs, secs = (100, 1, 2) if short else (1000, 6, 60)
    results = []
    running = []
    try:
        for stage, library in zip(stages, libraries):
            context = stage.run(library, delay_ms=delay_ms)
            try:
                client, gateway = context.__enter__()
            except Failed as error:
                results.append(error)
                running.append(None)
                continue
            running.append((context, client, gateway))
            try:
                client.begin()
                client.create(count)
                client.wait("success", count, limit_secs(count))
                results.append(None)
            except Failed as error:
                results.append(error)
        commands = [f"rest {settle_secs} {secs}" for _ in running]
        for command, run, result in zip(commands, running, results):
            if result is None:
                run[2].command("reset-counts")
                run[1].send(command)
        for index, (command, run) in enumerate(zip(commands, running)):
            if results[index] is not None:
                continue
            try:
                _, client, gateway = run
                cpu_us, wakeups, resident = client.answer(command, settle_secs + secs + 30)
                results[index] = {
                    "idle-cpu": cpu_us / 1000,
                    "idle-wakeups": wakeups,
                    "idle-memory": resident / 1024,
                    "notes": [],
                }
                asked = {name: number for name, number in gateway.counts().items() if number and "max" not in name}
                if asked:
                    words = ", ".join(f"{number} {name}" for name, number in asked.items())
                    results[index]["notes"].append(f"while idle the gateway received {words}")
            except Failed as error:
                results[index] = error
    finally:
        for run in running:
            if run is not None:
                run[0].__exit__(None, None, None)
    return results


def queries(stage, library, delay_ms, seed):
    with stage.run(library, delay_ms=delay_ms, seed=seed) as (client, gateway):
        client.begin()
        client.create(200)
        client.wait("success", 200, limit_secs(200))
        failed, calls, took_us = client.ask("queries 8 1")
    notes = [f"{failed} of {calls} calls failed"] if failed else []
    return {"queries": calls / took_us * 1e6, "notes": notes}


def creates(stage, library, delay_ms, seed):
    with stage.run(library, delay_ms=delay_ms, seed=seed) as (client, gateway):
        client.begin()
        client.create(1)
        client.wait("success", 1, limit_secs(1))
        failed, calls, took_us = client.ask("creates 8 10000")
    notes = [f"{failed} of {calls} calls failed"] if failed else []
    return {"creates": calls / took_us * 1e6, "notes": notes}


def _first(key, title, commands, protocol, **row):
    return Scenario(key, [Row(key, title, **row)], mappings(key, 1, commands, protocol), at_other_delays=True)


def _many(count, **row):
    key = f"map-{count}"
    row = Row(key, f"{count} mappings, PCP", limit=lambda delay_ms: windows(count) * delay_ms, **row)
    return Scenario(key, [row], mappings(key, count), at_other_delays=True)


SCENARIOS = [
    _first("first-pcp", "first mapping, PCP", [], "Pcp", target=24, reference=42, limit=lambda d: d),
    _first(
        "first-natpmp",
        "first mapping, NAT-PMP only",
        ["natpmp-only"],
        "NatPmp",
        target=46,
        reference=66,
        limit=lambda d: 2 * d,
    ),
    _first(
        "first-upnp-closed",
        "first mapping, UPnP, 5351 closed",
        CLOSED_5351,
        "Upnp",
        target=75,
        reference=3843,
        limit=lambda d: 3 * d,
    ),
    _first(
        "first-upnp-silent",
        "first mapping, UPnP, 5351 silent",
        SILENT_5351,
        "Upnp",
        target=300,
        reference=3845,
        # The grace, in which search, description and external address are fetched, and AddPortMapping.
        limit=lambda d: max(250, 2 * d) + d,
    ),
    Scenario(
        "nothing",
        [
            Row(
                "nothing",
                "nothing answers: FAILURE",
                target=3800,
                reference=7504,
                limit=lambda _: 3750,
            )
        ],
        nothing_answers,
    ),
    Scenario(
        "no-route",
        [
            Row("no-route", "no default route: FAILURE", target=20, reference="never", limit=lambda _: 0),
            Row(
                "route-appears",
                "no default route: SUCCESS after it appears",
                target=500,
                reference="never",
                limit=lambda d: d,
            ),
        ],
        no_route,
    ),
    _many(10),
    _many(50, target=26, reference=1051),
    _many(100),
    Scenario(
        "map-500",
        [
            Row("map-500", "500 mappings, PCP", target=130, reference=10380, limit=lambda d: windows(500) * d),
            Row(
                "destroy-500",
                "destroy 500 and cleanup",
                target=110,
                reference=10610,
                limit=lambda d: math.ceil(500 / 128) * d,
            ),
        ],
        destroying(500),
        at_other_delays=True,
    ),
    _many(1000),
    Scenario(
        "map-5000",
        [
            Row("map-5000", "5000 mappings, PCP", target=1200, limit=lambda d: windows(5000) * d),
            Row("destroy-5000", "destroy 5000 and cleanup", limit=lambda d: math.ceil(5000 / 128) * d),
            Row("memory-5000", "5000 mappings, resident", "MB", target=16, judged_by="all"),
        ],
        destroying(5000, memory=True),
        at_other_delays=True,
    ),
    Scenario(
        "upnp-100",
        [
            Row(
                "upnp-100",
                "100 mappings, UPnP, 5351 closed",
                target=650,
                reference=2130,
                limit=lambda d: upnp_rounds(100) * d,
            )
        ],
        mappings("upnp-100", 100, CLOSED_5351, "Upnp"),
        at_other_delays=True,
    ),
    Scenario(
        "gone",
        [Row("gone", "cleanup, gateway gone, 10 mappings", target=850, reference=3755, limit=lambda _: 800)],
        gateway_gone,
    ),
    Scenario(
        "loss",
        [
            Row("loss", "20 mappings, 30 % loss", target=2500, reference=8403, judged_by="19 of 20"),
            Row("loss-others", "30 % loss: made by another protocol", "", target=0, judged_by="all", limit=lambda _: 0),
            Row(
                "loss-unknown",
                "30 % loss: on the gateway, unknown to the program",
                "",
                target=0,
                judged_by="all",
                limit=lambda _: 0,
            ),
            Row(
                "loss-left",
                "30 % loss: left behind after a cleanup at the same loss",
                "",
                target=0,
                judged_by="19 of 20",
                limit=lambda _: 0,
            ),
        ],
        loss,
        runs=20,
    ),
    Scenario(
        "refused",
        [
            Row("refused-others", "1 of 100 refused, PCP: the others", limit=lambda d: windows(100) * d),
            Row("refused-one", "1 of 100 refused, PCP: by NAT-PMP", limit=lambda d: 4 * d),
        ],
        one_refused,
    ),
    Scenario(
        "queries",
        [Row("queries", "plum_query_mapping, 8 threads", "calls/s", target=1e6, at_least=True)],
        queries,
    ),
    Scenario(
        "creates",
        [Row("creates", "plum_create_mapping, 8 threads", "calls/s", target=1e5, at_least=True)],
        creates,
    ),
    Scenario(
        "idle",
        [
            Row("idle-cpu", "idle 60 s, 1000 mappings: CPU", target=5),
            Row("idle-wakeups", "idle 60 s, 1000 mappings: wake-ups", "", target=2, limit=lambda _: 0),
            Row("idle-memory", "idle, 1000 mappings: resident", "MB"),
        ],
        idle,
        together=True,
    ),
]

SIZE = Row("size", "stripped libplum.so", "kB", target=700, reference=72)
