"""Debian's miniupnpd in the lab's router."""

import contextlib
import pathlib
import shutil
import subprocess
import time

import network

# Debian keeps it where the path of an ordinary shell may not lead.
PROGRAM = shutil.which("miniupnpd", path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin")

# -d: stay in the foreground, log to standard error. Whatever it is told, it logs to the system too: to /dev/log, or
# else to the console, where a slow one costs 5 ms a message. So neither is there for it.
_QUIETLY = """
for log in /dev/console /dev/log; do
    if [ -e $log ]; then mount --bind /dev/null $log || exit; fi
done
exec "$0" -d "$@"
"""


class Miniupnpd:
    """The daemon; `start` returns when it answers.

    `natpmp` also stands for PCP: miniupnpd has one key for both. With `system_uptime` the epoch it tells is the
    machine's, not its own, and shows no restart of the daemon. `lifetime`: the longest it grants by PCP, seconds.
    `allowed`: the external ports that it maps. `ipv6`: it opens pinholes for IPv6 too.
    """

    def __init__(
        self,
        net,
        directory,
        natpmp=True,
        upnp=True,
        system_uptime=False,
        igd1=False,
        lifetime=None,
        allowed="1024-65535",
        ipv6=False,
    ):
        self.net = net
        self.directory = pathlib.Path(directory)
        self.log_path = self.directory / "miniupnpd.log"
        self.natpmp, self.upnp = natpmp, upnp
        self.system_uptime = system_uptime
        self.igd1 = igd1
        self.lifetime = lifetime
        self.allowed = allowed
        self.ipv6 = ipv6
        self.process = None
        self.started_at = 0.0

    def _configuration(self):
        def yes_no(value):
            return "yes" if value else "no"

        lifetimes = f"min_lifetime=1\nmax_lifetime={self.lifetime}\n" if self.lifetime else ""
        return f"""\
{lifetimes}ext_ifname=wan
listening_ip=lan
enable_natpmp={yes_no(self.natpmp)}
enable_upnp={yes_no(self.upnp)}
ipv6_disable={yes_no(not self.ipv6)}
system_uptime={yes_no(self.system_uptime)}
force_igd_desc_v1={yes_no(self.igd1)}
upnp_table_name=lab
upnp_nat_table_name=lab
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
uuid=6b9d0c2c-1a0e-4f43-9d0b-6c616230306c
allow {self.allowed} 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""

    def start(self, deadline_secs=5.0):
        configuration = self.directory / "miniupnpd.conf"
        configuration.write_text(self._configuration())
        pid_file = self.directory / "miniupnpd.pid"
        # A pid file left by a killed daemon makes the next one refuse to start.
        pid_file.unlink(missing_ok=True)
        with self.log_path.open("ab") as log:
            self.process = self.net.router.popen(
                ["unshare", "--mount", "sh", "-c", _QUIETLY, PROGRAM, "-f", str(configuration), "-P", str(pid_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wanted = set()
        if self.natpmp:
            wanted.add(network.PCP_PORT)
        if self.upnp:
            wanted.add(network.SSDP_PORT)
        self.started_at = time.monotonic()
        end = self.started_at + deadline_secs
        while not wanted <= self._bound_udp_ports():
            if self.process.poll() is not None:
                raise RuntimeError(f"miniupnpd ended at its start:\n{self.log_path.read_text(errors='replace')}")
            if time.monotonic() > end:
                raise RuntimeError("miniupnpd does not open its ports")
            time.sleep(0.002)

    def _bound_udp_ports(self):
        # With IPv6 it has one socket for both families.
        lines = []
        for table in "udp", "udp6":
            with contextlib.suppress(OSError):
                lines += pathlib.Path(f"/proc/{self.process.pid}/net/{table}").read_text().splitlines()[1:]
        return {int(line.split()[1].rpartition(":")[2], 16) for line in lines}

    def kill(self):
        """Ends the daemon without a goodbye: no byebye, and its rules stay."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self, forget=True):
        """Kills it and starts it again; `forget`: the router rebooted, its forwarding is gone too."""
        self.kill()
        if forget:
            self.net.forget_mappings()
        self.start()
