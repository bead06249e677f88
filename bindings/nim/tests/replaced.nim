## A Nim program on a layer on the raw module, against the simulated gateway that PLUM_GATEWAY names.

import libplum/libplum
import libplum/plum

proc main() =
  var config = plum_config_t(log_level: PLUM_LOG_LEVEL_WARN)
  doAssert plum_cleanup() == PLUM_ERR_FAILED
  for session in 1 .. 3:
    doAssert plum_init(addr config) == PLUM_ERR_SUCCESS
    doAssert plum_init(addr config) == PLUM_ERR_FAILED

    # Many callbacks, so that the thread's heap is set up and torn down often.
    var mappings: seq[Mapping]
    for n in 0 ..< 50:
      let transport = if n mod 2 == 0: PLUM_IP_PROTOCOL_TCP else: PLUM_IP_PROTOCOL_UDP
      mappings.add newMapping(transport, uint16(8000 + n div 2))
    for n, mapping in mappings:
      doAssert mapping.id >= 0
      doAssert mapping.await(1) == @[PLUM_STATE_SUCCESS]
      doAssert mapping.external() == ("203.0.113.7", uint16(8000 + n div 2), PLUM_MAPPING_PROTOCOL_PCP)

    # The gateway of the test has an IPv4 address, so that pinholes for IPv6 fail.
    let pinhole = newMapping(PLUM_IP_PROTOCOL_TCP, 8000, "::")
    doAssert pinhole.await(1) == @[PLUM_STATE_FAILURE]

    var
      state: plum_state_t
      seen: plum_mapping_t
    doAssert plum_query_mapping(mappings[0].id, addr state, addr seen) == PLUM_ERR_SUCCESS
    doAssert state == PLUM_STATE_SUCCESS
    doAssert seen.internal_port == 8000 and seen.external_port == 8000
    doAssert plum_query_mapping(-1, addr state, nil) == PLUM_ERR_INVALID

    # Half of them by destroy, the rest by cleanup.
    for mapping in mappings[0 ..< 25]:
      doAssert plum_destroy_mapping(mapping.id) == PLUM_ERR_SUCCESS
      doAssert mapping.await(2) == @[PLUM_STATE_SUCCESS, PLUM_STATE_DESTROYED]
      doAssert plum_query_mapping(mapping.id, addr state, nil) == PLUM_ERR_NOT_AVAIL
    doAssert plum_cleanup() == PLUM_ERR_SUCCESS
    for mapping in mappings:
      doAssert mapping.await(2) == @[PLUM_STATE_SUCCESS, PLUM_STATE_DESTROYED]
      mapping.free()
    doAssert pinhole.await(2) == @[PLUM_STATE_FAILURE, PLUM_STATE_DESTROYED]
    pinhole.free()

    let refused = newMapping(PLUM_IP_PROTOCOL_TCP, 8000)
    doAssert refused.id == PLUM_ERR_FAILED
    refused.free()
  doAssert octetsAllocated() > 0

  doAssert plum_get_local_address(nil, 1) == PLUM_ERR_INVALID
  let length = plum_get_local_address(nil, 0)
  doAssert length > 0 or length == PLUM_ERR_NOT_AVAIL
  echo "replaced: done"

main()
