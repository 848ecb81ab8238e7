//! Texts, as they are written in YAML, and lists and maps of them.

use super::dice::Dice;

/// Words that readers of YAML take for one thing or another.
pub(super) const ODD: [&str; 31] = [
    "true",
    "False",
    "yes",
    "n",
    "on",
    "~",
    "null",
    "Null",
    "",
    "0",
    "-0",
    "1.0",
    "1.10",
    "0644",
    "0o17",
    "0x1F",
    "0b11",
    "1e3",
    "1e6",
    "1.5e-7",
    "12345678.9",
    ".5",
    "5.",
    "+1",
    "+1.5",
    "-1",
    "12:30",
    "12:30:45",
    "=",
    "0o8",
    "08",
];

/// Those that two readers take for two things, or that are out of bounds.
pub(super) const ODDER: [&str; 16] = [
    "1_000",
    "1_0.5",
    ".inf",
    "2024-01-01",
    "2024-1-1",
    "2024-01-01 10:00:00",
    "2024-01-01T10:00:00Z",
    "18446744073709551615",
    "18446744073709551616",
    "1__0",
    "0x",
    "-0x1F",
    "+0x1F",
    "-0o17",
    "0b2",
    "0x1p4",
];

pub(super) const WORDS: [&str; 14] = [
    "x",
    "a-b",
    "x y",
    "a=b",
    "http://h:80/?q=1",
    "1.2.3",
    "{}",
    "[a]",
    "a, b",
    "é",
    "a'b",
    "a c\\nb",
    "x#y",
    "/p",
];

pub(super) const SUBSTITUTED: [&str; 14] = [
    "${A}",
    "$A",
    "${NO}",
    "${NO:-d}",
    "${NO-d}",
    "${A:-d}",
    "${EMPTY:-d}",
    "${EMPTY-d}",
    "${A?m}",
    "$$A",
    "${B_2:-}",
    "${NO:-a-b}",
    "${NO:-a:b}",
    "${B_2}",
];

/// Those that one of two readers refuses, or reads otherwise.
pub(super) const DOUBTED: [&str; 16] = [
    "${NO:-${A}}",
    "${NO:-$A}",
    "${NO:-{}}",
    "${A:-{}}",
    "${A:-}}",
    "${A:+x}",
    "$1",
    "$A-x",
    "${NO?m}",
    "${A?m-n}",
    "$",
    "{{ ${A:-x} }}",
    "{{.N}}${A-x}",
    "${A:-a}b}}",
    "$A\u{17f}",
    "${\u{212a}}",
];

/// A text as it is written: in quotes or not.
pub(super) fn scalar(dice: &mut Dice) -> String {
    let text = match dice.below(40) {
        0..10 => dice.of(&WORDS).to_owned(),
        10..14 => dice.of(&ODD).to_owned(),
        14 => dice.of(&ODDER).to_owned(),
        15..28 => dice.of(&SUBSTITUTED).to_owned(),
        28..31 => format!("{}{}", dice.of(&WORDS), dice.of(&SUBSTITUTED)),
        31..34 => format!("{}{}", dice.of(&SUBSTITUTED), dice.of(&WORDS)),
        34 if dice.one_of(3) => dice.of(&DOUBTED).to_owned(),
        _ => format!("w{}", dice.below(3)),
    };
    let is_plain = |text: &str| !text.contains(['{', '[', ',', '\'', '#', '@']) && !text.contains(": ");
    match dice.below(4) {
        0..2 if is_plain(&text) || dice.one_of(40) => text,
        2 => format!("\"{}\"", text.replace('"', "\\\"")),
        _ => format!("'{}'", text.replace('\'', "''")),
    }
}

/// A value that a variable may have made.
pub(super) fn value(dice: &mut Dice, of: &[&str]) -> String {
    let text = dice.of(of);
    match dice.below(24) {
        0 => format!("\"${{NO:-{text}}}\""),
        1 => format!("'${{NO-{text}}}'"),
        2 if dice.one_of(4) => format!("'{text}'"),
        3 if dice.one_of(4) => scalar(dice),
        _ => text.to_owned(),
    }
}

/// A text that no reader takes for anything else.
pub(super) fn text(dice: &mut Dice, of: &[&str]) -> String {
    let text = dice.of(of);
    match dice.below(16) {
        0 => format!("\"${{NO:-{text}}}\""),
        1 if dice.one_of(4) => scalar(dice),
        _ => format!("'{text}'"),
    }
}

pub(super) fn name(dice: &mut Dice) -> &'static str {
    dice.of(&["A", "B_2", "NO", "EMPTY", "K", "M", "k.l", "F"])
}

pub(super) fn list(dice: &mut Dice, most: usize, mut item: impl FnMut(&mut Dice) -> String) -> String {
    let items: Vec<String> = (0..dice.below(most + 1)).map(|_| item(dice)).collect();
    if dice.one_of(3) && !items.is_empty() {
        return items.iter().flat_map(|item| ["\n  - ", item]).collect();
    }
    format!("[{}]", items.join(", "))
}

/// A map with each key once, but for one in many.
pub(super) fn map(
    dice: &mut Dice,
    most: usize,
    mut entry: impl FnMut(&mut Dice) -> (String, String),
) -> String {
    let mut entries: Vec<(String, String)> = Vec::new();
    for _ in 0..dice.below(most + 1) {
        let (key, value) = entry(dice);
        if dice.one_of(200) || entries.iter().all(|(known, _)| *known != key) {
            entries.push((key, value));
        }
    }
    if dice.one_of(3) && !entries.is_empty() {
        return entries.iter().flat_map(|(key, value)| ["\n  ", key, ": ", value]).collect();
    }
    let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{{}}}", entries.join(", "))
}

/// Pairs in one of both forms; merged from elsewhere sometimes.
pub(super) fn pairs(dice: &mut Dice) -> String {
    match dice.below(8) {
        0..3 => list(dice, 3, |dice| match dice.below(6) {
            0 => name(dice).to_owned(),
            1 => format!("'{}={}'", name(dice), dice.of(&SUBSTITUTED)),
            _ => format!(
                "'{}={}'",
                name(dice),
                dice.of(&["x", "", "a=b", "1.10", "'", "true"]).replace('\'', "''")
            ),
        }),
        3 => {
            let merged = if dice.one_of(40) {
                "*m, <<: *n"
            } else {
                dice.of(&["*m", "*n", "[*m, *n]", "[*n, *m]", "{K: k}", "[*m, {M: i}]"])
            };
            format!("{{<<: {merged}, {}: {}}}", name(dice), scalar(dice))
        }
        4 if dice.one_of(20) => dice
            .of(&["*m", "", "{1: a}", "{~: a}", "{true: a}", "{y: a}", "{0x1: a}", "{2024-01-01: a}"])
            .to_owned(),
        _ => map(dice, 4, |dice| (name(dice).to_owned(), scalar(dice))),
    }
}

pub(super) fn strings(dice: &mut Dice) -> String {
    list(dice, 3, |dice| {
        let text = scalar(dice);
        // A list takes texts alone, and most that are not quoted are.
        if text.starts_with(['\'', '"']) || dice.one_of(20) {
            text
        } else {
            format!("'{}'", text.replace('\'', "''"))
        }
    })
}

pub(super) const TIMES: [&str; 12] =
    ["1s", "1m30s", "0s", "0", "1.5h", "500ms", "+1s", "1h0.5s", ".5s", "1us", "2m", "90s"];
pub(super) const NUMBERS: [&str; 6] = ["0", "1", "2", "3", "0x2", "4"];
pub(super) const BOOLEANS: [&str; 4] = ["true", "false", "true", "True"];

pub(super) fn timed(dice: &mut Dice) -> String {
    if dice.one_of(60) {
        dice.of(&["'-1s'", "1d", "''", "5", "1 s", "'1S'"]).to_owned()
    } else {
        text(dice, &TIMES)
    }
}
