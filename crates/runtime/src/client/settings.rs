//! The program's settings, and the engine's configuration made from them.

use super::gateway::{BadGateway, NamedGateway, parse_gateway};
use crate::dummytls;
use crate::log::{self, Level};
use plum_engine::io::{Allowed, Config, OnCleanup};
use std::ffi::CStr;
use std::net::IpAddr;
use std::time::Duration;

/// Errors in the settings, to be logged.
pub(super) type SettingsErrors = Vec<(Level, String)>;

/// The settings of a session.
#[derive(Clone, Default)]
pub struct Settings {
    /// The name and version of the library, for the log.
    pub library: &'static str,
    /// Messages of this level and above are logged; `None`: nothing is.
    pub log_level: Option<Level>,
    /// The program's log function; `None`: standard output.
    pub log_callback: Option<log::Callback>,
    /// The domain of a DummyTLS service, as the program gave it; `None` or empty: none.
    pub dummytls_domain: Option<Vec<u8>>,
    /// Milliseconds; 0 or negative: the default.
    pub discover_timeout_millis: i32,
    /// Milliseconds; 0 or negative: the default.
    pub mapping_timeout_millis: i32,
    /// Milliseconds; 0 or negative: the default.
    pub recheck_interval_millis: i32,
    /// The protocols that may be used.
    pub allowed: Allowed,
    /// The gateway, and its PCP and NAT-PMP port; `None`: the default gateway, and the standard port.
    pub gateway: Option<(IpAddr, Option<u16>)>,
    /// The interface of a link-local gateway, by name or number.
    pub gateway_zone: Option<String>,
    /// What cleanup does with live mappings.
    pub on_cleanup: OnCleanup,
    /// Errors in these settings, logged when the log is open.
    pub errors: SettingsErrors,
}

impl Settings {
    /// Reads the gateway from PLUM_GATEWAY, if it is set.
    pub fn read_gateway(&mut self) {
        let Some(text) = environment(c"PLUM_GATEWAY") else { return };
        match parse_gateway(&text) {
            Ok(gateway) => self.set_gateway(gateway),
            Err(BadGateway) => {
                self.add_error("PLUM_GATEWAY is no ADDR, ADDR:PORT or [ADDR]:PORT of a host", &text);
            }
        }
    }

    /// The gateway is to be this one.
    pub fn set_gateway(&mut self, gateway: NamedGateway) {
        self.gateway = Some((gateway.address, gateway.port));
        self.gateway_zone = gateway.zone;
    }

    /// Reads PLUM_ON_CLEANUP, if it is set.
    pub fn read_on_cleanup(&mut self) {
        let Some(text) = environment(c"PLUM_ON_CLEANUP") else { return };
        match text.as_str() {
            "keep" => self.on_cleanup = OnCleanup::Keep,
            "remove" => self.on_cleanup = OnCleanup::Remove,
            _ => self.add_error("PLUM_ON_CLEANUP is neither keep nor remove", &text),
        }
    }

    /// The DummyTLS domain, if one is set and valid.
    pub(super) fn check_dummytls_domain(&mut self) -> Option<String> {
        let bytes = self.dummytls_domain.as_deref().filter(|bytes| !bytes.is_empty())?;
        match std::str::from_utf8(bytes) {
            Ok(domain) if dummytls::valid_domain(domain) => Some(domain.to_owned()),
            Ok(_) | Err(_) => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                self.dummytls_domain = None;
                self.add_error("the DummyTLS domain is no host name", &text);
                None
            }
        }
    }

    fn add_error(&mut self, what: &str, text: &str) {
        self.errors.push((Level::Error, format!("{what}, and ignored: {text:?}")));
    }
}

/// The value of an environment variable; an empty one counts as unset.
fn environment(name: &CStr) -> Option<String> {
    crate::net::environment(name).filter(|text| !text.is_empty())
}

/// The shortest recheck interval: gateways are small devices.
const RECHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The engine's configuration.
pub(super) fn engine_config(settings: &Settings) -> Config {
    let defaults = Config::default();
    let span = |millis: i32, default| match u64::try_from(millis) {
        Ok(millis) if millis > 0 => Duration::from_millis(millis),
        _ => default,
    };
    Config {
        allowed: settings.allowed,
        discover_timeout: span(settings.discover_timeout_millis, defaults.discover_timeout),
        mapping_timeout: span(settings.mapping_timeout_millis, defaults.mapping_timeout),
        recheck_interval: span(settings.recheck_interval_millis, defaults.recheck_interval)
            .max(RECHECK_INTERVAL_MIN),
        gateway: settings.gateway,
        gateway_zone: settings.gateway_zone.clone(),
        on_cleanup: settings.on_cleanup,
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_negative_times_are_the_defaults() {
        for millis in [0, -1, i32::MIN] {
            let settings = Settings {
                discover_timeout_millis: millis,
                mapping_timeout_millis: millis,
                recheck_interval_millis: millis,
                ..Settings::default()
            };
            let config = engine_config(&settings);
            assert_eq!(config.discover_timeout, Duration::from_secs(10));
            assert_eq!(config.mapping_timeout, Duration::from_secs(10));
            assert_eq!(config.recheck_interval, Duration::from_secs(300));
        }
    }

    #[test]
    fn positive_times_are_milliseconds() {
        let settings = Settings {
            discover_timeout_millis: 1,
            mapping_timeout_millis: i32::MAX,
            recheck_interval_millis: 101,
            ..Settings::default()
        };
        let config = engine_config(&settings);
        assert_eq!(config.discover_timeout, Duration::from_millis(1));
        assert_eq!(config.mapping_timeout, Duration::from_millis(2_147_483_647));
        assert_eq!(config.recheck_interval, Duration::from_millis(101));
    }

    #[test]
    fn rechecks_every_100_milliseconds_at_most() {
        let config = engine_config(&Settings { recheck_interval_millis: 1, ..Settings::default() });
        assert_eq!(config.recheck_interval, Duration::from_millis(100));
    }

    #[test]
    fn takes_a_domain_that_fits_into_a_request() {
        let domain = |bytes: &[u8]| {
            let mut settings = Settings { dummytls_domain: Some(bytes.to_vec()), ..Settings::default() };
            (settings.check_dummytls_domain(), settings.errors.len())
        };
        assert_eq!(domain(b"dummytls.example"), (Some("dummytls.example".into()), 0));
        assert_eq!(domain(b""), (None, 0));
        for bad in [&b"a b"[..], b"a\r\nb", b"a/b", b"a:80", b"\xff", &[b'a'; 254]] {
            assert_eq!(domain(bad), (None, 1));
        }
    }
}
