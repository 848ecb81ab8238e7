//! How a service is deployed, checked, logged and bounded.

use super::dice::Dice;
use super::texts::{BOOLEANS, NUMBERS, list, map, pairs, text, timed, value};

pub(super) fn deploy(dice: &mut Dice) -> String {
    map(dice, 4, |dice| match dice.below(10) {
        0 => ("mode".to_owned(), text(dice, &["replicated", "global", "replicated-job", "global-job", ""])),
        1 => ("replicas".to_owned(), value(dice, &NUMBERS)),
        2..4 => ("labels".to_owned(), pairs(dice).replace("\n  ", "\n    ")),
        4 => ("endpoint_mode".to_owned(), text(dice, &["vip", "dnsrr", "VIP"])),
        5 => (
            "resources".to_owned(),
            dice.of(&[
                "{limits: {cpus: '0.5', memory: 50M}}",
                "{limits: {memory: 1.5g}, reservations: {memory: '${NO:-10m}'}}",
                "{limits: {pids: 5}}",
                "{reservations: {cpus: '0.25'}}",
                "{limits: {memory: '${NO:-5x}'}}",
                "{limits: {}}",
                "{limits: {memory: '1.5 GiB'}}",
                "{limits: {memory: '0'}}",
                "{limits: {memory: 10kib}}",
                "{reservations: {generic_resources: [{discrete_resource_spec: {kind: g, value: 2}}]}}",
                "{limits: {memory: 10MB}, reservations: {}}",
            ])
            .to_owned(),
        ),
        6 => (
            "restart_policy".to_owned(),
            map(dice, 3, |dice| match dice.below(4) {
                0 => ("condition".to_owned(), text(dice, &["any", "none", "on-failure"])),
                1 => ("delay".to_owned(), timed(dice)),
                2 => ("max_attempts".to_owned(), value(dice, &NUMBERS)),
                _ => ("window".to_owned(), timed(dice)),
            })
            .replace("\n  ", "\n    "),
        ),
        7 => (
            "placement".to_owned(),
            dice.of(&[
                "{constraints: [node.role == manager]}",
                "{constraints: ['a==${A}'], max_replicas_per_node: 2}",
                "{preferences: [{spread: node.labels.x}]}",
                "{max_replicas_per_node: 0}",
                "{max_replicas_per_node: '${NO:-3}'}",
                "{}",
                "{preferences: [{}]}",
            ])
            .to_owned(),
        ),
        place => (
            if place == 8 { "update_config" } else { "rollback_config" }.to_owned(),
            map(dice, 4, |dice| match dice.below(6) {
                0 => ("parallelism".to_owned(), value(dice, &NUMBERS)),
                1 => ("delay".to_owned(), timed(dice)),
                2 => ("failure_action".to_owned(), text(dice, &["pause", "continue", "rollback"])),
                3 => ("monitor".to_owned(), timed(dice)),
                4 => ("max_failure_ratio".to_owned(), value(dice, &["0.5", "0", "1", ".25", "0.3", "1e-1"])),
                _ => ("order".to_owned(), text(dice, &["start-first", "stop-first"])),
            })
            .replace("\n  ", "\n    "),
        ),
    })
}

pub(super) fn healthcheck(dice: &mut Dice) -> String {
    map(dice, 4, |dice| match dice.below(7) {
        0..2 => (
            "test".to_owned(),
            dice.of(&[
                "'true'",
                "[CMD, a, b]",
                "[CMD-SHELL, 'a ${A}']",
                "[NONE]",
                "a b",
                "[]",
                "''",
                "curl -f http://x || exit 1",
            ])
            .to_owned(),
        ),
        2 => ("interval".to_owned(), timed(dice)),
        3 => ("timeout".to_owned(), timed(dice)),
        4 => ("retries".to_owned(), value(dice, &["0", "1", "2", "3", "10"])),
        5 => (dice.of(&["start_period", "start_interval"]).to_owned(), timed(dice)),
        _ => ("disable".to_owned(), value(dice, &BOOLEANS)),
    })
}

pub(super) fn logging(dice: &mut Dice) -> String {
    let logging = map(dice, 2, |dice| match dice.below(3) {
        0 => ("driver".to_owned(), text(dice, &["json-file", "local", "x"])),
        _ => (
            "options".to_owned(),
            dice.of(&[
                "{max-size: 10m}",
                "{max-size: 5}",
                "{max-size: '', max-file: '3'}",
                "{a: 1.10}",
                "{a: }",
                "{a: '${A}'}",
                "{b: x}",
                "{}",
            ])
            .to_owned(),
        ),
    });
    format!("logging: {logging}")
}

pub(super) fn ulimits(dice: &mut Dice) -> String {
    let limits = map(dice, 2, |dice| {
        let limit = dice.of(&[
            "5",
            "{soft: 1, hard: 2}",
            "'${NO:-6}'",
            "{soft: '${NO:-1}', hard: 3}",
            "0",
            "-1",
            "{soft: 0, hard: 0}",
            "0x10",
        ]);
        let limit = if dice.one_of(30) { dice.of(&["'5'", "{soft: 1}", "{}", "5.5", "~"]) } else { limit };
        (dice.of(&["nofile", "nproc"]).to_owned(), limit.to_owned())
    });
    format!("ulimits: {limits}")
}

pub(super) fn hosts(dice: &mut Dice) -> String {
    let hosts = match dice.below(2) {
        0 => list(dice, 3, |dice| {
            format!(
                "'{}'",
                dice.of(&[
                    "a:1.2.3.4",
                    "b=1.2.3.4",
                    "c:::1",
                    "d:[::1]",
                    "e",
                    "f=[::1]",
                    "a:5.6.7.8",
                    "g:a=b",
                    "h:${A}"
                ])
            )
        }),
        _ => map(dice, 2, |dice| {
            (
                dice.of(&["a", "b", "c.d"]).to_owned(),
                dice.of(&["1.2.3.4", "'::1'", "", "'[::1]'", "host-gateway"]).to_owned(),
            )
        }),
    };
    format!("extra_hosts: {hosts}")
}
