## A Nim program that links vendor/libplum as the older kind of the package `libplum` does: the archive that CMake makes in its
## folder `build`, the header in `include/plum`, and nothing but -lpthread.

import std/[os, strutils]

const
  vendored = currentSourcePath().parentDir().replace('\\', '/') & "/vendor/libplum"
  libplumArchive {.strdefine.} = "build/libplum.a"

{.passc: "-I" & vendored & "/include/plum -DPLUM_STATIC".}
{.passl: vendored & "/" & libplumArchive & " -lpthread".}

type
  State {.importc: "plum_state_t", header: "plum.h", size: sizeof(cint).} = enum
    destroyed, pending, success, failure, destroying
  Config {.importc: "plum_config_t", header: "plum.h", bycopy.} = object
    ## As the raw module of that time has it: without `protocol`.
    log_level: cint
    log_callback: pointer
    dummytls_domain: cstring
    discover_timeout, mapping_timeout, recheck_period: cint
  Mapping {.importc: "plum_mapping_t", header: "plum.h", bycopy.} = object
    mapping_protocol: cint
    internal_port, external_port: uint16
    user_ptr: pointer
  Told = object
    ## The callbacks' own, not on Nim's heap.
    successes, destroyeds: int

proc plum_init(config: ptr Config): cint {.importc, header: "plum.h".}
proc plum_cleanup(): cint {.importc, header: "plum.h".}
proc plum_create_mapping(mapping: ptr Mapping, callback: pointer): cint {.importc, header: "plum.h".}
proc plum_query_mapping(id: cint, state: ptr State, mapping: ptr Mapping): cint {.importc, header: "plum.h".}

proc onMapping(id: cint, state: State, mapping: ptr Mapping) {.cdecl, gcsafe.} =
  let told = cast[ptr Told](mapping[].user_ptr)
  case state
  of success: discard atomicInc(told[].successes)
  of destroyed: discard atomicInc(told[].destroyeds)
  else: discard

proc main() =
  var
    told: Told
    # Each field that it knows, so that Nim 2.2 zeroes nothing.
    config = Config(log_level: 3, log_callback: nil, dummytls_domain: nil, discover_timeout: 0, mapping_timeout: 0, recheck_period: 0)
    mapping = Mapping(internal_port: 8000, user_ptr: addr told)
    state: State
  # What may be left behind the known fields: here the number of UPnP, where later ABIs have `protocol`.
  cast[ptr cint](cast[uint](addr config.recheck_period) + sizeof(cint).uint)[] = 2
  doAssert plum_init(addr config) == 0
  let id = plum_create_mapping(addr mapping, cast[pointer](onMapping))
  doAssert id >= 0
  while true:
    doAssert plum_query_mapping(id, addr state, addr mapping) == 0
    if state != pending: break
    sleep(1)
  doAssert state == success and mapping.external_port == 8000
  doAssert mapping.mapping_protocol == 1, "made by " & $mapping.mapping_protocol & ", not by PCP"
  doAssert plum_cleanup() == 0
  doAssert told.successes == 1 and told.destroyeds == 1
  echo "vendored: done"

main()
