//! What the tests call the library with, and what its callbacks leave for them.

use plum::*;
use plum_gateway::server::Server;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::process::Command;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Whatever has not happened after this long never will.
pub const LONG: Duration = Duration::from_secs(20);

/// An address of loopback on which nothing listens.
pub const NOBODY: &str = "127.87.1.1:5351";

/// A gateway on loopback that makes mappings, and that the library will find.
pub fn gateway() -> Server {
    let gateway = Server::start_on_own_address(|_| {}).expect("a gateway on loopback");
    // SAFETY: no other thread of this process reads the environment.
    unsafe { std::env::set_var("PLUM_GATEWAY", gateway.pcp_address().to_string()) };
    gateway
}

/// Ends a test that hangs.
pub fn end_in_time() {
    const SECONDS: u32 = 60;
    #[cfg(unix)] // elsewhere the test runner has to do that
    // SAFETY: alarm(2) has no precondition.
    unsafe {
        libc::alarm(SECONDS)
    };
    #[cfg(not(unix))] // it has no signals
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(SECONDS.into()));
        std::process::abort();
    });
}

/// Runs a test's body in a process of its own; what that wrote to standard output.
pub fn in_a_process_of_its_own(name: &str, body: fn()) -> String {
    if std::env::var_os("PLUM_TEST_ALONE").is_some() {
        end_in_time();
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

/// An enum as C sees it: any int.
pub fn int<E>(value: c_int) -> MaybeUninit<E> {
    assert_eq!(size_of::<E>(), size_of::<c_int>());
    let mut out = MaybeUninit::<E>::uninit();
    // SAFETY: as large as an int, and never read as an E.
    unsafe { out.as_mut_ptr().cast::<c_int>().write(value) };
    out
}

/// The int of an enum that the library wrote.
pub fn number<E>(value: &MaybeUninit<E>) -> c_int {
    // SAFETY: the library set it, and it is as large as an int.
    unsafe { value.as_ptr().cast::<c_int>().read() }
}

/// No log, and PCP and NAT-PMP only: that nobody listens on their port is known at once.
pub fn silent() -> plum_config_t {
    plum_config_t { log_level: int(6), protocol: int(1), ..zeroed_config() }
}

pub fn zeroed_config() -> plum_config_t {
    // SAFETY: all zero is a valid configuration: NULL pointers, and the ints are 0.
    unsafe { std::mem::zeroed() }
}

pub fn init(config: &plum_config_t) -> c_int {
    // SAFETY: valid for the call.
    unsafe { plum_init(config) }
}

/// What the mapping callback was called with.
#[derive(Debug, PartialEq)]
pub struct Call {
    pub id: c_int,
    pub state: plum_state_t,
    pub protocol: c_int,
    pub mapping_protocol: c_int,
    pub internal_port: u16,
    pub external_port: u16,
    pub host: String,
}

pub type Inside = Box<dyn Fn(c_int, plum_state_t) + Send + Sync>;

/// What `user_ptr` of the tests' mappings points to.
pub struct Recorder {
    calls: Mutex<Sender<Call>>,
    /// Done inside the callback.
    inside: Inside,
}

pub extern "C" fn on_mapping(id: c_int, state: plum_state_t, mapping: *const plum_mapping_t) {
    assert!(!mapping.is_null());
    // SAFETY: not NULL, so valid during this call, says the contract.
    let mapping = unsafe { &*mapping };
    // SAFETY: the tests' mappings point to a Recorder that lives for ever.
    let ear = unsafe { &*mapping.user_ptr.cast::<Recorder>() };
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

pub fn host_of(mapping: &plum_mapping_t) -> String {
    let bytes: Vec<u8> = mapping.external_host.iter().map(|&c| c.to_ne_bytes()[0]).collect();
    CStr::from_bytes_until_nul(&bytes).expect("it ends in NUL").to_str().expect("text").to_owned()
}

/// The ears of all tests. They live for ever, so that whatever callback finds its own; kept here they are no leaks.
static RECORDERS: Mutex<Vec<&'static Recorder>> = Mutex::new(Vec::new());

/// A user_ptr for `on_mapping`, and what it hears.
pub fn ear(inside: impl Fn(c_int, plum_state_t) + Send + Sync + 'static) -> (*mut c_void, Receiver<Call>) {
    let (calls, heard) = channel();
    let recorder = Recorder { calls: Mutex::new(calls), inside: Box::new(inside) };
    let ear: &'static Recorder = Box::leak(Box::new(recorder));
    RECORDERS.lock().expect("not poisoned").push(ear);
    (std::ptr::from_ref(ear).cast_mut().cast(), heard)
}

pub fn wanted(user_ptr: *mut c_void) -> plum_mapping_t {
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

pub fn create(mapping: &plum_mapping_t) -> c_int {
    // SAFETY: valid for the call, and `on_mapping` for ever.
    unsafe { plum_create_mapping(mapping, Some(on_mapping)) }
}

/// The result of a query, the state and the mapping it wrote.
pub fn query(id: c_int) -> (c_int, c_int, plum_mapping_t) {
    let mut state = int(-1);
    let mut mapping = wanted(null_mut());
    // SAFETY: both are valid for the call.
    let result = unsafe { plum_query_mapping(id, &raw mut state, &raw mut mapping) };
    (result, number(&state), mapping)
}

/// The next call that tells of `state`; those before it may tell of FAILURE.
pub fn next(heard: &Receiver<Call>, state: plum_state_t) -> Call {
    loop {
        let call = heard.recv_timeout(LONG).expect("a call");
        if call.state == state {
            return call;
        }
        assert_eq!(call.state, plum_state_t::PLUM_STATE_FAILURE, "nobody makes a mapping here");
    }
}

/// One of the functions that fill a buffer, asked with any size: the results and texts have to fit.
pub fn check_buffer(get: impl Fn(*mut c_char, usize) -> c_int) -> String {
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
