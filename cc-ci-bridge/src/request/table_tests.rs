//! Each state with each kind of event.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::names::{Key, Sha};
use crate::trigger::Trigger;

pub(super) fn sha(digit: char) -> Sha {
    digit.to_string().repeat(40).parse().unwrap()
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(crate) fn asked(comment: u64) -> Asked {
    Asked {
        repo: "recipes/notes".parse().unwrap(),
        pull: 1,
        comment,
        author: "maintainer".to_owned(),
        trigger: Some(Trigger::Cold),
        created: at(0),
        via: Via::Hook,
        received: at(1),
    }
}

fn request(state: State) -> Request {
    Request { id: RequestId(3), asked: asked(3), state }
}

pub(super) fn facts() -> Facts {
    Facts {
        comment: Some(CommentNow { body: "!testme".to_owned(), created: at(0), updated: at(0) }),
        bot: false,
        permission: Permission::May,
        open: true,
        head: sha('a'),
        last_push: Some(Push { at: at(-1), head: Some(sha('a')) }),
        had_time_to_list: false,
    }
}

fn comment(body: &str, created: i64, updated: i64) -> CommentNow {
    CommentNow { body: body.to_owned(), created: at(created), updated: at(updated) }
}

pub(super) fn job(number: u64) -> Job {
    Job { number, url: None, running_since: None }
}

fn intent(asked: Option<Timestamp>, refused: u8, newer: Option<u64>) -> State {
    State::Intent { head: sha('a'), asked, refused, newer }
}

fn started(number: u64, cancel: Option<Cancel>, missing: u8) -> State {
    State::Started { head: sha('a'), job: job(number), cancel, missing }
}

fn ended(verdict: Verdict, moved: Option<Sha>) -> State {
    State::Ended { head: sha('a'), job: Some(job(7)), outcome: Outcome::new(verdict), moved }
}

fn queued() -> State {
    State::Queued { head: sha('a') }
}

fn refused(why: Refusal) -> State {
    State::Refused { why }
}

fn superseded_by(by: u64) -> State {
    State::Superseded { by, head: Some(sha('a')) }
}

#[test]
fn what_the_forge_says_decides_whether_a_comment_is_run() {
    let push = |at, head| Some(Push { at, head });
    let since = |head| Validity::Refuse(Refusal::PushedSince { head: sha(head) });
    let cases = [
        ("as it should be", facts(), Validity::Accept(sha('a'))),
        ("never pushed to", Facts { last_push: None, ..facts() }, Validity::Accept(sha('a'))),
        ("a bot", Facts { bot: true, ..facts() }, Validity::Refuse(Refusal::Bot)),
        (
            "may not",
            Facts { permission: Permission::MayNot, ..facts() },
            Validity::Refuse(Refusal::NotPermitted),
        ),
        (
            "nobody says",
            Facts { permission: Permission::Unknown, ..facts() },
            Validity::Refuse(Refusal::PermissionUnknown),
        ),
        ("deleted", Facts { comment: None, ..facts() }, Validity::Refuse(Refusal::Deleted)),
        (
            "edited later",
            Facts { comment: Some(comment("!testme", 0, 1)), ..facts() },
            Validity::Refuse(Refusal::Edited),
        ),
        (
            "edited at once",
            Facts { comment: Some(comment("!testme --quick", 0, 0)), ..facts() },
            Validity::Refuse(Refusal::Edited),
        ),
        (
            "edited away",
            Facts { comment: Some(comment("never mind", 0, 0)), ..facts() },
            Validity::Refuse(Refusal::Edited),
        ),
        (
            "another comment",
            Facts { comment: Some(comment("!testme", 5, 5)), ..facts() },
            Validity::Refuse(Refusal::Edited),
        ),
        ("closed", Facts { open: false, ..facts() }, Validity::Refuse(Refusal::Closed)),
        ("pushed later", Facts { last_push: push(at(1), Some(sha('a'))), ..facts() }, since('a')),
        (
            "pushed in the same second",
            Facts { last_push: push(at(0), Some(sha('a'))), ..facts() },
            since('a'),
        ),
        (
            "opened again before",
            Facts { last_push: push(at(-1), None), ..facts() },
            Validity::Accept(sha('a')),
        ),
        ("opened again since", Facts { last_push: push(at(0), None), ..facts() }, since('a')),
        ("a push that is not listed yet", Facts { head: sha('c'), ..facts() }, Validity::NotYet),
        ("and never will be", Facts { head: sha('c'), had_time_to_list: true, ..facts() }, since('c')),
        // Whoever may not ask learns nothing of the rest.
        (
            "a stranger's that was edited",
            Facts { permission: Permission::MayNot, comment: Some(comment("!testme", 0, 1)), ..facts() },
            Validity::Refuse(Refusal::NotPermitted),
        ),
    ];
    for (name, facts, validity) in cases {
        assert_eq!(validity_of(&asked(3), &facts), validity, "{name}");
    }
    let attempt = Asked { trigger: None, ..asked(3) };
    let typed = |body| Facts { comment: Some(comment(body, 0, 0)), ..facts() };
    assert_eq!(validity_of(&attempt, &typed("!testme foo")), Validity::Refuse(Refusal::NotExact));
    assert_eq!(validity_of(&attempt, &typed("!testme")), Validity::Refuse(Refusal::Edited));
}

/// Every state that there is, as to what events do to it.
fn states() -> Vec<State> {
    vec![
        State::Received,
        refused(Refusal::Closed),
        queued(),
        superseded_by(9),
        intent(None, 0, None),
        intent(None, 2, None),
        intent(Some(at(10)), 0, None),
        intent(Some(at(10)), 0, Some(9)),
        started(7, None, 0),
        started(7, None, 2),
        started(7, Some(Cancel::Newer(9)), 0),
        ended(Verdict::Red, None),
    ]
}

fn events() -> Vec<Event> {
    let early = at(10) + CREATION_GRACE - SignedDuration::from_secs(1);
    let over = |head| Event::Over { outcome: Outcome::new(Verdict::Green), head };
    vec![
        Event::Checked(facts()),
        Event::Checked(Facts {
            head: sha('b'),
            last_push: Some(Push { at: at(-1), head: Some(sha('b')) }),
            ..facts()
        }),
        Event::Checked(Facts { head: sha('c'), ..facts() }),
        Event::Checked(Facts { open: false, ..facts() }),
        Event::Newer { by: 9, policy: Policy::Finish },
        Event::Newer { by: 9, policy: Policy::Cancel },
        Event::LookedUp { jobs: vec![], now: early },
        Event::LookedUp { jobs: vec![], now: at(10) + CREATION_GRACE },
        Event::LookedUp { jobs: vec![job(4), job(7), job(5)], now: early },
        Event::Created(job(7)),
        Event::NotCreated { why: "no".to_owned() },
        Event::Alive(job(8)),
        Event::Missing,
        over(None),
        over(Some(sha('a'))),
        over(Some(sha('c'))),
    ]
}

/// What is to follow where it is not "nothing changes": the numbers of state and event, the next state, and whether the CI is
/// asked.
fn changes() -> Vec<(usize, usize, State, bool)> {
    let late = at(10) + CREATION_GRACE;
    let early = late - SignedDuration::from_secs(1);
    let not_started = State::Ended {
        head: sha('a'),
        job: None,
        outcome: Outcome::new(Verdict::NotStarted).with_note("no"),
        moved: None,
    };
    let mut changes = vec![
        (0, 0, queued(), false),
        (0, 1, State::Queued { head: sha('b') }, false),
        (0, 3, refused(Refusal::Closed), false),
        (0, 4, State::Superseded { by: 9, head: None }, false),
        (0, 5, State::Superseded { by: 9, head: None }, false),
        (2, 0, intent(None, 0, None), false),
        (2, 1, refused(Refusal::PushedSince { head: sha('b') }), false),
        (2, 3, refused(Refusal::Closed), false),
        (4, 6, intent(Some(early), 0, None), true),
        (4, 7, intent(Some(late), 0, None), true),
        (5, 6, intent(Some(early), 2, None), true),
        (5, 7, intent(Some(late), 2, None), true),
        (6, 4, intent(Some(at(10)), 0, Some(9)), false),
        (6, 5, intent(Some(at(10)), 0, Some(9)), false),
        (6, 7, intent(Some(late), 0, None), true),
        (7, 7, superseded_by(9), false),
        (4, 10, intent(None, 1, None), false),
        (5, 10, not_started, false),
        (6, 10, intent(None, 1, None), false),
        (7, 10, superseded_by(9), false),
        (8, 5, started(7, Some(Cancel::Newer(9)), 0), false),
        (9, 5, started(7, Some(Cancel::Newer(9)), 2), false),
        (8, 12, started(7, None, 1), false),
        (9, 12, ended(Verdict::Lost, None), false),
        (10, 12, started(7, Some(Cancel::Newer(9)), 1), false),
        (8, 11, started(8, None, 0), false),
        (9, 11, started(8, None, 0), false),
        (10, 11, started(8, Some(Cancel::Newer(9)), 0), false),
    ];
    for waits in [2, 4, 5] {
        changes.extend([4, 5].map(|newer| (waits, newer, superseded_by(9), false)));
    }
    for intent in [4, 5, 6, 7] {
        changes.extend([8, 9].map(|found| (intent, found, started(7, None, 0), false)));
    }
    for alive in [8, 9, 10] {
        changes.extend([13, 14].map(|over| (alive, over, ended(Verdict::Green, None), false)));
        changes.push((alive, 15, ended(Verdict::Green, Some(sha('c'))), false));
    }
    changes
}

#[test]
fn each_event_in_each_state_does_what_the_table_says_and_nothing_else() {
    let changes = changes();
    for (state_number, state) in states().into_iter().enumerate() {
        for (event_number, event) in events().into_iter().enumerate() {
            let decision = decide(&request(state.clone()), &event);
            let row =
                changes.iter().find(|(state, event, ..)| (*state, *event) == (state_number, event_number));
            let expected = row.map_or((state.clone(), false), |(_, _, next, create)| (next.clone(), *create));
            assert_eq!((decision.state, decision.create), expected, "{state:?} and {event:?}");
        }
    }
    let named: std::collections::BTreeSet<_> =
        changes.iter().map(|(state, event, ..)| (state, event)).collect();
    assert_eq!(named.len(), changes.len(), "a row stands twice");
}

#[test]
fn what_is_to_be_done_follows_from_the_state() {
    use Order::{AwaitTurn, Check, LookUp, Nothing};
    let cancel = || Order::Cancel(job(7));
    let expected = [
        Check,
        Nothing,
        AwaitTurn,
        Nothing,
        LookUp,
        LookUp,
        LookUp,
        LookUp,
        Order::Watch(job(7)),
        Order::Watch(job(7)),
        cancel(),
        Nothing,
    ];
    for (state, expected) in states().into_iter().zip(expected) {
        assert_eq!(order(&state), expected, "{state:?}");
        assert_eq!(state.is_final(), expected == Nothing, "{state:?}");
    }
}

#[test]
fn a_newer_valid_request_takes_the_place_of_older_ones_of_its_pull_request() {
    let of = |comment: u64, pull, state| Request {
        id: RequestId(comment.cast_signed()),
        asked: Asked { pull, ..asked(comment) },
        state,
    };
    let requests = [
        of(1, 1, queued()),
        of(2, 1, State::Received),
        of(3, 1, queued()),
        of(4, 1, State::Received),
        of(5, 1, refused(Refusal::NotPermitted)),
        of(6, 2, queued()),
    ];
    assert_eq!(superseded(&requests), [(RequestId(1), 3), (RequestId(2), 3)]);
}

#[test]
fn requests_are_started_in_their_order_as_many_as_may_and_one_of_a_pull_request() {
    let of = |id, pull, state| Request { id: RequestId(id), asked: Asked { pull, ..asked(3) }, state };
    let requests = [
        of(5, 3, queued()),
        of(1, 1, started(7, None, 0)),
        of(2, 1, queued()),
        of(3, 2, queued()),
        of(4, 2, queued()),
        of(6, 4, State::Received),
    ];
    let turns = |at_once| turn(&requests, at_once).into_iter().map(|id| id.0).collect::<Vec<_>>();
    assert_eq!(turns(1), [0; 0]);
    assert_eq!(turns(2), [3]);
    assert_eq!(turns(9), [3, 5]);
}

#[test]
fn a_status_is_pending_only_with_a_live_job_and_success_only_of_what_is_green() {
    use told::{StatusState, wanted};
    let key = Key::of("https://git.example.org", &asked(3).repo, 3);
    for state in states() {
        let status = wanted(&request(state.clone()), &key, &told::Around::default()).status;
        let pending = status.is_some_and(|status| status.state == StatusState::Pending);
        assert_eq!(pending, matches!(state, State::Started { .. }), "{state:?}");
    }
    for (verdict, expected) in [
        (Verdict::Green, StatusState::Success),
        (Verdict::Red, StatusState::Failure),
        (Verdict::Refused, StatusState::Error),
        (Verdict::HarnessFailed, StatusState::Error),
        (Verdict::Residue, StatusState::Error),
        (Verdict::LockTimeout, StatusState::Error),
        (Verdict::Cancelled, StatusState::Error),
        (Verdict::NothingRun, StatusState::Error),
        (Verdict::Lost, StatusState::Error),
    ] {
        let status = wanted(&request(ended(verdict, None)), &key, &told::Around::default()).status.unwrap();
        assert_eq!((status.state, status.sha), (expected, sha('a')));
    }
}

#[test]
fn strangers_and_bots_get_silence_and_others_are_told_why() {
    let key = Key::of("https://git.example.org", &asked(3).repo, 3);
    let told = |state| told::wanted(&request(state), &key, &told::Around::default());
    for why in
        [Refusal::NotExact, Refusal::Bot, Refusal::NotPermitted, Refusal::PermissionUnknown, Refusal::Deleted]
    {
        assert_eq!(told(refused(why)), told::Wanted::default());
    }
    assert_eq!(told(State::Superseded { by: 9, head: None }), told::Wanted::default());
    let said = told(refused(Refusal::PushedSince { head: sha('c') }));
    let text = said.comment.unwrap();
    assert!(text.starts_with(&told::mark(&key)) && text.contains(sha('c').as_str()), "{text}");
    assert!(text.contains("comment `!testme` again") && said.status.is_none(), "{text}");
}

#[test]
fn what_others_wrote_is_quoted_and_does_nothing() {
    let key = Key::of("https://git.example.org", &asked(3).repo, 3);
    let mut outcome =
        Outcome::new(Verdict::Red).with_note("` @everyone <script>\n# title\n<!-- cc-ci:x -->\u{202e}");
    outcome.tiers.push(TierLine {
        name: "install".to_owned(),
        status: "failed".to_owned(),
        reason: Some("x".repeat(100_000)),
    });
    let state = State::Ended { head: sha('a'), job: Some(job(7)), outcome, moved: Some(sha('c')) };
    let text = told::wanted(&request(state), &key, &told::Around::default()).comment.unwrap();
    assert!(text.contains("> `' @everyone <script>\\n# title\\n<!-- cc-ci:x -->\\u{202e}`"), "{text}");
    assert!(text.len() < 2000, "{}", text.len());
    assert!(text.contains(&format!("The branch is at `{}` by now", sha('c'))), "{text}");
}

#[test]
fn exit_codes_are_what_the_command_documents() {
    use cc_ci_core::exit::Exit;
    for exit in Exit::ALL {
        let cancelled = matches!(exit, Exit::Cancelled(_));
        let verdict = Verdict::of_exit(exit.code());
        assert_eq!(verdict == Verdict::Cancelled, cancelled, "{exit:?}");
        assert_eq!(verdict == Verdict::Green, exit == Exit::Green, "{exit:?}");
    }
    for unknown in [3, 5, 125, 137, 255] {
        assert_eq!(Verdict::of_exit(unknown), Verdict::HarnessFailed);
    }
}
