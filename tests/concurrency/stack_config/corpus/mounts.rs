//! Ports, and what a service uses of its stack, with what is declared for that.

use super::Layer;
use super::dice::Dice;
use super::texts::{list, map, value};

pub(super) fn ports(dice: &mut Dice) -> String {
    let ports = list(dice, 3, |dice| match dice.below(8) {
        0..3 => format!(
            "'{}'",
            dice.of(&[
                "80",
                "80:80",
                "81:80",
                "80:80/udp",
                "1000-1002",
                "1000-1002:2000-2002",
                "1000-1002:80",
                "127.0.0.1:82:80",
                "82:80/TCP",
                "${NO:-83}:80",
                "1:2/sctp",
                "0:80",
                "84:80",
                "85:80",
                "86:80",
                "87:81/udp",
                "88",
                "89:${NO:-90}",
            ])
        ),
        3 if dice.one_of(6) => format!(
            "'{}'",
            dice.of(&[
                "::1:84:80",
                "[::1]:84:80",
                "85:80-81",
                "65536",
                "80/",
                "080:80",
                "80:80:80:80",
                "-1",
                "80-79",
                "0",
                "0-2:3-5",
                "1-2:0"
            ])
        ),
        3 => dice.of(&["80", "0x50", "'90'", "53"]).to_owned(),
        _ => {
            let more = dice.of(&[
                "",
                ", mode: host",
                ", mode: 'HOST'",
                ", published: 80",
                ", published: 0, protocol: udp",
                ", protocol: UDP, published: 81",
                ", published: '${NO:-82}'",
                ", mode: ingress",
            ]);
            match dice.below(40) {
                0 => dice
                    .of(&[
                        "{}",
                        "{target: 80, x: 1}",
                        "{target: 80, protocol: x}",
                        "{published: 80}",
                        "{target: '80'}",
                        "{target: 70000}",
                        "{target: 80.0}",
                    ])
                    .to_owned(),
                _ => format!("{{target: {}{more}}}", value(dice, &["80", "81", "443"])),
            }
        }
    });
    format!("ports: {ports}")
}

pub(super) fn volumes(dice: &mut Dice, layer: &mut Layer) -> String {
    let mut used = Vec::new();
    let volumes = list(dice, 3, |dice| {
        let (source, mount) = if dice.one_of(2) { short_mount(dice) } else { long_mount(dice) };
        used.push(source);
        mount
    });
    for used in used.into_iter().filter(|used| used.starts_with('@')) {
        if used != "@nobody" {
            object(dice, layer, 0, &used);
        }
    }
    format!("volumes: {volumes}")
}

/// What it mounts, and the mount.
fn short_mount(dice: &mut Dice) -> (String, String) {
    let text = dice.of(&[
        "@a:/a",
        "@b:/b:ro",
        "@a:/a:nocopy",
        "/anon",
        "/etc/x:/x:ro",
        "./y:/y",
        "@b:/b:ro,rw",
        "/s:/s:rshared,ro",
        "@a:/${NO:-a}",
        "../z:/z",
        "@a:/a:z",
        "@a:/a/",
        "/:/r",
        "@b:/${A}/b",
        "/q:/q:private",
    ]);
    let odd = dice.of(&[
        "~/h:/h",
        "v:/v",
        "@a:rel",
        "/x:",
        "@a:/a:ro:rw",
        "",
        "@nobody:/n",
        ":/a",
        "é:/e",
        "x",
        "\\\\x:/y",
    ]);
    let text = if dice.one_of(30) { odd } else { text };
    (text.split(':').next().unwrap_or_default().to_owned(), format!("'{text}'"))
}

fn long_mount(dice: &mut Dice) -> (String, String) {
    let source = dice.of(&["@a", "@b"]);
    let more = dice.of(&[
        "",
        ", read_only: true",
        ", volume: {nocopy: true}",
        ", volume: {subpath: s}",
        ", read_only: '${NO:-yes}'",
        ", consistency: c",
        ", tmpfs: {size: 5}",
        ", volume: {}",
        ", bind: {propagation: shared}",
    ]);
    let more = if dice.one_of(40) { ", x: 1" } else { more };
    let mount = match dice.below(6) {
        0 => "{type: tmpfs, target: /t, tmpfs: {size: 1000}}".to_owned(),
        1 => format!("{{type: bind, source: /h, target: /i{more}}}"),
        2 if dice.one_of(4) => dice
            .of(&[
                "{type: npipe, source: x, target: /p}",
                "{type: volume}",
                "{target: /u}",
                "{type: bind, target: /i}",
                "{type: volume, target: rel}",
                "{type: tmpfs, source: x, target: /t}",
                "{type: tmpfs, target: /t, tmpfs: {size: 1m}}",
                "{type: cluster, source: c, target: /c}",
            ])
            .to_owned(),
        _ => format!("{{type: volume, source: {source}, target: {}{more}}}", dice.of(&["/a", "/b", "/l"])),
    };
    (source.to_owned(), mount)
}

pub(super) fn networks(dice: &mut Dice, layer: &mut Layer) -> String {
    for used in ["@a", "@b"] {
        object(dice, layer, 1, used);
    }
    let networks = match dice.below(4) {
        0 => list(dice, 2, |dice| dice.of(&["@a", "@b", "default"]).to_owned()),
        _ => map(dice, 2, |dice| {
            let options = dice.of(&[
                "",
                "{}",
                "{aliases: [x, y]}",
                "{aliases: [z]}",
                "{aliases: []}",
                "{ipv4_address: 10.0.0.5}",
                "{driver_opts: {a: b}}",
                "{aliases: ['${NO:-x}']}",
            ]);
            let options = if dice.one_of(40) { "{priority: 5}" } else { options };
            (dice.of(&["@a", "@b", "default"]).to_owned(), options.to_owned())
        }),
    };
    format!("networks: {networks}")
}

pub(super) fn files_of(dice: &mut Dice, layer: &mut Layer, section: &str, place: usize) -> String {
    for used in ["@a", "@b"] {
        object(dice, layer, place, used);
    }
    let used = list(dice, 2, |dice| {
        let source = dice.of(&["@a", "@b"]);
        if dice.one_of(4) {
            return source.to_owned();
        }
        let more = dice.of(&[
            "",
            ", target: f",
            ", target: /f",
            ", uid: '5', gid: '6'",
            ", mode: 0400",
            ", mode: 0o440",
            ", mode: 292",
            ", mode: '${NO:-288}'",
            ", target: ''",
            ", mode: 0",
            ", mode: 0x1F",
        ]);
        let more = if dice.one_of(30) {
            dice.of(&[", mode: '0400'", ", uid: 5", ", x: 1", ", mode: -1"])
        } else {
            more
        };
        format!("{{source: {source}{more}}}")
    });
    format!("{section}: {used}")
}

/// Declares a volume, network, secret or config, once.
pub(super) fn object(dice: &mut Dice, layer: &mut Layer, place: usize, key: &str) {
    if layer.sections[place].iter().any(|line| line.starts_with(&format!("{key}:"))) {
        return;
    }
    let message = match (place, dice.below(10)) {
        (2 | 3, 0) => "{external: true}",
        (2 | 3, 1) => "{external: {name: '@e'}}",
        (2 | 3, 2) => "{name: '@n', file: f}",
        (2 | 3, 3) => "{file: ./d/f, labels: [a=b]}",
        (2 | 3, 4) => "{file: f, template_driver: golang}",
        (2 | 3, 5) => dice.of(&[
            "{driver: d}",
            "{driver: d, file: f}",
            "{driver: d, driver_opts: {a: 1}}",
            "{}",
            "",
            "{file: /abs}",
            "{file: ../f}",
            "{external: true, file: f}",
        ]),
        (2 | 3, _) => "{file: f}",
        (_, 0) => "{external: true}",
        (_, 1) => "{external: {name: '@e'}}",
        (_, 2) => "{name: '@n', labels: {a: 1.10}}",
        (_, 3) => "{driver: d, driver_opts: {a: 1, b: 'x', c: 1.10}}",
        (_, 4) => dice.of(&[
            "{external: 'true'}",
            "{external: '${NO:-true}'}",
            "{external: false}",
            "{external: true, name: '@n'}",
            "{external: {name: '@e'}, name: '@n'}",
            "{external: true, driver: d}",
            "{external: {}}",
            "{name: ''}",
            "{name: '${NO:-@n}'}",
            "{external: true, labels: [a]}",
        ]),
        (1, 5) => dice.of(&[
            "{internal: true}",
            "{attachable: true}",
            "{ipam: {config: [{subnet: 10.1.0.0/24}]}}",
            "{ipam: {driver: default}}",
            "{internal: '${NO:-yes}'}",
            "{attachable: no}",
        ]),
        _ => "",
    };
    layer.sections[place].push(format!("{key}: {message}"));
}
