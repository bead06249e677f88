//! The program's memory: strings and buffers behind its pointers. The callers give the limits.

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;

/// The number behind an enum that the program gave.
///
/// # Safety
///
/// It is set, to whatever value.
pub(super) unsafe fn raw<E>(value: &MaybeUninit<E>) -> c_int {
    const { assert!(size_of::<E>() == size_of::<c_int>() && align_of::<E>() == align_of::<c_int>()) };
    // SAFETY: as large and aligned as an int, by the assertion; set, by the contract; and any bits are an int.
    unsafe { value.as_ptr().cast::<c_int>().read() }
}

/// The bytes at `start` up to a NUL, or `limit` of them where none comes.
///
/// # Safety
///
/// `start` is readable up to its first NUL or for `limit` bytes, whichever is less.
pub(super) unsafe fn read_bytes(start: *const c_char, limit: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for offset in 0..limit {
        // SAFETY: the bytes from `start` to here are readable, by the contract: `offset` is below `limit`, and no byte before it is a NUL.
        let at = unsafe { start.add(offset) };
        // SAFETY: readable for the same reason; any byte is a u8.
        let byte = unsafe { at.cast::<u8>().read() };
        if byte == 0 {
            break;
        }
        bytes.push(byte);
    }
    bytes
}

/// Where a function of the C API puts a string.
pub(super) struct Buffer {
    start: *mut c_char,
    size: usize,
}

impl Buffer {
    /// The program's buffer; `None` where it is NULL and yet has a size.
    ///
    /// # Safety
    ///
    /// Unless it is NULL, `start` is writable for `size` bytes, or for those of the text that is written there and its NUL, if these
    /// are fewer, as long as this lives, and nobody else reads or writes them meanwhile.
    pub(super) unsafe fn new(start: *mut c_char, size: usize) -> Option<Buffer> {
        (!start.is_null() || size == 0).then_some(Buffer { start, size })
    }

    /// Writes as `snprintf` does: as much as fits and a NUL; returns the length of the whole text.
    pub(super) fn write(self, text: &str) -> c_int {
        if let Some(room) = self.size.checked_sub(1) {
            let length = room.min(text.len());
            // SAFETY: by the contract of `new` so many bytes are writable: `length < size`, and no more than the text has. (NULL
            // with a size was refused.) The text is our own memory, so they do not overlap.
            unsafe { self.start.copy_from_nonoverlapping(text.as_ptr().cast(), length) };
            // SAFETY: the same buffer, `length + 1` bytes of which are writable. No text is longer than isize::MAX.
            let end = unsafe { self.start.add(length) };
            // SAFETY: the last of these bytes.
            unsafe { end.write(0) };
        }
        // The texts are addresses, host names and files whose size is limited far below this.
        c_int::try_from(text.len()).unwrap_or(c_int::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(size: usize, text: &str) -> (c_int, Vec<u8>) {
        let mut memory = [0x55_u8; 8];
        // SAFETY: the tests give at most 8 bytes, or a text that needs no more.
        let buffer = unsafe { Buffer::new(memory.as_mut_ptr().cast(), size) }.expect("a buffer");
        (buffer.write(text), memory.to_vec())
    }

    #[test]
    fn writes_like_snprintf() {
        assert_eq!(written(8, "abc"), (3, b"abc\0UUUU".to_vec()));
        assert_eq!(written(4, "abc"), (3, b"abc\0UUUU".to_vec()));
        assert_eq!(written(3, "abc"), (3, b"ab\0UUUUU".to_vec()));
        assert_eq!(written(1, "abc"), (3, b"\0UUUUUUU".to_vec()));
        assert_eq!(written(0, "abc"), (3, b"UUUUUUUU".to_vec()));
        assert_eq!(written(8, ""), (0, b"\0UUUUUUU".to_vec()));
    }

    #[test]
    fn takes_null_for_a_buffer_without_size_only() {
        // SAFETY: NULL is never written to.
        let null = |size| unsafe { Buffer::new(std::ptr::null_mut(), size) };
        assert_eq!(null(0).expect("a buffer").write("abc"), 3);
        assert!(null(1).is_none());
        assert!(null(usize::MAX).is_none());
    }

    #[test]
    fn touches_no_more_than_the_text_needs_whatever_the_size() {
        assert_eq!(written(usize::MAX, "abc"), (3, b"abc\0UUUU".to_vec()));
        assert_eq!(written(usize::MAX, "1234567"), (7, b"1234567\0".to_vec()));
    }

    #[test]
    fn reads_to_the_nul_or_to_the_limit() {
        let memory = b"abc\0def";
        // SAFETY: there is a NUL in the array.
        let read = |limit| unsafe { read_bytes(memory.as_ptr().cast(), limit) };
        assert_eq!(read(7), b"abc");
        assert_eq!(read(2), b"ab");
        assert_eq!(read(0), b"");
        assert_eq!(read(usize::MAX), b"abc");
    }
}
