## Opens TCP port 8000 on the gateway, from Nim.
##
##   nim c --threads:on --passC:"$(pkg-config --cflags libplum)" --passL:"$(pkg-config --libs libplum)" bindings/nim/example.nim

import std/locks

when not compileOption("threads"):
  {.error: "the callback runs on a thread of libplum's own: compile with --threads:on".}

{.pragma: plum, header: "plum/plum.h".}

type
  State {.importc: "plum_state_t", plum, size: sizeof(cint).} = enum
    destroyed, pending, success, failure, destroying
  Config {.importc: "plum_config_t", plum.} = object
    logLevel {.importc: "log_level".}: cint
  Mapping {.importc: "plum_mapping_t", plum.} = object
    internalPort {.importc: "internal_port".}: uint16
    externalPort {.importc: "external_port".}: uint16
    externalHost {.importc: "external_host".}: array[256, char]
  Callback {.importc: "plum_mapping_callback_t", plum.} = pointer

const logWarnings = 3

proc plumInit(config: ptr Config): cint {.importc: "plum_init", plum.}
proc plumCleanup(): cint {.importc: "plum_cleanup", plum.}
proc plumCreateMapping(mapping: ptr Mapping, callback: Callback): cint {.importc: "plum_create_mapping", plum.}
proc plumQueryMapping(id: cint, state: ptr State, mapping: ptr Mapping): cint {.importc: "plum_query_mapping", plum.}

# The callback runs on libplum's one thread. It touches no memory of Nim's heap, so that thread needs no introduction to
# Nim's runtime: it stores a number, under a lock, and wakes the main thread.
var
  lock: Lock
  changed: Cond
  last = pending

proc onMapping(id: cint, state: State, mapping: ptr Mapping) {.cdecl, gcsafe.} =
  acquire(lock)
  last = state
  signal(changed)
  release(lock)

proc waitWhile(state: State): State =
  acquire(lock)
  while last == state:
    wait(changed, lock)
  result = last
  release(lock)

proc main() =
  initLock(lock)
  initCond(changed)
  var config = Config(logLevel: logWarnings)
  doAssert plumInit(addr config) == 0
  var mapping = Mapping(internalPort: 8000)
  let id = plumCreateMapping(addr mapping, cast[Callback](onMapping))
  doAssert id >= 0

  case waitWhile(pending)
  of success:
    doAssert plumQueryMapping(id, nil, addr mapping) == 0
    echo "reachable at ", cast[cstring](addr mapping.externalHost), ":", mapping.externalPort
  else:
    echo "no gateway opens the port"

  # Removes the mapping; its last callback has returned when this does.
  doAssert plumCleanup() == 0
  doAssert last == destroyed
  echo "removed"

main()
