//! From the client's values to the program's: the mapping callback and what `plum_query_mapping` shows.

#[cfg(not(plum_abi = "0.5"))]
use super::types::plum_mapping_protocol_t;
use super::types::{
    PLUM_MAX_HOST_LEN, plum_ip_protocol_t, plum_mapping_callback_t, plum_mapping_t, plum_state_t,
};
#[cfg(not(plum_abi = "0.5"))]
use plum_engine::io::Protocol;
use plum_engine::io::{MappingId, Wanted};
use plum_runtime::client::{ExternalHost, Listener, News, QueriedState};
use plum_wire::Transport;
use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;

/// What the program gave with a mapping: whom to tell, and its own pointer.
#[derive(Clone, Copy)]
pub(super) struct CListener {
    callback: plum_mapping_callback_t,
    user_ptr: *mut c_void,
}

// SAFETY: the library never reads what `user_ptr` points to, it only hands the pointer back; and the callback, whose
// second half of the contract `new` states, may be called on any thread.
unsafe impl Send for CListener {}

impl CListener {
    /// A listener for one mapping.
    ///
    /// # Safety
    ///
    /// The callback may be called on any thread as long as the mapping lives, and always returns.
    pub(super) unsafe fn new(callback: plum_mapping_callback_t, user_ptr: *mut c_void) -> CListener {
        CListener { callback, user_ptr }
    }

    /// A mapping as the program sees it.
    pub(super) fn mapping(&self, wanted: &Wanted, external: Option<&ExternalHost>) -> plum_mapping_t {
        let mut mapping = plum_mapping_t {
            protocol: MaybeUninit::new(match wanted.transport {
                Transport::Tcp => plum_ip_protocol_t::PLUM_IP_PROTOCOL_TCP,
                Transport::Udp => plum_ip_protocol_t::PLUM_IP_PROTOCOL_UDP,
            }),
            #[cfg(not(plum_abi = "0.5"))]
            mapping_protocol: MaybeUninit::new(mapping_protocol(external)),
            internal_port: wanted.internal_port.get(),
            external_port: 0,
            external_host: [0; PLUM_MAX_HOST_LEN],
            user_ptr: self.user_ptr,
        };
        if let Some(external) = external {
            mapping.external_port = external.port.get();
            // A host name has at most 253 bytes, so this cuts nothing; the last byte stays NUL in any case.
            let room = &mut mapping.external_host[..PLUM_MAX_HOST_LEN - 1];
            for (to, from) in room.iter_mut().zip(external.host.bytes()) {
                *to = from as c_char;
            }
        }
        mapping
    }
}

impl Listener for CListener {
    fn tell(&self, id: MappingId, wanted: &Wanted, news: &News) {
        let Some(callback) = self.callback else { return };
        let (state, external) = match news {
            News::Success(external) => (plum_state_t::PLUM_STATE_SUCCESS, Some(external)),
            News::Failure => (plum_state_t::PLUM_STATE_FAILURE, None),
            // A program of that time knows of no such callback, and has freed its data right after the destroy.
            News::Destroyed if cfg!(plum_abi = "0.5") => return,
            News::Destroyed => (plum_state_t::PLUM_STATE_DESTROYED, None),
        };
        // Mutable, since C lets the program cast `const` away from what was not born with it.
        let mut mapping = self.mapping(wanted, external);
        // SAFETY: the program's function, within the time that `new` names; the mapping lives as long as the call, and nobody
        // else uses it.
        unsafe { callback(id, state, (&raw mut mapping).cast_const()) }
    }
}

/// Who made a mapping, as the program sees it.
#[cfg(not(plum_abi = "0.5"))]
fn mapping_protocol(external: Option<&ExternalHost>) -> plum_mapping_protocol_t {
    match external.map(|external| external.protocol) {
        None => plum_mapping_protocol_t::PLUM_MAPPING_PROTOCOL_UNKNOWN,
        Some(Protocol::Pcp) => plum_mapping_protocol_t::PLUM_MAPPING_PROTOCOL_PCP,
        Some(Protocol::NatPmp) => plum_mapping_protocol_t::PLUM_MAPPING_PROTOCOL_NATPMP,
        Some(Protocol::UpnpIgd) => plum_mapping_protocol_t::PLUM_MAPPING_PROTOCOL_UPNP,
        Some(Protocol::Direct) => plum_mapping_protocol_t::PLUM_MAPPING_PROTOCOL_DIRECT,
        Some(_) => plum_mapping_protocol_t::PLUM_MAPPING_PROTOCOL_UNKNOWN,
    }
}

/// A state as `plum_query_mapping` shows it.
pub(super) fn shown(state: &QueriedState) -> plum_state_t {
    match state {
        QueriedState::Pending => plum_state_t::PLUM_STATE_PENDING,
        QueriedState::Success(_) => plum_state_t::PLUM_STATE_SUCCESS,
        QueriedState::Failure => plum_state_t::PLUM_STATE_FAILURE,
        QueriedState::Destroying => plum_state_t::PLUM_STATE_DESTROYING,
    }
}
