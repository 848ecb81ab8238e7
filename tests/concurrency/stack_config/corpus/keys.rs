//! What a service says in one file, key by key.

use super::Layer;
use super::deploy::{deploy, healthcheck, hosts, logging, ulimits};
use super::dice::Dice;
use super::mounts::{files_of, networks, ports, volumes};
use super::texts::{BOOLEANS, SUBSTITUTED, pairs, scalar, strings, text, timed, value};

pub(super) fn layer(dice: &mut Dice, is_first: bool) -> Layer {
    let mut layer = Layer::default();
    if is_first || dice.one_of(4) {
        layer.service.push(format!("image: {}", text(dice, &["x", "bb:1", "r.io/a/b:2", "x:${A}"])));
    }
    let mut message: Vec<usize> = Vec::new();
    for _ in 0..=dice.below(4) {
        let kind = dice.below(40);
        if !message.contains(&kind) {
            message.push(kind);
            key(dice, kind, &mut layer);
        }
    }
    if layer.service.is_empty() {
        layer.service.push("hostname: 'h'".to_owned());
    }
    layer
}

pub(super) fn key(dice: &mut Dice, kind: usize, layer: &mut Layer) {
    let line = match kind {
        0..3 => format!("environment: {}", pairs(dice)),
        3..5 => format!("labels: {}", pairs(dice)),
        5 => format!("command: {}", command(dice)),
        6 => format!("entrypoint: {}", command(dice)),
        7..10 => ports(dice),
        10..13 => volumes(dice, layer),
        13..15 => networks(dice, layer),
        15 => files_of(dice, layer, "secrets", 2),
        16 => files_of(dice, layer, "configs", 3),
        17..22 => format!("deploy: {}", deploy(dice)),
        22..24 => format!("healthcheck: {}", healthcheck(dice)),
        24 => logging(dice),
        25 => ulimits(dice),
        26 => format!("sysctls: {}", pairs(dice)),
        27 => hosts(dice),
        28 => match dice.below(3) {
            0 => format!("dns: {}", strings(dice)),
            1 => format!("dns_search: {}", text(dice, &["a.b"])),
            _ => format!("dns: {}", text(dice, &["1.1.1.1"])),
        },
        29 => format!(
            "{}: {}",
            dice.of(&["hostname", "user", "working_dir", "stop_signal", "isolation"]),
            text(dice, &["a", "5", "/w"])
        ),
        30 => format!("{}: {}", dice.of(&["init", "tty", "stdin_open", "read_only"]), value(dice, &BOOLEANS)),
        31 => format!("stop_grace_period: {}", timed(dice)),
        32 => format!("{}: {}", dice.of(&["cap_add", "cap_drop"]), strings(dice)),
        33 => format!(
            "env_file: {}",
            dice.of(&["one.env", "[one.env]", "[one.env, two.env]", "two.env", "[two.env, ./one.env]"])
        ),
        34 => format!("restart: {}", text(dice, &["always", "on-failure:3", "no", "unless-stopped"])),
        35 => format!("tmpfs: {}", text(dice, &["/t", "/t:size=5m"])),
        36 => dice
            .of(&[
                "depends_on: [x]",
                "expose: ['1', 2]",
                "links: [x]",
                "x-own: {a: [1, 2]}",
                "oom_score_adj: 5",
                "privileged: false",
                "build: .",
                "container_name: c",
            ])
            .to_owned(),
        37 => format!("credential_spec: {}", dice.of(&["{file: f}", "{registry: r}", "{config: c}", "{}"])),
        38 => format!("image: '{}'", dice.of(&SUBSTITUTED)),
        _ if dice.one_of(6) => {
            let key = dice.of(&[
                "hostname",
                "command",
                "deploy",
                "logging",
                "tty",
                "nobody-knows",
                "healthcheck",
                "<<",
            ]);
            format!("{key}: {}", scalar(dice))
        }
        _ => dice
            .of(&[
                "<<: {hostname: m, user: '5'}",
                "<<: [{hostname: m}, {hostname: n}]",
                "x-own: ~",
                "hostname: h",
                "labels: *m",
                "environment: *n",
            ])
            .to_owned(),
    };
    let key = line.split(':').next().unwrap_or_default().to_owned();
    // One key twice is refused by both: that is seen seldom enough.
    if layer.service.iter().all(|known| known.split(':').next() != Some(&key)) || dice.one_of(100) {
        layer.service.push(line);
    }
}

pub(super) fn command(dice: &mut Dice) -> String {
    if dice.one_of(2) {
        return strings(dice);
    }
    dice.of(&[
        "a b",
        "'a \"b c\"'",
        "\"a 'b c' d\"",
        "'a\\nb'",
        "'a # b'",
        "'a#b'",
        "''",
        "[]",
        "'${A} x'",
        "'\"\"'",
        "\"a\\tb\"",
        "'a \"b'",
        "'a ''b\\'' c'",
        "|\n  a\n  b",
        ">-\n  a\n  b",
        "' '",
    ])
    .to_owned()
}
