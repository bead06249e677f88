//! What the rows of c-tests/ cannot see of the contract's promises: packets that do not leave, and what the process has to show for it.
//!
//! The library is one of a process, so every test runs in a process of its own. Its gateway is an address on
//! loopback where nothing listens.
//!
//! This is the contract of ABI 0.6.2. For the others the C programs of c-tests/ are built and run once more.

#![cfg(plum_abi = "0.6.2")]

mod harness;
mod log;
#[cfg(unix)] // signals, forks, limits, descriptors
mod process;

use harness::{
    LONG, check_buffer, create, ear, in_a_process_of_its_own, init, int, next, query, silent, wanted,
};
use plum::*;
#[cfg(unix)]
use process::in_child;
use std::ffi::{CString, c_int};
use std::net::{IpAddr, UdpSocket};
use std::ptr::null_mut;

macro_rules! contract {
    ($(fn $name:ident() $body:block)*) => {
        $(#[test] fn $name() { in_a_process_of_its_own(stringify!($name), || $body); })*
    };
}

contract! {
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
}

#[cfg(unix)] // no process is forked elsewhere
contract! {
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
