## The raw binding of libplum: a replacement for the module of this name in the Nim package `libplum`, which binds the C library's
## sources. Same names, types and signatures, so that what is built on it compiles unchanged; docs/nim.md says how it is put in
## its place. Callbacks come from the library's one worker thread: see `plum_mapping_callback_t`.
##
## It links the static library of this folder's `build`, of ABI 0.6.2, or as told:
##
## * `-d:libplumShared`: the shared library instead, from `build` (found again there when the program runs)
## * `-d:libplumLibDir=DIR`: the library is in this folder, not in `build`
## * `-d:libplumShared -d:libplumLibDir=`: the shared library that the system has
##
## Units, ranges, errors and threads of every function: include/plum.h.

import std/[os, sequtils, strutils]

const
  root = currentSourcePath().parentDir().parentDir().parentDir().replace('\\', '/')
  libplumLibDir {.strdefine.} = root & "/build"

  definitions: seq[string] = when defined(libplumShared): @[] else: @["-DPLUM_STATIC"]

  flags* = (@["-I" & root & "/include/plum"] & definitions).mapIt(it.quoteShell()).join(" ")
    ## What a C compiler needs to find the header.

{.passc: flags.}

when defined(libplumShared):
  when libplumLibDir.len > 0:
    {.passl: quoteShell("-L" & libplumLibDir) & " " & quoteShell("-Wl,-rpath," & libplumLibDir).}
  {.passl: "-lplum".}
else:
  const archive = libplumLibDir & "/libplum.a"
  when not fileExists(archive):
    {.error: archive & " is missing. Build it: cmake -B build -DCMAKE_BUILD_TYPE=Release " &
      "-DBUILD_SHARED_LIBS=OFF && cmake --build build (in " & root & ")".}
  {.passl: quoteShell(archive).}
  when defined(windows):
    {.passl: "-lws2_32 -liphlpapi -lbcrypt -lntdll -luserenv".}
  elif defined(android): # these as in cmake/target.cmake
    {.passl: "-ldl -llog -lm -lunwind".}
  elif defined(linux):
    {.passl: "-lpthread -ldl".}
  elif defined(freebsd):
    {.passl: "-lpthread -lexecinfo -lgcc_s".}
  elif defined(netbsd):
    {.passl: "-lpthread -lexecinfo -lrt -lgcc_s".}
  elif defined(openbsd):
    {.passl: "-lpthread -lc++abi".}

const
  PLUM_ERR_SUCCESS* = cint(0) ## Done.
  PLUM_ERR_INVALID* = cint(-1) ## An argument is not valid.
  PLUM_ERR_FAILED* = cint(-2) ## Not now: not initialised, or already initialised.
  PLUM_ERR_NOT_AVAIL* = cint(-3) ## There is no such thing.

  PLUM_MAX_HOST_LEN* = 256 ## Room in `external_host`, its NUL included.
  PLUM_MAX_ADDRESS_LEN* = 64 ## Room for every address, its NUL included.

type
  plum_log_level_t* {.importc, header: "plum.h", size: sizeof(cint).} = enum
    PLUM_LOG_LEVEL_VERBOSE = 0
    PLUM_LOG_LEVEL_DEBUG = 1
    PLUM_LOG_LEVEL_INFO = 2
    PLUM_LOG_LEVEL_WARN = 3
    PLUM_LOG_LEVEL_ERROR = 4
    PLUM_LOG_LEVEL_FATAL = 5
    PLUM_LOG_LEVEL_NONE = 6

  plum_protocol_t* {.importc, header: "plum.h", size: sizeof(cint).} = enum
    ## Which protocols may be used.
    PLUM_PROTOCOL_ANY = 0
    PLUM_PROTOCOL_PCP = 1 ## PCP and NAT-PMP
    PLUM_PROTOCOL_UPNP = 2

  plum_ip_protocol_t* {.importc, header: "plum.h", size: sizeof(cint).} = enum
    PLUM_IP_PROTOCOL_TCP = 0
    PLUM_IP_PROTOCOL_UDP = 1

  plum_state_t* {.importc, header: "plum.h", size: sizeof(cint).} = enum
    PLUM_STATE_DESTROYED = 0
    PLUM_STATE_PENDING = 1
    PLUM_STATE_SUCCESS = 2
    PLUM_STATE_FAILURE = 3
    PLUM_STATE_DESTROYING = 4

  plum_mapping_protocol_t* {.importc, header: "plum.h", size: sizeof(cint).} = enum
    ## Who made a mapping.
    PLUM_MAPPING_PROTOCOL_UNKNOWN = 0
    PLUM_MAPPING_PROTOCOL_PCP = 1
    PLUM_MAPPING_PROTOCOL_NATPMP = 2
    PLUM_MAPPING_PROTOCOL_UPNP = 3
    PLUM_MAPPING_PROTOCOL_DIRECT = 4

  plum_dummytls_cert_type_t* {.importc, header: "plum.h", size: sizeof(cint).} = enum
    PLUM_DUMMYTLS_PEM_CERT = 0
    PLUM_DUMMYTLS_PEM_CHAIN = 1
    PLUM_DUMMYTLS_PEM_FULLCHAIN = 2
    PLUM_DUMMYTLS_PEM_PRIVKEY = 3

  plum_log_callback_t* = proc(level: plum_log_level_t, message: cstring) {.cdecl.}
    ## May run on any thread that calls the library, and on its worker.

  plum_config_t* {.importc, header: "plum.h", bycopy.} = object
    log_level*: plum_log_level_t
    log_callback*: plum_log_callback_t
    dummytls_domain*: cstring
    discover_timeout*: cint ## milliseconds; 0: 10000
    mapping_timeout*: cint ## milliseconds; 0: 10000
    recheck_period*: cint ## milliseconds; 0: 300000
    protocol*: plum_protocol_t

  plum_mapping_t* {.importc, header: "plum.h", bycopy.} = object
    protocol*: plum_ip_protocol_t
    mapping_protocol*: plum_mapping_protocol_t
    internal_port*: uint16
    external_port*: uint16
    external_host*: array[PLUM_MAX_HOST_LEN, char]
    user_ptr*: pointer

  plum_mapping_callback_t* =
    proc(id: cint, state: plum_state_t, mapping: ptr plum_mapping_t) {.cdecl.}
    ## Runs on the library's worker thread, which Nim does not know: one that touches Nim's heap calls setupForeignThreadGc()
    ## first and tearDownForeignThreadGc() last, where they are declared. It must not raise.

{.push raises: [].}

proc plum_init*(config: ptr plum_config_t): cint {.importc, header: "plum.h".}

proc plum_cleanup*(): cint {.importc, header: "plum.h".}

proc plum_set_log_level*(level: plum_log_level_t) {.importc, header: "plum.h".}

proc plum_create_mapping*(
  mapping: ptr plum_mapping_t, callback: plum_mapping_callback_t
): cint {.importc, header: "plum.h".}

proc plum_query_mapping*(
  id: cint, state: ptr plum_state_t, mapping: ptr plum_mapping_t
): cint {.importc, header: "plum.h".}

proc plum_destroy_mapping*(id: cint): cint {.importc, header: "plum.h".}

proc plum_get_local_address*(buffer: cstring, size: csize_t): cint {.importc, header: "plum.h".}

proc plum_get_dummytls_certificate*(
  kind: plum_dummytls_cert_type_t, buffer: cstring, size: csize_t
): cint {.importc, header: "plum.h".}

proc plum_get_dummytls_host*(
  address: cstring, buffer: cstring, size: csize_t
): cint {.importc, header: "plum.h".}

{.pop.}
