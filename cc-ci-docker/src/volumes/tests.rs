use serde_json::json;

use super::*;

#[test]
fn what_is_put_into_an_archive_comes_out_again() {
    for content in [&b""[..], b"seed\n", &[0; 512], &vec![7; LIMIT]] {
        assert_eq!(unpack(&archive(".cc-ci-probe", content).unwrap()).unwrap(), content);
    }
    // Names that don't fit into a header have one of their own.
    let long = "x".repeat(255);
    assert_eq!(unpack(&archive(&long, b"seed").unwrap()).unwrap(), b"seed");
}

#[test]
fn an_archive_of_anything_but_a_small_file_is_refused() {
    let of_kind = |kind: tar::EntryType| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_path("x").unwrap();
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        let mut archive = tar::Builder::new(Vec::new());
        archive.append(&header, io::empty()).unwrap();
        archive.into_inner().unwrap()
    };
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Fifo,
        tar::EntryType::Char,
        tar::EntryType::Block,
        tar::EntryType::Directory,
    ] {
        assert_eq!(unpack(&of_kind(kind)), Err(NO_FILE), "{kind:?}");
    }
    let mut huge = tar::Header::new_gnu();
    huge.set_path("x").unwrap();
    huge.set_size(u64::MAX / 2);
    huge.set_cksum();
    assert_eq!(unpack(huge.as_bytes()), Err(TOO_LONG));
    let whole = archive("x", &[7; 1000]).unwrap();
    for broken in [&b""[..], b"no archive", &[0; 1024], &whole[..512], &whole[..900]] {
        assert_eq!(unpack(broken), Err("what the engine gave is no archive of one file"));
    }
}

#[test]
fn only_a_small_regular_file_is_touched() {
    let stat = |mode: u32, size: i64| PathStatResponse {
        name: "x".to_owned(),
        size,
        file_mode: mode,
        modification_time: None,
        link_target: String::new(),
    };
    assert_eq!(is_small_file(&stat(0o644, 1 << 20)), Ok(()));
    // Set-uid is a permission, in Go's words too.
    assert_eq!(is_small_file(&stat(0o644 | 1 << 23, 0)), Ok(()));
    assert!(is_small_file(&stat(0o644, (1 << 20) + 1)).is_err());
    assert!(is_small_file(&stat(0o644, -1)).is_err());
    for kind in [31, 27, 26, 25, 24, 21, 19] {
        assert!(is_small_file(&stat(0o644 | 1 << kind, 0)).is_err(), "{kind}");
    }
}

#[test]
fn a_running_container_is_preferred_and_then_the_newest() {
    let container = |id: &str, state: &str, created: i64, mounts: serde_json::Value| {
        let text = json!({"Id": id, "State": state, "Created": created, "Mounts": mounts});
        serde_json::from_value::<ContainerSummary>(text).unwrap()
    };
    let mount =
        |name: &str, rw: bool| json!({"Type": "volume", "Name": name, "Destination": "/data", "RW": rw});
    let bind = json!({"Type": "bind", "Name": "data", "Destination": "/bind", "RW": true});
    let containers = [
        container("ended", "exited", 9, json!([mount("data", true)])),
        container("old", "running", 1, json!([mount("data", true)])),
        container("new", "running", 2, json!([bind.clone(), mount("data", true), mount("logs", true)])),
        container("reader", "running", 3, json!([mount("data", false), mount("init", false)])),
        container("bound", "running", 9, json!([bind])),
        container("init", "exited", 1, json!([mount("init", true)])),
    ];
    let chosen = |volume, writable| {
        Mount::choose(&containers, volume, writable)
            .map(|mount| format!("{} {}", mount.container, mount.path))
    };
    assert_eq!(chosen("data", true).as_deref(), Some("new /data"));
    assert_eq!(chosen("data", false).as_deref(), Some("reader /data"));
    assert_eq!(chosen("init", true).as_deref(), Some("init /data"));
    assert_eq!(chosen("none", false), None);
    assert_eq!(Mount::choose(&containers[3..4], "data", true), None);
}

#[test]
fn what_another_machine_or_directory_keeps_is_not_the_apps_own() {
    let volume = |driver: &str, options: serde_json::Value| {
        let volume = json!({
            "Name": "v", "Driver": driver, "Mountpoint": "/x", "Labels": {}, "Options": options, "Scope": "local"
        });
        is_own(&serde_json::from_value::<Volume>(volume).unwrap())
    };
    assert!(volume("local", json!({})));
    assert!(volume("local", json!(null)));
    assert!(volume("local", json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})));
    assert!(!volume("local", json!({"type": "none", "o": "bind", "device": "/etc"})));
    assert!(!volume("local", json!({"type": "nfs", "device": ":/x"})));
    // The kernel ignores the type of a bind mount.
    assert!(!volume("local", json!({"type": "tmpfs", "o": "bind", "device": "/etc"})));
    assert!(!volume("local", json!({"type": "tmpfs", "o": "rw, rbind", "device": "tmpfs"})));
    assert!(!volume("local", json!({"type": "tmpfs", "device": "/etc"})));
    assert!(!volume("rclone", json!({})));
}
