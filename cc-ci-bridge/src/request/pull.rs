//! What requests mean for each other.

use std::collections::BTreeSet;

use super::state::{Request, RequestId, State};

/// Returns the requests that a newer one takes the place of, with the newer comment. Only a request that was found to be
/// valid does: a stranger's comment stops nobody's test. Which one is newer is what the forge says by the comments'
/// numbers, in whatever order they came here.
pub fn superseded(requests: &[Request]) -> Vec<(RequestId, u64)> {
    let newest = |request: &Request| {
        let same = |other: &&Request| {
            other.asked.repo == request.asked.repo
                && other.asked.pull == request.asked.pull
                && other.asked.comment > request.asked.comment
                && other.state.is_accepted()
        };
        requests.iter().filter(same).map(|other| other.asked.comment).max()
    };
    let open = requests.iter().filter(|request| !request.state.is_final());
    open.filter_map(|request| Some((request.id, newest(request)?))).collect()
}

/// Returns those that are to be started now: in the order that they were received, at most `at_once` together with those
/// that are under way, and none while an older one of its pull request is under way.
pub fn turn(requests: &[Request], at_once: usize) -> Vec<RequestId> {
    let under_way = |state: &State| matches!(state, State::Intent { .. } | State::Started { .. });
    let running = requests.iter().filter(|request| under_way(&request.state));
    let mut busy: BTreeSet<_> =
        running.clone().map(|request| (&request.asked.repo, request.asked.pull)).collect();
    let free = at_once.saturating_sub(running.count());
    let mut queued: Vec<&Request> =
        requests.iter().filter(|request| matches!(request.state, State::Queued { .. })).collect();
    queued.sort_by_key(|request| request.id);
    let mut next = Vec::new();
    for request in queued {
        if next.len() < free && busy.insert((&request.asked.repo, request.asked.pull)) {
            next.push(request.id);
        }
    }
    next
}

/// Returns the place of a request among those of `all` that wait for their turn, from 1.
pub fn place<'r>(request: &Request, all: impl Iterator<Item = &'r Request>) -> usize {
    let is_before = |other: &&Request| matches!(other.state, State::Queued { .. }) && other.id < request.id;
    1 + all.filter(is_before).count()
}
