//! The C API's part of the replay: the library's session is one a process, so this is a program of its own.

#[path = "inputs/mod.rs"]
mod inputs;

#[test]
fn api() {
    inputs::replay("api");
}
