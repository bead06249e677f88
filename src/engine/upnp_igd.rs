//! UPnP-IGD: search, description, actions.
