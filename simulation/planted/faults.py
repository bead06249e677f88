"""Faults to be planted in the engine, one at a time: a name, what it is, and where: file of src/engine, what stands there, what is
put in its place. What stands there must be there exactly once, so that a fault whose place has moved is noticed."""

FAULTS = [
    (
        "nonce-unchecked", "a PCP answer with another nonce counts", "pcp.rs",
        "        if self.requests.nonce(key) != Some(map.nonce) {",
        "        if self.requests.nonce(key).is_none() {",
    ),
    (
        "renewal-past-the-end", "the first renewal is a lifetime too late", "schedule.rs",
        "    let at = made_at + cx.between(lifetime, of - 4, of - 3, of);",
        "    let at = made_at + lifetime + cx.between(lifetime, of - 4, of - 3, of);",
    ),
    (
        "renewal-floor-off", "renewals of short leases do not keep apart", "schedule.rs",
        "    let at = at.max(cx.now + RENEWAL_FLOOR);",
        "    let at = at.max(cx.now + Duration::from_millis(1));",
    ),
    (
        "destroyed-twice", "a deletion that is answered late is told again", "ending.rs",
        "        for id in std::mem::take(&mut ending.holders) {\n            self.tell(id, Event::Destroyed);\n        }\n    }\n\n    /// Something came",
        "        for id in ending.holders.clone() {\n            self.tell(id, Event::Destroyed);\n        }\n    }\n\n    /// Something came",
    ),
    (
        "first-of-two-takes-all", "of two mappings with one key the first that goes takes the gateway's with it", "ending.rs",
        "        if !mapping.holders.is_empty() {",
        "        if mapping.holders.values().count() > 1 {",
    ),
    (
        "deletion-forgotten", "nothing is deleted at the gateway where NAT-PMP has made it", "ending.rs",
        "        for protocol in ASKING {\n            with_driver!(self, protocol, delete(now, key));",
        "        for protocol in ASKING {\n            if protocol == Protocol::NatPmp {\n                continue;\n            }\n            with_driver!(self, protocol, delete(now, key));",
    ),
    (
        "old-entry-left", "a mapping that changes its protocol leaves the old entry behind", "gateway.rs",
        "            if port == 0 || port == external.port.get() {",
        "            if port == 0 || port != external.port.get() || port == external.port.get() {",
    ),
    (
        "epoch-slack-reversed", "two seconds of slack are taken off instead of given", "epoch.rs",
        "                && server_delta + 2 * SECOND >= client_delta - client_delta / 16",
        "                && server_delta - 2 * SECOND >= client_delta - client_delta / 16",
    ),
    (
        "restart-unnoticed", "an epoch that has gone back means nothing", "epoch.rs",
        "        if fits && !decreased {",
        "        if (fits && !decreased) || sample.server < current.server {",
    ),
    (
        "one-lost-in-a-restart", "after a restart the last mapping is not made anew", "lease.rs",
        "        for key in self.mappings.keys() {\n            let Some(mapping) = self.mappings.get(&key) else { continue };\n            let State::Mapped { protocol, .. }",
        "        for key in self.mappings.keys().into_iter().skip(1) {\n            let Some(mapping) = self.mappings.get(&key) else { continue };\n            let State::Mapped { protocol, .. }",
    ),
    (
        "never-sent-again", "a lost request is not repeated", "window.rs",
        "            self.lose_by_silence(key, sending);\n        }\n    }",
        "            let _ = sending;\n        }\n    }",
    ),
    (
        "window-without-limit", "the window has no limit", "window.rs",
        "        if self.in_flight.len() >= self.width.limit() {",
        "        if self.in_flight.len() >= 100_000 {",
    ),
    (
        "expiry-unnoticed", "a mapping whose lifetime has ended stays SUCCESS", "lease.rs",
        "                LeaseStep::Expire => self.expire(key),",
        "                LeaseStep::Expire => {}",
    ),
    (
        "recheck-once", "the gateway is not looked at again after the first recheck", "network.rs",
        "        self.timers.set(Timer::Recheck, now + self.config.recheck_interval);\n        self.network.check_wanted = true;",
        "        self.network.check_wanted = true;",
    ),
    (
        "address-change-ignored", "an external address that changes is not told", "gateway.rs",
        "            } else if external.address != address {",
        "            } else if external.address != address && worth(external.address) == Worth::None {",
    ),
    (
        "late-grant-kept", "a grant that comes after the deletion is left alone", "requests/answers.rs",
        "                    self.urgent.push_back(Ask::Delete { key });\n                }\n                false",
        "                }\n                false",
    ),
    (
        "gone-entry-ignored", "a UPnP entry that is gone is not made anew", "upnp_igd/watch.rs",
        "            (Ok(Answer::Error(code::NO_SUCH_ENTRY)), _) => true,",
        "            (Ok(Answer::Error(code::NO_SUCH_ENTRY)), _) => false,",
    ),
    (
        "connections-without-limit", "HTTP exchanges are not counted", "upnp_igd/exchange.rs",
        "        if self.open.len() + self.narrowed_by >= MAX_OPEN {",
        "        if self.narrowed_by >= MAX_OPEN {",
    ),
    (
        "pace-off", "what the library does by itself has no pace", "schedule.rs",
        "        let at = now.max(self.full_at + Self::INTERVAL * packets - depth);",
        "        let at = now;",
    ),
    (
        "failure-told-again", "FAILURE is told at each attempt", "program.rs",
        "            if *told != Some(event) {",
        "            if *told != Some(event) || event == Event::Failure {",
    ),
    (
        "route-change-ignored", "another local address leaves the mappings as they are", "network.rs",
        "        if !self.network.known || route != self.network.route {",
        "        if !self.network.known || route.map(|r| r.gateway) != self.network.route.map(|r| r.gateway) {",
    ),
]
