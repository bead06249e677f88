//! The C API's types and constants, as cbindgen prints them into include/plum.h.
//!
//! Rust names are the C names, so that one search finds both sides. An enum that comes from the program is a
//! `MaybeUninit` of it: in C any `int` may stand there, a Rust enum must never hold one that is out of range.
//! It is read as a `c_int` and converted by [`super::read`].
//!
//! The condition `plum_abi` (build.rs) chooses the ABI. A paragraph of a comment that begins with "ABI 0.5:" or "ABI 0.6:" is for the
//! headers of those ABIs alone, and stands there without these words.

#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;

/// Done.
pub const PLUM_ERR_SUCCESS: c_int = 0;
/// An argument is not valid.
pub const PLUM_ERR_INVALID: c_int = -1;
/// It cannot be done now: the library is not initialised, or already is, or an internal error.
pub const PLUM_ERR_FAILED: c_int = -2;
/// What was asked for does not exist: an unknown mapping, no local address, no certificate.
pub const PLUM_ERR_NOT_AVAIL: c_int = -3;

/// Size of plum_mapping_t.external_host in bytes, its NUL included.
pub const PLUM_MAX_HOST_LEN: usize = 256;
/// A buffer of this size in bytes holds every address of plum_get_local_address(), its NUL included.
pub const PLUM_MAX_ADDRESS_LEN: usize = 64;

/// How much a log message matters. As a threshold: messages of this level and above are logged.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum plum_log_level_t {
    /// Packets, drops, timers.
    PLUM_LOG_LEVEL_VERBOSE = 0,
    /// Decisions of the library.
    PLUM_LOG_LEVEL_DEBUG = 1,
    /// What a user may want to know.
    PLUM_LOG_LEVEL_INFO = 2,
    /// It works, but not as wished.
    PLUM_LOG_LEVEL_WARN = 3,
    /// It does not work.
    PLUM_LOG_LEVEL_ERROR = 4,
    /// A defect of the library.
    PLUM_LOG_LEVEL_FATAL = 5,
    /// As a threshold: log nothing. No message has this level.
    PLUM_LOG_LEVEL_NONE = 6,
}

/// Takes one log message: NUL-terminated UTF-8 without newline, valid only during the call.
///
/// It runs on whatever thread has something to log, also on the program's own inside a library call. Calls never
/// overlap. Inside it, plum_init() and plum_cleanup() return PLUM_ERR_FAILED, plum_destroy_mapping() does not wait,
/// and what the calls made inside it would log is dropped. No call comes after plum_cleanup() has returned.
pub type plum_log_callback_t = Option<unsafe extern "C" fn(level: plum_log_level_t, message: *const c_char)>;

/// The protocols that may be used.
#[cfg(plum_abi = "0.6.2")]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum plum_protocol_t {
    /// All of them, in the order PCP, NAT-PMP, UPnP-IGD.
    PLUM_PROTOCOL_ANY = 0,
    /// PCP and NAT-PMP only.
    PLUM_PROTOCOL_PCP = 1,
    /// UPnP-IGD only.
    PLUM_PROTOCOL_UPNP = 2,
}

/// What plum_init() is told. All zero is a valid configuration.
#[repr(C)]
pub struct plum_config_t {
    /// Messages below this level are not logged. 0 is PLUM_LOG_LEVEL_VERBOSE: everything is.
    pub log_level: MaybeUninit<plum_log_level_t>,
    /// Takes the log messages. NULL: they go to standard output, one line each.
    pub log_callback: plum_log_callback_t,
    /// Domain of a DummyTLS service, at most 253 bytes, copied. With it the host reported for address 1.2.3.4 is
    /// `1-2-3-4.DOMAIN` (of 2600::1 `2600--1.DOMAIN`) if that name resolves to it. NULL or empty: the host is the address.
    pub dummytls_domain: *const c_char,
    /// The longest that finding a gateway may take, in milliseconds. 0 or negative: 10000.
    #[cfg(not(plum_abi = "0.5"))]
    pub discover_timeout: c_int,
    /// The longest that making one mapping may take at a known gateway, in milliseconds. 0 or negative: 10000.
    #[cfg(not(plum_abi = "0.5"))]
    pub mapping_timeout: c_int,
    /// How often the gateway and failed mappings are looked at again, in milliseconds, at least 100.
    /// 0 or negative: 300000.
    #[cfg(not(plum_abi = "0.5"))]
    pub recheck_period: c_int,
    /// The protocols that may be used. A value out of range counts as ANY, and is logged as a warning.
    #[cfg(plum_abi = "0.6.2")]
    pub protocol: MaybeUninit<plum_protocol_t>,
}

/// The transport whose port is mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum plum_ip_protocol_t {
    /// TCP.
    PLUM_IP_PROTOCOL_TCP = 0,
    /// UDP.
    PLUM_IP_PROTOCOL_UDP = 1,
}

/// The state of a mapping.
///
/// It starts as PENDING, becomes SUCCESS or FAILURE, may change between these three any number of times, and ends by
/// DESTROYING and DESTROYED.
///
/// ABI 0.6: Callbacks tell of SUCCESS, FAILURE and DESTROYED only.
///
/// ABI 0.5: Callbacks tell of SUCCESS and FAILURE only.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum plum_state_t {
    /// ABI 0.6: It is gone: the last callback of its id. plum_query_mapping() returns PLUM_ERR_NOT_AVAIL.
    ///
    /// ABI 0.5: It is gone: plum_query_mapping() returns PLUM_ERR_NOT_AVAIL.
    PLUM_STATE_DESTROYED = 0,
    /// It is being made, or made anew after it was lost.
    PLUM_STATE_PENDING = 1,
    /// It is made: the external host and port lead here.
    PLUM_STATE_SUCCESS = 2,
    /// No gateway can make it for now. The library goes on trying: SUCCESS may follow.
    PLUM_STATE_FAILURE = 3,
    /// plum_destroy_mapping() or plum_cleanup() was called: it is being removed.
    PLUM_STATE_DESTROYING = 4,
}

/// Who made a mapping.
#[cfg(not(plum_abi = "0.5"))]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum plum_mapping_protocol_t {
    /// Nobody: the state is not SUCCESS.
    PLUM_MAPPING_PROTOCOL_UNKNOWN = 0,
    /// The gateway, by PCP.
    PLUM_MAPPING_PROTOCOL_PCP = 1,
    /// The gateway, by NAT-PMP.
    PLUM_MAPPING_PROTOCOL_NATPMP = 2,
    /// The gateway, by UPnP-IGD (a pinhole by its WANIPv6FirewallControl).
    PLUM_MAPPING_PROTOCOL_UPNP = 3,
    /// The local address is public, and no gateway stands in the way.
    PLUM_MAPPING_PROTOCOL_DIRECT = 4,
}

/// A mapping, as the program asks for it and as it is told of it.
#[repr(C)]
pub struct plum_mapping_t {
    /// The transport. Always what the program gave.
    pub protocol: MaybeUninit<plum_ip_protocol_t>,
    /// Who made the mapping. On SUCCESS only, else UNKNOWN; plum_create_mapping() ignores it.
    #[cfg(not(plum_abi = "0.5"))]
    pub mapping_protocol: MaybeUninit<plum_mapping_protocol_t>,
    /// The port on this machine, 1 to 65535. Always what the program gave.
    pub internal_port: u16,
    /// In plum_create_mapping() the external port wished for, 0: no wish. From the library on SUCCESS the external
    /// port, else 0.
    pub external_port: u16,
    /// In plum_create_mapping() the external IPv4 address wished for, or an IPv6 address: a pinhole. What is no IP
    /// address is ignored; at most PLUM_MAX_HOST_LEN bytes are read. From the library on SUCCESS the external address (IPv6
    /// as in RFC 5952, no zone, no brackets) or its DummyTLS name, else the empty string; always ends in NUL.
    pub external_host: [c_char; PLUM_MAX_HOST_LEN],
    /// The program's own, handed back as it was given.
    pub user_ptr: *mut c_void,
}

/// ABI 0.6: Is told what became of a mapping: the state is SUCCESS, FAILURE or DESTROYED.
///
/// ABI 0.5: Is told what became of a mapping: the state is SUCCESS or FAILURE.
///
/// `mapping` is never NULL and valid only during the call.
///
/// SUCCESS comes when the mapping is first made, and again when its external host, port or protocol changed or
/// when it had been lost and was made anew; an uneventful renewal is silent. FAILURE comes once when no gateway can
/// make it; the library goes on trying, so SUCCESS may follow.
///
/// ABI 0.6: DESTROYED comes exactly once for every mapping, as the last callback of its id.
///
/// ABI 0.5: None comes any more once plum_destroy_mapping() has returned: what the callback uses may be freed then.
///
/// It runs on the library's worker thread, one callback at a time, with no lock of the library held, and may run
/// before plum_create_mapping() has returned. Inside it every function but plum_cleanup() may be called, on any
/// mapping, its own included. A slow callback delays other callbacks, never the program's calls of
/// plum_query_mapping() or plum_create_mapping().
pub type plum_mapping_callback_t =
    Option<unsafe extern "C" fn(id: c_int, state: plum_state_t, mapping: *const plum_mapping_t)>;

/// The files of a DummyTLS service.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum plum_dummytls_cert_type_t {
    /// cert.pem: the certificate.
    PLUM_DUMMYTLS_PEM_CERT = 0,
    /// chain.pem: the certificates that lead from it to a root.
    PLUM_DUMMYTLS_PEM_CHAIN = 1,
    /// fullchain.pem: both.
    PLUM_DUMMYTLS_PEM_FULLCHAIN = 2,
    /// privkey.pem: the private key. (It is public: DummyTLS gives no secrecy.)
    PLUM_DUMMYTLS_PEM_PRIVKEY = 3,
}
