//! The log's part of the contract.

use super::harness::{in_a_process_of_its_own, init, int, query, silent, wanted};
use plum::*;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The messages so far.
static MESSAGES: Mutex<Vec<(plum_log_level_t, String)>> = Mutex::new(Vec::new());

extern "C" fn on_message(level: plum_log_level_t, message: *const c_char) {
    // SAFETY: a string, says the contract.
    let message = unsafe { CStr::from_ptr(message) }.to_str().expect("text").to_owned();
    static INSIDE: Mutex<()> = Mutex::new(());
    let _inside = INSIDE.try_lock().expect("calls are serialised");
    MESSAGES.lock().expect("not poisoned").push((level, message));
}

fn messages() -> Vec<(plum_log_level_t, String)> {
    std::mem::take(&mut MESSAGES.lock().expect("not poisoned"))
}

fn config(level: c_int) -> plum_config_t {
    plum_config_t { log_level: int(level), log_callback: Some(on_message), ..silent() }
}

macro_rules! contract {
    ($(fn $name:ident() $body:block)*) => {
        $(#[test] fn $name() { in_a_process_of_its_own(concat!("log::", stringify!($name)), || $body); })*
    };
}

contract! {
    fn a_session_begins_with_the_versions() {
        assert_eq!(init(&config(2)), PLUM_ERR_SUCCESS);
        let begun = concat!("libplum ", env!("CARGO_PKG_VERSION"), " (ABI ", env!("PLUM_ABI_VERSION"), ") is initialised");
        let expected = (plum_log_level_t::PLUM_LOG_LEVEL_INFO, begun.to_owned());
        assert_eq!(messages(), [expected]);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn a_protocol_out_of_range_is_warned_of() {
        for protocol in [3, -1, c_int::MIN, c_int::MAX] {
            assert_eq!(init(&plum_config_t { protocol: int(protocol), ..config(3) }), PLUM_ERR_SUCCESS);
            let messages = messages();
            let [(level, message)] = &messages[..] else { panic!("{protocol}: {messages:?}") };
            assert_eq!(*level, plum_log_level_t::PLUM_LOG_LEVEL_WARN);
            assert!(message.contains(&format!("protocol is {protocol},")), "{message}");
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        }
        for protocol in 0..=2 {
            assert_eq!(init(&plum_config_t { protocol: int(protocol), ..config(3) }), PLUM_ERR_SUCCESS);
            assert_eq!(messages(), []);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        }
    }

    fn a_gateway_that_cannot_be_understood_is_an_error_in_the_log() {
        for bad in ["192.0.2.1:none", "255.255.255.255", "224.0.0.1:5351", "[::]:5351"] {
            // SAFETY: no other thread of this process reads the environment.
            unsafe { std::env::set_var("PLUM_GATEWAY", bad) };
            assert_eq!(init(&config(4)), PLUM_ERR_SUCCESS);
            let messages = messages();
            assert!(matches!(&messages[..], [(plum_log_level_t::PLUM_LOG_LEVEL_ERROR, text)] if text.contains("PLUM_GATEWAY") && text.contains(bad)), "{messages:?}");
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        }
    }

    fn destroy_inside_a_log_callback_does_not_wait() {
        /// Begun and ended.
        static CALLBACK: Mutex<Option<(Sender<()>, Receiver<()>)>> = Mutex::new(None);

        extern "C" fn on_message_destroying(_level: plum_log_level_t, message: *const c_char) {
            // SAFETY: a string, says the contract.
            if unsafe { CStr::from_ptr(message) }.to_bytes().starts_with(b"mapping 1: created") {
                assert_eq!(plum_destroy_mapping(0), PLUM_ERR_SUCCESS);
            }
        }
        extern "C" fn on_slow_mapping(_id: c_int, state: plum_state_t, _mapping: *const plum_mapping_t) {
            if state == plum_state_t::PLUM_STATE_FAILURE {
                let (begun, end) = CALLBACK.lock().expect("not poisoned").take().expect("it fails once");
                begun.send(()).expect("the test listens");
                end.recv_timeout(super::harness::LONG).expect("the test ends it");
            }
        }
        let (begin, begun) = channel();
        let (end, ended) = channel();
        *CALLBACK.lock().expect("not poisoned") = Some((begin, ended));
        let config = plum_config_t { log_level: int(0), log_callback: Some(on_message_destroying), ..silent() };
        assert_eq!(init(&config), PLUM_ERR_SUCCESS);
        // SAFETY: valid for the calls, and the callback for ever.
        unsafe {
            assert_eq!(plum_create_mapping(&wanted(null_mut()), Some(on_slow_mapping)), 0);
            begun.recv_timeout(super::harness::LONG).expect("it fails");
            // If its log callback waited for the mapping callback, this would not return before that ended.
            assert_eq!(plum_create_mapping(&wanted(null_mut()), None), 1);
        }
        assert_eq!(query(0).1, plum_state_t::PLUM_STATE_DESTROYING as c_int);
        end.send(()).expect("the callback waits");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }
}
