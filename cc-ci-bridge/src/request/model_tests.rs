//! Every order of events there is, with the very functions that the bridge runs: hooks that are lost, come twice or late, a
//! CI whose answers are lost, and a bridge that is killed between any two steps.

use std::collections::BTreeMap;

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use super::table_tests::{asked, at, facts, job, sha};
use super::told::{Around, StatusState, wanted};
use super::*;
use crate::names::Key;

/// What there is outside of the bridge, and what the bridge has written down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    /// Deliveries under way, by comment.
    hooks: Vec<u64>,
    /// The database, by comment.
    stored: BTreeMap<u64, Request>,
    /// Questions for a job on their way to the CI. They outlive the bridge, and may never get there: it may be killed before
    /// it has put one that it wrote down.
    asking: Vec<u64>,
    /// Those whose answer the bridge waits for. It does nothing else for that request, and forgets it when it is killed.
    waiting: Vec<u64>,
    /// The jobs, by comment: whether they are over.
    jobs: BTreeMap<u64, Vec<bool>>,
    /// The last status that was posted, by comment.
    posted: BTreeMap<u64, StatusState>,
    pushed: bool,
    crashes: u8,
    refusals: u8,
    doubles: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    Deliver(u64),
    Lose(u64),
    Double(u64),
    Poll(u64),
    Check(u64),
    Supersede(u64, u64),
    LookUp { comment: u64, late: bool },
    CiMakes { comment: u64, heard: bool },
    CiRefuses { comment: u64, heard: bool },
    CiNeverGets(u64),
    TimeOut(u64),
    Watch(u64),
    JobEnds(u64),
    Tell(u64),
    Push,
    Crash,
}

struct Bridge {
    comments: Vec<u64>,
    /// Whose author may not ask.
    stranger: Option<u64>,
    policy: Policy,
    crashes: u8,
    pushes: bool,
    /// Whether the forge delivers anything; else all is found by polling.
    hooks: bool,
}

impl Bridge {
    fn record(world: &mut World, comment: u64) {
        let id = RequestId(i64::try_from(world.stored.len()).unwrap());
        let new = || Request { id, asked: asked(comment), state: State::Received };
        world.stored.entry(comment).or_insert_with(new);
    }

    /// One step of the bridge: decide, write down, and only then do.
    fn apply(world: &mut World, comment: u64, event: &Event) {
        let Some(request) = world.stored.get_mut(&comment) else { return };
        let decision = decide(request, event);
        request.state = decision.state;
        if decision.create {
            world.asking.push(comment);
            world.waiting.push(comment);
        }
    }

    fn jobs(world: &World, comment: u64) -> Vec<Job> {
        let made = world.jobs.get(&comment).map_or(0, Vec::len);
        (0..made).map(|n| job(comment * 100 + n as u64)).collect()
    }

    fn facts(&self, world: &World, comment: u64) -> Facts {
        let mut facts = facts();
        if self.stranger == Some(comment) {
            facts.permission = Permission::MayNot;
        }
        if world.pushed {
            facts.head = sha('c');
            facts.last_push = Some(Push { at: at(5), head: Some(sha('c')) });
        }
        facts
    }
}

impl Model for Bridge {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            hooks: if self.hooks { self.comments.clone() } else { Vec::new() },
            stored: BTreeMap::new(),
            asking: Vec::new(),
            waiting: Vec::new(),
            jobs: BTreeMap::new(),
            posted: BTreeMap::new(),
            pushed: false,
            crashes: 0,
            refusals: 0,
            doubles: 0,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for hook in &world.hooks {
            steps.extend([Step::Deliver(*hook), Step::Lose(*hook)]);
            if world.doubles == 0 {
                steps.push(Step::Double(*hook));
            }
        }
        steps.extend(self.comments.iter().map(|comment| Step::Poll(*comment)));
        let requests: Vec<Request> = world.stored.values().cloned().collect();
        let turns = turn(&requests, 1);
        for (comment, request) in &world.stored {
            match order(&request.state) {
                Order::Check => steps.push(Step::Check(*comment)),
                Order::AwaitTurn if turns.contains(&request.id) => steps.push(Step::Check(*comment)),
                Order::LookUp if !world.waiting.contains(comment) => {
                    steps.push(Step::LookUp { comment: *comment, late: false });
                    // What was asked so long ago has been answered, or never will be.
                    if !world.asking.contains(comment) {
                        steps.push(Step::LookUp { comment: *comment, late: true });
                    }
                }
                Order::Watch(_) | Order::Cancel(_) => steps.push(Step::Watch(*comment)),
                _ => {}
            }
            steps.push(Step::Tell(*comment));
        }
        for (id, by) in superseded(&requests) {
            let older = requests.iter().find(|request| request.id == id).unwrap();
            steps.push(Step::Supersede(older.asked.comment, by));
        }
        for comment in &world.asking {
            steps.push(Step::CiNeverGets(*comment));
            for heard in [false, true] {
                if heard && !world.waiting.contains(comment) {
                    continue;
                }
                steps.push(Step::CiMakes { comment: *comment, heard });
                if world.refusals == 0 {
                    steps.push(Step::CiRefuses { comment: *comment, heard });
                }
            }
        }
        steps.extend(world.waiting.iter().map(|comment| Step::TimeOut(*comment)));
        for (comment, jobs) in &world.jobs {
            if jobs.contains(&false) {
                steps.push(Step::JobEnds(*comment));
            }
        }
        if self.pushes && !world.pushed {
            steps.push(Step::Push);
        }
        if world.crashes < self.crashes {
            steps.push(Step::Crash);
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        let remove = |list: &mut Vec<u64>, comment| {
            let at = list.iter().position(|other| *other == comment).unwrap();
            list.remove(at);
        };
        match step {
            Step::Deliver(comment) => {
                remove(&mut world.hooks, comment);
                Self::record(&mut world, comment);
            }
            Step::Lose(comment) => remove(&mut world.hooks, comment),
            Step::Double(comment) => {
                world.doubles += 1;
                world.hooks.push(comment);
            }
            Step::Poll(comment) => Self::record(&mut world, comment),
            Step::Check(comment) => {
                let facts = self.facts(&world, comment);
                Self::apply(&mut world, comment, &Event::Checked(facts));
            }
            Step::Supersede(comment, by) => {
                Self::apply(&mut world, comment, &Event::Newer { by, policy: self.policy });
            }
            Step::LookUp { comment, late } => {
                let now = if late { at(10) + CREATION_GRACE } else { at(10) };
                let jobs = Self::jobs(&world, comment);
                Self::apply(&mut world, comment, &Event::LookedUp { jobs, now });
                // All questions are put at one time: what counts is how long ago.
                if let Some(Request { state: State::Intent { asked: Some(asked), .. }, .. }) =
                    world.stored.get_mut(&comment)
                {
                    *asked = at(10);
                }
            }
            Step::CiMakes { comment, heard } => {
                remove(&mut world.asking, comment);
                world.jobs.entry(comment).or_default().push(false);
                if heard {
                    remove(&mut world.waiting, comment);
                    let job = Self::jobs(&world, comment).pop()?;
                    Self::apply(&mut world, comment, &Event::Created(job));
                }
            }
            Step::CiRefuses { comment, heard } => {
                remove(&mut world.asking, comment);
                world.refusals += 1;
                if heard {
                    remove(&mut world.waiting, comment);
                    Self::apply(&mut world, comment, &Event::NotCreated { why: String::new() });
                }
            }
            Step::CiNeverGets(comment) => remove(&mut world.asking, comment),
            Step::TimeOut(comment) => remove(&mut world.waiting, comment),
            Step::Watch(comment) => {
                let job = Self::jobs(&world, comment).pop()?;
                let event = if world.jobs[&comment].contains(&false) {
                    Event::Alive(job)
                } else {
                    Event::Over { outcome: Outcome::new(Verdict::Green), head: None }
                };
                Self::apply(&mut world, comment, &event);
            }
            Step::JobEnds(comment) => world.jobs.get_mut(&comment)?.fill(true),
            Step::Tell(comment) => {
                let request = world.stored.get(&comment)?;
                let key = Key::of("https://git.example.org", &request.asked.repo, comment);
                if let Some(status) = wanted(request, &key, &Around::default()).status {
                    world.posted.insert(comment, status.state);
                }
            }
            Step::Push => world.pushed = true,
            Step::Crash => {
                world.crashes += 1;
                world.waiting.clear();
            }
        }
        world.asking.sort_unstable();
        world.waiting.sort_unstable();
        world.hooks.sort_unstable();
        // A step that changes nothing is none: so what is at its end is at its end.
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a request has one job at the most", |_, world: &World| {
                world.jobs.values().all(|jobs| jobs.len() <= 1)
            }),
            Property::always("a stranger's comment has none", |bridge: &Self, world: &World| {
                bridge.stranger.is_none_or(|stranger| !world.jobs.contains_key(&stranger))
            }),
            Property::always("no status without a job", |_, world: &World| {
                world.posted.keys().all(|comment| world.jobs.contains_key(comment))
            }),
            Property::eventually(
                "each request comes to its end, and no status stays pending",
                |bridge: &Self, world: &World| {
                    bridge.comments.iter().all(|comment| {
                        world.stored.get(comment).is_some_and(|request| request.state.is_final())
                            && world.posted.get(comment) != Some(&StatusState::Pending)
                    })
                },
            ),
            Property::eventually(
                "each valid request is run, or a newer one is",
                |bridge: &Self, world: &World| {
                    let last =
                        bridge.comments.iter().filter(|comment| bridge.stranger != Some(**comment)).max();
                    world.pushed || last.is_none_or(|last| world.jobs.contains_key(last))
                },
            ),
            Property::sometimes("an older one is superseded", |_, world: &World| {
                world.stored.values().any(|request| matches!(request.state, State::Superseded { .. }))
            }),
        ]
    }
}

fn check(bridge: Bridge) {
    let superseding = bridge.comments.len() > 1 + usize::from(bridge.stranger.is_some());
    // With a fault there may be no end of states.
    let checker = bridge.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    for (name, path) in checker.discoveries() {
        assert_eq!(name, "an older one is superseded", "{path}");
    }
    assert_eq!(checker.discovery("an older one is superseded").is_some(), superseding);
    assert!(checker.unique_state_count() > 100, "{}", checker.unique_state_count());
}

#[test]
fn one_request_is_run_once_whenever_the_bridge_is_killed() {
    check(Bridge {
        comments: vec![1],
        stranger: None,
        policy: Policy::Finish,
        crashes: 2,
        pushes: true,
        hooks: true,
    });
}

#[test]
fn two_requests_for_one_pull_request_are_run_once_at_the_most() {
    for policy in [Policy::Finish, Policy::Cancel] {
        check(Bridge {
            comments: vec![1, 2],
            stranger: None,
            policy,
            crashes: 1,
            pushes: false,
            hooks: false,
        });
    }
}

#[test]
fn a_strangers_comment_runs_nothing_and_stops_nobody() {
    check(Bridge {
        comments: vec![1, 2],
        stranger: Some(2),
        policy: Policy::Cancel,
        crashes: 1,
        pushes: false,
        hooks: false,
    });
}
