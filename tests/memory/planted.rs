//! Faults for the self-test of tests/memory/run: each has to be reported.

use std::hint::black_box;

fn main() {
    match std::env::args().nth(1).as_deref() {
        // The same without its fault: nothing is to be reported.
        Some("none") => black_box(vec![1_u8; 10]).clear(),
        Some("overflow") => {
            let bytes = black_box(vec![1_u8; 10].into_boxed_slice());
            // SAFETY: none, that is the point: it reads the byte behind the last.
            black_box(unsafe { bytes.as_ptr().add(black_box(10)).read() });
        }
        Some("use-after-free") => {
            let freed = black_box(vec![1_u8; 10]).as_ptr();
            // SAFETY: none: the bytes were freed with the vector.
            black_box(unsafe { freed.read() });
        }
        // In a thread of its own, whose stack does not keep the pointer.
        Some("leak") => {
            let leak = std::thread::spawn(|| std::mem::forget(black_box(Box::new([1_u8; 4711]))));
            leak.join().expect("the thread ends");
        }
        other => panic!("no such fault: {other:?}"),
    }
}
