//! Filters of system calls, as sandboxes have them.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::env::consts::ARCH;

/// What a sandbox refuses.
#[derive(Clone, Copy)]
pub enum Refused {
    /// Sockets of the family AF_NETLINK.
    Netlink,
    /// Files.
    Files,
    /// getrandom(2).
    Randomness,
}

impl Refused {
    fn rule(self) -> (i64, Vec<SeccompRule>) {
        match self {
            Refused::Netlink => {
                let family = libc::AF_NETLINK as u64;
                let is_netlink = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)
                    .expect("a condition");
                (libc::SYS_socket, vec![SeccompRule::new(vec![is_netlink]).expect("a rule")])
            }
            Refused::Files => (libc::SYS_openat, vec![]),
            Refused::Randomness => (libc::SYS_getrandom, vec![]),
        }
    }
}

/// A filter by which these calls fail with this error.
fn program(refused: &[Refused], errno: i32) -> BpfProgram {
    let rules = refused.iter().map(|one| one.rule()).collect();
    let processor = ARCH.try_into().expect("a processor whose calls are known");
    let error = SeccompAction::Errno(errno.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, error, processor).expect("a filter");
    filter.try_into().expect("a program")
}

/// A filter that allows these calls alone, by their names on a processor.
///
/// # Errors
///
/// One of them has no number there.
pub fn program_of(names: &[&str], processor: &str) -> Result<BpfProgram, seccompiler::Error> {
    let calls: Vec<String> = names.iter().map(|name| format!(r#"{{"syscall": "{name}"}}"#)).collect();
    let json = format!(
        r#"{{"all": {{"mismatch_action": "kill_process", "match_action": "allow", "filter": [{}]}}}}"#,
        calls.join(", ")
    );
    let processor = processor.try_into()?;
    let mut programs = seccompiler::compile_from_json(json.as_bytes(), processor)?;
    Ok(programs.remove("all").expect("a program"))
}

/// From now on the calling thread, and those that it starts, may call these alone: any other ends the process (`strace -f` shows it).
pub fn allow_only(names: &[&str]) {
    let program = program_of(names, ARCH).expect("calls that have numbers");
    seccompiler::apply_filter(&program).expect("the kernel has filters");
}

/// From now on these calls fail with this error in the calling thread, and in those that it starts.
pub fn refuse(refused: &[Refused], errno: i32) {
    seccompiler::apply_filter(&program(refused, errno)).expect("the kernel has filters");
}

/// The same in all threads of the process.
pub fn refuse_to_all(refused: &[Refused], errno: i32) {
    seccompiler::apply_filter_all_threads(&program(refused, errno)).expect("the kernel has filters");
}
