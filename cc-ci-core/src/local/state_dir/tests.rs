use std::fs;

use super::*;
use crate::sys::files::new_id;
use crate::sys::files::testing::{alone, mount, unmount};

#[test]
fn an_app_goes_from_a_full_disk() {
    if !alone("local::state_dir::tests::an_app_goes_from_a_full_disk") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    mount(&["-t", "tmpfs", "-o", "size=64k,nr_inodes=20"], Path::new("none"), root.path());
    let state_dir = StateDir::new(root.path().to_owned());
    let domain: Domain = "a.test".parse().unwrap();
    let volume = state_dir.of(&domain, "volumes").join("data");
    state_dir.make(&volume).unwrap();
    while fs::write(volume.join(new_id().unwrap()), [0; 5000]).is_ok() {}
    while fs::create_dir(volume.join(new_id().unwrap())).is_ok() {}
    state_dir.trash_app(&domain).unwrap();
    state_dir.remove_app(&domain, &|| false).unwrap();
    assert_eq!(state_dir.domains().unwrap(), []);
    drop(state_dir);
    unmount(root.path());
}

#[test]
fn a_strangers_thing_at_the_top_is_told_and_keeps_nobody_from_the_rest() {
    let world = tempfile::tempdir().unwrap();
    let elsewhere = world.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join("a.test/1")).unwrap();
    fs::write(elsewhere.join("20000"), "precious").unwrap();
    let link = |path: &Path| std::os::unix::fs::symlink(&elsewhere, path).unwrap();
    let file = |path: &Path| fs::write(path, "precious").unwrap();
    let fifo = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let ways: [&dyn Fn(&Path); 3] = [&link, &file, &fifo];
    for (number, put) in ways.into_iter().enumerate() {
        let state_dir = StateDir::new(world.path().join(format!("local-{number}")));
        let domain: Domain = "a.test".parse().unwrap();
        state_dir
            .write_record(&domain, "tasks", "1", &TaskRecord { service: "app".into(), started: None })
            .unwrap();
        put(&state_dir.ports());
        put(&state_dir.root().join(TRASH));
        assert_eq!(state_dir.domains().unwrap(), std::slice::from_ref(&domain));
        state_dir.trash_app(&domain).and_then(|()| state_dir.free_ports(&domain)).unwrap();
        state_dir.remove_app(&domain, &|| false).unwrap();
        let mut inventory = Inventory::default();
        state_dir.inventory(&domain, &[], &mut inventory).unwrap();
        assert_eq!((inventory.of(&domain), state_dir.domains().unwrap()), (Vec::new(), Vec::new()));
        let message = state_dir.in_the_way();
        assert!(
            message.len() == 2 && message[0].contains("/ports ") && message[1].contains("/trash "),
            "{message:?}"
        );
        assert!(state_dir.ports().symlink_metadata().is_ok(), "it is somebody else's");
    }
    assert!(elsewhere.join("a.test/1").exists() && elsewhere.join("20000").exists());
}

#[test]
fn what_is_looked_at_is_what_is_changed_whatever_the_roots_path_names_since() {
    let world = tempfile::tempdir().unwrap();
    let root = world.path().join("local");
    let state_dir = StateDir::new(root.clone());
    let domain: Domain = "a.test".parse().unwrap();
    state_dir
        .write_record(&domain, "tasks", "1", &TaskRecord { service: "app".into(), started: None })
        .unwrap();
    state_dir.make(&state_dir.ports()).unwrap();
    state_dir.dir().unwrap().link("a.test".as_ref(), &state_dir.ports().join("20000")).unwrap();
    let id = state_dir.id();
    fs::rename(&root, world.path().join("moved")).unwrap();
    fs::create_dir_all(root.join("apps/b.test")).unwrap();
    assert_eq!(state_dir.domains().unwrap(), std::slice::from_ref(&domain));
    assert_eq!(state_dir.records::<TaskRecord>(&domain, "tasks").unwrap().len(), 1);
    assert!(state_dir.has_port_owner(20_000) && !state_dir.has(&root.join("apps/b.test")));
    assert_eq!(state_dir.id(), id);
}

#[test]
fn what_is_mounted_in_a_volume_stays_where_it_was_mounted() {
    if !alone("local::state_dir::tests::what_is_mounted_in_a_volume_stays_where_it_was_mounted") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let state_dir = StateDir::new(root.path().join("local"));
    let precious = root.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "").unwrap();
    let domain: Domain = "a.test".parse().unwrap();
    let point = state_dir.of(&domain, "volumes").join("data/m");
    state_dir.make(&point).unwrap();
    mount(&["--bind"], &precious, &point);
    state_dir.trash_app(&domain).unwrap();
    let error = state_dir.remove_app(&domain, &|| false).unwrap_err().to_string();
    assert!(error.contains(&format!("{} is a mount point", point.display())), "{error}");
    assert!(precious.join("file").exists());
    let mut inventory = Inventory::default();
    state_dir.inventory(&domain, &[], &mut inventory).unwrap();
    assert!(inventory.of(&domain).contains(&Resource::new(Kind::Volume, point.display().to_string())));
    unmount(&point);
    state_dir.trash_app(&domain).unwrap();
    state_dir.remove_app(&domain, &|| false).unwrap();
    assert_eq!(state_dir.domains().unwrap(), []);
}
