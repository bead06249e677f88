//! The session's messages for the logger of the `log` crate.

use super::{Builder, Level};
use log::{LevelFilter, log};

impl Builder {
    /// Messages go to the logger of the `log` crate, with the target `plum`: those that its maximum level lets through when this is
    /// called. The rules of [`Builder::log`] hold for the logger, too.
    pub fn log_crate(self) -> Builder {
        let level = match log::max_level() {
            LevelFilter::Off => return self,
            LevelFilter::Error => Level::Error,
            LevelFilter::Warn => Level::Warn,
            LevelFilter::Info => Level::Info,
            LevelFilter::Debug => Level::Debug,
            LevelFilter::Trace => Level::Verbose,
        };
        self.log(level, |level, message| {
            let level = match level {
                Level::Fatal | Level::Error => log::Level::Error,
                Level::Warn => log::Level::Warn,
                Level::Info => log::Level::Info,
                Level::Debug => log::Level::Debug,
                Level::Verbose => log::Level::Trace,
            };
            log!(target: "plum", level, "{message}");
        })
    }
}
