"""The program of client.c, as the cases see it."""

import os
import pathlib
import re
import select
import shutil
import subprocess
import time

import network

HERE = pathlib.Path(__file__).resolve().parent
# Beyond any wait of the library's own: a test that gets here has found a hang.
_ANSWER_TIMEOUT_SECS = 10.0


class Failed(Exception):
    """What was expected and did not come."""


def build(library, include, directory):
    """Compiles client.c against the header and the shared library; gives the program and where it finds the library.

    The library may lie in a file of any name; at run time it is looked for by its SONAME."""
    program = directory / "client"
    network.run(
        [compiler(), "-std=gnu99", "-Wall", "-Wextra", "-O1", "-I", str(include), str(HERE / "client.c"), str(library)]
        + ["-o", str(program)]
    )
    library_directory = directory / "lib"
    library_directory.mkdir()
    soname = re.search(r"SONAME.*\[(.*)\]", network.run(["readelf", "-d", str(library)]))
    (library_directory / (soname[1] if soname else library.name)).symlink_to(library)
    return program, library_directory


def compiler():
    return os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")


class Event:
    """One callback: state, protocol, external host and port, and when (seconds of the monotonic clock)."""

    def __init__(self, words):
        self.state, self.protocol = words[0], words[1]
        self.host = "" if words[2] == "-" else words[2]
        self.port, self.at = int(words[3]), int(words[4]) / 1e6

    def __str__(self):
        where = f" {self.protocol} {self.host}:{self.port}" if self.state == "SUCCESS" else ""
        return self.state + where


class Mapping:
    """A mapping, and its callbacks in order."""

    def __init__(self, id, transport, internal_port, created_at, took):
        self.id, self.transport, self.internal_port = id, transport, internal_port
        self.created_at, self.create_took = created_at, took
        self.seen = 0

    def __str__(self):
        return f"{self.transport.upper()} {self.internal_port}"


class Program:
    """The running program. Every method ends within its deadline, with an answer or with Failed."""

    def __init__(self, namespace, built, log_path):
        executable, library_directory = built
        environment = {"PATH": os.environ.get("PATH", ""), "LD_LIBRARY_PATH": str(library_directory)}
        with open(log_path, "wb") as log:
            self.process = namespace.popen(
                [str(executable)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        self._unread = b""
        self._events = {}
        self._answers = []

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def _read(self, deadline):
        """Takes in at least one line; False when the deadline has come."""
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if not select.select([self.process.stdout], [], [], max(0.0, left))[0]:
                return False
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise Failed(f"the program ended with {self.process.wait()}")
            self._unread += data
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            words = line.decode().split()
            if words[0] == "event":
                self._events.setdefault(int(words[1]), []).append(Event(words[2:]))
            else:
                self._answers.append(words)
        return True

    def send(self, command):
        try:
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"the program ended with {self.process.wait()} before {command!r}") from None

    def answer(self, command):
        deadline = time.monotonic() + _ANSWER_TIMEOUT_SECS
        while not self._answers:
            if not self._read(deadline):
                raise Failed(f"{command!r} did not return within {_ANSWER_TIMEOUT_SECS:.0f} s")
        words = self._answers.pop(0)
        if words[0] != command.split()[0]:
            raise Failed(f"answer {words} to {command!r}")
        return words[1:]

    def call(self, command):
        self.send(command)
        return self.answer(command)

    def init(self, **settings):
        result = self.call(" ".join(["init", *(f"{key}={value}" for key, value in settings.items())]))
        if result != ["0"]:
            raise Failed(f"plum_init gave {result[0]}")

    def create(self, *wanted):
        """Creates mappings, each given as (transport, internal port[, suggested external port]), one call right
        after the other."""
        commands = [f"create {' '.join(map(str, words))}" for words in wanted]
        self.send("\n".join(commands))
        mappings = []
        for command, words in zip(commands, wanted):
            id, before, after = map(int, self.answer(command))
            if id < 0:
                raise Failed(f"plum_create_mapping gave {id}")
            mappings.append(Mapping(id, words[0], words[1], before / 1e6, (after - before) / 1e6))
        return mappings

    def events(self, mapping):
        """The callbacks of a mapping that have come and were not looked at yet."""
        while self._read(time.monotonic()):
            pass
        return self._events.get(mapping.id, [])[mapping.seen :]

    def expect(self, mapping, state, timeout=_ANSWER_TIMEOUT_SECS):
        """Waits for the mapping's next callback, which must be of this state."""
        deadline = time.monotonic() + timeout
        while len(self._events.get(mapping.id, [])) <= mapping.seen:
            if not self._read(deadline):
                raise Failed(f"{mapping}: no {state} within {timeout:.1f} s; {self.describe(mapping)}")
        event = self._events[mapping.id][mapping.seen]
        mapping.seen += 1
        if event.state != state:
            raise Failed(f"{mapping}: {event} instead of {state}; {self.describe(mapping)}")
        return event

    def expect_at_last(self, mapping, state):
        """The same, after whatever other callbacks."""
        while (events := self.events(mapping)) and events[0].state != state:
            mapping.seen += 1
        return self.expect(mapping, state)

    def expect_silence(self, mapping):
        """No callback has come that was not looked at."""
        if events := self.events(mapping):
            raise Failed(f"{mapping}: unexpected {', '.join(map(str, events))}")

    def query(self, mapping):
        """(result, state, protocol, host, port)."""
        result, state, protocol, host, port = self.call(f"query {mapping.id}")
        return int(result), state, protocol, host, int(port)

    def describe(self, mapping):
        past = ", ".join(
            f"{event} after {(event.at - mapping.created_at) * 1000:.0f} ms"
            for event in self._events.get(mapping.id, [])
        )
        return f"state {self.query(mapping)[1]}, callbacks: {past or 'none'}"

    def destroy(self, mapping):
        result = self.call(f"destroy {mapping.id}")
        if result != ["0"]:
            raise Failed(f"plum_destroy_mapping gave {result[0]}")

    def cleanup(self):
        """Gives the seconds it took."""
        result, before, after = map(int, self.call("cleanup"))
        if result != 0:
            raise Failed(f"plum_cleanup gave {result}")
        return (after - before) / 1e6
