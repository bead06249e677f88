//! The calls, each with the results that the contract allows where it is called from.

use super::books::{self, Context, LIVE, Tally, count};
use super::callbacks::{IS_PROGRAM, Record, Slot, on_mapping, on_message};
use fastrand::Rng;
use plum::*;
use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Mappings of one thread, and of all: so that the books stay small and cleanup quick.
const OWN_MAX: usize = 30;
const LIVE_MAX: usize = 1000;

/// An enum as C sees it: any int.
pub fn int<E>(value: c_int) -> MaybeUninit<E> {
    assert_eq!(size_of::<E>(), size_of::<c_int>());
    let mut out = MaybeUninit::<E>::uninit();
    // SAFETY: as large as an int, and never read as an E.
    unsafe { out.as_mut_ptr().cast::<c_int>().write(value) };
    out
}

/// The int of an enum that the library wrote.
fn number<E>(value: &MaybeUninit<E>) -> c_int {
    // SAFETY: the library set it, and it is as large as an int.
    unsafe { value.as_ptr().cast::<c_int>().read() }
}

/// A mapping that a thread has created.
struct Own {
    id: c_int,
    port: u16,
    user_ptr: usize,
    slot: Option<Arc<Slot>>,
}

/// A thread of the program's: calls whatever comes to its mind until it is told to stop. A calm one neither ends sessions nor
/// destroys mappings.
pub fn call_everything(mut random: Rng, calm: bool, stop: &AtomicBool) {
    IS_PROGRAM.set(true);
    let random = &mut random;
    let mut own: Vec<Own> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match random.u32(..1024) {
            0..60 => init(random, Context::Program),
            60 if !calm && random.u8(..4) == 0 => {
                cleanup(Context::Program);
                for one in own.drain(..) {
                    books::check_destroyed(one.id);
                }
            }
            61..180 if own.len() < OWN_MAX => own.extend(create(random, Context::Program)),
            61..260 if !calm && own.len() > OWN_MAX / 2 => {
                // The oldest as a rule, since it has most likely been told something.
                let any = random.usize(..own.len());
                destroy_own(own.remove(if random.u8(..4) > 0 { 0 } else { any }));
            }
            500..520 if !calm => {
                count(Tally::DestroysOfOthers);
                let id = any_id(random);
                if destroy(Context::Program, id) == PLUM_ERR_SUCCESS {
                    books::quiet(id);
                }
            }
            520..660 if !own.is_empty() => query_own(&own[random.usize(..own.len())]),
            520..760 => drop(query(Context::Program, any_id(random))),
            760..780 => local_address(random),
            780..783 => certificate(random),
            783..790 => host(random),
            790..820 => set_level(random),
            // Now and then the worker gets to its work, and mappings get older.
            820..870 => std::thread::sleep(Duration::from_micros(random.u64(0..4000))),
            _ => std::thread::yield_now(),
        }
    }
}

/// A few calls from inside a callback that was called for `id` (or for none).
pub fn any_from_inside(random: &mut Rng, context: Context, id: c_int) {
    match random.u32(..64) {
        0..4 => cleanup(context),
        4..8 => init(random, context),
        8..16 if LIVE.load(Ordering::Relaxed) < LIVE_MAX => {
            count(if context == Context::Log { Tally::CreatesInLog } else { Tally::CreatesInCallbacks });
            let created = create(random, context);
            // One that is destroyed by whoever made it, at once.
            if let Some(one) = created.filter(|_| random.bool()) {
                let _ = destroy(context, one.id);
            }
        }
        16..24 => {
            count(if context == Context::Log { Tally::DestroysInLog } else { Tally::DestroysInCallbacks });
            let _ = destroy(context, id);
        }
        24..28 => drop(destroy(context, any_id(random))),
        28..32 => drop(query(context, any_id(random))),
        32..34 => local_address(random),
        34 => host(random),
        35..37 => set_level(random),
        _ => {}
    }
}

/// One of the latest as a rule, an old, negative or unknown one at times.
fn any_id(random: &mut Rng) -> c_int {
    let end = books::ids();
    match random.u8(..16) {
        0 => random.i32(..),
        1 => random.i32(0..end.max(1)),
        _ => end - random.i32(0..64),
    }
}

/// A domain whose names cannot even be asked for: a label of more than 63 octets (RFC 1035 §2.3.4). So no question leaves the machine.
fn domain() -> CString {
    CString::new("x".repeat(70)).expect("no NUL")
}

fn init(random: &mut Rng, context: Context) {
    let domain = domain();
    let config = plum_config_t {
        log_level: int(random.choice([0, 0, 1, 2, 6]).unwrap_or(0)),
        log_callback: Some(on_message),
        dummytls_domain: if random.bool() { domain.as_ptr() } else { null() },
        discover_timeout: random.i32(0..2000),
        mapping_timeout: random.i32(0..2000),
        recheck_period: random.i32(0..200),
        // Out of range too: then it means any.
        protocol: int(random.i32(-1..4)),
    };
    if random.u8(..16) == 0 {
        let bad = plum_config_t { log_level: int(random.choice([-1, 7, c_int::MAX]).unwrap_or(7)), ..config };
        let bad = if random.bool() { &raw const bad } else { null() };
        // SAFETY: NULL, or valid for the call.
        let result = unsafe { plum_init(bad) };
        let expected = if context == Context::Log { PLUM_ERR_FAILED } else { PLUM_ERR_INVALID };
        assert_eq!(result, expected, "init with a bad configuration, {context:?}");
        return;
    }
    // SAFETY: valid for the call, and the log callback for ever.
    let result = unsafe { plum_init(&raw const config) };
    match result {
        PLUM_ERR_SUCCESS if context == Context::Program => count(Tally::Inits),
        PLUM_ERR_FAILED => count(Tally::InitsRefused),
        other => panic!("plum_init returned {other}, {context:?}"),
    }
}

pub fn cleanup(context: Context) {
    match plum_cleanup() {
        PLUM_ERR_SUCCESS if context == Context::Program => count(Tally::Cleanups),
        PLUM_ERR_FAILED => count(Tally::CleanupsRefused),
        other => panic!("plum_cleanup returned {other}, {context:?}"),
    }
}

fn create(random: &mut Rng, context: Context) -> Option<Own> {
    if random.u8(..32) == 0 {
        let bad = wanted(0, null_mut());
        let bad = if random.bool() { &raw const bad } else { null() };
        // SAFETY: NULL, or valid for the call.
        let result = unsafe { plum_create_mapping(bad, Some(on_mapping)) };
        assert!(matches!(result, PLUM_ERR_INVALID | PLUM_ERR_FAILED), "{result}, {context:?}");
        return None;
    }
    count(Tally::Creates);
    // Few ports, so that keys are shared, deleted and taken over.
    let port = random.u16(4000..4100);
    if random.u8(..32) == 0 {
        // SAFETY: valid for the call.
        let id = unsafe { plum_create_mapping(&wanted(port, null_mut()), None) };
        assert!(id >= 0 || id == PLUM_ERR_FAILED, "{id}");
        if id < 0 {
            return None;
        }
        books::given(id, true);
        return Some(Own { id, port, user_ptr: 0, slot: None });
    }
    let (record, slot) = Record::make(port, random.u64(..));
    let user_ptr = record as usize;
    LIVE.fetch_add(1, Ordering::Relaxed);
    // SAFETY: valid for the call; the callback for ever, and the record until its DESTROYED.
    let id = unsafe { plum_create_mapping(&wanted(port, record.cast()), Some(on_mapping)) };
    if id < 0 {
        assert_eq!(id, PLUM_ERR_FAILED, "{context:?}");
        LIVE.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: no callback comes.
        unsafe { Record::forget(record) };
        return None;
    }
    books::given(id, false);
    Some(Own { id, port, user_ptr, slot: Some(slot) })
}

fn wanted(internal_port: u16, user_ptr: *mut std::ffi::c_void) -> plum_mapping_t {
    plum_mapping_t {
        protocol: int(1),
        mapping_protocol: int(-77),
        internal_port,
        external_port: 0,
        external_host: [0; PLUM_MAX_HOST_LEN],
        user_ptr,
    }
}

/// The result of a query whose every answer makes sense.
pub fn query(context: Context, id: c_int) -> c_int {
    count(Tally::Queries);
    let mut state = int(-1);
    let mut mapping = wanted(0, null_mut());
    // SAFETY: both are valid for the call.
    let result = unsafe { plum_query_mapping(id, &raw mut state, &raw mut mapping) };
    check_result(result, context, id);
    if result == PLUM_ERR_SUCCESS {
        let state = number(&state);
        assert!((1..=4).contains(&state), "state {state} of {id}");
        assert!(mapping.internal_port != 0 && mapping.external_host.contains(&0));
        let is_made = state == plum_state_t::PLUM_STATE_SUCCESS as c_int;
        assert_eq!(is_made, mapping.external_port != 0, "state {state} of {id}");
    }
    result
}

fn query_own(one: &Own) {
    let mut mapping = wanted(0, null_mut());
    // SAFETY: NULL is allowed, and the mapping valid for the call.
    let result = unsafe { plum_query_mapping(one.id, null_mut(), &raw mut mapping) };
    check_result(result, Context::Program, one.id);
    if result == PLUM_ERR_SUCCESS {
        assert_eq!(
            (mapping.internal_port, mapping.user_ptr as usize),
            (one.port, one.user_ptr),
            "of {}",
            one.id
        );
    }
}

pub fn destroy(context: Context, id: c_int) -> c_int {
    count(Tally::Destroys);
    let result = plum_destroy_mapping(id);
    check_result(result, context, id);
    result
}

fn destroy_own(one: Own) {
    if destroy(Context::Program, one.id) == PLUM_ERR_SUCCESS {
        books::quiet(one.id);
        if let Some(slot) = one.slot {
            slot.free_after_destroy();
        }
    }
}

/// Of a query or a destroy.
fn check_result(result: c_int, context: Context, id: c_int) {
    let allowed = match result {
        PLUM_ERR_SUCCESS | PLUM_ERR_NOT_AVAIL => id >= 0,
        PLUM_ERR_INVALID => id < 0,
        // A session lives as long as a mapping callback of it runs.
        PLUM_ERR_FAILED => context != Context::Mapping,
        _ => false,
    };
    assert!(allowed, "{result} for {id}, {context:?}");
}

fn local_address(random: &mut Rng) {
    count(Tally::LocalAddresses);
    let mut buffer = [0_u8; PLUM_MAX_ADDRESS_LEN];
    let size = random.usize(..=buffer.len());
    // SAFETY: the buffer is valid for its size.
    let result = unsafe { plum_get_local_address(buffer.as_mut_ptr().cast::<c_char>(), size) };
    assert!(result > 0 || result == PLUM_ERR_NOT_AVAIL, "{result}");
    assert!(size == 0 || buffer[..size].contains(&0));
}

fn certificate(random: &mut Rng) {
    count(Tally::Certificates);
    let kind = random.i32(-1..5);
    // SAFETY: NULL with size 0 is allowed, and any type.
    let result = unsafe { plum_get_dummytls_certificate(int(kind), null_mut(), 0) };
    let expected = if (0..4).contains(&kind) { PLUM_ERR_NOT_AVAIL } else { PLUM_ERR_INVALID };
    assert!(result == PLUM_ERR_FAILED || result == expected, "{result} for type {kind}");
}

fn host(random: &mut Rng) {
    count(Tally::Hosts);
    let mut buffer = [0_u8; PLUM_MAX_HOST_LEN];
    let (address, expected) =
        random.choice([(c"203.0.113.9", 11), (c"not an address", PLUM_ERR_INVALID)]).expect("there are two");
    // SAFETY: both are valid for the call.
    let result =
        unsafe { plum_get_dummytls_host(address.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    assert!(result == PLUM_ERR_FAILED || result == expected, "{result} for {address:?}");
}

fn set_level(random: &mut Rng) {
    count(Tally::Levels);
    // Low ones as a rule: what is not logged races with nothing.
    let level = random.choice([0, 0, 0, 0, 1, 2, 6, -1, 7]).unwrap_or(0);
    // SAFETY: any value is allowed.
    unsafe { plum_set_log_level(int(level)) };
}
