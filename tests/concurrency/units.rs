//! The units that operators install are what systemd takes.

use std::fs;
use std::path::Path;
use std::process::Command;

use cc_ci_tests::{World, built, skip};

#[test]
fn the_units_are_what_systemd_takes() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        skip("the_units_are_what_systemd_takes", "systemd-analyze is not installed");
        return;
    }
    let world = World::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/systemd");
    let units = world.path().join("units");
    fs::create_dir(&units).unwrap();
    let mut paths = Vec::new();
    for entry in fs::read_dir(examples).unwrap() {
        let entry = entry.unwrap();
        let unit = fs::read_to_string(entry.path()).unwrap();
        if unit.contains("[Service]") {
            for key in ["User=", "ExecStart="] {
                assert!(unit.contains(key), "{key}: {}", entry.path().display());
            }
        }
        assert_eq!(unit.contains("OnCalendar="), unit.contains("Persistent="), "{unit}");
        assert_eq!(unit.contains("bin/cc-ci "), unit.contains("OnFailure="), "{unit}");
        // Where it is installed on a host, nothing is here.
        let unit = unit.replace("/usr/local/bin/cc-ci", built("cc-ci").to_str().unwrap());
        fs::write(units.join(entry.file_name()), unit).unwrap();
        paths.push(units.join(entry.file_name()));
    }
    assert_eq!(paths.len(), 7);
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=one"])
        .args(&paths)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()))
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&verified.stderr);
    // What the machine itself has installed is its own affair.
    let ours: Vec<&str> = complaints.lines().filter(|line| line.contains("cc-ci")).collect();
    assert!(ours.is_empty(), "{complaints}");
    // It is known to complain: of a key that there is none.
    let broken = units.join("cc-ci-broken.service");
    fs::write(&broken, "[Service]\nExecStart=/bin/true\nUsr=root\n").unwrap();
    let verified =
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&broken).output().unwrap();
    assert!(String::from_utf8_lossy(&verified.stderr).contains("Usr"), "{verified:?}");
}
