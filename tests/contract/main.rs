//! The C API as a C program calls it: a test for every row of the contract's table of functions, and for the log.
//!
//! The library is one of a process, so every test runs in a process of its own. Its gateway is an address on
//! loopback where nothing listens.
//!
//! This is the contract of ABI 0.6.2. For the others the C programs of c-tests/ are built and run once more.

#![cfg(plum_abi = "0.6.2")]

mod ground;
mod log;
#[cfg(unix)] // signals, forks, limits, descriptors
mod process;
mod races;

use ground::{
    Call, LONG, check_buffer, create, ear, host_of, in_a_process_of_its_own, init, int, next, number,
    on_mapping, query, silent, wanted, zeroed_config,
};
use plum::*;
#[cfg(unix)]
use process::in_child;
use std::ffi::{CStr, CString, c_char, c_int};
use std::net::{IpAddr, UdpSocket};
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::sync::mpsc::channel;

macro_rules! contract {
    ($(fn $name:ident() $body:block)*) => {
        $(#[test] fn $name() { in_a_process_of_its_own(stringify!($name), || $body); })*
    };
}

contract! {
    fn init_without_config_is_invalid() {
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { plum_init(null()) }, PLUM_ERR_INVALID);
        assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
    }

    fn init_twice_fails_and_changes_nothing() {
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        let (user_ptr, heard) = ear(|_, _| {});
        let id = create(&wanted(user_ptr));
        assert_eq!(init(&silent()), PLUM_ERR_FAILED);
        assert_eq!(query(id).0, PLUM_ERR_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        assert_eq!(next(&heard, plum_state_t::PLUM_STATE_DESTROYED).id, id);
    }

    fn init_with_a_log_level_out_of_range_is_invalid() {
        for level in [-1, 7, c_int::MIN, c_int::MAX] {
            assert_eq!(init(&plum_config_t { log_level: int(level), ..silent() }), PLUM_ERR_INVALID);
        }
        assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
    }

    fn init_with_any_protocol_succeeds() {
        for protocol in [0, 1, 2, 3, -1, c_int::MIN, c_int::MAX] {
            assert_eq!(init(&plum_config_t { protocol: int(protocol), ..silent() }), PLUM_ERR_SUCCESS);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        }
    }

    fn init_with_all_zero_succeeds() {
        assert_eq!(init(&zeroed_config()), PLUM_ERR_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn no_packet_leaves_before_the_first_mapping() {
        let gateway = UdpSocket::bind("127.87.1.2:0").expect("loopback");
        let address = gateway.local_addr().expect("bound");
        // SAFETY: no other thread of this process reads the environment.
        unsafe { std::env::set_var("PLUM_GATEWAY", address.to_string()) };
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        // The worker has ended: what it sent is there by now.
        gateway.set_nonblocking(true).expect("a socket");
        let nothing = gateway.recv_from(&mut [0; 1500]).expect_err("nothing was sent");
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);

        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        assert_eq!(create(&wanted(ear(|_, _| {}).0)), 0);
        gateway.set_nonblocking(false).expect("a socket");
        gateway.set_read_timeout(Some(LONG)).expect("a socket");
        gateway.recv_from(&mut [0; 1500]).expect("this is where packets would have come");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn any_time_in_the_config_is_taken() {
        for millis in [c_int::MIN, -1, 0, 1, c_int::MAX] {
            let config = plum_config_t {
                discover_timeout: millis,
                mapping_timeout: millis,
                recheck_period: millis,
                ..silent()
            };
            assert_eq!(init(&config), PLUM_ERR_SUCCESS);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        }
    }

    fn cleanup_without_init_or_twice_fails() {
        assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
    }

    fn cleanup_destroys_every_mapping_and_init_works_again() {
        let mut expected_id = 0;
        for _ in 0..3 {
            assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
            let (user_ptr, heard) = ear(|id, state| {
                if state == plum_state_t::PLUM_STATE_DESTROYED {
                    assert_eq!(query(id).0, PLUM_ERR_NOT_AVAIL);
                    assert_eq!(plum_destroy_mapping(id), PLUM_ERR_NOT_AVAIL);
                    assert_eq!(init(&silent()), PLUM_ERR_FAILED);
                    assert_eq!(create(&wanted(null_mut())), PLUM_ERR_FAILED);
                    assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
                }
            });
            for _ in 0..10 {
                assert_eq!(create(&wanted(user_ptr)), expected_id);
                expected_id += 1;
            }
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
            let calls = heard.try_iter().filter(|call| call.state == plum_state_t::PLUM_STATE_DESTROYED);
            let mut ids: Vec<c_int> = calls.map(|call| call.id).collect();
            ids.sort_unstable();
            assert_eq!(ids, (expected_id - 10..expected_id).collect::<Vec<_>>());
        }
    }

    fn cleanup_inside_a_callback_fails() {
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        let (user_ptr, heard) = ear(|_, _| assert_eq!(plum_cleanup(), PLUM_ERR_FAILED));
        let id = create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        assert_eq!(query(id).0, PLUM_ERR_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        next(&heard, plum_state_t::PLUM_STATE_DESTROYED);
    }

    fn create_before_init_fails() {
        assert_eq!(create(&wanted(null_mut())), PLUM_ERR_FAILED);
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        assert_eq!(create(&wanted(null_mut())), PLUM_ERR_FAILED);
    }

    fn create_with_bad_input_is_invalid() {
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { plum_create_mapping(null(), Some(on_mapping)) }, PLUM_ERR_INVALID);
        assert_eq!(create(&plum_mapping_t { internal_port: 0, ..wanted(null_mut()) }), PLUM_ERR_INVALID);
        for protocol in [-1, 2, c_int::MIN, c_int::MAX] {
            assert_eq!(create(&plum_mapping_t { protocol: int(protocol), ..wanted(null_mut()) }), PLUM_ERR_INVALID);
        }
        assert_eq!(create(&wanted(ear(|_, _| {}).0)), 0, "none of those took an id");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn a_mapping_without_callback_is_polled() {
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        // SAFETY: valid for the call.
        let id = unsafe { plum_create_mapping(&wanted(null_mut()), None) };
        assert_eq!(id, 0);
        // The second one's callback comes after the first has failed.
        let (user_ptr, heard) = ear(|_, _| {});
        create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        assert_eq!(query(id).1, plum_state_t::PLUM_STATE_FAILURE as c_int);
        assert_eq!(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn a_mapping_is_copied_whatever_its_host() {
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        let (user_ptr, heard) = ear(|_, _| {});
        for host in [&b"203.0.114.7"[..], b"no address", b"", &[b'1'; PLUM_MAX_HOST_LEN]] {
            for protocol in [0, 1] {
                let mut mapping = plum_mapping_t { protocol: int(protocol), external_port: 4000, ..wanted(user_ptr) };
                for (to, from) in mapping.external_host.iter_mut().zip(host) {
                    *to = c_char::from_ne_bytes([*from]);
                }
                let id = create(&mapping);
                *std::hint::black_box(&mut mapping) = wanted(null_mut());
                let failure = next(&heard, plum_state_t::PLUM_STATE_FAILURE);
                let expected = Call {
                    id,
                    state: plum_state_t::PLUM_STATE_FAILURE,
                    protocol,
                    mapping_protocol: 0,
                    internal_port: 4711,
                    external_port: 0,
                    host: String::new(),
                };
                assert_eq!(failure, expected);
                assert_eq!(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
                let destroyed = next(&heard, plum_state_t::PLUM_STATE_DESTROYED);
                assert_eq!(destroyed, Call { state: plum_state_t::PLUM_STATE_DESTROYED, ..expected });
            }
        }
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn query_says_what_it_knows() {
        assert_eq!(query(0).0, PLUM_ERR_FAILED);
        assert_eq!(query(-1).0, PLUM_ERR_FAILED);
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        assert_eq!(query(-1).0, PLUM_ERR_INVALID);
        assert_eq!(query(c_int::MIN).0, PLUM_ERR_INVALID);
        assert_eq!(query(0).0, PLUM_ERR_NOT_AVAIL);
        assert_eq!(query(c_int::MAX).0, PLUM_ERR_NOT_AVAIL);
        assert_eq!(query(0).1, -1, "nothing is written without success");

        let (user_ptr, heard) = ear(|_, _| {});
        let id = create(&plum_mapping_t { external_port: 4000, ..wanted(user_ptr) });
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        let (result, state, mapping) = query(id);
        assert_eq!((result, state), (PLUM_ERR_SUCCESS, plum_state_t::PLUM_STATE_FAILURE as c_int));
        assert_eq!((mapping.internal_port, mapping.external_port), (4711, 0));
        assert_eq!((number(&mapping.protocol), number(&mapping.mapping_protocol)), (1, 0));
        assert_eq!((host_of(&mapping).as_str(), mapping.user_ptr), ("", user_ptr));
        let mut state = int(-1);
        let mut mapping = wanted(null_mut());
        // SAFETY: each is NULL or valid.
        unsafe {
            assert_eq!(plum_query_mapping(id, &raw mut state, null_mut()), PLUM_ERR_SUCCESS);
            assert_eq!(number(&state), plum_state_t::PLUM_STATE_FAILURE as c_int);
            assert_eq!(plum_query_mapping(id, null_mut(), &raw mut mapping), PLUM_ERR_SUCCESS);
            assert_eq!(mapping.user_ptr, user_ptr);
            assert_eq!(plum_query_mapping(id, null_mut(), null_mut()), PLUM_ERR_SUCCESS);
        }
        assert_eq!(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
        next(&heard, plum_state_t::PLUM_STATE_DESTROYED);
        assert_eq!(query(id).0, PLUM_ERR_NOT_AVAIL);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        assert_eq!(query(id).0, PLUM_ERR_FAILED);
    }

    fn destroy_says_what_it_does() {
        assert_eq!(plum_destroy_mapping(0), PLUM_ERR_FAILED);
        assert_eq!(plum_destroy_mapping(-1), PLUM_ERR_FAILED);
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        assert_eq!(plum_destroy_mapping(-1), PLUM_ERR_INVALID);
        assert_eq!(plum_destroy_mapping(0), PLUM_ERR_NOT_AVAIL);
        // The first one's DESTROYED keeps the second one DESTROYING.
        let (begin, begun) = channel();
        let (release, released) = channel();
        let ends = Mutex::new((begin, released));
        let (user_ptr, heard) = ear(move |id, state| {
            if (id, state) == (0, plum_state_t::PLUM_STATE_DESTROYED) {
                let ends = ends.lock().expect("not poisoned");
                ends.0.send(()).expect("the test listens");
                ends.1.recv_timeout(LONG).expect("the test releases it");
            }
        });
        assert_eq!([create(&wanted(user_ptr)), create(&wanted(user_ptr))], [0, 1]);
        assert_eq!(plum_destroy_mapping(0), PLUM_ERR_SUCCESS);
        begun.recv_timeout(LONG).expect("the first is destroyed");
        assert_eq!(plum_destroy_mapping(0), PLUM_ERR_NOT_AVAIL);
        assert_eq!(plum_destroy_mapping(1), PLUM_ERR_SUCCESS);
        assert_eq!(query(1).1, plum_state_t::PLUM_STATE_DESTROYING as c_int);
        assert_eq!(plum_destroy_mapping(1), PLUM_ERR_SUCCESS, "it is DESTROYING already");
        release.send(()).expect("the callback waits");
        next(&heard, plum_state_t::PLUM_STATE_DESTROYED);
        next(&heard, plum_state_t::PLUM_STATE_DESTROYED);
        assert_eq!(plum_destroy_mapping(0), PLUM_ERR_NOT_AVAIL);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        assert_eq!(heard.try_iter().count(), 0);
        assert_eq!(plum_destroy_mapping(0), PLUM_ERR_FAILED);
    }

    fn the_local_address_needs_no_init() {
        // SAFETY: the buffer has the size that goes with it.
        let get = |buffer, size| unsafe { plum_get_local_address(buffer, size) };
        if get(null_mut(), 0) == PLUM_ERR_NOT_AVAIL {
            // A machine without a route to the internet.
            assert_eq!(plum_runtime::client::local_address(), None);
            return;
        }
        let address: IpAddr = check_buffer(get).parse().expect("an address");
        assert_eq!(plum_runtime::client::local_address(), Some(address));
    }

    fn dummytls_without_domain_fails() {
        let mut buffer = [0; 64];
        let ask = |address: &CStr, buffer: &mut [c_char]| {
            // SAFETY: strings and buffers are valid for the calls.
            let results = unsafe {
                [
                    plum_get_dummytls_host(address.as_ptr(), buffer.as_mut_ptr(), buffer.len()),
                    plum_get_dummytls_certificate(int(0), buffer.as_mut_ptr(), buffer.len()),
                ]
            };
            assert_eq!(results, [PLUM_ERR_FAILED; 2]);
        };
        ask(c"1.2.3.4", &mut buffer);
        for domain in [null(), c"".as_ptr()] {
            assert_eq!(init(&plum_config_t { dummytls_domain: domain, ..silent() }), PLUM_ERR_SUCCESS);
            ask(c"1.2.3.4", &mut buffer);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        }
    }

    fn dummytls_with_bad_input_is_invalid() {
        let config = plum_config_t { dummytls_domain: c"127.87.1.3".as_ptr(), ..silent() };
        assert_eq!(init(&config), PLUM_ERR_SUCCESS);
        let mut buffer = [0; 64];
        // SAFETY: strings and buffers are valid for the calls, or NULL.
        unsafe {
            assert_eq!(plum_get_dummytls_host(null(), buffer.as_mut_ptr(), 64), PLUM_ERR_INVALID);
            for address in [c"", c"1.2.3", c"1.2.3.4:80", c"localhost", c"[::1]", c" 1.2.3.4"] {
                let result = plum_get_dummytls_host(address.as_ptr(), buffer.as_mut_ptr(), 64);
                assert_eq!(result, PLUM_ERR_INVALID, "{address:?}");
            }
            assert_eq!(plum_get_dummytls_host(c"1.2.3.4".as_ptr(), null_mut(), 64), PLUM_ERR_INVALID);
            for kind in [-1, 4, c_int::MIN, c_int::MAX] {
                assert_eq!(plum_get_dummytls_certificate(int(kind), buffer.as_mut_ptr(), 64), PLUM_ERR_INVALID);
            }
            assert_eq!(plum_get_dummytls_certificate(int(0), null_mut(), 64), PLUM_ERR_INVALID);
        }
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn the_dummytls_host_is_the_address_where_the_name_does_not_resolve() {
        // With an address before it this is too long for a name: nobody is asked for it.
        let domain = CString::new("a".repeat(250)).expect("no NUL");
        let config = plum_config_t { dummytls_domain: domain.as_ptr(), ..silent() };
        assert_eq!(init(&config), PLUM_ERR_SUCCESS);
        for address in [c"203.0.114.7", c"2001:db8::1"] {
            // SAFETY: the string is valid, the buffer has the size that goes with it.
            let host = check_buffer(|buffer, size| unsafe { plum_get_dummytls_host(address.as_ptr(), buffer, size) });
            assert_eq!(Ok(host.as_str()), address.to_str());
        }
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn a_dummytls_certificate_that_cannot_be_fetched_is_not_available() {
        let config = plum_config_t { dummytls_domain: c"127.87.1.3".as_ptr(), ..silent() };
        assert_eq!(init(&config), PLUM_ERR_SUCCESS);
        for kind in 0..4 {
            // SAFETY: NULL with size 0 is allowed.
            let result = unsafe { plum_get_dummytls_certificate(int(kind), null_mut(), 0) };
            assert_eq!(result, PLUM_ERR_NOT_AVAIL);
        }
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }
}

#[cfg(unix)] // no process is forked elsewhere
contract! {
    fn the_child_of_a_fork_stands_as_its_parent_but_without_mappings() {
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        let (user_ptr, heard) = ear(|_, _| {});
        let id = create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        let found = in_child(|| {
            // The parent's worker may have been about to leave the callback, with the ear's lock held.
            let (user_ptr, heard) = ear(|_, _| {});
            let mut buffer = [0; 64];
            // SAFETY: all pointers are valid for their calls.
            let (host, certificate) = unsafe {
                plum_set_log_level(int(6));
                (
                    plum_get_dummytls_host(c"1.2.3.4".as_ptr(), buffer.as_mut_ptr(), 64),
                    plum_get_dummytls_certificate(int(0), buffer.as_mut_ptr(), 64),
                )
            };
            assert_eq!((host, certificate), (PLUM_ERR_FAILED, PLUM_ERR_FAILED), "no domain is configured");
            assert_eq!(init(&silent()), PLUM_ERR_FAILED, "it is initialised");
            assert_eq!((query(id).0, plum_destroy_mapping(id)), (PLUM_ERR_NOT_AVAIL, PLUM_ERR_NOT_AVAIL));
            assert_eq!((query(-1).0, plum_destroy_mapping(-1)), (PLUM_ERR_INVALID, PLUM_ERR_INVALID));
            let own = create(&wanted(user_ptr));
            assert_eq!(own, id + 1, "no id is given out twice");
            assert_eq!(next(&heard, plum_state_t::PLUM_STATE_FAILURE).id, own);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
            assert_eq!(next(&heard, plum_state_t::PLUM_STATE_DESTROYED).id, own);
            assert_eq!((plum_cleanup(), query(own).0), (PLUM_ERR_FAILED, PLUM_ERR_FAILED));
            assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
            assert_eq!(create(&wanted(user_ptr)), own + 1);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        });
        assert_eq!(found, 0);
        assert_eq!(query(id).0, PLUM_ERR_SUCCESS, "the parent goes on");
        assert!(heard.try_recv().is_err(), "nothing of the child's is told to the parent");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        next(&heard, plum_state_t::PLUM_STATE_DESTROYED);
        // Now it stands otherwise.
        let found = in_child(|| {
            assert_eq!((query(id).0, plum_cleanup()), (PLUM_ERR_FAILED, PLUM_ERR_FAILED));
            assert_eq!(create(&wanted(user_ptr)), PLUM_ERR_FAILED);
            assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
            assert_eq!(create(&wanted(user_ptr)), id + 1);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        });
        assert_eq!(found, 0);
    }

    fn the_child_of_a_fork_has_a_cleanup_for_what_it_does_not_use() {
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        let found = in_child(|| {
            let (threads, descriptors) = (process::threads(), process::descriptors());
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
            assert_eq!((process::threads(), process::descriptors()), (threads, descriptors));
            assert_eq!(plum_cleanup(), PLUM_ERR_FAILED);
            // And its own child stands as it does.
            assert_eq!(in_child(|| assert_eq!(query(0).0, PLUM_ERR_FAILED)), 0);
        });
        assert_eq!(found, 0);
        assert_eq!(in_child(|| assert_eq!(in_child(|| assert_eq!(query(0).0, PLUM_ERR_NOT_AVAIL)), 0)), 0);
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }

    fn the_child_of_a_fork_has_the_log_of_its_parent() {
        static HEARD: std::sync::Mutex<Vec<(u32, c_int)>> = std::sync::Mutex::new(Vec::new());
        extern "C" fn hear(level: plum_log_level_t, _: *const std::ffi::c_char) {
            HEARD.lock().expect("not poisoned").push((std::process::id(), level as c_int));
        }
        let config = plum_config_t { log_level: int(6), log_callback: Some(hear), ..silent() };
        assert_eq!(init(&config), PLUM_ERR_SUCCESS);
        // SAFETY: a level.
        unsafe { plum_set_log_level(int(2)) };
        let found = in_child(|| {
            let (user_ptr, heard) = ear(|_, _| {});
            let own = create(&wanted(user_ptr));
            next(&heard, plum_state_t::PLUM_STATE_FAILURE);
            let levels = |least| {
                let heard = std::mem::take(&mut *HEARD.lock().expect("not poisoned"));
                assert!(heard.iter().all(|&(process, level)| process == std::process::id() && level >= least));
                heard.len()
            };
            assert!(levels(2) > 0, "the level as it was at the fork");
            // SAFETY: as above.
            unsafe { plum_set_log_level(int(6)) };
            assert_eq!(plum_destroy_mapping(own), PLUM_ERR_SUCCESS);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
            assert_eq!(levels(6), 0);
        });
        assert_eq!(found, 0);
        let found = in_child(|| {
            // Before anything was started here.
            // SAFETY: as above.
            unsafe { plum_set_log_level(int(6)) };
            let (user_ptr, heard) = ear(|_, _| {});
            create(&wanted(user_ptr));
            next(&heard, plum_state_t::PLUM_STATE_FAILURE);
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
            assert!(HEARD.lock().expect("not poisoned").is_empty());
        });
        assert_eq!(found, 0);
        assert!(HEARD.lock().expect("not poisoned").is_empty(), "nothing of the child's is logged by the parent");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    }
}
