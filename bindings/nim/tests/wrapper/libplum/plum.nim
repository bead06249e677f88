## A layer on the raw module that does with it what wrappers of Nim's world do: an object behind `user_ptr`, which callbacks on the
## library's thread fill in, with Nim's heap at hand.
##
## The object is in shared memory: the references of Nim are not counted atomically, so that no two threads may count one.

import std/locks
import ./libplum

{.localPassC: flags.}

# The header's callbacks take a pointer to const, which Nim cannot say.
{.emit: """
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wincompatible-pointer-types"
#endif
""".}

type
  MappingObj = object
    id*: cint
    lock: Lock
    changed: Cond
    states: array[64, plum_state_t]
    count: int
    hostLen: int
    host: array[PLUM_MAX_HOST_LEN, char]
    port: uint16
    protocol: plum_mapping_protocol_t

  Mapping* = ptr MappingObj ## Valid until `free`.

var allocated: int ## what callbacks have put on the heap of the library's thread, in octets

template onForeignThread(body: untyped) =
  when declared(setupForeignThreadGc):
    setupForeignThreadGc()
  try:
    body
  finally:
    when declared(tearDownForeignThreadGc):
      tearDownForeignThreadGc()

proc onMapping(id: cint, state: plum_state_t, raw: ptr plum_mapping_t) {.cdecl, gcsafe, raises: [].} =
  onForeignThread:
    let mapping = cast[Mapping](raw[].user_ptr)
    # Strings and sequences of this thread, as a wrapper makes them for its own callbacks.
    var words: seq[string]
    for n in 0 .. 20:
      words.add($cast[cstring](addr raw[].external_host) & ":" & $n)
    discard atomicInc(allocated, words[^1].len)
    acquire(mapping.lock)
    doAssert mapping.count < mapping.states.len
    mapping.states[mapping.count] = state
    inc mapping.count
    mapping.host = raw[].external_host
    mapping.port = raw[].external_port
    mapping.protocol = raw[].mapping_protocol
    signal(mapping.changed)
    release(mapping.lock)

proc newMapping*(transport: plum_ip_protocol_t, port: uint16, host = ""): Mapping =
  ## Asks for a mapping; its `id` is negative where the library refuses. The host "::" or an IPv6 address of this machine asks for a
  ## pinhole.
  result = createShared(MappingObj)
  initLock(result.lock)
  initCond(result.changed)
  var wanted = plum_mapping_t(protocol: transport, internal_port: port, user_ptr: cast[pointer](result))
  doAssert host.len < PLUM_MAX_HOST_LEN
  for n, letter in host:
    wanted.external_host[n] = letter
  result.id = plum_create_mapping(addr wanted, onMapping)

proc free*(mapping: Mapping) =
  ## Of one that the library refused, or whose DESTROYED callback has returned.
  deinitCond(mapping.changed)
  deinitLock(mapping.lock)
  freeShared(mapping)

proc await*(mapping: Mapping, calls: int): seq[plum_state_t] =
  ## The states that callbacks have told, once there are so many of them.
  acquire(mapping.lock)
  while mapping.count < calls:
    wait(mapping.changed, mapping.lock)
  result = mapping.states[0 ..< mapping.count]
  release(mapping.lock)

proc external*(mapping: Mapping): tuple[host: string, port: uint16, protocol: plum_mapping_protocol_t] =
  ## What the last callback told.
  acquire(mapping.lock)
  result = ($cast[cstring](addr mapping.host), mapping.port, mapping.protocol)
  release(mapping.lock)

proc octetsAllocated*(): int =
  ## What callbacks have put on the heap so far.
  atomicLoadN(addr allocated, ATOMIC_SEQ_CST)
