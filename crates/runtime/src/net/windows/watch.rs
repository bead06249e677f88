//! Notices of the system: routes and addresses that change, and the end of a sleep.
//!
//! They come as calls on threads of the system. mio waits for sockets, so such a call sends a datagram from one to another, on
//! loopback: the way in which programs with no pipe to wait for have always been woken.

use super::super::Notices;
use crate::sync::Mutex;
use mio::event::Source;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use std::ffi::c_void;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use windows_sys::Win32::Foundation::{HANDLE, NO_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    CancelMibChangeNotify2, MIB_IPFORWARD_ROW2, MIB_NOTIFICATION_TYPE, MIB_UNICASTIPADDRESS_ROW,
    NotifyRouteChange2, NotifyUnicastIpAddressChange,
};
use windows_sys::Win32::Networking::WinSock::AF_UNSPEC;
use windows_sys::Win32::System::Power::{
    DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS, PowerRegisterSuspendResumeNotification,
};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    DEVICE_NOTIFY_CALLBACK, PBT_APMRESUMEAUTOMATIC, PBT_APMRESUMESUSPEND,
};

/// Datagrams read in one go. There are hardly ever two: who has sent one is not to send another before it is read.
const RINGS_A_TURN: usize = 16;

/// Becomes readable when addresses or routes have changed, and when the machine has slept.
///
/// A source for mio, edge-triggered: after an event call [`Watch::drain`].
pub struct Watch {
    /// Hears the bell, and nobody else.
    socket: UdpSocket,
    bell: Arc<Bell>,
    /// Registered until it is dropped.
    _calls: [Calls; 2],
}

impl Watch {
    /// Starts watching. Needs no privilege.
    ///
    /// # Errors
    ///
    /// The system has no socket, or no notices.
    pub fn open() -> io::Result<Watch> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let bell = Arc::new(Bell::new(socket.local_addr()?)?);
        socket.connect(bell.socket.local_addr()?)?;
        let calls = [Calls::of_routes(&bell)?, Calls::of_addresses(&bell)?];
        wake_after_sleep(&bell);
        Ok(Watch { socket, bell, _calls: calls })
    }

    /// It cannot be opened and yet not tell of changes.
    pub fn take_obstacle(&mut self) -> Option<io::Error> {
        None
    }

    /// Reads all that is pending.
    pub fn drain(&mut self) -> Notices {
        // Before the rest is taken: whoever comes after this sends another datagram.
        self.bell.rung.store(false, Ordering::Release);
        // To the end, or mio tells of no more.
        let more = (0..RINGS_A_TURN).all(|_| self.socket.recv(&mut [0]).is_ok());
        Notices { changed: self.bell.changed.swap(false, Ordering::AcqRel), more, broken: false }
    }
}

/// What a call on another thread rings.
struct Bell {
    /// Connected to the watch's.
    socket: std::net::UdpSocket,
    /// A datagram is under way, or nobody has read it yet: another one would tell nothing more.
    rung: AtomicBool,
    changed: AtomicBool,
}

impl Bell {
    fn new(hearer: SocketAddr) -> io::Result<Bell> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(hearer)?;
        socket.set_nonblocking(true)?;
        Ok(Bell { socket, rung: AtomicBool::new(false), changed: AtomicBool::new(false) })
    }

    /// Wakes whoever polls. It never waits, and takes no lock that is held for long.
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) && self.socket.send(&[0]).is_err() {
            self.rung.store(false, Ordering::Release);
        }
    }

    /// Rings for a change.
    fn tell_of_change(&self) {
        self.changed.store(true, Ordering::Release);
        self.ring();
    }
}

/// Calls of the system, which come until this is dropped.
struct Calls {
    handle: HANDLE,
    /// What the calls are handed a pointer to.
    bell: Arc<Bell>,
}

// SAFETY: CancelMibChangeNotify2 may be called on any thread with a handle of another one, and nothing else uses the handle.
unsafe impl Send for Calls {}

impl Calls {
    fn of_routes(bell: &Arc<Bell>) -> io::Result<Calls> {
        let mut handle = null_mut();
        // SAFETY: NotifyRouteChange2 writes a handle to the pointer, which is valid for that, and hands the context to the callback, which
        // says what it asks of it; see `new`.
        let result = unsafe {
            NotifyRouteChange2(AF_UNSPEC, Some(route_changed), context(bell), false, &raw mut handle)
        };
        Calls::new(result, handle, bell)
    }

    fn of_addresses(bell: &Arc<Bell>) -> io::Result<Calls> {
        let mut handle = null_mut();
        // SAFETY: as in `of_routes`.
        let result = unsafe {
            NotifyUnicastIpAddressChange(
                AF_UNSPEC,
                Some(address_changed),
                context(bell),
                false,
                &raw mut handle,
            )
        };
        Calls::new(result, handle, bell)
    }

    /// Of the results of a registration with [`context`]: the bell stays as long as the calls may come.
    fn new(result: u32, handle: HANDLE, bell: &Arc<Bell>) -> io::Result<Calls> {
        match result {
            NO_ERROR => Ok(Calls { handle, bell: Arc::clone(bell) }),
            code => Err(io::Error::from_raw_os_error(code.cast_signed())),
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if self.handle.is_null() {
            return; // Wine (as of 8.0) takes every registration, gives this handle, and never calls
        }
        // It waits for calls under way. They wait for nobody: see `Bell::ring`.
        // SAFETY: CancelMibChangeNotify2 takes the handle of a registration, once; this is no callback's thread.
        let result = unsafe { CancelMibChangeNotify2(self.handle) };
        if result != NO_ERROR {
            // Then calls may still come: what they use must stay.
            std::mem::forget(Arc::clone(&self.bell));
        }
    }
}

fn context(bell: &Arc<Bell>) -> *const c_void {
    Arc::as_ptr(bell).cast()
}

/// # Safety
///
/// `context` is of [`context`], and its bell still there.
unsafe extern "system" fn route_changed(
    context: *const c_void,
    _: *const MIB_IPFORWARD_ROW2,
    _: MIB_NOTIFICATION_TYPE,
) {
    // SAFETY: the promise of this function. A bell is only ever shared.
    unsafe { &*context.cast::<Bell>() }.tell_of_change();
}

/// # Safety
///
/// `context` is of [`context`], and its bell still there.
unsafe extern "system" fn address_changed(
    context: *const c_void,
    _: *const MIB_UNICASTIPADDRESS_ROW,
    _: MIB_NOTIFICATION_TYPE,
) {
    // SAFETY: the promise of this function. A bell is only ever shared.
    unsafe { &*context.cast::<Bell>() }.tell_of_change();
}

/// The bells to ring when the machine wakes up. Not by a pointer to a bell: nothing says that no call comes any more when
/// PowerUnregisterSuspendResumeNotification has returned. So one registration stays until the process ends.
static SLEEPERS: Mutex<Vec<Weak<Bell>>> = Mutex::new(Vec::new());

/// Rings the bell whenever the machine has slept, if the system tells of that. A sleep is else seen at the next wake of
/// whatever reason.
fn wake_after_sleep(bell: &Arc<Bell>) {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    let mut sleepers = SLEEPERS.lock();
    sleepers.retain(|other| other.strong_count() > 0);
    sleepers.push(Arc::downgrade(bell));
    drop(sleepers);
    REGISTERED.get_or_init(|| {
        let mut registration = null_mut();
        let mut parameters =
            DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS { Callback: Some(slept), Context: null_mut() };
        // SAFETY: PowerRegisterSuspendResumeNotification with DEVICE_NOTIFY_CALLBACK reads such parameters, of which it makes a copy, and writes
        // a handle to the last pointer, which is valid for that. The callback uses no context, and its code stays: see `stay_loaded`.
        unsafe {
            PowerRegisterSuspendResumeNotification(
                DEVICE_NOTIFY_CALLBACK,
                (&raw mut parameters).cast(),
                &raw mut registration,
            )
        };
    });
}

/// Who sees the sleep is the reader of the clocks; here it is enough to have been woken.
unsafe extern "system" fn slept(_: *const c_void, kind: u32, _: *const c_void) -> u32 {
    if matches!(kind, PBT_APMRESUMEAUTOMATIC | PBT_APMRESUMESUSPEND) {
        for bell in SLEEPERS.lock().iter().filter_map(Weak::upgrade) {
            bell.ring();
        }
    }
    NO_ERROR
}

impl Source for Watch {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.register(registry, token, interests)
    }
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.reregister(registry, token, interests)
    }
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::Duration;

    /// What is waited for comes at once; this is for machines that are very busy.
    const PATIENCE: Duration = Duration::from_secs(10);

    fn watching() -> (Watch, Poll) {
        let (mut watch, poll) = (Watch::open().unwrap(), Poll::new().unwrap());
        poll.registry().register(&mut watch, Token(7), Interest::READABLE).unwrap();
        (watch, poll)
    }

    fn is_told(poll: &mut Poll, patience: Duration) -> bool {
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(patience)).unwrap();
        events.iter().any(|event| event.token() == Token(7))
    }

    #[test]
    fn every_change_wakes_who_polls() {
        let (mut watch, mut poll) = watching();
        for _ in 0..50 {
            let context = context(&watch.bell) as usize;
            let system = std::thread::spawn(move || {
                // SAFETY: the bell is there until the watch is dropped, which is after this thread has ended.
                unsafe { route_changed(context as *const c_void, std::ptr::null(), 0) };
                // SAFETY: as above.
                unsafe { address_changed(context as *const c_void, std::ptr::null(), 0) };
            });
            assert!(is_told(&mut poll, PATIENCE));
            system.join().unwrap();
            assert!(watch.drain().changed);
            // The second call may have come while the first was read.
            while is_told(&mut poll, Duration::ZERO) {
                watch.drain();
            }
            assert_eq!(watch.drain(), Notices { changed: false, more: false, broken: false });
        }
    }

    #[test]
    fn the_end_of_a_sleep_wakes_who_polls_and_is_no_change() {
        let (mut watch, mut poll) = watching();
        // SAFETY: the callback reads neither pointer.
        unsafe { slept(std::ptr::null(), PBT_APMRESUMEAUTOMATIC, std::ptr::null()) };
        assert!(is_told(&mut poll, PATIENCE));
        assert!(!watch.drain().changed);
    }

    #[test]
    fn opens_and_closes_again_and_again() {
        for _ in 0..100 {
            let (mut watch, poll) = watching();
            poll.registry().deregister(&mut watch).unwrap();
        }
        // Of those that are gone none is remembered, but for other tests' at the same time.
        assert!(SLEEPERS.lock().len() < 10);
    }
}
