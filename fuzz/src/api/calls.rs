//! The calls, by their first octet, and the model: what each may return, by the table of docs/contract.md.

use super::arguments::{choice, fill, host_of, int, is_bad_buffer, is_choice, is_length_or, mapping, number};
use super::callbacks::{self, MAX_SLOTS, on_log, on_mapping};
use super::harness;
use arbitrary::{Result, Unstructured};
use plum::*;
use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::time::Duration;

/// The calls' numbers; an octet means its remainder by [`op::COUNT`].
#[allow(missing_docs)]
pub mod op {
    pub const INIT: u8 = 0;
    pub const CLEANUP: u8 = 1;
    pub const CREATE: u8 = 2;
    pub const QUERY: u8 = 3;
    pub const DESTROY: u8 = 4;
    pub const LOCAL_ADDRESS: u8 = 5;
    pub const CERTIFICATE: u8 = 6;
    pub const HOST: u8 = 7;
    pub const LOG_LEVEL: u8 = 8;
    pub const WAIT: u8 = 9;
    pub const FAULT: u8 = 10;
    pub const COUNT: u8 = 11;
}

/// How long `WAIT` waits for a callback, and how often it may in one input.
const PATIENCE: Duration = Duration::from_millis(20);
const MAX_WAITS: u32 = 5;

/// A domain at whose host nothing listens; it is no name that anybody is asked for.
const DOMAIN: &std::ffi::CStr = c"127.87.1.2";

/// What the model knows.
pub struct Session {
    initialised: bool,
    has_domain: bool,
    has_gateway: bool,
    /// The greatest id there was.
    last_id: c_int,
    /// Slots of earlier sessions: their ids are gone for good.
    old: usize,
    /// Ids that the program destroyed in this session.
    destroyed: Vec<c_int>,
    waits: u32,
}

impl Session {
    /// Nothing is initialised.
    pub fn new() -> Session {
        callbacks::with(|registry| *registry = callbacks::Registry::default());
        Session {
            initialised: false,
            has_domain: false,
            has_gateway: false,
            last_id: -1,
            old: 0,
            destroyed: Vec::new(),
            waits: MAX_WAITS,
        }
    }

    /// Reads one call and makes it.
    pub fn call(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.arbitrary::<u8>()? % op::COUNT {
            op::INIT => self.init(u)?,
            op::CLEANUP => self.cleanup(),
            op::CREATE => self.create(u)?,
            op::QUERY => self.query(u)?,
            op::DESTROY => self.destroy(u)?,
            op::LOCAL_ADDRESS => {
                let (buffer, size) = buffer(u)?;
                // SAFETY: `fill` hands over a buffer of this size, or NULL.
                let result = fill(buffer, size, |to, size| unsafe { plum_get_local_address(to, size) });
                let fits = if is_bad_buffer(buffer, size) {
                    result == PLUM_ERR_INVALID
                } else {
                    is_length_or(result, PLUM_ERR_NOT_AVAIL)
                };
                assert!(fits, "plum_get_local_address: {result}");
            }
            op::CERTIFICATE => self.certificate(u)?,
            op::HOST => self.host(u)?,
            op::LOG_LEVEL => {
                let level = choice(u, 7)?;
                // SAFETY: any value is allowed.
                unsafe { plum_set_log_level(int(level)) };
            }
            op::WAIT => {
                if self.waits > 0 {
                    self.waits -= 1;
                    callbacks::wait(PATIENCE);
                }
            }
            _ => harness::set_fault(u.arbitrary()?),
        }
        callbacks::check();
        Ok(())
    }

    /// Ends the session, if there is one; then everything has had its DESTROYED.
    pub fn end(&mut self) {
        self.cleanup();
        callbacks::check();
        harness::reset();
    }

    fn init(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let flags: u8 = u.arbitrary()?;
        let (log_level, protocol) = (choice(u, 7)?, choice(u, 3)?);
        let nobody = flags & 1 != 0;
        // Names below it would be asked for on SUCCESS, which nobody makes.
        let domain = if flags & 2 != 0 && nobody { DOMAIN.as_ptr() } else { null() };
        let config = plum_config_t {
            log_level: int(log_level),
            log_callback: Some(on_log),
            dummytls_domain: if flags & 4 != 0 { c"".as_ptr() } else { domain },
            discover_timeout: if flags & 8 != 0 { u.arbitrary()? } else { 0 },
            mapping_timeout: if flags & 16 != 0 { u.arbitrary()? } else { 0 },
            recheck_period: if flags & 32 != 0 { u.arbitrary()? } else { 0 },
            protocol: int(protocol),
        };
        let is_null = flags & 0xc0 == 0xc0;
        if !self.initialised {
            harness::name_gateway(nobody);
            // From its beginning on there may be messages.
            callbacks::with(|registry| registry.open = true);
        }
        // SAFETY: NULL, or valid for the call; the log callback and the strings are for ever.
        let result = unsafe { plum_init(if is_null { null() } else { &raw const config }) };
        let is_invalid = is_null || !is_choice(log_level, 7);
        match (is_invalid, self.initialised) {
            // Either error would do.
            (true, true) => {
                assert!(matches!(result, PLUM_ERR_INVALID | PLUM_ERR_FAILED), "plum_init: {result}")
            }
            (true, false) => assert_eq!(result, PLUM_ERR_INVALID, "plum_init"),
            (false, true) => assert_eq!(result, PLUM_ERR_FAILED, "plum_init"),
            (false, false) => {
                assert_eq!(result, PLUM_ERR_SUCCESS, "plum_init");
                self.initialised = true;
                self.has_domain = !config.dummytls_domain.is_null() && flags & 4 == 0;
                self.has_gateway = !nobody;
            }
        }
        let initialised = self.initialised;
        callbacks::with(|registry| registry.open = initialised);
        Ok(())
    }

    fn cleanup(&mut self) {
        let result = plum_cleanup();
        let expected = if self.initialised { PLUM_ERR_SUCCESS } else { PLUM_ERR_FAILED };
        assert_eq!(result, expected, "plum_cleanup");
        if self.initialised {
            self.initialised = false;
            self.old = callbacks::with(|registry| {
                registry.cleaned_up();
                registry.slots.len()
            });
            self.destroyed.clear();
        }
    }

    fn create(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let flags: u8 = u.arbitrary()?;
        let protocol = choice(u, 2)?;
        let internal_port = match u.arbitrary::<u8>()? {
            255 => 0,
            port => 8000 + u16::from(port % 8),
        };
        let external_port = if flags & 2 == 0 { 0 } else { u.arbitrary()? };
        let host = match flags >> 2 & 3 {
            0 => Vec::new(),
            1 => b"203.0.113.7".to_vec(),
            2 => vec![b'1'; PLUM_MAX_HOST_LEN],
            _ => u.bytes(u.len().min(40))?.to_vec(),
        };
        let behaviour = if flags & 16 == 0 { 0 } else { u.arbitrary()? };
        let (is_heard, is_null) = (flags & 32 == 0, flags & 0xc0 == 0xc0);
        if callbacks::with(|registry| registry.slots.len()) >= MAX_SLOTS {
            return Ok(());
        }
        let mut wanted = mapping(protocol, internal_port, external_port, &host);
        let slot = callbacks::with(|registry| registry.add(protocol, internal_port, is_heard, behaviour));
        wanted.user_ptr = std::ptr::without_provenance_mut::<c_void>(slot);
        let callback = if is_heard { Some(on_mapping as _) } else { None };
        // SAFETY: NULL, or valid for the call; the callback for ever.
        let result =
            unsafe { plum_create_mapping(if is_null { null() } else { &raw const wanted }, callback) };
        let is_invalid = is_null || internal_port == 0 || !is_choice(protocol, 2);
        match (self.initialised, is_invalid) {
            (false, _) => assert_eq!(result, PLUM_ERR_FAILED, "plum_create_mapping"),
            (true, true) => assert_eq!(result, PLUM_ERR_INVALID, "plum_create_mapping"),
            (true, false) => {
                // Never given out twice, and callbacks may have taken some.
                assert!(result > self.last_id, "plum_create_mapping: {result} after {}", self.last_id);
                self.last_id = result;
            }
        }
        callbacks::with(|registry| registry.created(slot, result));
        Ok(())
    }

    /// An id of this session, an old one, or none.
    fn id(&self, u: &mut Unstructured<'_>) -> Result<c_int> {
        let which: u8 = u.arbitrary()?;
        Ok(match which {
            255 => -1,
            254 => c_int::MIN,
            253 => c_int::MAX,
            252 => u.arbitrary::<c_int>()? | 0x4000_0000,
            which => callbacks::with(|registry| {
                let slot = usize::from(which).checked_rem(registry.slots.len());
                slot.and_then(|slot| registry.slots[slot].id).unwrap_or(0)
            }),
        })
    }

    /// What a call about this id may return: SUCCESS, an error, or either because a callback has its own time.
    fn outcomes(&self, id: c_int) -> (bool, Option<c_int>) {
        if !self.initialised {
            return (false, Some(PLUM_ERR_FAILED));
        }
        if id < 0 {
            return (false, Some(PLUM_ERR_INVALID));
        }
        let known = callbacks::with(|registry| {
            let slot = registry.slots.iter().skip(self.old).find(|slot| slot.id == Some(id));
            slot.map(|slot| slot.destroyed_inside)
        });
        match known {
            None => (false, Some(PLUM_ERR_NOT_AVAIL)),
            Some(inside) if inside || self.destroyed.contains(&id) => (true, Some(PLUM_ERR_NOT_AVAIL)),
            Some(_) => (true, None),
        }
    }

    fn check_about(&self, call: &str, id: c_int, before: (bool, Option<c_int>), result: c_int) {
        // A callback may have created or destroyed it meanwhile.
        let fits = |(success, error): (bool, Option<c_int>)| {
            (success && result == PLUM_ERR_SUCCESS) || error == Some(result)
        };
        assert!(fits(before) || fits(self.outcomes(id)), "{call} of {id}: {result}");
    }

    fn query(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (id, flags): (c_int, u8) = (self.id(u)?, u.arbitrary()?);
        let before = self.outcomes(id);
        let mut state: MaybeUninit<plum_state_t> = int(-99);
        let mut shown = mapping(-99, 0, 0, b"untouched");
        let to_state = if flags & 1 == 0 { &raw mut state } else { null_mut() };
        let to_shown = if flags & 2 == 0 { &raw mut shown } else { null_mut() };
        // SAFETY: each is NULL or writable.
        let result = unsafe { plum_query_mapping(id, to_state, to_shown) };
        self.check_about("plum_query_mapping", id, before, result);
        let written = (number(&state) != -99, number(&shown.protocol) != -99);
        let success = result == PLUM_ERR_SUCCESS;
        assert_eq!(
            written,
            (success && flags & 1 == 0, success && flags & 2 == 0),
            "what plum_query_mapping wrote"
        );
        let host = host_of(&shown);
        let external = (number(&shown.mapping_protocol), shown.external_port, host.clone().ok().flatten());
        if written.0 {
            assert!((1..=4).contains(&number(&state)), "the state of {id} is {}", number(&state));
            let is_destroyed = self.destroyed.contains(&id);
            assert!(!is_destroyed || number(&state) == plum_state_t::PLUM_STATE_DESTROYING as c_int);
        }
        if written.1 {
            let given = callbacks::with(|registry| {
                registry
                    .slots
                    .get(shown.user_ptr.addr().wrapping_sub(1))
                    .map(|s| (s.id, s.protocol, s.internal_port))
            });
            assert_eq!(
                given,
                Some((Some(id), number(&shown.protocol), shown.internal_port)),
                "the mapping of {id}"
            );
            assert!(host.is_ok(), "{host:?}");
            if written.0 && number(&state) != plum_state_t::PLUM_STATE_SUCCESS as c_int {
                assert_eq!(external, (0, 0, None), "the mapping of {id}, which is not made");
            } else if written.0 {
                assert!(
                    (1..=4).contains(&external.0) && external.1 > 0 && external.2.is_some(),
                    "{external:?}"
                );
                assert!(self.has_gateway, "nobody made {id}");
            }
        }
        Ok(())
    }

    fn destroy(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let id = self.id(u)?;
        let before = self.outcomes(id);
        let result = plum_destroy_mapping(id);
        self.check_about("plum_destroy_mapping", id, before, result);
        if result == PLUM_ERR_SUCCESS {
            callbacks::with(|registry| registry.destroy_returned(id));
            self.destroyed.push(id);
        }
        Ok(())
    }

    fn certificate(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (kind, (buffer, size)) = (choice(u, 4)?, buffer(u)?);
        // SAFETY: any value is allowed; `fill` hands over a buffer of this size, or NULL.
        let get = |to: *mut c_char, size| unsafe { plum_get_dummytls_certificate(int(kind), to, size) };
        let result = fill(buffer, size, get);
        let expected = if !is_choice(kind, 4) || is_bad_buffer(buffer, size) {
            PLUM_ERR_INVALID
        } else if !self.has_domain || !self.initialised {
            PLUM_ERR_FAILED
        } else {
            PLUM_ERR_NOT_AVAIL
        };
        assert_eq!(result, expected, "plum_get_dummytls_certificate");
        Ok(())
    }

    fn host(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (is_null, (buffer, size)) = (u.arbitrary()?, buffer(u)?);
        let octets = u.bytes(u.len().min(40))?;
        let text: Vec<u8> = octets.iter().copied().take_while(|&octet| octet != 0).collect();
        let is_address =
            std::str::from_utf8(&text).is_ok_and(|text| text.parse::<std::net::IpAddr>().is_ok());
        let has_domain = self.has_domain && self.initialised;
        // With a domain, the name of an address would be looked up.
        if is_address && has_domain {
            return Ok(());
        }
        let text = CString::new(text).expect("no NUL in it");
        let address = if is_null { null() } else { text.as_ptr() };
        // SAFETY: NULL or a string; `fill` hands over a buffer of this size, or NULL.
        let result = fill(buffer, size, |to, size| unsafe { plum_get_dummytls_host(address, to, size) });
        let is_invalid = is_null || !is_address || is_bad_buffer(buffer, size);
        let expected = if is_invalid { PLUM_ERR_INVALID } else { PLUM_ERR_FAILED };
        assert_eq!(result, expected, "plum_get_dummytls_host");
        Ok(())
    }
}

impl Default for Session {
    fn default() -> Session {
        Session::new()
    }
}

/// A buffer, or NULL, and a size.
fn buffer(u: &mut Unstructured<'_>) -> Result<(Option<()>, usize)> {
    let size: u8 = u.arbitrary()?;
    Ok((if u.arbitrary::<u8>()? % 4 == 0 { None } else { Some(()) }, usize::from(size % 80)))
}
