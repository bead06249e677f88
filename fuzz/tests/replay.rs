//! Every input that was kept goes through its target once more, without libFuzzer: the corpora, and `regressions/`, what
//! ever broke something.

#[path = "inputs/mod.rs"]
mod inputs;

#[test]
fn pcp() {
    inputs::replay("pcp");
}

#[test]
fn natpmp() {
    inputs::replay("natpmp");
}

#[test]
fn ssdp() {
    inputs::replay("ssdp");
}

#[test]
fn http() {
    inputs::replay("http");
}

#[test]
fn igd() {
    inputs::replay("igd");
}

#[test]
fn soap() {
    inputs::replay("soap");
}

#[test]
fn engine() {
    inputs::replay("engine");
}

#[test]
fn engines() {
    inputs::replay("engines");
}

#[test]
fn upnp() {
    inputs::replay("upnp");
}
