//! The system's change notices: routes, addresses, and the end of a sleep.
//!
//! They arrive as calls on threads of the system. mio waits for sockets, so such a call sends a datagram from one
//! loopback socket to another, the usual way to wake a poll without a pipe.

use super::super::{Notices, PerProcess};
use super::route::decode;
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
use windows_sys::Win32::Networking::WinSock::{AF_UNSPEC, SOCKADDR_INET};
use windows_sys::Win32::System::Power::{
    DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS, PowerRegisterSuspendResumeNotification,
};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    DEVICE_NOTIFY_CALLBACK, PBT_APMRESUMEAUTOMATIC, PBT_APMRESUMESUSPEND,
};

/// Datagrams read in one go. There is rarely more than one: a second is sent only after the first was read.
const RINGS_A_TURN: usize = 16;

/// Becomes readable when addresses or routes have changed, and when the machine has slept.
///
/// An edge-triggered mio source: call [`Watch::drain`] after each event.
pub struct Watch {
    /// Receives from the signal's socket only.
    socket: UdpSocket,
    signal: Arc<ChangeSignal>,
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
        let signal = Arc::new(ChangeSignal::new(socket.local_addr()?)?);
        socket.connect(signal.socket.local_addr()?)?;
        let calls = [Calls::of_routes(&signal)?, Calls::of_addresses(&signal)?];
        wake_after_sleep(&signal);
        Ok(Watch { socket, signal, _calls: calls })
    }

    /// An open watch always has notices.
    pub fn take_obstacle(&mut self) -> Option<io::Error> {
        None
    }

    /// Reads all pending notices.
    pub fn drain(&mut self) -> Notices {
        // Reset first, so that a later notice sends another datagram.
        self.signal.is_notified.store(false, Ordering::Release);
        // Read to the end, or mio reports no more events.
        let more = (0..RINGS_A_TURN).all(|_| self.socket.recv(&mut [0]).is_ok());
        let take = |told: &AtomicBool| told.swap(false, Ordering::AcqRel);
        let (changed, ipv6_changed) = (take(&self.signal.changed), take(&self.signal.ipv6_changed));
        Notices { changed, ipv6_changed, more, broken: false }
    }
}

/// Wakes the poll from other threads.
struct ChangeSignal {
    /// Connected to the socket of the watch.
    socket: std::net::UdpSocket,
    /// A datagram was sent and not read yet: another would add nothing.
    is_notified: AtomicBool,
    changed: AtomicBool,
    ipv6_changed: AtomicBool,
}

impl ChangeSignal {
    fn new(receiver: SocketAddr) -> io::Result<ChangeSignal> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(receiver)?;
        socket.set_nonblocking(true)?;
        let [is_notified, changed, ipv6_changed] = [false; 3].map(AtomicBool::new);
        Ok(ChangeSignal { socket, is_notified, changed, ipv6_changed })
    }

    /// Wakes the poll. Never waits, and takes no lock that is held for long.
    fn notify(&self) {
        if !self.is_notified.swap(true, Ordering::AcqRel) && self.socket.send(&[0]).is_err() {
            self.is_notified.store(false, Ordering::Release);
        }
    }

    /// Reports a change at an address or prefix, if the system shows it.
    fn notify_change(&self, at: Option<&SOCKADDR_INET>) {
        let is_ipv6 = at.and_then(decode).is_some_and(|address| address.is_ipv6());
        let told = if is_ipv6 { &self.ipv6_changed } else { &self.changed };
        told.store(true, Ordering::Release);
        self.notify();
    }
}

/// A registration for calls of the system, until it is dropped.
struct Calls {
    handle: HANDLE,
    /// The context pointer of the calls.
    signal: Arc<ChangeSignal>,
}

// SAFETY: CancelMibChangeNotify2 may be called on any thread with a handle of another one, and nothing else uses the handle.
unsafe impl Send for Calls {}

impl Calls {
    fn of_routes(signal: &Arc<ChangeSignal>) -> io::Result<Calls> {
        let mut handle = null_mut();
        // SAFETY: NotifyRouteChange2 writes a handle to the pointer, which is valid for that, and hands the context to the callback, which
        // says what it asks of it; see `new`.
        let result = unsafe {
            NotifyRouteChange2(AF_UNSPEC, Some(route_changed), context(signal), false, &raw mut handle)
        };
        Calls::new(result, handle, signal)
    }

    fn of_addresses(signal: &Arc<ChangeSignal>) -> io::Result<Calls> {
        let mut handle = null_mut();
        // SAFETY: as in `of_routes`.
        let result = unsafe {
            NotifyUnicastIpAddressChange(
                AF_UNSPEC,
                Some(address_changed),
                context(signal),
                false,
                &raw mut handle,
            )
        };
        Calls::new(result, handle, signal)
    }

    /// The result of a registration with [`context`]: the signal stays as long as calls may come.
    fn new(result: u32, handle: HANDLE, signal: &Arc<ChangeSignal>) -> io::Result<Calls> {
        match result {
            NO_ERROR => Ok(Calls { handle, signal: Arc::clone(signal) }),
            code => Err(io::Error::from_raw_os_error(code.cast_signed())),
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if self.handle.is_null() {
            return; // Wine (as of 8.0) takes every registration, gives this handle, and never calls
        }
        // It waits for running calls, which never wait: see `ChangeSignal::notify`.
        // SAFETY: CancelMibChangeNotify2 takes the handle of a registration, once; this is no callback's thread.
        let result = unsafe { CancelMibChangeNotify2(self.handle) };
        if result != NO_ERROR {
            // Calls may still come, so their context must stay.
            std::mem::forget(Arc::clone(&self.signal));
        }
    }
}

fn context(signal: &Arc<ChangeSignal>) -> *const c_void {
    Arc::as_ptr(signal).cast()
}

/// # Safety
///
/// `context` is of [`context`], and its signal still there; the row is null, or has the prefix and the interface.
unsafe extern "system" fn route_changed(
    context: *const c_void,
    row: *const MIB_IPFORWARD_ROW2,
    _: MIB_NOTIFICATION_TYPE,
) {
    // SAFETY: the promise of this function.
    let row = unsafe { row.as_ref() };
    // SAFETY: the same. The signal is only shared.
    let signal = unsafe { &*context.cast::<ChangeSignal>() };
    signal.notify_change(row.map(|row| &row.DestinationPrefix.Prefix));
}

/// # Safety
///
/// `context` is of [`context`], and its signal still there; the row is null, or has the address and the interface.
unsafe extern "system" fn address_changed(
    context: *const c_void,
    row: *const MIB_UNICASTIPADDRESS_ROW,
    _: MIB_NOTIFICATION_TYPE,
) {
    // SAFETY: the promise of this function.
    let row = unsafe { row.as_ref() };
    // SAFETY: the same. The signal is only shared.
    let signal = unsafe { &*context.cast::<ChangeSignal>() };
    signal.notify_change(row.map(|row| &row.Address));
}

/// The signals to notify when the machine wakes up. Not by a pointer to each: there is no guarantee that no call comes
/// after PowerUnregisterSuspendResumeNotification has returned. So one registration stays until the process ends.
fn sleepers() -> &'static Mutex<Vec<Weak<ChangeSignal>>> {
    static SLEEPERS: PerProcess<Mutex<Vec<Weak<ChangeSignal>>>> = PerProcess::new();
    SLEEPERS.get(|_| Mutex::new(Vec::new()))
}

/// Notifies the signal whenever the machine has slept, if the system reports that. Otherwise a sleep is detected at the
/// next wake-up for another reason.
fn wake_after_sleep(signal: &Arc<ChangeSignal>) {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    let mut sleepers = sleepers().lock();
    sleepers.retain(|other| other.strong_count() > 0);
    sleepers.push(Arc::downgrade(signal));
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

/// The sleep itself is detected from the clocks; here the wake-up suffices.
///
/// # Safety
/// The pointers are not read: any caller may pass anything.
unsafe extern "system" fn slept(_: *const c_void, kind: u32, _: *const c_void) -> u32 {
    if matches!(kind, PBT_APMRESUMEAUTOMATIC | PBT_APMRESUMESUSPEND) {
        for signal in sleepers().lock().iter().filter_map(Weak::upgrade) {
            signal.notify();
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
    use super::super::route::encode;
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
            let context = context(&watch.signal) as usize;
            let system = std::thread::spawn(move || {
                // SAFETY: the signal is there until the watch is dropped, which is after this thread has ended.
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
            assert_eq!(watch.drain(), Notices::default());
        }
    }

    #[test]
    fn changes_of_ipv6_are_told_apart() {
        let (mut watch, _poll) = watching();
        for (address, is_ipv6) in [("2600::1", true), ("192.0.2.1", false)] {
            let row =
                MIB_UNICASTIPADDRESS_ROW { Address: encode(address.parse().unwrap()), ..Default::default() };
            // SAFETY: the signal is there until the watch is dropped, and the row has an address.
            unsafe { address_changed(context(&watch.signal), &raw const row, 0) };
            let notices = watch.drain();
            assert_eq!((notices.changed, notices.ipv6_changed), (!is_ipv6, is_ipv6), "{address}");
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
        assert!(sleepers().lock().len() < 10);
    }
}
