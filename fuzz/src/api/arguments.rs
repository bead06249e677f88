//! Arguments of C calls: enums of any value, buffers of their very size, strings with or without an end.

use arbitrary::{Result, Unstructured};
use plum::{PLUM_ERR_INVALID, PLUM_MAX_HOST_LEN, plum_mapping_t};
use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::ptr::null_mut;

/// An enum as C sees it: any int.
pub fn int<E>(value: c_int) -> MaybeUninit<E> {
    const { assert!(size_of::<E>() == size_of::<c_int>()) };
    let mut out = MaybeUninit::<E>::uninit();
    // SAFETY: as large as an int, and never read as an E.
    unsafe { out.as_mut_ptr().cast::<c_int>().write(value) };
    out
}

/// The int of an enum that the library wrote.
pub fn number<E>(value: &MaybeUninit<E>) -> c_int {
    const { assert!(size_of::<E>() == size_of::<c_int>()) };
    // SAFETY: it was set, and is as large as an int.
    unsafe { value.as_ptr().cast::<c_int>().read() }
}

/// The value of an enum with `count` values: mostly one of them, else any int.
pub fn choice(u: &mut Unstructured<'_>, count: u8) -> Result<c_int> {
    Ok(match u.arbitrary::<u8>()? {
        255 => u.arbitrary()?,
        254 => -1,
        253 => count.into(),
        value => (value % count).into(),
    })
}

/// Whether an enum with `count` values has this one.
pub fn is_choice(value: c_int, count: u8) -> bool {
    (0..c_int::from(count)).contains(&value)
}

/// A mapping as the program gives it; its host is any octets, also without an end.
pub fn mapping(protocol: c_int, internal_port: u16, external_port: u16, host: &[u8]) -> plum_mapping_t {
    // One octet behind what was given ends it, unless it fills the field.
    let mut external_host = [0x41; PLUM_MAX_HOST_LEN];
    for (to, from) in external_host.iter_mut().zip(host.iter().chain(&[0])) {
        *to = from.cast_signed();
    }
    plum_mapping_t {
        protocol: int(protocol),
        mapping_protocol: int(-77),
        internal_port,
        external_port,
        external_host,
        user_ptr: null_mut(),
    }
}

/// The host that the library wrote: an address, or nothing.
pub fn host_of(mapping: &plum_mapping_t) -> Result<Option<IpAddr>, String> {
    let octets: Vec<u8> = mapping.external_host.iter().map(|&c| c.cast_unsigned()).collect();
    let text = CStr::from_bytes_until_nul(&octets).map_err(|_| "the host does not end".to_owned())?;
    match text.to_bytes() {
        b"" => Ok(None),
        text => {
            let text = String::from_utf8_lossy(text);
            text.parse().map(Some).map_err(|_| format!("the host {text:?} is no address"))
        }
    }
}

/// Calls a function that fills a buffer of `size` octets (`None`: NULL, with that size), on memory of that very size, and
/// returns its result. What it wrote is a string, as `snprintf` would have written it.
pub fn fill(buffer: Option<()>, size: usize, get: impl Fn(*mut c_char, usize) -> c_int) -> c_int {
    let Some(()) = buffer else { return get(null_mut(), size) };
    // A Vec of no octets has no memory of its own, but its pointer is not NULL.
    let mut memory = vec![0x55_u8; size];
    let result = get(memory.as_mut_ptr().cast(), size);
    match usize::try_from(result) {
        Ok(length) if size > 0 => {
            let written = CStr::from_bytes_until_nul(&memory).expect("the buffer ends in NUL").count_bytes();
            assert_eq!(written, length.min(size - 1), "of {length} octets in {size}");
            assert!(memory[written + 1..].iter().all(|&octet| octet == 0x55), "written behind the NUL");
        }
        Ok(_) => {}
        Err(_) => {
            assert!(memory.iter().all(|&octet| octet == 0x55), "written in spite of the error {result}")
        }
    }
    result
}

/// What such a function says of its buffer before it looks at anything else that is its business.
pub fn is_bad_buffer(buffer: Option<()>, size: usize) -> bool {
    buffer.is_none() && size > 0
}

/// A result that may be a length.
pub fn is_length_or(result: c_int, error: c_int) -> bool {
    assert_ne!(error, PLUM_ERR_INVALID);
    result > 0 || result == error
}
