//! Copies of volumes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use cc_ci_core::engine::{Engine as _, Failure, Fault, VolumeCopy};
use cc_ci_core::error_chain;
use cc_ci_core::recipe::VolumeBackup;
use cc_ci_tests::engine::TestEngine;

use crate::contexts::Run;
use crate::support::{App, block_on};

fn save(app: &App<'_>, run: &Run, volume: &str, rule: &VolumeBackup) -> Result<(), Failure> {
    let to = run.copies().join(volume);
    let copy = VolumeCopy { app: &run.app, volume, directory: &to };
    block_on(app.swarm.save_volume(&run.context, &copy, rule))
}

fn load(app: &App<'_>, run: &Run, volume: &str) -> Result<(), Failure> {
    let from = run.copies().join(volume);
    let copy = VolumeCopy { app: &run.app, volume, directory: &from };
    block_on(app.swarm.load_volume(&run.context, &copy))
}

#[track_caller]
fn works(done: Result<(), Failure>) {
    if let Err(error) = done {
        panic!("{}", error_chain(&error));
    }
}

fn paths(paths: &[&str]) -> VolumeBackup {
    VolumeBackup::Paths(paths.iter().map(|path| (*path).to_owned()).collect())
}

#[test]
fn a_whole_volume_comes_back_and_links_lead_nobody_anywhere() {
    let Some(engine) = TestEngine::shared("a_whole_volume_comes_back_and_links_lead_nobody_anywhere") else {
        return;
    };
    let app = App::new(&engine, "0e1001");
    app.deploy(
        &[("app", "volumes: ['data:/data', 'other:/other'], read_only: true")],
        "volumes: {data: , other: }",
    );
    app.comes_up();
    let run = Run::of(&app);
    let data = format!("{}_data", app.stack);
    app.run_in(
        "app",
        "cd /data; mkdir -p deep/er; echo one > deep/er/file; chmod 640 deep/er/file; chown 7:8 deep/er/file; \
         echo precious > /other/target; ln -s /other/target link; ln -s deep/er/file near; mkfifo pipe; \
         head -c 3000000 /dev/urandom > big; sha256sum big > /other/sum; echo kept > taken",
    );
    works(save(&app, &run, &data, &VolumeBackup::Whole));
    let archive = run.copies().join(&data).join("0.tar");
    let metadata = archive.symlink_metadata().expect("it is there");
    assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o600);
    assert_eq!(
        fs::read_dir(run.copies().join(&data)).expect("a directory").count(),
        2,
        "nothing is unpacked"
    );
    assert!(!String::from_utf8_lossy(&fs::read(&archive).expect("it can be read")).contains("precious"));

    // What was there is lost, changed, or leads elsewhere now; the app has written more meanwhile.
    app.run_in(
        "app",
        "cd /data; rm -r deep big; ln -s /other deep; echo changed > taken; rm link; ln -s /other/sum link; \
         rm pipe; mkdir pipe; echo x > pipe/x; echo since > since",
    );
    works(load(&app, &run, &data));
    app.run_in(
        "app",
        "cd /data; set -ex; [ \"$(cat deep/er/file)\" = one ]; [ \"$(stat -c %a:%u:%g deep/er/file)\" = 640:7:8 ]; \
         [ ! -L deep ]; [ ! -e /other/er ]; sha256sum -c /other/sum; [ \"$(cat taken)\" = kept ]; \
         [ \"$(readlink link)\" = /other/target ]; [ \"$(readlink near)\" = deep/er/file ]; [ -p pipe ]; \
         [ \"$(cat /other/target)\" = precious ]; [ \"$(cat since)\" = since ]; [ \"$(ls /other)\" = 'sum\ntarget' ]",
    );
    // A link that leads out by its name alone is none that the engine makes.
    let other = Run::of(&app);
    app.run_in("app", "cd /data; rm since; ln -s ../other out");
    works(save(&app, &other, &data, &VolumeBackup::Whole));
    app.run_in("app", "rm /data/out; mkdir /data/out; echo precious > /data/out/x");
    let error = load(&app, &other, &data).expect_err("it leads out");
    assert_eq!(error.fault(), Fault::Recipe, "{}", error_chain(&error));
    app.run_in("app", "[ \"$(ls /other)\" = 'sum\ntarget' ] && [ \"$(cat /other/target)\" = precious ]");

    // A backup's copies share one bound. This one takes no room on the disk.
    let huge = run.copies().join("huge");
    fs::create_dir(&huge).expect("it is ours");
    let file = fs::File::create(huge.join("0.tar")).expect("it is ours");
    file.set_len((4 << 30) - (1 << 20)).expect("a file may have a hole");
    let error = save(&app, &run, &format!("{}_other", app.stack), &VolumeBackup::Whole);
    let message = error_chain(&error.expect_err("there is no room"));
    assert!(message.contains("more than 4 GiB"), "{message}");
    fs::remove_dir_all(&huge).expect("it is ours");
    works(save(&app, &run, &format!("{}_other", app.stack), &VolumeBackup::Whole));

    // A copy that somebody exchanged for a link is not followed.
    let real = run.copies().join("real");
    fs::rename(&archive, &real).expect("it is ours");
    std::os::unix::fs::symlink(&real, &archive).expect("it is ours");
    load(&app, &run, &data).expect_err("a link is no copy");
    for (volume, rule) in [("loose-volume", VolumeBackup::Whole), ("../data", VolumeBackup::Whole)] {
        let error = save(&app, &run, volume, &rule).expect_err("it is none of the app's");
        assert_eq!(error.fault(), Fault::Host, "{volume}");
    }
    app.remove();
}

#[test]
fn of_a_volume_only_the_paths_that_are_named_come_back() {
    let Some(engine) = TestEngine::shared("of_a_volume_only_the_paths_that_are_named_come_back") else {
        return;
    };
    let app = App::new(&engine, "0e1002");
    app.deploy(&[("app", "volumes: ['data:/data', 'other:/other']")], "volumes: {data: , other: }");
    app.comes_up();
    let run = Run::of(&app);
    let data = format!("{}_data", app.stack);
    app.run_in(
        "app",
        "cd /data; mkdir -p a/b/c; echo deep > a/b/c/file; echo dump > dump.sql; echo more > a/more; \
         mkdir /other/c; echo precious > /other/c/file; echo precious > /other/dump.sql; ln -s /other elsewhere",
    );
    works(save(&app, &run, &data, &paths(&["a/b/c", "dump.sql"])));
    app.run_in("app", "cd /data; rm -r a dump.sql; echo since > a-file");
    works(load(&app, &run, &data));
    app.run_in(
        "app",
        "cd /data; set -ex; [ \"$(cat a/b/c/file dump.sql)\" = 'deep\ndump' ]; [ ! -e a/more ]; [ -e a-file ]",
    );
    // A directory on the way that has become a link is not followed.
    app.run_in("app", "rm -r /data/a/b; ln -s /other /data/a/b");
    let error = load(&app, &run, &data).expect_err("it leads elsewhere");
    assert!(error.to_string().contains("not through a link"), "{error}");
    app.run_in("app", "[ \"$(cat /other/c/file)\" = precious ]");
    for (path, says) in [
        ("elsewhere/c", "not through a link"),
        ("elsewhere", "not through a link"),
        ("dump.sql/x", "not through a link"),
        ("none", "is not there"),
        ("a/none", "is not there"),
        ("../other/c", "does not lead down"),
        ("/other/c", "does not lead down"),
    ] {
        let error = save(&app, &Run::of(&app), &data, &paths(&[path])).expect_err(path);
        assert_eq!(error.fault(), Fault::Recipe, "{path}: {}", error_chain(&error));
        assert!(error.to_string().contains(says), "{path}: {error}");
    }
    app.remove();
}
