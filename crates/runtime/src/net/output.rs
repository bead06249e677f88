//! Standard output, without std's lock: in the child of a fork a thread that does not exist there may hold it for ever.

/// Whether standard output is a terminal.
#[cfg(unix)]
pub fn output_is_terminal() -> bool {
    // SAFETY: isatty(3) takes a number, and says of one that is not open that it is no terminal.
    unsafe { libc::isatty(libc::STDOUT_FILENO) == 1 }
}

/// Writes to standard output, without SIGPIPE. Errors are ignored: there is nowhere to report them.
#[cfg(unix)]
pub fn write_output(mut bytes: &[u8]) {
    super::signals::without_sigpipe(|| {
        while !bytes.is_empty() {
            // SAFETY: write(2): so many bytes can be read there.
            let written = unsafe { libc::write(libc::STDOUT_FILENO, bytes.as_ptr().cast(), bytes.len()) };
            match usize::try_from(written) {
                Ok(0) => break,
                Ok(len) => bytes = &bytes[len..],
                Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    });
}

/// Whether standard output is a terminal.
#[cfg(not(unix))]
pub fn output_is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

/// Writes to standard output. Errors are ignored: there is nowhere to report them.
#[cfg(not(unix))]
pub fn write_output(bytes: &[u8]) {
    use std::io::Write;
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(bytes);
    let _ = output.flush();
}
