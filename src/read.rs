//! From the program's values to the client's: `None` is bad input.

use super::memory::{raw, read_bytes};
use super::types::{
    PLUM_MAX_HOST_LEN, plum_config_t, plum_dummytls_cert_type_t, plum_log_level_t, plum_mapping_t,
};
use plum_engine::io::{Allowed, OnCleanup, Suggestion, Wanted};
use plum_runtime::client::Settings;
use plum_runtime::dummytls::File;
use plum_runtime::log::Level;
use plum_wire::Transport;
use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

/// RFC 1035 §2.3.4: a name has at most 255 octets on the wire, which are 253 in text. One more shows that it is longer.
const DOMAIN_LIMIT: usize = 254;

/// A log threshold; `Some(None)` is PLUM_LOG_LEVEL_NONE.
///
/// # Safety
///
/// It is set, to whatever value.
pub(super) unsafe fn threshold(level: &MaybeUninit<plum_log_level_t>) -> Option<Option<Level>> {
    // SAFETY: the same contract.
    match unsafe { raw(level) } {
        0 => Some(Some(Level::Verbose)),
        1 => Some(Some(Level::Debug)),
        2 => Some(Some(Level::Info)),
        3 => Some(Some(Level::Warn)),
        4 => Some(Some(Level::Error)),
        5 => Some(Some(Level::Fatal)),
        6 => Some(None),
        _ => None,
    }
}

/// A level, as the program's log callback gets it.
fn log_level(level: Level) -> plum_log_level_t {
    match level {
        Level::Verbose => plum_log_level_t::PLUM_LOG_LEVEL_VERBOSE,
        Level::Debug => plum_log_level_t::PLUM_LOG_LEVEL_DEBUG,
        Level::Info => plum_log_level_t::PLUM_LOG_LEVEL_INFO,
        Level::Warn => plum_log_level_t::PLUM_LOG_LEVEL_WARN,
        Level::Error => plum_log_level_t::PLUM_LOG_LEVEL_ERROR,
        Level::Fatal => plum_log_level_t::PLUM_LOG_LEVEL_FATAL,
    }
}

/// The configuration of `plum_init`.
///
/// # Safety
///
/// As of `plum_init`: the fields are set, the domain is NULL or readable up to its NUL (or as far as it is looked at: for
/// [`DOMAIN_LIMIT`] bytes), the callback may be called on any thread until `plum_cleanup` returns, and always returns.
pub(super) unsafe fn settings(config: &plum_config_t) -> Option<Settings> {
    let log_callback = config.log_callback.map(|callback| -> plum_runtime::log::Callback {
        Arc::new(move |level: Level, message: &CStr| {
            // SAFETY: the program's function, with the arguments of its type, the message valid during the call; the log calls it
            // between `plum_init` and the end of `plum_cleanup` only.
            unsafe { callback(log_level(level), message.as_ptr()) }
        })
    });
    let domain = config.dummytls_domain;
    let mut errors = Vec::new();
    let [discover_timeout_millis, mapping_timeout_millis, recheck_interval_millis] = times_millis(config);
    Some(Settings {
        library: concat!("libplum ", env!("CARGO_PKG_VERSION"), " (ABI ", env!("PLUM_ABI_VERSION"), ")"),
        // SAFETY: the field is set, by the contract.
        log_level: unsafe { threshold(&config.log_level) }?,
        log_callback,
        dummytls_domain: if domain.is_null() {
            None
        } else {
            // SAFETY: a string, says the contract; so readable up to its NUL.
            Some(unsafe { read_bytes(domain, DOMAIN_LIMIT) })
        },
        discover_timeout_millis,
        mapping_timeout_millis,
        recheck_interval_millis,
        // SAFETY: the field is set, by the contract.
        allowed: unsafe { allowed(config) }.unwrap_or_else(|number| {
            errors.push((Level::Warn, format!(
                "the configured protocol is {number}, which names none: any may be used (zero the whole configuration before filling it in)"
            )));
            Allowed::Any
        }),
        // Programs of that time call plum_cleanup() when they have their port, and go on to use it.
        on_cleanup: if cfg!(plum_abi = "0.5") { OnCleanup::Keep } else { OnCleanup::Remove },
        errors,
        ..Settings::default()
    })
}

/// `discover_timeout`, `mapping_timeout`, `recheck_period`.
#[cfg(not(plum_abi = "0.5"))]
fn times_millis(config: &plum_config_t) -> [c_int; 3] {
    [config.discover_timeout, config.mapping_timeout, config.recheck_period]
}

/// Programs of that time had no choice: the defaults.
#[cfg(plum_abi = "0.5")]
fn times_millis(_: &plum_config_t) -> [c_int; 3] {
    [0; 3]
}

/// The protocols that may be used; `Err` is a number that names none. Programs made for ABI 0.6.0, whose struct has padding there,
/// leave one behind.
///
/// # Safety
///
/// `protocol` is set, to whatever value.
#[cfg(plum_abi = "0.6.2")]
unsafe fn allowed(config: &plum_config_t) -> Result<Allowed, c_int> {
    // SAFETY: the same contract.
    match unsafe { raw(&config.protocol) } {
        0 => Ok(Allowed::Any),
        1 => Ok(Allowed::Pcp),
        2 => Ok(Allowed::Upnp),
        number => Err(number),
    }
}

/// Programs of that time had no choice. Where the field stands today, those of 0.6.0 have padding: anything may be in it.
///
/// # Safety
///
/// None is needed: nothing is read.
#[cfg(not(plum_abi = "0.6.2"))]
unsafe fn allowed(_: &plum_config_t) -> Result<Allowed, c_int> {
    Ok(Allowed::Any)
}

/// The mapping that `plum_create_mapping` is to make.
///
/// # Safety
///
/// As of `plum_create_mapping`: `mapping` points to a mapping, aligned, whose fields are set but `mapping_protocol`, its host up to
/// the NUL, and which nobody writes to meanwhile.
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "the fields of one struct have one contract")]
pub(super) unsafe fn wanted(mapping: *const plum_mapping_t) -> Option<Wanted> {
    // SAFETY: readable and set, by the contract. Field by field, since the rest of the host need not be set.
    let (transport, internal_port, external_port, host) = unsafe {
        (
            raw(&(*mapping).protocol),
            (*mapping).internal_port,
            (*mapping).external_port,
            read_bytes((&raw const (*mapping).external_host).cast::<c_char>(), PLUM_MAX_HOST_LEN),
        )
    };
    Some(Wanted {
        transport: match transport {
            0 => Transport::Tcp,
            1 => Transport::Udp,
            _ => return None,
        },
        internal_port: NonZeroU16::new(internal_port)?,
        wish: Suggestion {
            address: address(&host),
            port: NonZeroU16::new(external_port),
            ..Suggestion::default()
        },
        description: None,
    })
}

/// An IP address in text.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A file of the DummyTLS service.
///
/// # Safety
///
/// It is set, to whatever value.
pub(super) unsafe fn certificate_file(kind: &MaybeUninit<plum_dummytls_cert_type_t>) -> Option<File> {
    // SAFETY: the same contract.
    match unsafe { raw(kind) } {
        0 => Some(File::Certificate),
        1 => Some(File::Chain),
        2 => Some(File::FullChain),
        3 => Some(File::PrivateKey),
        _ => None,
    }
}
