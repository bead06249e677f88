//! Memory that runs out: what the program asks for fails, or a mapping does, and the process lives on. The allocator of this program
//! fails what is asked for at once beyond a limit, on the library's threads and the caller's alone.

use plum::*;
use plum_engine::io::MappingId;
use plum_gateway::core::Igd;
use plum_gateway::server::Server;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Whatever has not happened after this long never will.
const LONG: Duration = Duration::from_secs(40);

/// More than this many bytes at once are not to be had, by threads that have [`SCARCE`] set.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// How often that was so.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

thread_local!(static SCARCE: Cell<bool> = const { Cell::new(false) });

struct Scarce;

impl Scarce {
    fn gives(size: usize) -> bool {
        let gives = size <= LIMIT.load(Ordering::Relaxed) || !SCARCE.try_with(Cell::get).unwrap_or(false);
        if !gives {
            REFUSED.fetch_add(1, Ordering::Relaxed);
        }
        gives
    }
}

// SAFETY: every call goes to the system's allocator unchanged, or gives NULL, as an allocator may.
unsafe impl GlobalAlloc for Scarce {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !Scarce::gives(layout.size()) {
            return null_mut();
        }
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !Scarce::gives(size) {
            return null_mut();
        }
        // SAFETY: by the caller's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Scarce = Scarce;

/// What the callbacks were told, by id.
static TOLD: Mutex<Vec<(MappingId, plum_state_t)>> = Mutex::new(Vec::new());

extern "C" fn on_mapping(id: c_int, state: plum_state_t, _mapping: *const plum_mapping_t) {
    // The test's own memory is not meant. From now on the worker's is.
    SCARCE.set(false);
    TOLD.lock().expect("not poisoned").push((id, state));
    SCARCE.set(true);
}

/// One session, and memory that is scarce while it is told to be.
struct Session {
    gateway: Server,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        LIMIT.store(usize::MAX, Ordering::Relaxed);
        SCARCE.set(false);
        plum_cleanup();
        TOLD.lock().expect("not poisoned").clear();
    }
}

/// Starts a session at this gateway; `orders`: what becomes of it first.
fn session_at(igd: Option<Igd>, orders: &[&str]) -> Session {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let gateway = Server::start_on_own_address(|config| config.gateway.igd = igd.clone()).expect("a gateway");
    for order in orders {
        gateway.with_core(|core| plum_gateway::control::carry_out(core, order)).expect("a command");
    }
    // SAFETY: no other thread of this process reads the environment.
    unsafe { std::env::set_var("PLUM_GATEWAY", gateway.pcp_address().to_string()) };
    let session = Session { gateway, _alone: alone };
    assert_eq!(init(), PLUM_ERR_SUCCESS);
    session
}

fn init() -> c_int {
    // SAFETY: all zero is a valid configuration: NULL pointers, and the ints are 0.
    let mut config: plum_config_t = unsafe { std::mem::zeroed() };
    // SAFETY: as large as an int, and 6 is PLUM_LOG_LEVEL_NONE.
    unsafe { config.log_level.as_mut_ptr().cast::<c_int>().write(6) };
    // SAFETY: valid for the call.
    unsafe { plum_init(&raw const config) }
}

fn create(port: u16) -> c_int {
    // SAFETY: all zero is a valid mapping but for its port.
    let mut mapping: plum_mapping_t = unsafe { std::mem::zeroed() };
    mapping.internal_port = port;
    // SAFETY: valid for the call, and so is the callback for ever.
    unsafe { plum_create_mapping(&raw const mapping, Some(on_mapping)) }
}

/// Allocations of more than so many bytes fail from now on, on this thread and the worker's.
fn limit(bytes: usize) {
    REFUSED.store(0, Ordering::Relaxed);
    SCARCE.set(true);
    LIMIT.store(bytes, Ordering::Relaxed);
}

fn unlimited() -> usize {
    LIMIT.store(usize::MAX, Ordering::Relaxed);
    SCARCE.set(false);
    REFUSED.load(Ordering::Relaxed)
}

/// How often a mapping was told a state.
fn count(id: c_int, state: plum_state_t) -> usize {
    TOLD.lock().expect("not poisoned").iter().filter(|told| **told == (id, state)).count()
}

/// Waits until a mapping is told a state. (Callbacks have no event that would wake a test without memory of its own.)
fn wait_for(id: c_int, state: plum_state_t) {
    let until = Instant::now() + LONG;
    while count(id, state) == 0 {
        assert!(Instant::now() < until, "{id} is not told {state:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

use plum_state_t::{
    PLUM_STATE_DESTROYED as DESTROYED, PLUM_STATE_FAILURE as FAILURE, PLUM_STATE_SUCCESS as SUCCESS,
};

#[test]
fn init_without_memory_for_its_buffers_fails_and_leaves_nothing_behind() {
    let session = session_at(None, &[]);
    assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    limit(32 * 1024);
    let result = init();
    assert!(unlimited() > 0);
    assert_eq!(result, PLUM_ERR_FAILED);
    assert_eq!(init(), PLUM_ERR_SUCCESS);
    drop(session);
}

#[test]
fn a_mapping_without_memory_for_its_place_in_the_table_is_not_created() {
    let session = session_at(None, &[]);
    limit(4 * 1024);
    let mut ids = Vec::with_capacity(1000);
    let refusal = loop {
        let id = create(1000 + ids.len() as u16);
        if id < 0 || ids.len() == 1000 {
            break id;
        }
        ids.push(id);
    };
    assert!(unlimited() > 0);
    assert_eq!(refusal, PLUM_ERR_FAILED);
    assert!(ids.len() > 10, "{}", ids.len());
    // Nothing is lost of what was created, and no id.
    assert_eq!(create(999), ids.len() as c_int + ids[0]);
    wait_for(ids[0], SUCCESS);
    assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    assert!(ids.iter().all(|&id| count(id, DESTROYED) == 1));
    assert_eq!(init(), PLUM_ERR_SUCCESS);
    drop(session);
}

#[test]
fn a_mapping_that_there_is_no_memory_for_fails_and_is_made_when_there_is() {
    let session = session_at(None, &[]);
    let first = create(1000);
    wait_for(first, SUCCESS);
    limit(48 * 1024);
    let (kept, destroyed, last) = (create(1001), create(1002), create(1003));
    wait_for(last, FAILURE);
    assert_eq!(plum_destroy_mapping(destroyed), PLUM_ERR_SUCCESS);
    wait_for(destroyed, DESTROYED);
    assert_eq!(count(first, FAILURE), 0, "others live");
    assert!(unlimited() > 0);
    wait_for(kept, SUCCESS);
    wait_for(last, SUCCESS);
    // Cleanup finds one that waits.
    limit(48 * 1024);
    let waiting = create(1004);
    wait_for(waiting, FAILURE);
    assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    unlimited();
    for id in [first, kept, destroyed, last, waiting] {
        assert_eq!(count(id, DESTROYED), 1, "{id}");
    }
    assert!(session.gateway.with_core(|core| core.table().is_empty()));
    assert_eq!(init(), PLUM_ERR_SUCCESS);
    drop(session);
}

#[test]
fn a_description_that_there_is_no_memory_for_fails_alone() {
    let igd = Igd { friendly_name: "n".repeat(900 * 1024), ..Igd::default() };
    let session = session_at(Some(igd), &["close pcp", "close natpmp"]);
    let failing = create(1000);
    // The worker is known from its first callback on.
    wait_for(failing, SUCCESS);
    assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    session.gateway.with_core(|core| plum_gateway::control::carry_out(core, "open all")).expect("a command");
    assert_eq!(init(), PLUM_ERR_SUCCESS);
    let made = create(1001);
    wait_for(made, SUCCESS);
    limit(64 * 1024);
    session
        .gateway
        .with_core(|core| plum_gateway::control::carry_out(core, "refuse pcp-map 2"))
        .expect("a command");
    session
        .gateway
        .with_core(|core| plum_gateway::control::carry_out(core, "refuse natpmp-map 2"))
        .expect("a command");
    let refused = create(1002);
    wait_for(refused, FAILURE);
    assert_eq!(count(made, FAILURE), 0, "others live");
    assert!(unlimited() > 0);
    wait_for(refused, SUCCESS);
    drop(session);
}

#[test]
fn tables_of_thousands_of_mappings_take_no_large_pieces() {
    let session = session_at(None, &[]);
    let first = create(1);
    wait_for(first, SUCCESS);
    limit(64 * 1024);
    let ids: Vec<c_int> = (2..5000).map(create).collect();
    wait_for(ids[ids.len() - 1], SUCCESS);
    assert_eq!(plum_cleanup(), PLUM_ERR_SUCCESS);
    assert_eq!(unlimited(), 0, "nothing larger is asked for at all");
    assert!(ids.iter().all(|&id| count(id, DESTROYED) == 1));
    assert_eq!(init(), PLUM_ERR_SUCCESS);
    drop(session);
}
