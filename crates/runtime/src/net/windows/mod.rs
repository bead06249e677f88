//! Windows 10 and later, and Wine, which lacks some functions: the fallbacks are where they are called.

pub mod clock;
mod ipv6;
mod route;
mod watch;

pub use ipv6::{find_ipv6_addresses, find_ipv6_route};
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

/// Keeps the DLL loaded until the process ends, even if the program frees it: a thread of ours, or of the system
/// calling us, may still run. (As `-z nodelete` does elsewhere.)
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

/// An address inside this module.
static INSIDE: u8 = 0;

/// Disables reports of closed ports on an unconnected socket: by default, the error of one datagram fails a later read,
/// without its address.
pub(super) fn ignore_refusals(socket: &Socket) {
    turn_off(socket, SIO_UDP_CONNRESET);
}

/// Disables reports of expired TTLs on a socket: by default each of these ICMP errors, which anyone can send, fails a
/// read.
pub(super) fn ignore_expiries(socket: &Socket) {
    turn_off(socket, SIO_UDP_NETRESET);
}

/// A system without this option reports these errors: each is only a line in the log.
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

/// Lets other programs share the port. On Windows this also shares the port of programs that did not ask for it, unless
/// they prevent it (SO_EXCLUSIVEADDRUSE): some of their unicast datagrams may then arrive here.
pub(super) fn prepare_listener(socket: &Socket, _group: SocketAddr) -> io::Result<()> {
    socket.set_reuse_address(true)
}

/// An interface index as Windows expects it in place of an IPv4 address: "IP_MULTICAST_IF: any IP address in the
/// 0.x.x.x block is treated as an interface index". `None`: the index is too large.
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
