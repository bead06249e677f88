"""What the lab needs of the machine."""

import os
import shutil
import subprocess
import sys

# The exit code that says "not run" to CTest and others.
SKIPPED = 77

_STARTED_AGAIN = "PLUM_LAB_STARTED_AGAIN"

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_PACKAGES = {
    "miniupnpd": "miniupnpd-nftables",
    "nft": "nftables",
    "ip": "iproute2",
    "setpriv": "util-linux",
    "setsid": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
}


def missing(build, packages=_PACKAGES):
    """What is not there, in words; None if nothing. `build`: a C compiler is wanted too. `packages`: the tools that are
    called, and the Debian package of each."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if sys.version_info < (3, 10):
        return "Python 3.10 or later is needed"
    problems = [
        f"{tool} (Debian: {package})" for tool, package in packages.items() if not shutil.which(tool, path=_PATH)
    ]
    if build:
        if not (os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")):
            problems.append("a C compiler (Debian: gcc, libc6-dev)")
        if not shutil.which("readelf"):
            problems.append("readelf (Debian: binutils)")
    if problems:
        return f"missing: {', '.join(problems)}"
    # `ip`, `nft` and the others are found as root finds them, whoever's PATH this is.
    os.environ["PATH"] = _PATH
    if os.geteuid() == 0 and _may_unshare():
        return None
    return _start_again_as_root_of_a_user_namespace()


def _may_unshare():
    """Whether network and mount namespaces may be made: by root in a container or a chroot often not."""
    return subprocess.run(["unshare", "--net", "--mount", "true"], stderr=subprocess.DEVNULL).returncode == 0


def _start_again_as_root_of_a_user_namespace():
    """Replaces this process, where the system lets anyone make a user namespace; else says that root is needed."""
    command = ["unshare", "--map-root-user", "--net", "--mount"]
    # It may be permitted and still give no more rights: once is enough.
    tried = os.environ.pop(_STARTED_AGAIN, None)
    if not tried and subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        os.environ[_STARTED_AGAIN] = "1"
        os.execvp(command[0], [*command, sys.executable, *sys.argv])
    who = "though this is root (a container? a chroot?)" if os.geteuid() == 0 else "without root"
    return f"it makes network and mount namespaces, which is not permitted here {who}"
