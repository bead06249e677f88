//! Every function from many threads, from the mapping callback and from the log callback, all at once.

use super::ground::{create, gateway, in_a_process_of_its_own, init, int, query, silent, wanted};
use parking_lot::{Condvar, Mutex};
use plum::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{c_char, c_int};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

const THREADS: u64 = 6;
const ROUNDS: usize = 3000;

/// What became of the mappings: how many DESTROYED came for each id.
static DESTROYED: Mutex<BTreeMap<c_int, usize>> = Mutex::new(BTreeMap::new());
/// The ids for which `plum_destroy_mapping` has returned SUCCESS to a thread of the test's.
static RETURNED: Mutex<BTreeSet<c_int>> = Mutex::new(BTreeSet::new());
static IN_MAPPING_CALLBACK: AtomicBool = AtomicBool::new(false);
static IN_LOG_CALLBACK: AtomicBool = AtomicBool::new(false);
static MESSAGES: AtomicUsize = AtomicUsize::new(0);
/// Whether there was a SUCCESS.
static HEARD: Mutex<bool> = Mutex::new(false);
static FIRST_SUCCESS: Condvar = Condvar::new();
static LATEST: AtomicI32 = AtomicI32::new(0);

extern "C" fn on_race(id: c_int, state: plum_state_t, mapping: *const plum_mapping_t) {
    assert!(!IN_MAPPING_CALLBACK.swap(true, Ordering::SeqCst), "one at a time");
    if state == plum_state_t::PLUM_STATE_DESTROYED {
        *DESTROYED.lock().entry(id).or_default() += 1;
        assert_eq!(plum_destroy_mapping(id), PLUM_ERR_NOT_AVAIL);
    } else {
        assert!(!RETURNED.lock().contains(&id), "{state:?} of {id} after destroy");
        if state == plum_state_t::PLUM_STATE_SUCCESS {
            *HEARD.lock() = true;
            FIRST_SUCCESS.notify_all();
        }
        // Its own, another's, a new one.
        match id % 4 {
            0 => assert_eq!(plum_destroy_mapping(id), PLUM_ERR_SUCCESS),
            1 => drop(plum_destroy_mapping(id - 1)),
            // SAFETY: the mapping is valid during this call.
            2 => drop(unsafe { plum_create_mapping(mapping, Some(on_race)) }),
            _ => assert_eq!(query(id).0, PLUM_ERR_SUCCESS),
        }
    }
    assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
    assert_eq!(init(&silent()), PLUM_ERR_FAILED);
    IN_MAPPING_CALLBACK.store(false, Ordering::SeqCst);
}

extern "C" fn on_message(_level: plum_log_level_t, _message: *const c_char) {
    assert!(!IN_LOG_CALLBACK.swap(true, Ordering::SeqCst), "one at a time");
    let latest = LATEST.load(Ordering::Relaxed);
    match MESSAGES.fetch_add(1, Ordering::Relaxed) % 8 {
        0 => drop(plum_destroy_mapping(latest)),
        1 => drop(query(latest)),
        2 => assert_eq!(plum_cleanup(), PLUM_ERR_FAILED),
        3 => assert_eq!(init(&silent()), PLUM_ERR_FAILED),
        // SAFETY: valid for the call, and the callback for ever.
        4 => drop(unsafe { plum_create_mapping(&wanted(null_mut()), Some(on_race)) }),
        _ => {}
    }
    IN_LOG_CALLBACK.store(false, Ordering::SeqCst);
}

/// One thread's part; the ids it created.
fn call_everything(number: u64) -> Vec<c_int> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut created = Vec::new();
    let mut buffer = [0; 64];
    for _ in 0..ROUNDS {
        let latest = LATEST.load(Ordering::Relaxed);
        match random.u8(..64) {
            0..20 => {
                let mapping = plum_mapping_t { internal_port: random.u16(4000..4016), ..wanted(null_mut()) };
                // SAFETY: valid for the call, and the callback for ever.
                let id = unsafe { plum_create_mapping(&mapping, Some(on_race)) };
                if id >= 0 {
                    created.push(id);
                    LATEST.store(id, Ordering::Relaxed);
                } else {
                    assert_eq!(id, PLUM_ERR_FAILED);
                }
            }
            20..32 => {
                let id = latest - random.i32(0..8);
                if plum_destroy_mapping(id) == PLUM_ERR_SUCCESS {
                    RETURNED.lock().insert(id);
                }
            }
            32..40 => drop(query(latest - random.i32(0..8))),
            // SAFETY: the buffer is valid for the call.
            40 => drop(unsafe { plum_get_local_address(buffer.as_mut_ptr(), 64) }),
            // SAFETY: no preconditions.
            41 => unsafe { plum_set_log_level(int(random.i32(0..7))) },
            42..45 => {
                let config = plum_config_t { log_level: int(0), log_callback: Some(on_message), ..silent() };
                let _ = init(&config);
            }
            45 => drop(plum_cleanup()),
            _ => std::thread::yield_now(),
        }
    }
    created
}

#[test]
fn whatever_races_each_mapping_is_destroyed_once_and_callbacks_are_serialised() {
    let name = "races::whatever_races_each_mapping_is_destroyed_once_and_callbacks_are_serialised";
    in_a_process_of_its_own(name, || {
        let _gateway = gateway();
        let threads = [(); THREADS as usize]
            .into_iter()
            .zip(0..)
            .map(|((), number)| std::thread::spawn(move || call_everything(number)));
        let threads: Vec<_> = threads.collect();
        let mut created: Vec<c_int> =
            threads.into_iter().flat_map(|one| one.join().expect("no panic")).collect();
        // On a busy machine the gateway may not have been heard between all the cleanups: it is now.
        let _ = init(&silent());
        // SAFETY: valid for the call, and the callback for ever.
        created.push(unsafe { plum_create_mapping(&wanted(null_mut()), Some(on_race)) });
        let mut heard = HEARD.lock();
        while !*heard {
            FIRST_SUCCESS.wait(&mut heard);
        }
        drop(heard);
        plum_cleanup();
        assert_eq!(create(&wanted(null_mut())), PLUM_ERR_FAILED);
        let messages = MESSAGES.load(Ordering::SeqCst);
        let destroyed = std::mem::take(&mut *DESTROYED.lock());
        assert!(destroyed.values().all(|&count| count == 1), "{destroyed:?}");
        assert!(created.iter().all(|id| destroyed.contains_key(id)), "{created:?}, {destroyed:?}");
        // And the ids of those that callbacks created: none was left out.
        let ids: Vec<c_int> = destroyed.into_keys().collect();
        assert_eq!(ids, (0..ids.len() as c_int).collect::<Vec<_>>());
        assert!(!created.is_empty() && messages > 0);
        assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
        assert_eq!(MESSAGES.load(Ordering::SeqCst), messages, "no message after cleanup");
        assert!(DESTROYED.lock().is_empty(), "no callback after cleanup");
    });
}
