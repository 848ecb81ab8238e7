//! How often somebody may fail to sign.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So often in a window.
const MOST: u32 = 60;

/// The window.
const WINDOW: Duration = Duration::from_mins(1);

/// Who has signed is trusted for so long: behind a proxy all have one address, and the forge is one of them.
const TRUST: Duration = Duration::from_hours(1);

/// So many addresses are remembered. When there are more, the failures of all are forgotten, who signed is not.
const ADDRESSES: usize = 10_000;

/// Who failed how often.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<IpAddr, Peer>>);

#[derive(Debug, Clone, Copy)]
struct Peer {
    since: Instant,
    failures: u32,
    signed: Option<Instant>,
}

impl Peer {
    fn is_trusted(&self, now: Instant) -> bool {
        self.signed.is_some_and(|signed| now.duration_since(signed) < TRUST)
    }
}

impl Failures {
    /// Whether a delivery from `peer` is looked at.
    pub fn may_try(&self, peer: IpAddr, now: Instant) -> bool {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.get(&peer).is_none_or(|peer| {
            peer.failures < MOST || peer.is_trusted(now) || now.duration_since(peer.since) >= WINDOW
        })
    }

    /// A delivery from `peer` was not signed.
    pub fn failed(&self, peer: IpAddr, now: Instant) {
        self.change(peer, now, |peer| peer.failures = peer.failures.saturating_add(1));
    }

    /// A delivery from `peer` was signed.
    pub fn succeeded(&self, peer: IpAddr, now: Instant) {
        self.change(peer, now, |peer| peer.signed = Some(now));
    }

    fn change(&self, peer: IpAddr, now: Instant, change: impl FnOnce(&mut Peer)) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= ADDRESSES && !peers.contains_key(&peer) {
            peers.retain(|_, peer| peer.is_trusted(now));
        }
        let known = peers.entry(peer).or_insert(Peer { since: now, failures: 0, signed: None });
        if now.duration_since(known.since) >= WINDOW {
            *known = Peer { since: now, failures: 0, ..*known };
        }
        change(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn who_fails_too_often_waits_and_who_signs_never_does() {
        let (failures, now) = (Failures::default(), Instant::now());
        for _ in 0..MOST {
            assert!(failures.may_try(address(1), now));
            failures.failed(address(1), now);
            failures.failed(address(2), now);
        }
        assert!(!failures.may_try(address(1), now));
        assert!(failures.may_try(address(3), now), "another one is nobody's fault");
        failures.succeeded(address(2), now);
        assert!(failures.may_try(address(2), now));
        assert!(failures.may_try(address(1), now + WINDOW));
    }

    #[test]
    fn what_is_remembered_has_a_bound_and_the_forge_stays_known() {
        let (failures, now) = (Failures::default(), Instant::now());
        failures.succeeded(address(1), now);
        for number in 0..=u32::try_from(2 * ADDRESSES).unwrap() {
            failures.failed(IpAddr::from(number.to_be_bytes()), now);
        }
        let peers = failures.0.lock().unwrap();
        assert!(peers.len() <= ADDRESSES + 1, "{}", peers.len());
        assert!(peers[&address(1)].is_trusted(now));
    }
}
