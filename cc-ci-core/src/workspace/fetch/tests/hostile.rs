//! Recipes and servers that mean no good.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::super::SnapshotError;
use super::super::super::git::GitError;
use super::*;
use crate::lifetime::ChildError;
use crate::model::cancellation::Cause;

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[tokio::test]
async fn hooks_filters_and_configuration_of_a_recipe_never_run() {
    let world = World::new();
    let upstream = world.recipe();
    let trap = world.path("ran");
    let spring = format!("touch {}; cat", trap.display());
    upstream.commit(".gitattributes", "*.yml filter=evil diff=evil\n");
    let configure = |git: &dyn Fn(&[&str])| {
        for name in ["filter.evil.smudge", "filter.evil.clean", "core.fsmonitor", "core.sshCommand"] {
            git(&["config", name, &spring]);
        }
    };
    configure(&|args| drop(upstream.git(args)));
    let hook = |git_dir: &Path| {
        fs::create_dir_all(git_dir.join("hooks")).unwrap();
        for name in ["post-checkout", "post-index-change", "reference-transaction", "pre-push", "update"] {
            let path = git_dir.join("hooks").join(name);
            fs::write(&path, format!("#!/bin/sh\n{spring}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    };
    hook(&upstream.0.join(".git"));
    fs::write(upstream.0.join("compose.yml"), "changed\n").unwrap();
    assert!(!trap.exists());

    let run = world.run();
    let fetched = world.fetch(&run, &upstream.request()).await.unwrap();
    assert!(!trap.exists(), "something ran while it was fetched");
    let [note] = &fetched.notes[..] else { panic!("{:?}", fetched.notes) };
    assert!(note.contains("not tested") && note.contains("compose.yml"), "{note}");
    let tree = fetched.tree;
    assert!(!tree.root().join(".git/hooks").exists());

    // A script of the recipe was here: in the clone, and in the run's home.
    hook(&tree.root().join(".git"));
    let config = fs::read_to_string(upstream.0.join(".git/config")).unwrap();
    fs::write(tree.root().join(".git/config"), &config).unwrap();
    fs::create_dir_all(tree.root().join(".git/info")).unwrap();
    fs::write(tree.root().join(".git/info/attributes"), "* filter=evil\n").unwrap();
    fs::write(run.home().join(".gitconfig"), &config).unwrap();
    let older = tree.newest_before(&world.life, tree.tested()).await.unwrap().unwrap();
    tree.checkout(&world.life, &older.commit).await.unwrap();
    tree.checkout(&world.life, tree.tested()).await.unwrap();
    assert!(!trap.exists(), "something ran while the tree was moved");
    assert!(!tree.root().join(".git/hooks").exists(), "a hook waits for the next who uses git there");

    // And the copied one.
    Repository::new(&world.path("canonical/recipes/notes"));
    let canonical = Repository(world.path("canonical/recipes/notes"));
    configure(&|args| drop(canonical.git(args)));
    hook(&canonical.0.join(".git"));
    let run = world.run();
    let copy = FetchRequest { skip_fetch: true, ..request("notes") };
    let tree = world.fetch(&run, &copy).await.unwrap().tree;
    tree.checkout(&world.life, &older_of(&world, &tree).await).await.unwrap();
    assert!(!trap.exists(), "something ran while the canonical recipe was copied");

    // The trap is a real one: git as its owner uses it springs it.
    upstream.git(&["checkout", "-q", "-f", "HEAD"]);
    assert!(trap.exists());
}

#[tokio::test]
async fn nothing_is_ever_pushed_from_a_clone() {
    let world = World::new();
    let upstream = world.recipe();
    let bare = world.path("bare/notes.git");
    upstream.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let bare_repository = Repository(bare.clone());
    let before = bare_repository.git(&["for-each-ref"]);
    Repository::new(&world.path("canonical/recipes/copied"));
    let copy = FetchRequest { skip_fetch: true, ..request("copied") };
    let (one, other) = (world.run(), world.run());
    for (run, request) in [(&one, &request(bare.to_str().unwrap())), (&other, &copy)] {
        let clone = Repository(world.fetch(run, request).await.unwrap().tree.root().to_owned());
        clone.git(&["fetch", "-q", bare.to_str().unwrap(), "main"]);
        assert_eq!(clone.git(&["remote"]), "");
        assert_eq!(clone.try_git(&["config", "--get-regexp", "pushurl"]).1, "");
        let url = format!("file://{}", bare.display());
        for to in [bare.to_str().unwrap(), &url, "../../../../../bare/notes.git", "origin", "me@localhost:x"]
        {
            let (pushed, message) = clone.try_git(&["push", to, "HEAD:refs/heads/pushed"]);
            assert!(!pushed, "{to}: {message}");
            assert!(message.contains("cc-ci-refuses-to-push"), "{to}: {message}");
        }
        assert!(!clone.try_git(&["push"]).0);
    }
    assert_eq!(bare_repository.git(&["for-each-ref"]), before);
    // An ordinary repository can push there, so it was not the place that refused.
    upstream.git(&["push", "-q", bare.to_str().unwrap(), "HEAD:refs/heads/pushed"]);
}

/// The kernel accepts for it; it says nothing.
async fn silent_server() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn a_server_that_never_answers_ends_with_the_run_or_the_limit() {
    let (silent, server) = (silent_server().await, silent_server().await);
    let url = |server: &tokio::net::TcpListener| {
        format!("git://127.0.0.1:{}/notes", server.local_addr().unwrap().port())
    };
    let world = World::new();
    let run = world.run();
    let short = FetchRequest { limit: Duration::from_millis(50), ..request(&url(&silent)) };
    let error = world.fetch(&run, &short).await.unwrap_err();
    let FetchError::Git { source: GitError::Child { source, .. }, .. } = error else { panic!("{error:?}") };
    assert!(matches!(source, ChildError::TimedOut { .. }), "{source:?}");

    let patient = request(&url(&server));
    let cancel = async {
        let (connection, _) = server.accept().await.unwrap();
        world.life.cancel();
        connection
    };
    let (fetched, mut connection) = tokio::join!(world.fetch(&run, &patient), cancel);
    let error = fetched.unwrap_err();
    let FetchError::Git { source: GitError::Child { source, .. }, .. } = error else { panic!("{error:?}") };
    assert!(matches!(source, ChildError::Cancelled { cause: Cause::Embedder, .. }), "{source:?}");
    crate::lifetime::RunLifetime::begin_teardown(&world.life);
    let ended = crate::lifetime::RunLifetime::end_children(&world.life).await;
    assert!(ended.left.is_empty(), "{ended:?}");
    // git is gone: what it held of the connection is closed.
    let _asked = connection.read_to_end(&mut Vec::new()).await.is_ok();
}

#[tokio::test]
async fn what_a_server_repeats_of_what_git_signs_in_with_is_in_no_error() {
    let world = World::new();
    let run = world.run();
    let server = silent_server().await;
    let host = server.local_addr().unwrap();
    let file = world.path("credentials");
    fs::write(&file, format!("http://me:hunter22@{host}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let repeat = async {
        loop {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut asked = vec![0; 8192];
            let length = stream.read(&mut asked).await.unwrap();
            let asked = String::from_utf8_lossy(&asked[..length]);
            assert!(asked.contains("Authorization: Basic bWU6aHVudGVyMjI="), "{asked}");
            let said = format!("hunter22 may not: {}", asked.replace("\r\n", " "));
            let length = said.len();
            let answer = format!(
                "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{said}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let request = FetchRequest {
        credentials: GitCredentials::read(&file).unwrap(),
        ..request(&format!("http://{host}/notes.git"))
    };
    let error = tokio::select! {
        fetched = world.fetch(&run, &request) => fetched.unwrap_err(),
        () = repeat => unreachable!(),
    };
    let text = format!("{} {error:?}", chain(&error));
    assert!(text.contains("[secret] may not") && text.contains("Basic [secret]"), "{text}");
    assert!(!text.contains("hunter22") && !text.contains("bWU6aHVudGVyMjI="), "{text}");
}

#[tokio::test]
async fn a_symlink_among_the_tests_is_refused_by_its_name() {
    let world = World::new();
    let upstream = world.recipe();
    fs::create_dir(upstream.0.join("tests")).unwrap();
    symlink("/etc/passwd", upstream.0.join("tests/leak")).unwrap();
    upstream.commit("tests/a", "a");
    symlink("tests", upstream.0.join("linked")).unwrap();
    upstream.commit("b", "b");
    let run = world.run();
    let tree = world.fetch(&run, &upstream.request()).await.unwrap().tree;
    for (relative, culprit) in [("tests", "tests/leak"), ("linked", "linked"), ("../notes/tests", "..")] {
        let error = tree.snapshot(&world.life, relative, &run.root().join("snapshot")).await.unwrap_err();
        assert!(matches!(error, SnapshotError::Refused(_)), "{error:?}");
        assert!(chain(&error).contains(culprit), "{}", chain(&error));
    }
    assert!(!run.root().join("snapshot/tests/leak").exists());
}

#[tokio::test]
async fn a_plain_file_in_the_way_of_servers_stops_a_fetch() {
    let world = World::new();
    let upstream = world.recipe();
    let run = world.run();
    fs::remove_file(run.abra_dir().join("servers")).unwrap();
    fs::write(run.abra_dir().join("servers"), "x").unwrap();
    let error = world.fetch(&run, &upstream.request()).await.unwrap_err();
    assert!(matches!(error, FetchError::Workspace(WorkspaceError::InTheWay { .. })), "{error:?}");
    assert_eq!(fs::read_dir(run.recipes()).unwrap().count(), 0);
}
