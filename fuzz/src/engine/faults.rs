//! What goes wrong at the simulated gateway: commands of its control language.

use arbitrary::{Result, Unstructured};
use plum_gateway::control;
use plum_gateway::core::Gateway;

/// `#` stands for a number. No `loss`, `duplicate`, `reorder`: `MANGLE` does that.
pub const COMMANDS: [&str; 66] = [
    "no-faults",
    "restart",
    "restart-without-memory",
    "announce",
    "notify alive",
    "notify byebye",
    "occupy tcp # 192.168.1.55:9",
    "occupy udp # 192.168.1.55:9",
    "silence pcp #",
    "silence natpmp #",
    "silence ssdp #",
    "silence http #",
    "silence pcp always",
    "silence natpmp always",
    "silence ssdp always",
    "silence http always",
    "close pcp",
    "close natpmp",
    "close ssdp",
    "close http",
    "close all",
    "open all",
    "natpmp-only 0",
    "natpmp-only 1",
    "natpmp-only 2",
    "pcp-only",
    "refuse pcp-map # lifetime 1 3",
    "refuse pcp-map # lifetime 4000 always",
    "refuse pcp-delete # 2",
    "refuse pcp-announce # 2",
    "refuse natpmp-address # 2",
    "refuse natpmp-map # 3",
    "refuse natpmp-delete # 2",
    "refuse http-description # 2",
    "refuse AddPortMapping # 1",
    "refuse AddPortMapping # always",
    "refuse AddAnyPortMapping # 2",
    "refuse DeletePortMapping # 2",
    "refuse GetExternalIPAddress # 2",
    "refuse GetSpecificPortMappingEntry # 2",
    "refuse GetStatusInfo # 2",
    "set delay #ms",
    "set lifetime #",
    "set lifetime 0",
    "set max-lifetime #",
    "set assigned-port #",
    "set assigned-port +#",
    "set assigned-port as-suggested",
    "set external-address 198.51.100.33",
    "set external-address 10.1.2.3",
    "set external-address-text 0.0.0.0",
    "set external-address-text nonsense",
    "set epoch #",
    "set wrong-nonce #",
    "set wrong-internal-port #",
    "set junk before",
    "set junk instead",
    "set redirect http://192.168.1.1:5000/moved.xml",
    "set redirect http://192.168.1.9/x",
    "set framing chunked",
    "set framing until-close",
    "set framing too-long #",
    "set framing too-short #",
    "set stall-after #",
    "set http-junk #",
    "set hang-up #",
];

/// Result codes that mean something to PCP, NAT-PMP, UPnP or HTTP.
pub const CODES: [u16; 24] =
    [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 401, 402, 404, 501, 606, 714, 718, 724, 725, 727, 728, 729];

/// Reads a command and gives it to the gateway.
pub fn apply(gateway: &mut Gateway, u: &mut Unstructured<'_>) -> Result<()> {
    let command = COMMANDS[usize::from(u.arbitrary::<u8>()?) % COMMANDS.len()];
    let mut number = if command.contains('#') { u.arbitrary::<u16>()? } else { 0 };
    if command.starts_with("refuse") && number < 256 {
        number = CODES[usize::from(number) % CODES.len()];
    }
    let line = command.replace('#', &number.to_string());
    // What it means nothing to (PCP has no result code 700) changes nothing.
    let _ = control::carry_out(gateway, &line);
    Ok(())
}
