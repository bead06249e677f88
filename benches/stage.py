"""A client and a gateway, each in a network namespace of its own; the simulated gateway and the program under measurement
in them. The namespaces are the lab's.

    client 192.168.77.2 ---- 192.168.77.1 gateway
"""

import contextlib
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lab"))
import network  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
# Beyond any answer that is no wait: what takes longer hangs.
_PATIENCE_SECS = 30.0


class Failed(Exception):
    """A run that gave no figure, and why."""


def build_client(directory):
    """Compiles client.c; gives the program."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    program = directory / "client"
    flags = ["-std=gnu99", "-Wall", "-Wextra", "-Werror", "-O2"]
    network.run([compiler, *flags, str(HERE / "client.c"), "-o", str(program), "-ldl", "-lpthread"])
    return program


class _Lines:
    """A process that is steered by lines and answers in lines."""

    def __init__(self, namespace, command, **arguments):
        self.name = pathlib.Path(command[0]).name
        self.process = namespace.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **arguments)
        self._unread = b""

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def send(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.name} ended with {self.process.wait()} before {line!r}") from None

    def line(self, patience=_PATIENCE_SECS):
        until = time.monotonic() + patience
        while b"\n" not in self._unread:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise Failed(f"{self.name} said nothing for {patience:.0f} s")
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                raise Failed(f"{self.name} ended with {self.process.wait()}")
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()


class Gateway(_Lines):
    """The simulated gateway (crates/gateway/)."""

    def __init__(self, namespace, program, commands, seed):
        faults = [word for command in commands for word in ("--fault", command)]
        # It says nothing of itself but what it is asked: announcements would be another scenario.
        options = ["--address", network.ROUTER, "--multicast", "--control", "--seed", str(seed)]
        super().__init__(namespace, [str(program), *options, *faults])
        if not self.line().startswith("ready"):
            raise Failed("the gateway did not get ready")

    def command(self, command):
        """Carries out a command; gives what it prints."""
        self.send(command)
        said = []
        while (line := self.line()) != "ok":
            if line.startswith("error"):
                raise Failed(f"the gateway, to {command!r}: {line}")
            said.append(line)
        return said

    def table(self):
        """The mappings it has: {(transport, external port): (internal port, protocol)}."""
        entries = {}
        for line in self.command("table"):
            transport, external, internal, protocol = line.split()[:4]
            entries[transport.lower(), int(external)] = (int(internal.rsplit(":", 1)[1]), protocol)
        return entries

    def counts(self):
        """How many requests of each kind it has received."""
        words = " ".join(self.command("counts")).split()
        return dict(zip(words[::2], map(int, words[1::2])))


class Client(_Lines):
    """The program under measurement (client.c), with one library."""

    def __init__(self, namespace, program, library):
        # Nothing of the environment changes what is measured: PLUM_GATEWAY would.
        environment = {"PATH": os.environ.get("PATH", "")}
        super().__init__(namespace, [str(program), str(library.path), library.abi], env=environment)
        ready, self.soname, self.abi = self.line().split()
        if ready != "ready":
            raise Failed(f"the client said {ready}")

    def ask(self, command, patience=_PATIENCE_SECS):
        """Carries out a command; gives the numbers of its answer."""
        self.send(command)
        return self.answer(command, patience)

    def answer(self, command, patience=_PATIENCE_SECS):
        name, *words = self.line(patience).split()
        if name != command.split()[0]:
            raise Failed(f"the client answered {name} to {command!r}")
        return [int(word) for word in words]

    def begin(self):
        """plum_init; gives when it was called, in milliseconds."""
        result, called_at, _ = self.ask("init")
        if result != 0:
            raise Failed(f"plum_init gave {result}")
        return called_at / 1000

    def create(self, count, first_port=20000):
        failed, called_at, _ = self.ask(f"create {count} {first_port}")
        if failed:
            raise Failed(f"plum_create_mapping failed for {failed} of {count}")
        return called_at / 1000

    def wait(self, state, count, limit):
        """Waits until so many mappings have had a callback of this state; gives when the last one came. `limit` in
        seconds."""
        reached, _, last_at = self.ask(f"wait {state} {count} {int(limit * 1000)}", limit + _PATIENCE_SECS)
        if reached < count:
            raise Failed(f"{reached} of {count} {state} after {limit:.0f} s")
        return last_at / 1000

    def destroy(self):
        failed, called_at, _ = self.ask("destroy")
        if failed:
            raise Failed(f"plum_destroy_mapping failed for {failed}")
        return called_at / 1000

    def cleanup(self):
        """plum_cleanup; gives when it was called and when it returned."""
        result, called_at, returned_at = self.ask("cleanup", 2 * _PATIENCE_SECS)
        if result != 0:
            raise Failed(f"plum_cleanup gave {result}")
        return called_at / 1000, returned_at / 1000

    def report(self):
        self.send("report")
        return {name: int(value) for name, value in (word.split("=") for word in self.line().split()[1:])}

    def made(self):
        """What the program was told of: {(transport, external port): internal port}."""
        self.send("ports")
        entries = {}
        for word in self.line().split()[1:]:
            transport, internal, external = word.split("/")
            entries[transport, int(external)] = int(internal)
        return entries


class Stage:
    """The two namespaces. Gateway and client are new for each run: no run has the state of another."""

    def __init__(self, client_program, gateway_program):
        self._programs = client_program, gateway_program
        self._pair = network.Pair()
        self._client, self._gateway = self._pair.client, self._pair.gateway

    def close(self):
        self._pair.close()

    def add_route(self):
        """Gives the client its default route; says when, in milliseconds: it was not there before."""
        at = time.monotonic() * 1000
        self._client.ip(f"route add default via {network.ROUTER}")
        return at

    def remove_route(self):
        self._client.ip("route del default")

    @contextlib.contextmanager
    def run(self, library, *commands, delay_ms, seed=1):
        """A gateway with these faults, whose answers take `delay_ms`, and a client with the library: both end with the
        run."""
        client_program, gateway_program = self._programs
        with contextlib.ExitStack() as stack:
            delay = [f"set delay {delay_ms}ms"] if delay_ms else []
            gateway = Gateway(self._gateway, gateway_program, [*delay, *commands], seed)
            stack.callback(gateway.close)
            client = Client(self._client, client_program, library)
            stack.callback(client.close)
            yield client, gateway
