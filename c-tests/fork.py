#!/usr/bin/env python3
"""Python's multiprocessing by fork: fork.py LIBPLUM ABI. Every process of a pool has a mapping made by a library that its parent
has initialised, and uses itself."""

import ctypes
import multiprocessing
import sys
import time

PENDING, SUCCESS = 1, 2
PROCESSES = 6


class Config(ctypes.Structure):
    # As long as that of any ABI, and all zero but for the level.
    _fields_ = [("log_level", ctypes.c_int), ("rest", ctypes.c_int * 31)]


class Mapping(ctypes.Structure):
    # The longer of the two layouts; what is used stands at the same place in both.
    _fields_ = [("protocol", ctypes.c_int), ("rest", ctypes.c_int * 95)]


def mapping_of(port, abi_05):
    mapping = Mapping()
    ctypes.memmove(ctypes.addressof(mapping) + (4 if abi_05 else 8), ctypes.byref(ctypes.c_uint16(port)), 2)
    return mapping


def map_port(plum, port, abi_05):
    number = plum.plum_create_mapping(ctypes.byref(mapping_of(port, abi_05)), None)
    assert number >= 0, number
    state = ctypes.c_int(PENDING)
    deadline = time.monotonic() + 20
    while state.value == PENDING and time.monotonic() < deadline:
        assert plum.plum_query_mapping(number, ctypes.byref(state), None) == 0
        time.sleep(0.001)
    assert state.value == SUCCESS, state.value
    return number


def work(port):
    number = map_port(LIBRARY, port, ABI_05)
    assert LIBRARY.plum_query_mapping(PARENTS, None, None) == -3
    assert LIBRARY.plum_cleanup() == 0
    return number


LIBRARY = ctypes.CDLL(sys.argv[1])
ABI_05 = sys.argv[2].startswith("0.5")
PARENTS = 0

if __name__ == "__main__":
    config = Config(log_level=3)
    assert LIBRARY.plum_init(ctypes.byref(config)) == 0
    PARENTS = map_port(LIBRARY, 6000, ABI_05)
    context = multiprocessing.get_context("fork")
    with context.Pool(PROCESSES, maxtasksperchild=1) as pool:
        numbers = pool.map(work, range(6100, 6100 + PROCESSES), chunksize=1)
    assert all(number > PARENTS for number in numbers), numbers
    state = ctypes.c_int()
    assert LIBRARY.plum_query_mapping(PARENTS, ctypes.byref(state), None) == 0 and state.value == SUCCESS
    assert LIBRARY.plum_cleanup() == 0
