//! Small files in volumes.

use cc_ci_core::engine::{Engine as _, Failure, Fault, VolumeFile, VolumePath};
use cc_ci_tests::engine::TestEngine;

use crate::support::{App, block_on};

const FILE: &str = ".cc-ci-probe";

fn volumes(app: &App<'_>) -> Vec<String> {
    block_on(app.swarm.volumes(&app.domain)).expect("the engine can be asked")
}

fn write(app: &App<'_>, volume: &str, file: &str, content: &[u8]) -> Result<(), Failure> {
    let file = VolumeFile { domain: &app.domain, volume, path: file };
    block_on(app.swarm.write_volume_file(&file, content))
}

fn read(app: &App<'_>, volume: &str, file: &str) -> Result<Option<Vec<u8>>, Failure> {
    let file = VolumeFile { domain: &app.domain, volume, path: file };
    block_on(app.swarm.read_volume_file(&file))
}

#[test]
fn a_file_of_a_volume_is_written_and_read() {
    let Some(engine) = TestEngine::shared("a_file_of_a_volume_is_written_and_read") else { return };
    let app = App::new(&engine, "0f0001");
    // One that only a task mounts writable which has ended, and one that is a directory of the host.
    app.deploy(
        &[
            ("app", "volumes: ['data:/data', 'init:/init:ro', '/anonymous', 'host:/host'], read_only: true"),
            (
                "init",
                "command: ['true'], volumes: ['init:/there/'], \
                 deploy: {endpoint_mode: dnsrr, restart_policy: {condition: none}}",
            ),
        ],
        "volumes: {data: , init: , host: {driver_opts: {type: none, o: bind, device: /mnt}}}",
    );
    app.comes_up();
    let [data, init] = ["data", "init"].map(|name| format!("{}_{name}", app.stack));
    assert_eq!(volumes(&app), [data.clone(), init.clone()]);
    for volume in [&data, &init] {
        assert_eq!(read(&app, volume, FILE).expect("it can be looked at"), None);
        for content in [&b"one"[..], b"", &vec![b'x'; 1 << 20]] {
            write(&app, volume, FILE, content).expect("it is writable");
            assert_eq!(read(&app, volume, FILE).expect("it can be read").as_deref(), Some(content));
        }
    }
    // The app sees it, and what the app changes is seen.
    write(&app, &data, FILE, b"from outside\n").expect("it is writable");
    app.run_in(
        "app",
        "[ \"$(cat /data/.cc-ci-probe)\" = 'from outside' ] && echo inside > /data/.cc-ci-probe",
    );
    assert_eq!(read(&app, &data, FILE).expect("it can be read").as_deref(), Some(&b"inside\n"[..]));

    for (volume, file) in [
        ("loose-volume", FILE),
        ("../data", FILE),
        (data.as_str(), "../x"),
        (&data, "a//b"),
        (&data, "./b"),
        (&data, "a/../b"),
        (&data, ".."),
        (&data, "."),
        (&data, ""),
        (&data, "a\0b"),
        (&format!("{}_host", app.stack), FILE),
    ] {
        for error in [write(&app, volume, file, b"x").err(), read(&app, volume, file).err()] {
            assert_eq!(error.map(|error| error.fault()), Some(Fault::Host), "{volume}/{file}");
        }
    }
    let error = write(&app, &data, FILE, &vec![0; (1 << 20) + 1]).expect_err("it is too long");
    assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    app.remove();
}

#[test]
fn a_path_of_a_volume_is_looked_at_and_none_is_made() {
    let Some(engine) = TestEngine::shared("a_path_of_a_volume_is_looked_at_and_none_is_made") else { return };
    let app = App::new(&engine, "0f0003");
    app.deploy(&[("app", "volumes: ['data:/data', 'other:/other']")], "volumes: {data: , other: }");
    app.comes_up();
    let data = format!("{}_data", app.stack);
    app.run_in("app", "mkdir -p /data/deep/er; echo 1 > /data/dump; ln -s /other /data/elsewhere");
    let look = |path: &str| {
        block_on(app.swarm.volume_path(&VolumeFile { domain: &app.domain, volume: &data, path }))
    };
    for (path, expected) in [
        ("deep", VolumePath::Directory),
        ("deep/er/", VolumePath::Directory),
        ("dump", VolumePath::Other),
        ("none", VolumePath::Missing),
        ("deep/none/at/all", VolumePath::Missing),
    ] {
        assert_eq!(look(path).expect("it can be looked at"), Some(expected), "{path}");
    }
    write(&app, &data, "deep/er/file", b"1").expect("it is writable");
    assert_eq!(read(&app, &data, "deep/er/file").expect("it can be read").as_deref(), Some(&b"1"[..]));
    assert_eq!(read(&app, &data, "none/file").expect("it can be looked at"), None);
    for path in ["none/file", "dump/file", "elsewhere/file"] {
        let error = write(&app, &data, path, b"x").expect_err(path);
        assert_eq!(error.fault(), Fault::Recipe, "{path}: {error}");
    }
    for path in ["elsewhere", "elsewhere/x"] {
        assert!(look(path).expect_err(path).to_string().contains("not through a link"), "{path}");
    }
    app.run_in("app", "[ ! -e /data/none ] && [ -z \"$(ls /other)\" ] && [ \"$(cat /data/dump)\" = 1 ]");
    app.remove();
}

#[test]
fn what_an_app_puts_in_the_files_place_is_neither_followed_nor_waited_for() {
    let name = "what_an_app_puts_in_the_files_place_is_neither_followed_nor_waited_for";
    let Some(engine) = TestEngine::shared(name) else { return };
    let app = App::new(&engine, "0f0002");
    app.deploy(&[("app", "volumes: ['data:/data', 'other:/other']")], "volumes: {data: , other: }");
    app.comes_up();
    let data = format!("{}_data", app.stack);
    app.run_in("app", "echo precious > /other/target; echo precious > /target");
    for (what, script, rule) in [
        ("a link", "ln -s /target $f", "is not a regular file"),
        ("a link to a volume", "ln -s /other/target $f", "is not a regular file"),
        ("a link out of everything", "ln -s ../../../../../../etc/hostname $f", "is not a regular file"),
        ("a link to nothing", "ln -s /none $f", "is not a regular file"),
        ("a link to itself", "ln -s .cc-ci-probe $f", "is not a regular file"),
        ("a pipe", "mkfifo $f", "is not a regular file"),
        ("a device", "mknod $f c 1 5", "is not a regular file"),
        ("a directory", "mkdir $f && echo precious > $f/kept", "is not a regular file"),
        ("a long file", "truncate -s 1048577 $f", "has more than 1 MiB"),
        ("an endless file", "truncate -s 1000G $f", "has more than 1 MiB"),
    ] {
        app.run_in("app", &format!("f=/data/.cc-ci-probe; rm -rf $f; {script}"));
        for error in [write(&app, &data, FILE, b"x").err(), read(&app, &data, FILE).err()] {
            let error = error.unwrap_or_else(|| panic!("{what} was taken for a file"));
            assert_eq!(error.fault(), Fault::Recipe, "{what}: {}", cc_ci_core::error_chain(&error));
            assert!(error.to_string().contains(rule), "{what}: {error}");
        }
        if what == "a directory" {
            app.run_in("app", "[ \"$(cat /data/.cc-ci-probe/kept)\" = precious ]");
        }
    }
    app.run_in("app", "[ \"$(cat /target /other/target)\" = \"$(printf 'precious\\nprecious')\" ]");
    app.remove();
}
