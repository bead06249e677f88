//! A Rust static library with one C function, which panics and catches it.
//!
//! Its name comes from the environment of the compiler, so that one source makes two libraries.

/// Returns 42 after a panic, caught here, that had something to drop on its way.
#[unsafe(export_name = env!("CATCH_NAME"))]
pub extern "C" fn catch(value: i32) -> i32 {
    // The panic of 0 meets std's own hook, which prints it, and tries to print a backtrace.
    if value > 0 {
        std::panic::set_hook(Box::new(|_| ()));
    }
    struct Adds<'a>(&'a std::cell::Cell<i32>);
    impl Drop for Adds<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let dropped = std::cell::Cell::new(0);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _adds = Adds(&dropped);
        if value >= 0 {
            panic!("of {value}");
        }
    }));
    if caught.is_err() && dropped.get() == 1 { 42 } else { 0 }
}
