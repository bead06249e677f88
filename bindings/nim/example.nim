## Opens TCP port 8000 on the gateway, from Nim; with --ipv6 a pinhole for IPv6, to an address of this machine that is chosen or to
## --ipv6=ADDRESS.
##
##   nim c --threads:on --passC:"$(pkg-config --cflags libplum)" --passL:"$(pkg-config --libs libplum)" bindings/nim/example.nim

import std/[locks, os, strutils]

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

proc wishedHost(): string =
  ## What `externalHost` says: nothing for IPv4, "::" for an IPv6 address of the library's choice.
  for word in commandLineParams():
    if word == "--ipv6":
      return "::"
    if word.startsWith("--ipv6="):
      return word["--ipv6=".len .. ^1]

proc main() =
  initLock(lock)
  initCond(changed)
  var config = Config(logLevel: logWarnings)
  doAssert plumInit(addr config) == 0
  var mapping = Mapping(internalPort: 8000)
  let host = wishedHost()
  doAssert host.len < mapping.externalHost.len
  for n, letter in host:
    mapping.externalHost[n] = letter
  let id = plumCreateMapping(addr mapping, cast[Callback](onMapping))
  doAssert id >= 0

  case waitWhile(pending)
  of success:
    doAssert plumQueryMapping(id, nil, addr mapping) == 0
    let address = $cast[cstring](addr mapping.externalHost)
    echo "reachable at ", (if ':' in address: "[" & address & "]" else: address), ":", mapping.externalPort
  else:
    echo "no gateway opens the port"

  # Removes the mapping; its last callback has returned when this does.
  doAssert plumCleanup() == 0
  doAssert last == destroyed
  echo "removed"

main()
