"""What the lab needs of the machine."""

import ctypes
import os
import shutil
import sys

# The exit code that says "not run" to CTest and others.
SKIPPED = 77

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_PACKAGES = {
    "miniupnpd": "miniupnpd-nftables",
    "nft": "nftables",
    "ip": "iproute2",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
}


def missing(build):
    """What is not there, in words; None if nothing. `build`: a C compiler is wanted too."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if sys.version_info < (3, 10):
        return "Python 3.10 or later is needed"
    problems = [
        f"{tool} (Debian: {package})" for tool, package in _PACKAGES.items() if not shutil.which(tool, path=_PATH)
    ]
    if build:
        if not (os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")):
            problems.append("a C compiler (Debian: gcc, libc6-dev)")
        if not shutil.which("readelf"):
            problems.append("readelf (Debian: binutils)")
    if problems:
        return f"missing: {', '.join(problems)}"
    if os.geteuid() != 0:
        return "it makes network namespaces, and so must run as root"
    if why := _refused():
        return why
    # `ip`, `nft` and the others are found as root finds them, whoever's PATH this is.
    os.environ["PATH"] = _PATH
    return None


def _refused():
    """Whether this root may make network and mount namespaces (in a container often not), tried in a child."""
    child = os.fork()
    if child == 0:
        new_net, new_mount = 0x40000000, 0x00020000
        os._exit(0 if ctypes.CDLL(None).unshare(new_net | new_mount) == 0 else 1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        return "making a network namespace is not permitted here, though this is root (a container?)"
    return None
