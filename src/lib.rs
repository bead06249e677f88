//! The C API: pointers, enums, buffers and the panic boundary. What the functions do is `client`'s.
//!
//! `include/plum.h` is made of this module by cbindgen: the comments here are the ones that C programmers read.

#![warn(missing_docs)]
// One operation a block, so that the comment on it states the contract of that operation.
#![warn(clippy::multiple_unsafe_ops_per_block)]

mod boundary;
mod listener;
mod memory;
mod read;
mod types;

pub use types::*;

use boundary::enter;
use listener::{CListener, shown};
use memory::{Buffer, read_bytes};
use plum_runtime::client::{Client, Error, QueriedState};
use plum_runtime::net::PerProcess;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;

/// The one client of the process. The child of a fork has one of its own.
fn client() -> &'static Client<CListener> {
    static CLIENT: PerProcess<Client<CListener>> = PerProcess::new();
    CLIENT.get(Client::after)
}

/// What C calls an error.
fn error_number(error: Error) -> c_int {
    match error {
        Error::Invalid => PLUM_ERR_INVALID,
        Error::Failed | Error::NoMemory => PLUM_ERR_FAILED,
        Error::NotAvailable => PLUM_ERR_NOT_AVAIL,
    }
}

/// What a function returns that gives nothing but success.
fn done(result: Result<(), Error>) -> c_int {
    result.map_or_else(error_number, |()| PLUM_ERR_SUCCESS)
}

/// Initialises the library: starts its worker thread. Returns at once; nothing is sent before the first mapping
/// is created. Two environment variables are read here: PLUM_GATEWAY (`ADDR`, `ADDR:PORT`, `[ADDR]:PORT`; a link-local
/// address may have a zone, `[fe80::1%eth0]`) names the gateway, in place of the one of the default route, and mappings
/// of the other IP version fail; PLUM_ON_CLEANUP (`keep`, `remove`) is what plum_cleanup() does.
///
/// `config` is read and copied during the call; the log callback in it may be called until plum_cleanup() returns.
///
/// Returns PLUM_ERR_SUCCESS; PLUM_ERR_INVALID if `config` is NULL or its log level is out of range; PLUM_ERR_FAILED,
/// and nothing changes, if the library is initialised already or being cleaned up, from inside a log callback, or if
/// no thread can be started or there is no memory for it.
///
/// # Safety
///
/// `config` is NULL or points to a configuration whose fields are all set, its domain NULL or a string that ends
/// in NUL; nobody writes to them during the call. The log callback returns: no exception, no longjmp() leaves it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plum_init(config: *const plum_config_t) -> c_int {
    enter(|| {
        // SAFETY: NULL, or aligned and set and not written to during the call, by the contract above.
        let config = unsafe { config.as_ref() };
        // SAFETY: the fields are set and the callback may be called, by the contract above.
        let mut settings = config.and_then(|config| unsafe { read::settings(config) });
        if let Some(settings) = &mut settings {
            settings.read_gateway();
            settings.read_on_cleanup();
        }
        done(client().init(settings))
    })
}

/// Ends what plum_init() began: destroys every mapping (best effort at the gateway, 5 seconds at most) and ends the
/// worker thread. After its return no callback of any kind comes, and plum_init() may be called again. From its start
/// plum_init() and plum_create_mapping() return PLUM_ERR_FAILED. A second plum_cleanup() at the same time waits for the
/// first.
///
/// ABI 0.6: All mappings are removed at the gateway; with PLUM_ON_CLEANUP=keep in the environment those in the state
/// SUCCESS stay there until their lifetime ends (two hours, as a rule; on some routers for ever), and nobody renews them.
/// The callback of each mapping is called with DESTROYED before plum_cleanup() returns.
///
/// ABI 0.5: Mappings in the state SUCCESS stay on the gateway until their lifetime ends (two hours, as a rule; on some
/// routers for ever), and nobody renews them: programs of that time call plum_cleanup() once they have their port, and
/// go on to use it. All others are removed; with PLUM_ON_CLEANUP=remove in the environment all are.
///
/// It waits for running callbacks: do not hold a lock here that a callback takes.
///
/// Returns PLUM_ERR_SUCCESS; PLUM_ERR_FAILED if the library is not initialised, or, changing nothing, from inside a callback.
#[unsafe(no_mangle)]
pub extern "C" fn plum_cleanup() -> c_int {
    enter(|| done(client().cleanup()))
}

/// Creates a mapping: asks the gateway to pass connections or datagrams that arrive at an external port on to a
/// port of this machine, until the mapping is destroyed. Returns at once; the work is the worker thread's.
///
/// `mapping` is copied. Set `protocol`, `internal_port` and `user_ptr`; `external_port` and `external_host` are a wish
/// that the gateway may ignore (0 and the empty string: none). `callback` may be NULL: then poll with
/// plum_query_mapping().
///
/// An IPv6 address in `external_host` asks for a pinhole through the gateway's firewall, not for a mapping of IPv4: "::" to an
/// address of this machine that the library chooses, one of its addresses to that, the external host of a live pinhole
/// to where that leads. Another address is FAILURE until the machine has it; loopback, link-local, multicast,
/// Teredo and 6to4 addresses always are. Mappings of both IP versions may have the same port.
///
/// Returns the id of the mapping, >= 0 and never given out twice in a process; PLUM_ERR_INVALID if `mapping` is NULL, its
/// `internal_port` is 0 or its `protocol` neither TCP nor UDP; PLUM_ERR_FAILED if the library is not
/// initialised or being cleaned up, the ids are used up, or there is no memory for its entry. After a negative result no
/// callback comes.
///
/// If the worker has no memory for a mapping, its state is FAILURE, and it is tried again every 5 seconds. A reply of the
/// network for which there is no memory counts as cut off, a log message is cut or lost. All other allocations are small (most
/// some hundred bytes, none more than 64 KiB): if one of them fails, the process ends.
///
/// # Safety
///
/// `mapping` is NULL or points to a mapping whose fields named above are set, the host up to its NUL; nobody writes to
/// them during the call. `callback` is NULL or may be called on another thread as long as the mapping lives; it returns: no
/// exception, no longjmp() leaves it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plum_create_mapping(
    mapping: *const plum_mapping_t,
    callback: plum_mapping_callback_t,
) -> c_int {
    enter(|| {
        if let Err(error) = client().check_running() {
            return error_number(error);
        }
        if mapping.is_null() {
            return PLUM_ERR_INVALID;
        }
        // SAFETY: not NULL, so valid, by the contract above.
        let Some(wanted) = (unsafe { read::wanted(mapping) }) else { return PLUM_ERR_INVALID };
        // SAFETY: not NULL, so valid, and the field is set, by the contract above.
        let user_ptr = unsafe { (*mapping).user_ptr };
        // SAFETY: the callback may be called, by the contract above.
        let listener = unsafe { CListener::new(callback, user_ptr) };
        client().create(wanted, listener).unwrap_or_else(error_number)
    })
}

/// Looks at a mapping. Never waits for a callback, and never logs.
///
/// `state` and `mapping` are written on success only; either may be NULL. What the gateway gave is set in the state
/// SUCCESS, else `external_host` is "" and `external_port` 0.
///
/// Returns PLUM_ERR_SUCCESS; PLUM_ERR_FAILED if the library is not initialised; PLUM_ERR_INVALID if `id` is negative;
/// PLUM_ERR_NOT_AVAIL if the mapping is unknown or destroyed.
///
/// # Safety
///
/// `state` and `mapping` are each NULL or writable; nobody else uses them during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plum_query_mapping(
    id: c_int,
    state: *mut MaybeUninit<plum_state_t>,
    mapping: *mut plum_mapping_t,
) -> c_int {
    enter(|| {
        let seen = match client().query(id) {
            Ok(seen) => seen,
            Err(error) => return error_number(error),
        };
        if !state.is_null() {
            // SAFETY: aligned and writable, by the contract above. What stood there is not read.
            unsafe { state.write(MaybeUninit::new(shown(&seen.state))) }
        }
        if !mapping.is_null() {
            let external = match &seen.state {
                QueriedState::Success(external) => Some(external),
                QueriedState::Pending | QueriedState::Failure | QueriedState::Destroying => None,
            };
            // SAFETY: aligned and writable, by the contract above. Where the program let the two overlap, this one wins.
            unsafe { mapping.write(seen.listener.mapping(&seen.wanted, external)) }
        }
        PLUM_ERR_SUCCESS
    })
}

/// Destroys a mapping: the worker thread removes it at the gateway, within about a second. Destroying a mapping that
/// is being destroyed already is no error.
///
/// If a SUCCESS or FAILURE callback of this very mapping is running on the worker thread, it waits for that callback to
/// end (do not hold a lock here that the callback takes); it waits for nothing else, and not at all from inside a
/// callback.
///
/// ABI 0.6: After its return on any other thread no SUCCESS or FAILURE callback of the mapping is running or will
/// ever run: what only those use may be freed. DESTROYED is still to come, once, as the last callback of the mapping.
///
/// ABI 0.5: After its return on any other thread no callback of the mapping is running or will ever run: what only
/// that uses may be freed.
///
/// Returns PLUM_ERR_SUCCESS; PLUM_ERR_FAILED if the library is not initialised; PLUM_ERR_INVALID if `id` is negative;
/// PLUM_ERR_NOT_AVAIL if the mapping is unknown or destroyed.
#[unsafe(no_mangle)]
pub extern "C" fn plum_destroy_mapping(id: c_int) -> c_int {
    enter(|| done(client().destroy(id)))
}

/// Writes the address of this machine that is used toward the internet, as text; without an IPv4 route the IPv6 address
/// that the library would choose for a pinhole. Needs no plum_init() and sends nothing.
///
/// Returns the length of the address, as snprintf() does (PLUM_MAX_ADDRESS_LEN bytes are always enough);
/// PLUM_ERR_INVALID if `buffer` is NULL and `size` is not 0; PLUM_ERR_NOT_AVAIL if there is no route to the internet.
///
/// # Safety
///
/// `buffer` is NULL or writable for `size` bytes, and nobody else uses it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plum_get_local_address(buffer: *mut c_char, size: usize) -> c_int {
    enter(|| {
        // SAFETY: by the contract above.
        let Some(buffer) = (unsafe { Buffer::new(buffer, size) }) else { return PLUM_ERR_INVALID };
        match plum_runtime::client::local_address() {
            Some(address) => buffer.write(&address.to_string()),
            None => PLUM_ERR_NOT_AVAIL,
        }
    })
}

/// Writes a file of the DummyTLS service of plum_config_t.dummytls_domain, fetched from http://DOMAIN/ when it was
/// not within the last day. May block the caller for some seconds, 10 at most; needs no mapping.
///
/// Returns the length of the file, as snprintf() does; PLUM_ERR_INVALID if `type` is unknown or `buffer` is NULL and
/// `size` is not 0; else PLUM_ERR_FAILED if the library is not initialised or no domain is configured; PLUM_ERR_NOT_AVAIL
/// if the file cannot be fetched whole, or what comes is no PEM of its kind.
///
/// # Safety
///
/// `type` has a value, whichever; `buffer` is NULL or writable for `size` bytes, and nobody else uses it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plum_get_dummytls_certificate(
    r#type: MaybeUninit<plum_dummytls_cert_type_t>,
    buffer: *mut c_char,
    size: usize,
) -> c_int {
    enter(|| {
        // SAFETY: set, by the contract above.
        let Some(file) = (unsafe { read::certificate_file(&r#type) }) else { return PLUM_ERR_INVALID };
        // SAFETY: by the contract above.
        let Some(buffer) = (unsafe { Buffer::new(buffer, size) }) else { return PLUM_ERR_INVALID };
        let dummytls = match client().dummytls() {
            Ok(dummytls) => dummytls,
            Err(error) => return error_number(error),
        };
        dummytls.file(file).map_or(PLUM_ERR_NOT_AVAIL, |text| buffer.write(&text))
    })
}

/// Writes the host that is reported for an external address: `1-2-3-4.DOMAIN` for `1.2.3.4`, `2600--1.DOMAIN` for `2600::1`,
/// `0--1.DOMAIN` for `::1`, if that name resolves to the address, else the address. May block the caller for one second.
///
/// `address` is an IPv4 or IPv6 address in text that ends in NUL.
///
/// Returns the length of the host, as snprintf() does; PLUM_ERR_INVALID if `address` is NULL or no address, or `buffer` is
/// NULL and `size` is not 0; else PLUM_ERR_FAILED if the library is not initialised or no domain is configured.
///
/// # Safety
///
/// `address` is NULL or a string that ends in NUL, `buffer` is NULL or writable for `size` bytes, and nobody else uses it
/// during the call. The two may overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plum_get_dummytls_host(
    address: *const c_char,
    buffer: *mut c_char,
    size: usize,
) -> c_int {
    enter(|| {
        if address.is_null() {
            return PLUM_ERR_INVALID;
        }
        // SAFETY: not NULL, so a string, by the contract above. It is copied before anything is written.
        let address = unsafe { read_bytes(address, PLUM_MAX_HOST_LEN) };
        let Some(address) = read::address(&address) else { return PLUM_ERR_INVALID };
        // SAFETY: by the contract above.
        let Some(buffer) = (unsafe { Buffer::new(buffer, size) }) else { return PLUM_ERR_INVALID };
        match client().dummytls() {
            Ok(dummytls) => buffer.write(&dummytls.host(address)),
            Err(error) => error_number(error),
        }
    })
}

/// Sets the log threshold, at once. Has an effect between plum_init() and plum_cleanup() only, and none if `level` is
/// out of range.
///
/// # Safety
///
/// `level` has a value, whichever.
#[cfg(plum_abi = "0.6.2")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plum_set_log_level(level: MaybeUninit<plum_log_level_t>) {
    enter(|| {
        // SAFETY: by the contract above.
        if let Some(threshold) = unsafe { read::threshold(&level) } {
            client().set_log_level(threshold);
        }
    });
}
