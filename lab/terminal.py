"""A program on a terminal of its own, as somebody sits before it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from program import Failed

# ECMA-48: control sequences, such as colours and movements of the cursor.
_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Beyond any wait of the program's own: a test that gets here has found a hang.
_TIMEOUT_SECS = 15.0


class Terminal:
    """The program, and what it has written. Every wait ends, with what was waited for or with Failed."""

    def __init__(self, namespace, command, rows=30, columns=120, **variables):
        self.command = " ".join(map(str, command[1:]))
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = {"PATH": os.environ.get("PATH", ""), "TERM": "xterm", **variables}
        # A session of its own, with this as its terminal: so that ^C becomes a signal.
        self.process = namespace.popen(
            ["setsid", "--ctty", *map(str, command)], stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        os.close(slave)
        self._raw = ""
        self._seen = 0

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def text(self):
        """All that was written, without colours and the like."""
        return _CONTROL_SEQUENCE.sub("", self._raw).replace("\r\n", "\n")

    @property
    def is_coloured(self):
        return bool(_COLOUR.search(self._raw))

    def _read(self, deadline):
        """Takes in what comes next; False at the end of the program's output."""
        left = max(0.0, deadline - time.monotonic())
        if not select.select([self._master], [], [], left)[0]:
            raise Failed(f"`plum {self.command}` goes on; so far it says:\n{self.text}")
        try:
            data = os.read(self._master, 65536)
        except OSError:
            # EIO: nobody has the terminal open any more.
            return False
        self._raw += data.decode(errors="replace")
        return bool(data)

    def expect(self, pattern, timeout=_TIMEOUT_SECS):
        """Waits for something that matches, after what was waited for before."""
        deadline = time.monotonic() + timeout
        while not (match := re.compile(pattern).search(self.text, self._seen)):
            if not self._read(deadline):
                raise Failed(f"`plum {self.command}` does not say {pattern!r}, but:\n{self.text}")
        self._seen = match.end()
        return match

    def type(self, keys):
        os.write(self._master, keys)

    def end(self, timeout=_TIMEOUT_SECS):
        """Waits for the end; gives the exit code."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            pass
        try:
            return self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Failed(f"`plum {self.command}` has closed its terminal and goes on") from None
