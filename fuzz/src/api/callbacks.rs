//! The callbacks, what they call, and what must hold of them. They run on the library's threads: what they find wrong is
//! noted, and the main thread panics with it.

use super::arguments::{host_of, int, mapping, number};
use plum::*;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A mapping that a call created, or tried to. `user_ptr` is the number of its slot, from 1 on.
#[derive(Debug)]
pub struct Slot {
    /// Its id, as the call or the first callback said it.
    pub id: Option<c_int>,
    /// What was given.
    pub protocol: c_int,
    /// What was given.
    pub internal_port: u16,
    /// Whether it has a callback.
    pub is_heard: bool,
    /// What its callback does.
    behaviour: u8,
    /// `plum_create_mapping` refused it: no callback may come.
    refused: bool,
    destroyed: bool,
    /// `plum_destroy_mapping` has returned on the program's thread: only DESTROYED may come.
    destroy_returned: bool,
    /// A callback may have destroyed it.
    pub destroyed_inside: bool,
    last: Option<(plum_state_t, c_int, u16, Option<std::net::IpAddr>)>,
}

/// What the callbacks and the program's thread share.
#[derive(Debug, Default)]
pub struct Registry {
    /// By number.
    pub slots: Vec<Slot>,
    wrong: Vec<String>,
    /// Between `plum_init` and `plum_cleanup`.
    pub open: bool,
    /// How many callbacks have come.
    heard: u64,
    running: bool,
    messages: u64,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);
static HEARD: Condvar = Condvar::new();

/// The most mappings of one input.
pub const MAX_SLOTS: usize = 40;

fn lock() -> MutexGuard<'static, Option<Registry>> {
    // A panic while it was held has ended the run anyway.
    REGISTRY.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Looks at what is shared, or changes it. Never calls the library.
pub fn with<T>(act: impl FnOnce(&mut Registry) -> T) -> T {
    act(lock().get_or_insert_default())
}

/// Panics with whatever a callback found wrong.
#[track_caller]
pub fn check() {
    let wrong = with(|registry| std::mem::take(&mut registry.wrong));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Waits for the next callback, but not longer than this.
pub fn wait(patience: Duration) {
    let mut shared = lock();
    let heard = shared.get_or_insert_default().heard;
    let none =
        |shared: &mut Option<Registry>| shared.as_ref().is_some_and(|registry| registry.heard == heard);
    drop(HEARD.wait_timeout_while(shared, patience, none));
}

impl Registry {
    fn check(&mut self, is_so: bool, text: impl FnOnce() -> String) {
        if !is_so {
            self.wrong.push(text());
        }
    }

    /// A slot for a mapping to be created: its number.
    pub fn add(&mut self, protocol: c_int, internal_port: u16, is_heard: bool, behaviour: u8) -> usize {
        self.slots.push(Slot {
            id: None,
            protocol,
            internal_port,
            is_heard,
            behaviour,
            refused: false,
            destroyed: false,
            destroy_returned: false,
            destroyed_inside: false,
            last: None,
        });
        self.slots.len()
    }

    /// What `plum_create_mapping` returned for a slot.
    pub fn created(&mut self, number: usize, result: c_int) {
        let slot = &mut self.slots[number - 1];
        if result < 0 {
            slot.refused = true;
            let told = slot.last.is_some();
            self.check(!told, || format!("slot {number}: called back and yet refused with {result}"));
            return;
        }
        let known = slot.id.replace(result);
        self.check(known.is_none_or(|id| id == result), || format!("slot {number}: {known:?} and {result}"));
        let twice = self.slots.iter().filter(|slot| slot.id == Some(result)).count();
        self.check(twice == 1, || format!("id {result} was given out twice"));
    }

    /// `plum_destroy_mapping` returned SUCCESS on the program's thread.
    pub fn destroy_returned(&mut self, id: c_int) {
        for slot in self.slots.iter_mut().filter(|slot| slot.id == Some(id)) {
            slot.destroy_returned = true;
        }
    }

    /// `plum_cleanup` has returned.
    pub fn cleaned_up(&mut self) {
        self.open = false;
        for (number, slot) in self.slots.iter().enumerate() {
            if !slot.refused && slot.is_heard && !slot.destroyed {
                self.wrong.push(format!("slot {}: no DESTROYED before plum_cleanup returned", number + 1));
            }
        }
    }

    fn called(&mut self, id: c_int, state: plum_state_t, mapping: *const plum_mapping_t) -> Option<u8> {
        self.heard += 1;
        let (open, running) = (self.open, std::mem::replace(&mut self.running, true));
        self.check(open, || format!("{state:?} of {id} outside of a session"));
        self.check(!running, || format!("{state:?} of {id} while another callback runs"));
        if mapping.is_null() {
            self.check(false, || format!("{state:?} of {id} with NULL"));
            return None;
        }
        // SAFETY: not NULL, so valid during the call, says the contract.
        let mapping = unsafe { &*mapping };
        let number_of = mapping.user_ptr.addr();
        let known = (1..=self.slots.len()).contains(&number_of);
        self.check(known, || format!("{state:?} of {id} with user_ptr {number_of}"));
        if !known {
            return None;
        }
        let host = host_of(mapping);
        if let Err(text) = &host {
            self.wrong.push(format!("{state:?} of {id}: {text}"));
        }
        let told = (state, number(&mapping.mapping_protocol), mapping.external_port, host.unwrap_or(None));
        let slot = &mut self.slots[number_of - 1];
        let last = slot.last.replace(told);
        let is_right_id = *slot.id.get_or_insert(id) == id;
        let given = (slot.protocol, slot.internal_port);
        let (destroyed, destroy_returned, refused) = (slot.destroyed, slot.destroy_returned, slot.refused);
        slot.destroyed |= state == plum_state_t::PLUM_STATE_DESTROYED;
        let behaviour = slot.behaviour;

        self.check(is_right_id, || format!("{state:?} of {id} with the user_ptr of another"));
        self.check((number(&mapping.protocol), mapping.internal_port) == given, || {
            format!("{state:?} of {id}: not the transport and port that were given")
        });
        self.check(!refused, || format!("{state:?} of {id}, which was refused"));
        self.check(!destroyed, || format!("{state:?} of {id} after its DESTROYED"));
        match state {
            plum_state_t::PLUM_STATE_SUCCESS => {
                let (_, protocol, port, host) = told;
                self.check((1..=4).contains(&protocol) && port > 0 && host.is_some(), || {
                    format!("{id}: {told:?}")
                });
                self.check(!destroy_returned, || format!("{state:?} of {id} after destroy has returned"));
            }
            plum_state_t::PLUM_STATE_FAILURE => {
                self.check(told == (state, 0, 0, None), || format!("{id}: {told:?}"));
                self.check(!destroy_returned, || format!("{state:?} of {id} after destroy has returned"));
                // Callback rule 4: FAILURE comes once.
                self.check(last.is_none_or(|last| last.0 != state), || format!("FAILURE of {id} again"));
            }
            plum_state_t::PLUM_STATE_DESTROYED => {
                self.check(told == (state, 0, 0, None), || format!("{id}: {told:?}"));
            }
            other => self.check(false, || format!("{other:?} of {id} in a callback")),
        }
        Some(behaviour)
    }
}

/// The callback of every mapping that has one.
pub extern "C" fn on_mapping(id: c_int, state: plum_state_t, mapping: *const plum_mapping_t) {
    let behaviour = with(|registry| registry.called(id, state, mapping));
    if let Some(behaviour) = behaviour {
        call_back(id, state, behaviour);
    }
    with(|registry| registry.running = false);
    HEARD.notify_all();
}

/// The callback calls the library.
fn call_back(id: c_int, state: plum_state_t, behaviour: u8) {
    let gone = state == plum_state_t::PLUM_STATE_DESTROYED;
    let expect = |call: &str, result: c_int, allowed: &[c_int]| {
        with(|registry| {
            registry.check(allowed.contains(&result), || {
                format!("inside {state:?} of {id}, {call} returned {result}")
            });
        });
    };
    if behaviour & 1 != 0 {
        let mut shown = int(-1);
        // SAFETY: a state that is writable, and no mapping.
        let result = unsafe { plum_query_mapping(id, &raw mut shown, null_mut()) };
        // Callback rule 5 and cleanup's row: in its DESTROYED an id is not available already.
        expect("query", result, if gone { &[PLUM_ERR_NOT_AVAIL] } else { &[PLUM_ERR_SUCCESS] });
    }
    if behaviour & 2 != 0 {
        expect("cleanup", plum_cleanup(), &[PLUM_ERR_FAILED]);
    }
    if behaviour & 4 != 0 {
        if !gone {
            with(|registry| {
                registry
                    .slots
                    .iter_mut()
                    .filter(|s| s.id == Some(id))
                    .for_each(|s| s.destroyed_inside = true);
            });
        }
        let result = plum_destroy_mapping(id);
        expect("destroy", result, if gone { &[PLUM_ERR_NOT_AVAIL] } else { &[PLUM_ERR_SUCCESS] });
    }
    if behaviour & 8 != 0 {
        let number =
            with(|registry| (registry.slots.len() < MAX_SLOTS).then(|| registry.add(1, 9001, true, 1)));
        if let Some(number) = number {
            let mut wanted = mapping(1, 9001, 0, b"");
            wanted.user_ptr = std::ptr::without_provenance_mut::<c_void>(number);
            // SAFETY: valid for the call, and the callback for ever.
            let result = unsafe { plum_create_mapping(&raw const wanted, Some(on_mapping)) };
            // It is refused where cleanup has begun.
            with(|registry| {
                registry
                    .check(result >= 0 || result == PLUM_ERR_FAILED, || format!("inside, create: {result}"));
                registry.created(number, result);
            });
        }
    }
    if behaviour & 16 != 0 {
        // SAFETY: NULL is allowed.
        expect("init", unsafe { plum_init(std::ptr::null()) }, &[PLUM_ERR_INVALID, PLUM_ERR_FAILED]);
    }
}

/// The log callback.
///
/// # Safety
///
/// `message` is a string, as the library's log callbacks get it.
pub unsafe extern "C" fn on_log(level: plum_log_level_t, message: *const c_char) {
    // SAFETY: a string, says the contract.
    let text = unsafe { CStr::from_ptr(message) }.to_str().map(str::to_owned);
    let nth = with(|registry| {
        registry.messages += 1;
        let open = registry.open;
        registry.check(open, || format!("{level:?} in the log outside of a session: {text:?}"));
        let clean = text.as_ref().is_ok_and(|text| !text.contains(char::is_control));
        registry.check(clean, || format!("{level:?} in the log: {text:?}"));
        registry.messages
    });
    // Now and then it calls the library: docs/contract.md, Log.
    if nth % 16 == 0 {
        // SAFETY: NULL is allowed, everywhere.
        let results = unsafe { (plum_cleanup(), plum_query_mapping(-1, null_mut(), null_mut())) };
        with(|registry| {
            let fits =
                results.0 == PLUM_ERR_FAILED && matches!(results.1, PLUM_ERR_INVALID | PLUM_ERR_FAILED);
            registry.check(fits, || format!("inside a log callback cleanup and query returned {results:?}"));
        });
    }
}
