//! Where the calls are made: a gateway on loopback, or nobody.

use plum_gateway::core::Faults;
use plum_gateway::server::Server;
use std::sync::OnceLock;

/// A loopback address on which nothing listens.
const NOBODY: &str = "127.87.1.1:5351";

/// The gateway of this process.
pub fn gateway() -> &'static Server {
    static GATEWAY: OnceLock<Server> = OnceLock::new();
    GATEWAY
        .get_or_init(|| Server::start_on_own_address(|config| config.forward_on = None).expect("a gateway"))
}

/// Whom the next `plum_init` finds as its gateway. Nothing but loopback is ever contacted: the variable is always set.
pub fn name_gateway(nobody: bool) {
    let value = if nobody { NOBODY.into() } else { gateway().address().to_string() };
    // SAFETY: only `plum_init` reads the environment, on this very thread; the gateway's thread does not.
    unsafe { std::env::set_var("PLUM_GATEWAY", value) }
}

/// What goes wrong at the gateway from now on. Everything is answered at once, so that no cleanup has to wait.
pub fn set_fault(which: u8) {
    gateway().with_core(|gateway| match which % 8 {
        0 | 1 => gateway.faults = Faults::default(),
        2 => gateway.restart(false),
        3 => gateway.faults.closed.pcp = true,
        4 => gateway.faults.pcp = plum_gateway::core::Spoken::UnsuppVersion(0),
        5 => gateway.faults.refuse(plum_gateway::core::Kind::PcpMap, 8),
        6 => gateway.faults.lifetime = Some(4),
        _ => gateway.forget_mappings(),
    });
}

/// As at the start.
pub fn reset() {
    gateway().with_core(|gateway| {
        gateway.faults = Faults::default();
        gateway.forget_mappings();
    });
}
