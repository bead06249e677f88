//! Windows 10 and later, and Wine, which lacks some of its functions: what then is done instead stands where they are called.

pub mod clock;
mod route;
mod watch;

pub use route::{find_prefix, find_route};
pub use watch::Watch;

use socket2::{InterfaceIndexOrAddress, Socket};
use std::ffi::CStr;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::windows::io::AsRawSocket;
use std::ptr::null_mut;
use windows_sys::Win32::Foundation::{
    ERROR_NO_SYSTEM_RESOURCES, ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY, ERROR_TOO_MANY_OPEN_FILES,
};
use windows_sys::Win32::Networking::WinSock::{
    SIO_UDP_CONNRESET, SIO_UDP_NETRESET, SOCKET, WSAEMFILE, WSAENOBUFS, WSAIoctl,
};
use windows_sys::Win32::System::LibraryLoader::{
    GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExW,
};
use windows_sys::Win32::System::SystemInformation::GetLocalTime;

/// The errors for want of descriptors or memory: those of Windows, then those of its sockets.
pub(super) const SHORTAGES: [i32; 6] = [
    ERROR_TOO_MANY_OPEN_FILES.cast_signed(),
    ERROR_NOT_ENOUGH_MEMORY.cast_signed(),
    ERROR_OUTOFMEMORY.cast_signed(),
    ERROR_NO_SYSTEM_RESOURCES.cast_signed(),
    WSAEMFILE,
    WSAENOBUFS,
];

/// The value of an environment variable. Text that is not Unicode becomes U+FFFD. Windows knows no program that runs with more
/// rights than its caller: a program that is given more starts with an environment of its own.
pub fn environment(name: &CStr) -> Option<String> {
    Some(std::env::var_os(name.to_str().ok()?)?.to_string_lossy().into_owned())
}

/// Hours, minutes and seconds, in the time zone of the machine.
pub(super) fn local_time() -> (u32, u32, u32) {
    let mut time = Default::default();
    // SAFETY: GetLocalTime writes a SYSTEMTIME to the pointer, which is valid for that.
    unsafe { GetLocalTime(&raw mut time) };
    (time.wHour.into(), time.wMinute.into(), time.wSecond.into())
}

/// Keeps the code where it is until the process ends, also where the program frees the DLL: a thread of ours, or one of the
/// system's that calls us back, may still run then. (As `-z nodelete` does elsewhere.)
pub(super) fn stay_loaded() {
    let mut module = null_mut();
    // With FROM_ADDRESS the name is any address inside of the module.
    let inside = std::ptr::from_ref(&INSIDE).cast();
    // SAFETY: GetModuleHandleExW reads no name with FROM_ADDRESS, and writes a handle to the pointer, which is valid for that. It cannot
    // fail for an address of code that runs.
    unsafe {
        GetModuleHandleExW(
            GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
            inside,
            &raw mut module,
        )
    };
}

/// Lies where this code does.
static INSIDE: u8 = 0;

/// Has an unconnected socket not hear of closed ports: by default what one datagram met with fails a later read, and
/// does not say whose it was.
pub(super) fn ignore_refusals(socket: &Socket) {
    turn_off(socket, SIO_UDP_CONNRESET);
}

/// Has a socket not hear of datagrams that lived too short to arrive: by default each of these ICMP errors, which anybody can
/// send, fails a read.
pub(super) fn ignore_expiries(socket: &Socket) {
    turn_off(socket, SIO_UDP_NETRESET);
}

/// A system that has no such option tells of such errors, which is no more than a line in the log each.
fn turn_off(socket: &Socket, option: u32) {
    let (off, mut returned) = (0u32, 0);
    // SAFETY: WSAIoctl: the socket is open, the options above read a BOOL, which has the length given, and write nothing; without an
    // OVERLAPPED it is done when the call returns.
    unsafe {
        WSAIoctl(
            socket.as_raw_socket() as SOCKET,
            option,
            (&raw const off).cast(),
            size_of::<u32>() as u32,
            null_mut(),
            0,
            &raw mut returned,
            null_mut(),
            None,
        )
    };
}

/// Where a listener for `group` is bound: Windows refuses a group there.
pub(super) fn listening_address(group: SocketAddr) -> SocketAddr {
    match group {
        SocketAddr::V4(group) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, group.port())),
        SocketAddr::V6(group) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, group.port())),
    }
}

/// Lets the port be shared with other programs. On Windows that takes it also from those that have not asked for sharing, unless they
/// have asked for the contrary (SO_EXCLUSIVEADDRUSE): of what is sent to their address alone some may then come here.
pub(super) fn prepare_listener(socket: &Socket, _group: SocketAddr) -> io::Result<()> {
    socket.set_reuse_address(true)
}

/// The way in which Windows names an interface where an IPv4 address is asked for: "IP_MULTICAST_IF: any IP address in the 0.x.x.x
/// block is treated as an interface index". `None` where it has no such name.
fn as_address(interface: u32) -> Option<Ipv4Addr> {
    (1..1 << 24).contains(&interface).then(|| Ipv4Addr::from(interface))
}

/// Joins an IPv4 group on one interface: by its index, or, where that is not understood (Wine), by its address.
pub(super) fn join_v4(socket: &Socket, group: Ipv4Addr, local: Ipv4Addr, interface: u32) -> io::Result<()> {
    let by_index = InterfaceIndexOrAddress::Index(interface);
    match as_address(interface).map(|_| socket.join_multicast_v4_n(&group, &by_index)) {
        Some(Ok(())) => Ok(()),
        _ => socket.join_multicast_v4(&group, &local),
    }
}

/// Sends IPv4 multicasts from this socket out of `interface`: by its index, or, where that is not understood (Wine), by its address.
pub(super) fn set_multicast_interface_v4(socket: &Socket, local: Ipv4Addr, interface: u32) -> io::Result<()> {
    match as_address(interface).map(|interface| socket.set_multicast_if_v4(&interface)) {
        Some(Ok(())) => Ok(()),
        _ => socket.set_multicast_if_v4(&local),
    }
}
