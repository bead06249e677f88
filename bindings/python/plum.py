"""libplum from Python: opens ports on the gateway of this network.

    import plum

    with plum.Session() as session:
        with session.map("tcp", 8080) as mapping:
            external = mapping.wait(timeout=15)
            print(f"reachable at {external} by {external.protocol}")
            input()

`session.map("tcp", 8080, ipv6=True)` opens a pinhole for IPv6 in the gateway's firewall.

Needs libplum.so where the system finds libraries, or its path in the environment variable PLUM_LIBRARY. Nothing but ctypes.
"""

import ctypes
import enum
import ipaddress
import os
import queue
import threading
from ctypes import POINTER, Structure, c_char, c_char_p, c_int, c_size_t, c_uint16, c_void_p
from typing import Callable, NamedTuple, Optional, Union

__all__ = ["Error", "External", "Failed", "Mapping", "Session", "State", "local_address"]


class Error(Exception):
    """A call of the library failed."""

    MEANINGS = {-1: "invalid argument", -2: "not initialised, or already initialised", -3: "not available"}

    def __init__(self, function: str, code: int):
        super().__init__(f"{function}: {self.MEANINGS.get(code, code)}")
        self.code = code


class Failed(Exception):
    """No gateway can make the mapping for now; the library goes on trying."""


class State(enum.Enum):
    """A mapping's state."""

    DESTROYED = 0
    PENDING = 1
    SUCCESS = 2
    FAILURE = 3
    DESTROYING = 4


class External(NamedTuple):
    """Where a mapping can be reached from outside."""

    host: str
    port: int
    protocol: str

    def __str__(self) -> str:
        """As in a URL: an IPv6 address has brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class _Config(Structure):
    _fields_ = [
        ("log_level", c_int),
        ("log_callback", c_void_p),
        ("dummytls_domain", c_char_p),
        ("discover_timeout", c_int),
        ("mapping_timeout", c_int),
        ("recheck_period", c_int),
        ("protocol", c_int),
    ]


class _Mapping(Structure):
    _fields_ = [
        ("protocol", c_int),
        ("mapping_protocol", c_int),
        ("internal_port", c_uint16),
        ("external_port", c_uint16),
        ("external_host", c_char * 256),
        ("user_ptr", c_void_p),
    ]

    def external(self) -> External:
        names = ("unknown", "PCP", "NAT-PMP", "UPnP-IGD", "direct")
        return External(self.external_host.decode(), self.external_port, names[self.mapping_protocol])


_Callback = ctypes.CFUNCTYPE(None, c_int, c_int, POINTER(_Mapping))

# CDLL, not PyDLL: the interpreter's lock is released during a call. The library's thread needs it for its callbacks, and
# plum_cleanup waits for those.
_library = ctypes.CDLL(os.environ.get("PLUM_LIBRARY", "libplum.so"))
_library.plum_init.argtypes = [POINTER(_Config)]
_library.plum_create_mapping.argtypes = [POINTER(_Mapping), _Callback]
_library.plum_query_mapping.argtypes = [c_int, POINTER(c_int), POINTER(_Mapping)]
_library.plum_destroy_mapping.argtypes = [c_int]
_library.plum_get_local_address.argtypes = [c_char_p, c_size_t]

_LOG_LEVELS = {"verbose": 0, "debug": 1, "info": 2, "warn": 3, "error": 4, "fatal": 5, "none": 6}
_PROTOCOLS = {"any": 0, "pcp": 1, "upnp": 2}
_TRANSPORTS = {"tcp": 0, "udp": 1}


def _checked(function: str, result: int) -> int:
    if result < 0:
        raise Error(function, result)
    return result


def _host(ipv6: Union[bool, str]) -> bytes:
    """What external_host says of IPv6. Raises ValueError for what is no IPv6 address."""
    if ipv6 is False:
        return b""
    address = ipaddress.IPv6Address("::" if ipv6 is True else ipv6)
    if address.ipv4_mapped or "%" in str(address):
        raise ValueError(f"{ipv6}: an IPv6 address of this machine is wanted, without a zone")
    return str(address).encode()


def local_address() -> Optional[str]:
    """The address of this machine toward the internet; None without a route there."""
    buffer = ctypes.create_string_buffer(64)
    result = _library.plum_get_local_address(buffer, len(buffer))
    return buffer.value.decode() if result > 0 else None


class Mapping:
    """A port that is mapped until `close`, the end of a `with`, or of the session."""

    def __init__(self, transport: str, internal_port: int, external_port: int, on_change, ipv6: Union[bool, str]):
        self._events: "queue.SimpleQueue[tuple[State, Optional[External]]]" = queue.SimpleQueue()
        self._on_change = on_change
        self._destroyed = threading.Event()
        # Kept as long as the library may call it.
        self._callback = _Callback(self._called)
        wanted = _Mapping(
            protocol=_TRANSPORTS[transport],
            internal_port=internal_port,
            external_port=external_port,
            external_host=_host(ipv6),
        )
        self.id = _checked("plum_create_mapping", _library.plum_create_mapping(ctypes.byref(wanted), self._callback))

    def _called(self, _id, state, mapping):
        # On the library's thread, with the interpreter's lock held.
        state = State(state)
        external = mapping.contents.external() if state is State.SUCCESS else None
        self._events.put((state, external))
        if self._on_change is not None:
            self._on_change(state, external)
        if state is State.DESTROYED:
            self._destroyed.set()

    @property
    def state(self) -> State:
        """As it is now."""
        state = c_int()
        result = _library.plum_query_mapping(self.id, ctypes.byref(state), None)
        return State(state.value) if result == 0 else State.DESTROYED

    def wait(self, timeout: Optional[float] = None) -> External:
        """Waits for the next change, seconds at most. Raises Failed, or TimeoutError."""
        try:
            state, external = self._events.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no answer within {timeout} s") from None
        if external is None:
            raise Failed("destroyed" if state is State.DESTROYED else "no gateway can map the port for now")
        return external

    def close(self, timeout: float = 5) -> None:
        """Removes the mapping from the gateway, and waits until it is gone. Not to be called from `on_change`."""
        _library.plum_destroy_mapping(self.id)  # harmless when it is gone
        self._destroyed.wait(timeout)

    def __enter__(self) -> "Mapping":
        return self

    def __exit__(self, *_exception) -> None:
        self.close()


class Session:
    """The library, initialised; one at a time in a process. Timeouts and period are in seconds, 0 is the default."""

    def __init__(self, *, log_level="warn", protocols="any", discover_timeout=0.0, mapping_timeout=0.0, recheck=0.0):
        config = _Config(
            log_level=_LOG_LEVELS[log_level],
            discover_timeout=round(discover_timeout * 1000),
            mapping_timeout=round(mapping_timeout * 1000),
            recheck_period=round(recheck * 1000),
            protocol=_PROTOCOLS[protocols],
        )
        _checked("plum_init", _library.plum_init(ctypes.byref(config)))
        # So that no callback function is collected while the library may still call it.
        self._mappings: "list[Mapping]" = []

    def map(
        self,
        transport: str,
        internal_port: int,
        external_port: int = 0,
        on_change: Optional[Callable[[State, Optional[External]], None]] = None,
        ipv6: Union[bool, str] = False,
    ) -> Mapping:
        """Asks for a mapping of "tcp" or "udp"; returns at once. `on_change` is called on the library's thread.

        `ipv6`: True asks for a pinhole for IPv6 in place of a mapping of IPv4, to an address of this machine that is chosen;
        an address of this machine, to that one.
        """
        mapping = Mapping(transport, internal_port, external_port, on_change, ipv6)
        self._mappings = [one for one in self._mappings if not one._destroyed.is_set()] + [mapping]
        return mapping

    def close(self) -> None:
        """Removes every mapping and ends the library's thread."""
        _checked("plum_cleanup", _library.plum_cleanup())
        self._mappings.clear()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_exception) -> None:
        self.close()
