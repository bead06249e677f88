//! The log's part of the contract.

use super::ground::{create, ear, in_a_process_of_its_own, init, int, next, query, silent, wanted};
use plum::*;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::{null, null_mut};
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

/// A session with a mapping that fails.
fn session(config: &plum_config_t) {
    assert_eq!(init(config), PLUM_ERR_SUCCESS);
    let (user_ptr, heard) = ear(|_, _| {});
    create(&wanted(user_ptr));
    next(&heard, plum_state_t::PLUM_STATE_FAILURE);
    assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
}

macro_rules! contract {
    ($(fn $name:ident() $body:block)*) => {
        $(#[test] fn $name() { in_a_process_of_its_own(concat!("log::", stringify!($name)), || $body); })*
    };
}

contract! {
    fn a_callback_gets_one_message_a_call_without_newline() {
        session(&config(0));
        let messages = messages();
        assert!(!messages.is_empty());
        for (_, message) in messages {
            assert!(!message.is_empty() && !message.chars().any(char::is_control), "{message:?}");
        }
        // SAFETY: no preconditions.
        unsafe { plum_set_log_level(int(0)) };
        assert_eq!(create(&wanted(null_mut())), PLUM_ERR_FAILED);
        assert_eq!(init(&plum_config_t { log_level: int(9), ..config(0) }), PLUM_ERR_INVALID);
        assert_eq!(self::messages(), [], "none after cleanup");
    }

    fn nothing_below_the_level_is_logged() {
        session(&config(2));
        let messages = messages();
        assert!(messages.iter().any(|(level, _)| *level == plum_log_level_t::PLUM_LOG_LEVEL_INFO));
        assert!(messages.iter().all(|(level, _)| *level as c_int >= 2), "{messages:?}");
        session(&config(6));
        assert_eq!(self::messages(), []);
    }

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

    fn the_level_can_be_set_at_any_time() {
        assert_eq!(init(&config(6)), PLUM_ERR_SUCCESS);
        let (user_ptr, _heard) = ear(|_, _| {});
        create(&wanted(user_ptr));
        assert_eq!(messages(), []);
        for out_of_range in [-1, 7, c_int::MIN, c_int::MAX] {
            // SAFETY: no preconditions.
            unsafe { plum_set_log_level(int(out_of_range)) };
            create(&wanted(user_ptr));
            assert_eq!(messages(), [], "{out_of_range} is ignored");
        }
        // SAFETY: no preconditions.
        unsafe { plum_set_log_level(int(0)) };
        let id = create(&wanted(user_ptr));
        let of_create = format!("mapping {id}: created for UDP 4711");
        assert!(messages().contains(&(plum_log_level_t::PLUM_LOG_LEVEL_DEBUG, of_create)));
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
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

    fn query_never_logs() {
        assert_eq!(init(&config(6)), PLUM_ERR_SUCCESS);
        // SAFETY: no preconditions.
        unsafe { plum_set_log_level(int(0)) };
        for id in [-1, 0] {
            query(id);
        }
        assert_eq!(messages(), []);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn a_log_callback_may_call_the_library() {
        extern "C" fn on_message_calling(_level: plum_log_level_t, message: *const c_char) {
            static INSIDE: Mutex<()> = Mutex::new(());
            let _inside = INSIDE.try_lock().expect("what these calls log is dropped");
            let mut buffer = [0; 64];
            assert_eq!(init(&config(0)), PLUM_ERR_FAILED);
            // SAFETY: NULL is allowed; the buffer is valid.
            unsafe {
                assert_eq!(plum_init(null()), PLUM_ERR_FAILED);
                plum_get_local_address(buffer.as_mut_ptr(), 64);
                plum_set_log_level(int(0));
            }
            assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
            query(0);
            // SAFETY: a string, says the contract.
            let message = unsafe { CStr::from_ptr(message) }.to_bytes();
            if message.starts_with(b"mapping 0: created") {
                // SAFETY: valid for the call.
                let id = unsafe { plum_create_mapping(&wanted(null_mut()), None) };
                assert!(id > 0, "{id}");
                assert_eq!(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
            }
            MESSAGES.lock().expect("not poisoned").push((plum_log_level_t::PLUM_LOG_LEVEL_INFO, String::new()));
        }
        session(&plum_config_t { log_level: int(0), log_callback: Some(on_message_calling), ..silent() });
        assert!(messages().len() > 3);
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
                end.recv_timeout(super::ground::LONG).expect("the test ends it");
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
            begun.recv_timeout(super::ground::LONG).expect("it fails");
            // If its log callback waited for the mapping callback, this would not return before that ended.
            assert_eq!(plum_create_mapping(&wanted(null_mut()), None), 1);
        }
        assert_eq!(query(0).1, plum_state_t::PLUM_STATE_DESTROYING as c_int);
        end.send(()).expect("the callback waits");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }
}

#[test]
fn without_callback_the_log_goes_to_standard_output() {
    let text = in_a_process_of_its_own("log::without_callback_the_log_goes_to_standard_output", || {
        session(&plum_config_t { log_level: int(2), ..silent() });
    });
    if std::env::var_os("PLUM_TEST_ALONE").is_some() {
        return;
    }
    let line =
        text.lines().find(|line| line.ends_with("INFO    libplum is cleaned up")).expect("the last line");
    let (time, rest) = line.split_at(8);
    let parts: Vec<Result<u8, _>> = time.split(':').map(str::parse).collect();
    assert!(matches!(parts[..], [Ok(0..=23), Ok(0..=59), Ok(0..=60)]), "{line}");
    // Not coloured, since it is no terminal.
    assert_eq!(rest, " INFO    libplum is cleaned up");
}
