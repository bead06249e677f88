//! The C API as a C program calls it: a test for every row of the contract's table of functions, and for the log.
//!
//! The library is one of a process, so every test runs in a process of its own. Its gateway is an address on
//! loopback where nothing listens.

use plum::ffi::*;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Whatever has not happened after this long never will.
const LONG: Duration = Duration::from_secs(20);

/// An address of loopback on which nothing listens.
const NOBODY: &str = "127.87.1.1:5351";

/// Runs a test's body in a process of its own; what that wrote to standard output.
fn in_a_process_of_its_own(name: &str, body: fn()) -> String {
    if std::env::var_os("PLUM_TEST_ALONE").is_some() {
        // SAFETY: alarm(2) has no precondition. It ends a test that hangs.
        unsafe { libc::alarm(60) };
        body();
        return String::new();
    }
    let this = std::env::current_exe().expect("this program has a path");
    let output = Command::new(this)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("PLUM_TEST_ALONE", "1")
        .env("PLUM_GATEWAY", NOBODY)
        .output()
        .expect("this program can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}: {text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

macro_rules! contract {
    ($(fn $name:ident() $body:block)*) => {
        $(#[test] fn $name() { in_a_process_of_its_own(stringify!($name), || $body); })*
    };
}

/// An enum as C sees it: any int.
fn int<E>(value: c_int) -> MaybeUninit<E> {
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

/// No log, and PCP and NAT-PMP only: that nobody listens on their port is known at once.
fn silent() -> plum_config_t {
    plum_config_t { log_level: int(6), protocol: int(1), ..zeroed_config() }
}

fn zeroed_config() -> plum_config_t {
    // SAFETY: all zero is a valid configuration: NULL pointers, and the ints are 0.
    unsafe { std::mem::zeroed() }
}

fn init(config: &plum_config_t) -> c_int {
    // SAFETY: valid for the call.
    unsafe { plum_init(config) }
}

/// What the mapping callback was called with.
#[derive(Debug, PartialEq)]
struct Call {
    id: c_int,
    state: plum_state_t,
    protocol: c_int,
    mapping_protocol: c_int,
    internal_port: u16,
    external_port: u16,
    host: String,
}

type Inside = Box<dyn Fn(c_int, plum_state_t) + Send + Sync>;

/// What `user_ptr` of the tests' mappings points to.
struct Ear {
    calls: Mutex<Sender<Call>>,
    /// Done inside the callback.
    inside: Inside,
}

extern "C" fn on_mapping(id: c_int, state: plum_state_t, mapping: *const plum_mapping_t) {
    assert!(!mapping.is_null());
    // SAFETY: not NULL, so valid during this call, says the contract.
    let mapping = unsafe { &*mapping };
    // SAFETY: the tests' mappings point to an Ear that lives for ever.
    let ear = unsafe { &*mapping.user_ptr.cast::<Ear>() };
    (ear.inside)(id, state);
    let call = Call {
        id,
        state,
        protocol: number(&mapping.protocol),
        mapping_protocol: number(&mapping.mapping_protocol),
        internal_port: mapping.internal_port,
        external_port: mapping.external_port,
        host: host_of(mapping),
    };
    // A test that has heard enough does not listen any more.
    let _ = ear.calls.lock().expect("not poisoned").send(call);
}

fn host_of(mapping: &plum_mapping_t) -> String {
    let bytes: Vec<u8> = mapping.external_host.iter().map(|&c| c.cast_unsigned()).collect();
    CStr::from_bytes_until_nul(&bytes).expect("it ends in NUL").to_str().expect("text").to_owned()
}

/// A user_ptr for `on_mapping`, and what it hears.
fn ear(inside: impl Fn(c_int, plum_state_t) + Send + Sync + 'static) -> (*mut c_void, Receiver<Call>) {
    let (calls, heard) = channel();
    let ear = Box::leak(Box::new(Ear { calls: Mutex::new(calls), inside: Box::new(inside) }));
    (std::ptr::from_mut(ear).cast(), heard)
}

fn wanted(user_ptr: *mut c_void) -> plum_mapping_t {
    plum_mapping_t {
        protocol: int(1),
        // It is ignored.
        mapping_protocol: int(-77),
        internal_port: 4711,
        external_port: 0,
        external_host: [0; PLUM_MAX_HOST_LEN],
        user_ptr,
    }
}

fn create(mapping: &plum_mapping_t) -> c_int {
    // SAFETY: valid for the call, and `on_mapping` for ever.
    unsafe { plum_create_mapping(mapping, Some(on_mapping)) }
}

/// The result of a query, the state and the mapping it wrote.
fn query(id: c_int) -> (c_int, c_int, plum_mapping_t) {
    let mut state = int(-1);
    let mut mapping = wanted(null_mut());
    // SAFETY: both are valid for the call.
    let result = unsafe { plum_query_mapping(id, &raw mut state, &raw mut mapping) };
    (result, number(&state), mapping)
}

/// The next call that tells of `state`; those before it may tell of FAILURE.
fn next(heard: &Receiver<Call>, state: plum_state_t) -> Call {
    loop {
        let call = heard.recv_timeout(LONG).expect("a call");
        if call.state == state {
            return call;
        }
        assert_eq!(call.state, plum_state_t::PLUM_STATE_FAILURE, "nobody makes a mapping here");
    }
}

/// One of the functions that fill a buffer, asked with any size: the results and texts have to fit.
fn check_buffer(get: impl Fn(*mut c_char, usize) -> c_int) -> String {
    let length = get(null_mut(), 0);
    assert!(length > 0, "{length}");
    let length = usize::try_from(length).expect("positive");
    let mut whole = String::new();
    for size in [length + 1, length + 10, length, 2, 1, 0] {
        let mut buffer = vec![0x55_u8; length + 10];
        assert_eq!(usize::try_from(get(buffer.as_mut_ptr().cast(), size)), Ok(length));
        if size == length + 1 {
            whole = String::from_utf8(buffer[..length].to_vec()).expect("text");
        }
        let written = size.min(length + 1);
        if written > 0 {
            assert_eq!(&buffer[..written - 1], &whole.as_bytes()[..written - 1]);
            assert_eq!(buffer[written - 1], 0);
        }
        assert!(buffer[written..].iter().all(|&byte| byte == 0x55), "nothing is written behind the NUL");
    }
    assert_eq!(get(null_mut(), 1), PLUM_ERR_INVALID);
    whole
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

    fn init_out_of_range_is_invalid() {
        for level in [-1, 7, c_int::MIN, c_int::MAX] {
            assert_eq!(init(&plum_config_t { log_level: int(level), ..silent() }), PLUM_ERR_INVALID);
        }
        for protocol in [-1, 3, c_int::MIN, c_int::MAX] {
            assert_eq!(init(&plum_config_t { protocol: int(protocol), ..silent() }), PLUM_ERR_INVALID);
        }
        for protocol in 0..=2 {
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
                    *to = from.cast_signed();
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
            assert_eq!(plum::client::local_address(), None);
            return;
        }
        let address: IpAddr = check_buffer(get).parse().expect("an address");
        assert_eq!(plum::client::local_address(), Some(address));
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

    fn in_the_child_of_a_fork_every_function_fails() {
        assert_eq!(init(&silent()), PLUM_ERR_SUCCESS);
        let (user_ptr, heard) = ear(|_, _| {});
        let id = create(&wanted(user_ptr));
        next(&heard, plum_state_t::PLUM_STATE_FAILURE);
        // SAFETY: the child calls the library, which is what this is about, and _exit.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let mut buffer = [0; 64];
            // SAFETY: all pointers are valid for their calls.
            let results = unsafe {
                [
                    init(&silent()),
                    create(&wanted(user_ptr)),
                    query(id).0,
                    plum_destroy_mapping(id),
                    plum_get_local_address(buffer.as_mut_ptr(), 64),
                    plum_get_dummytls_host(c"1.2.3.4".as_ptr(), buffer.as_mut_ptr(), 64),
                    plum_get_dummytls_certificate(int(0), buffer.as_mut_ptr(), 64),
                    plum_cleanup(),
                ]
            };
            // SAFETY: no preconditions.
            unsafe {
                plum_set_log_level(int(0));
                libc::_exit(results.iter().filter(|&&result| result != PLUM_ERR_FAILED).count() as c_int)
            }
        }
        let mut status = 0;
        // SAFETY: the status is valid for the call.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "so many functions did not fail");
        assert_eq!(query(id).0, PLUM_ERR_SUCCESS, "the parent goes on");
        assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        next(&heard, plum_state_t::PLUM_STATE_DESTROYED);
    }
}

mod log {
    //! The log's part of the contract.

    use super::*;

    /// The messages so far.
    static MESSAGES: Mutex<Vec<(plum_log_level_t, String)>> = Mutex::new(Vec::new());

    extern "C" fn on_message(level: plum_log_level_t, message: *const c_char) {
        // SAFETY: a string, says the contract.
        let message = unsafe { CStr::from_ptr(message) }.to_str().expect("text").to_owned();
        let mut messages = MESSAGES.try_lock().expect("calls are serialised");
        messages.push((level, message));
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
            let of_create = format!("mapping {id}: created for Udp 4711");
            assert!(messages().contains(&(plum_log_level_t::PLUM_LOG_LEVEL_DEBUG, of_create)));
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
        }

        fn a_gateway_that_cannot_be_understood_is_an_error_in_the_log() {
            // SAFETY: no other thread of this process reads the environment.
            unsafe { std::env::set_var("PLUM_GATEWAY", "192.0.2.1:none") };
            assert_eq!(init(&config(4)), PLUM_ERR_SUCCESS);
            let messages = messages();
            assert!(matches!(&messages[..], [(plum_log_level_t::PLUM_LOG_LEVEL_ERROR, text)] if text.contains("PLUM_GATEWAY")), "{messages:?}");
            assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
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
                    end.recv_timeout(LONG).expect("the test ends it");
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
                begun.recv_timeout(LONG).expect("it fails");
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
        let line = text.lines().find(|line| line.ends_with("INFO    cleaned up")).expect("the last line");
        let (time, rest) = line.split_at(8);
        let parts: Vec<Result<u8, _>> = time.split(':').map(str::parse).collect();
        assert!(matches!(parts[..], [Ok(0..=23), Ok(0..=59), Ok(0..=60)]), "{line}");
        // Not coloured, since it is no terminal.
        assert_eq!(rest, " INFO    cleaned up");
    }
}
