use std::sync::Barrier;

use rusqlite::Connection;

use super::*;
use crate::request::table_tests::{asked, at};
use crate::request::{Decision, Outcome, State, Verdict, Via};

const FORGE: &str = "https://git.example.org";

fn queued() -> Decision {
    Decision { state: State::Queued { head: "a".repeat(40).parse().unwrap() }, create: false }
}

fn refused() -> Decision {
    Decision { state: State::Refused { why: crate::request::Refusal::Closed }, create: false }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("bridge.sqlite")
    }

    fn open(&self) -> Store {
        Store::open(&self.path(), FORGE).unwrap()
    }
}

#[test]
fn a_comment_is_recorded_once_however_often_it_comes() {
    let place = Place::new();
    let store = place.open();
    let Recorded::New(id) = store.record(&asked(3)).unwrap() else { panic!("it is known") };
    let by_poll = crate::request::Asked { via: Via::Poll, received: at(9), ..asked(3) };
    assert_eq!(store.record(&by_poll).unwrap(), Recorded::Known(id));
    assert!(matches!(store.record(&asked(4)).unwrap(), Recorded::New(_)));
    // Another process, and after a start.
    assert_eq!(place.open().record(&asked(3)).unwrap(), Recorded::Known(id));
    let row = store.by_comment(&asked(3).repo, 3).unwrap().unwrap();
    assert_eq!((row.request.asked, row.request.state), (asked(3), State::Received));
}

#[test]
fn threads_and_processes_that_record_the_same_comment_record_it_once() {
    let place = Place::new();
    place.open();
    let barrier = Barrier::new(4);
    let new = std::thread::scope(|scope| {
        let record = || {
            let store = place.open();
            barrier.wait();
            (0..20).filter(|n| matches!(store.record(&asked(*n)).unwrap(), Recorded::New(_))).count()
        };
        let threads = [scope.spawn(record), scope.spawn(record), scope.spawn(record), scope.spawn(record)];
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(new, 20);
}

#[test]
fn a_state_is_saved_by_who_saw_the_last_one_and_its_history_says_why() {
    let store = Place::new();
    let store = store.open();
    store.record(&asked(3)).unwrap();
    let row = store.by_comment(&asked(3).repo, 3).unwrap().unwrap();
    let saved = store.save(&row, &queued(), "checked", at(2)).unwrap();
    assert_eq!((&saved.request.state, saved.due), (&queued().state, at(2)));
    assert!(matches!(store.save(&row, &refused(), "checked", at(3)), Err(StoreError::Changed)));
    assert_eq!(store.of_open_pulls().unwrap(), std::slice::from_ref(&saved));

    store.postpone(&saved, at(60), Some("no answer"), at(4)).unwrap();
    let again = store.by_comment(&asked(3).repo, 3).unwrap().unwrap();
    assert_eq!((again.due, again.failures), (at(60), 1));
    store.postpone(&again, at(120), Some("no answer"), at(60)).unwrap();
    store.save(&again, &refused(), "checked", at(120)).unwrap();
    assert_eq!(store.of_open_pulls().unwrap(), []);
    let history = store.history(saved.request.id).unwrap();
    let lines: Vec<_> = history.iter().map(|line| line.line.as_str()).collect();
    assert_eq!(lines, ["checked: received → queued", "no answer", "checked: queued → refused"]);
    let internal: Vec<_> = history.iter().map(|line| line.is_internal).collect();
    assert_eq!(internal, [false, true, false]);
}

#[test]
fn what_is_over_for_a_pull_request_is_seen_with_what_is_open() {
    let place = Place::new();
    let store = place.open();
    for comment in [3, 4] {
        store.record(&asked(comment)).unwrap();
    }
    store.record(&crate::request::Asked { pull: 2, ..asked(5) }).unwrap();
    for comment in [4, 5] {
        let row = store.by_comment(&asked(3).repo, comment).unwrap().unwrap();
        store.save(&row, &refused(), "checked", at(2)).unwrap();
    }
    let comments: Vec<_> =
        store.of_open_pulls().unwrap().iter().map(|row| row.request.asked.comment).collect();
    assert_eq!(comments, [3, 4]);
    assert_eq!(store.forget(at(2)).unwrap(), 0);
    assert_eq!(store.forget(at(3)).unwrap(), 2);
    assert_eq!(store.last(9).unwrap().len(), 1);
}

fn new_job() -> NewJob {
    NewJob {
        key: crate::names::Key::of(FORGE, &asked(3).repo, 3),
        repo: asked(3).repo,
        pull: 1,
        head: "a".repeat(40).parse().unwrap(),
        quick: false,
    }
}

#[test]
fn an_order_is_one_whoever_orders_it_again_and_what_is_over_stays() {
    let place = Place::new();
    let store = place.open();
    let job = new_job();
    let row = store.order(&job, at(1)).unwrap();
    assert_eq!(store.order(&NewJob { quick: true, ..job.clone() }, at(2)).unwrap(), row);
    store.job_runs(&job.key, 5).unwrap();
    store.cancel_job(&job.key).unwrap();
    assert!(store.open_jobs().unwrap()[0].cancel);
    let outcome = Outcome::new(Verdict::Red);
    store.end_job(&job.key, outcome.clone(), Some("{}")).unwrap();
    store.job_runs(&job.key, 6).unwrap();
    assert_eq!(store.job(&job.key).unwrap().unwrap().state, JobState::Over { outcome });
    assert_eq!(store.open_jobs().unwrap(), []);
}

#[test]
fn the_cursor_never_goes_back_and_what_was_told_is_read_again() {
    let place = Place::new();
    let store = place.open();
    let repo = asked(3).repo;
    assert_eq!(store.cursor(&repo).unwrap(), None);
    store.advance(&repo, at(9)).unwrap();
    store.advance(&repo, at(5)).unwrap();
    assert_eq!(store.cursor(&repo).unwrap(), Some(at(9)));

    let Recorded::New(id) = store.record(&asked(3)).unwrap() else { panic!("it is known") };
    assert_eq!(store.told(id).unwrap(), Told::default());
    let told =
        Told { seen: true, comment: Some(8), text: Some("text".to_owned()), due: at(9), ..Told::default() };
    store.tell(id, &told).unwrap();
    assert_eq!(place.open().told(id).unwrap(), told);
}

#[test]
fn a_backup_is_a_file_that_is_put_in_the_databases_place() {
    let place = Place::new();
    let store = place.open();
    store.record(&asked(3)).unwrap();
    let copy = place.0.path().join("copy.sqlite");
    store.backup(&copy).unwrap();
    store.record(&asked(4)).unwrap();
    assert!(store.backup(&copy).is_err(), "a backup is not written over");
    drop(store);
    std::fs::copy(&copy, place.path()).unwrap();
    let store = place.open();
    assert_eq!(store.last(9).unwrap().len(), 1);
}

#[test]
fn a_newer_version_another_program_and_another_forge_are_refused() {
    let place = Place::new();
    drop(place.open());
    assert!(matches!(
        Store::open(&place.path(), "https://git.example.com"),
        Err(StoreError::OtherForge { .. })
    ));
    Connection::open(place.path()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(&place.path(), FORGE), Err(StoreError::Newer { found: 99, .. })));

    let other = place.0.path().join("other.sqlite");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
    assert!(matches!(Store::open(&other, FORGE), Err(StoreError::NotOurs)));
    let text = place.0.path().join("text");
    std::fs::write(&text, "no database at all, and longer than a header ".repeat(100)).unwrap();
    assert!(matches!(Store::open(&text, FORGE), Err(StoreError::NotOurs)));
}

#[test]
fn a_place_where_others_may_write_and_a_link_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let elsewhere = place.0.path().join("elsewhere");
    std::fs::write(&elsewhere, "").unwrap();
    std::os::unix::fs::symlink(&elsewhere, place.path()).unwrap();
    assert!(Store::open(&place.path(), FORGE).is_err());
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"");

    let open = place.0.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Store::open(&open.join("db"), FORGE).unwrap_err();
    assert!(matches!(error, StoreError::Directory { .. }), "{error:?}");
    assert!(matches!(Store::open("db".as_ref(), FORGE), Err(StoreError::Directory { .. })));
}

#[test]
fn a_full_database_says_so_and_loses_nothing() {
    let place = Place::new();
    let store = place.open();
    store.record(&asked(1)).unwrap();
    let pages: i64 = store.lock().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.lock().pragma_update(None, "max_page_count", pages).unwrap();
    let author = "x".repeat(5000);
    let large = |comment| crate::request::Asked { author: author.clone(), ..asked(comment) };
    let error = (2..200).find_map(|comment| store.record(&large(comment)).err()).unwrap();
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    let before = store.last(1000).unwrap().len();
    store.lock().pragma_update(None, "max_page_count", pages + 1000).unwrap();
    assert!(matches!(store.record(&large(500)).unwrap(), Recorded::New(_)));
    assert_eq!(store.last(1000).unwrap().len(), before + 1);
}

#[test]
fn a_locked_database_says_so_and_loses_nothing() {
    let place = Place::new();
    let store = place.open();
    store.lock().busy_timeout(Duration::from_millis(20)).unwrap();
    let other = Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.record(&asked(1)).unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    let failure = cc_ci_core::Failure::from(error);
    assert!(failure.hint().is_some_and(|hint| hint.contains("fuser")), "{failure:?}");
    // What others hold is no reason not to read.
    assert_eq!(store.last(9).unwrap(), []);
    other.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(store.record(&asked(1)).unwrap(), Recorded::New(_)));
}

/// As long as a change may take to be known: long before it would be looked all the same.
const AT_ONCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn each_thing_that_another_one_writes_is_known_at_once() {
    // On a disk: to write there takes a while, and the file is written before the change is seen.
    let program = std::env::current_exe().unwrap();
    let place = Place(tempfile::tempdir_in(program.parent().unwrap()).unwrap());
    let own = Arc::new(place.open());
    let mut news = own.news(News::Shown);
    news.changed().await.unwrap();
    for comment in 0..20 {
        let path = place.path();
        let written = move || Store::open(&path, FORGE).unwrap().record(&asked(comment)).unwrap();
        tokio::task::spawn_blocking(written).await.unwrap();
        // Nobody writes anything after that.
        tokio::time::timeout(AT_ONCE, news.changed()).await.expect("it is told").unwrap();
    }
}

#[tokio::test]
async fn only_what_is_another_one_is_news() {
    let place = Place::new();
    let (own, other) = (Arc::new(place.open()), place.open());
    let digests = || (own.digest(News::Jobs).unwrap(), own.digest(News::Shown).unwrap());
    let first = digests();
    let job = new_job();
    let Recorded::New(id) = other.record(&asked(3)).unwrap() else { panic!("it is known") };
    let recorded = digests();
    assert!(recorded.0 == first.0 && recorded.1 != first.1);
    // That it is looked at later, how far comments were read, and what the forge was told is on no page.
    let row = other.by_comment(&asked(3).repo, 3).unwrap().unwrap();
    other.postpone(&row, at(60), None, at(4)).unwrap();
    other.advance(&asked(3).repo, at(9)).unwrap();
    other.tell(id, &Told { seen: true, text: Some("text".to_owned()), ..Told::default() }).unwrap();
    assert_eq!(digests(), recorded);

    let mut jobs = vec![recorded.0];
    for write in [
        |store: &Store, job: &NewJob| drop(store.order(job, at(1)).unwrap()),
        |store: &Store, job: &NewJob| store.cancel_job(&job.key).unwrap(),
        |store: &Store, job: &NewJob| store.job_runs(&job.key, 5).unwrap(),
        |store: &Store, job: &NewJob| store.end_job(&job.key, Outcome::new(Verdict::Red), None).unwrap(),
    ] {
        write(&other, &job);
        jobs.push(digests().0);
    }
    jobs.sort();
    jobs.dedup();
    assert_eq!(jobs.len(), 5, "{jobs:?}");

    let mut shown = vec![recorded.1];
    other.postpone(&row, at(60), Some("no answer"), at(4)).unwrap();
    shown.push(digests().1);
    other.tell(id, &Told { foreigner: Some("eve".to_owned()), ..Told::default() }).unwrap();
    shown.push(digests().1);
    other.save(&row, &queued(), "checked", at(5)).unwrap();
    shown.push(digests().1);
    other.show_host(&HostView { at: at(5), runs: "a".to_owned(), locks: "b".to_owned() }).unwrap();
    shown.push(digests().1);
    shown.sort();
    shown.dedup();
    assert_eq!(shown.len(), 5, "{shown:?}");
}

#[test]
fn what_a_job_and_its_host_showed_is_read_again() {
    let place = Place::new();
    let store = place.open();
    let row = asked(3);
    let job = NewJob {
        key: crate::names::Key::of(FORGE, &row.repo, 3),
        repo: row.repo.clone(),
        pull: 1,
        head: "a".repeat(40).parse().unwrap(),
        quick: false,
    };
    store.order(&job, at(1)).unwrap();
    assert_eq!(store.record_of(&job.key).unwrap(), None);
    store.end_job(&job.key, Outcome::new(Verdict::Red), Some("{}")).unwrap();
    assert_eq!(store.record_of(&job.key).unwrap().as_deref(), Some("{}"));
    assert_eq!(store.host().unwrap(), None);
    for (seconds, runs) in [(1, "a"), (2, "b")] {
        let view = HostView { at: at(seconds), runs: runs.to_owned(), locks: "c".to_owned() };
        store.show_host(&view).unwrap();
        assert_eq!(store.host().unwrap(), Some(view));
    }
    // What is not valid is no request of the repository's.
    let Recorded::New(id) = store.record(&row).unwrap() else { panic!("it is known") };
    assert_eq!(store.last_of(&row.repo, 9).unwrap(), []);
    let received = store.by_comment(&row.repo, 3).unwrap().unwrap();
    store.save(&received, &queued(), "checked", at(1)).unwrap();
    assert_eq!(store.last_of(&row.repo, 9).unwrap()[0].request.id, id);
    // The newest commit of a pull request is that of a request that has one.
    let head = || store.last_head(&row.repo, 1).unwrap().map(|head| head.to_string());
    assert_eq!(head(), Some("a".repeat(40)));
    for (comment, state) in [
        (4, State::Queued { head: "b".repeat(40).parse().unwrap() }),
        (5, refused().state),
        (6, State::Superseded { by: 7, head: None }),
    ] {
        store.record(&asked(comment)).unwrap();
        let received = store.by_comment(&row.repo, comment).unwrap().unwrap();
        store.save(&received, &Decision { state, create: false }, "checked", at(1)).unwrap();
    }
    assert_eq!(head(), Some("b".repeat(40)));
    assert_eq!(store.last_head(&row.repo, 2).unwrap(), None);
    assert_eq!(store.next_due(at(0)).unwrap(), Some(at(1)));
    assert_eq!(store.next_due(at(1)).unwrap(), None);
}
