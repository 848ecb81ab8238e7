//! Text from outside, made harmless where it is shown.
//!
//! Names, messages and outputs come from recipes, apps and engines. On a terminal their control characters move the
//! cursor, and in the log of a CI system their lines give orders.

/// Text without effect: what is no plain character is escaped visibly, lines stay lines, and no line is an order to a
/// CI system (`::set-output`, `##[…]`, `##vso[…]`). It never has a control character other than the line feed.
#[must_use]
pub fn sanitize(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut begins = true;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\r' && chars.peek().is_some_and(|(_, next)| *next == '\n') {
            continue;
        }
        if c == '\n' {
            begins = true;
            shown.push(c);
            continue;
        }
        let (before, rest) = text.split_at(at);
        if begins && rest.starts_with("::") || is_marked(before, rest) {
            shown.push('\\');
        }
        begins = begins && c.is_whitespace() && !is_trick(c);
        if is_trick(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// As [`sanitize`], in one line: a line feed in a name must not begin a line that looks like one of the command's.
#[must_use]
pub fn sanitize_line(text: &str) -> String {
    sanitize(&text.replace('\n', "\\n"))
}

/// JSON text with the same characters escaped as `\uXXXX`. Its meaning stays.
#[must_use]
pub fn sanitize_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for (at, c) in json.char_indices() {
        let (before, rest) = json.split_at(at);
        // Line feeds are between the values only: within them JSON has escaped them.
        if c != '\n' && is_trick(c) || is_marked(before, rest) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                shown.extend(['\\', 'u']);
                shown.extend([12, 8, 4, 0].map(|shift| hex_digit(*unit >> shift)));
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Bytes as lower-case digits, two each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|bits| hex_digit(bits.into())).collect()
}

/// Joins the first `most` of `items`, and counts the rest: `a, b, and 3 more`.
pub(crate) fn first_few(items: impl ExactSizeIterator<Item: Into<String>>, most: usize) -> String {
    let more = items.len().saturating_sub(most);
    let mut shown: Vec<String> = items.take(most).map(Into::into).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

/// The first `limit` bytes of `text`, and a mark where that is not all.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    match text.floor_char_boundary(limit) {
        end if end < text.len() => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}

/// How long something took, as people say it; seconds with so many digits after the point.
pub(crate) fn took(seconds: f64, digits: usize) -> String {
    // What a record may not say is shown as nothing.
    let whole = std::time::Duration::try_from_secs_f64(seconds.round()).unwrap_or_default().as_secs();
    match whole {
        0..60 => format!("{:.digits$}s", seconds.clamp(0.0, 60.0)),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
    }
}

/// A size, as people say it: `4.2 GiB`.
pub fn gibibytes(bytes: u64) -> String {
    let mib = bytes / (1 << 20);
    format!("{}.{} GiB", mib / 1024, (mib % 1024) * 10 / 1024)
}

fn hex_digit(bits: u16) -> char {
    char::from_digit(u32::from(bits & 0xf), 16).unwrap_or('0')
}

/// Whether `rest` begins with the second sign of `##[` or `##word[`, which some systems obey within a line too.
fn is_marked(before: &str, rest: &str) -> bool {
    let Some(word) = rest.strip_prefix('#').filter(|_| before.ends_with('#')) else { return false };
    word.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).starts_with('[')
}

/// What moves a cursor, colours, turns the direction of writing, or is not seen.
fn is_trick(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOSTILE: &str = "(::|##\\[|##vso\\[|\n|\r| |\t|#|\\PC|\u{1b}\\[2J|\u{9b}|\u{202e}|\u{200b}|\u{2028}|\u{e0041}|a|.){0,24}";

    fn orders(line: &str) -> bool {
        line.trim_start().starts_with("::") || line.contains("##[") || line.contains("##vso[")
    }

    #[test]
    fn what_is_no_plain_text_is_seen_and_orders_nothing() {
        let cases = [
            ("plain ü 🌞\n", "plain ü 🌞\n"),
            ("one\r\ntwo\rthree", "one\ntwo\\u{d}three"),
            ("\u{1b}[2J\u{9b}\u{202e}", "\\u{1b}[2J\\u{9b}\\u{202e}"),
            (" ::add-mask::x\na::b", " \\::add-mask::x\na::b"),
            ("a ##[error]b\n##vso[x]", "a #\\#[error]b\n#\\#vso[x]"),
        ];
        for (text, shown) in cases {
            assert_eq!(sanitize(text), shown);
        }
        assert_eq!(sanitize_line("a\n::b"), "a\\n::b");
    }

    #[test]
    fn a_line_names_a_few_and_counts_the_rest() {
        assert_eq!(first_few(["a", "b"].into_iter(), 2), "a, b");
        assert_eq!(first_few(["a", "b", "c"].into_iter(), 1), "a, and 2 more");
        assert_eq!(first_few(std::iter::empty::<String>(), 1), "");
    }

    proptest! {
        #[test]
        fn whatever_is_said_is_harmless(text in HOSTILE) {
            let shown = sanitize(&text);
            prop_assert!(!shown.contains(|c| c != '\n' && is_trick(c)), "{shown:?}");
            prop_assert!(!shown.split('\n').any(orders), "{shown:?}");
            prop_assert!(!sanitize_line(&text).contains('\n'));
        }

        #[test]
        fn json_says_the_same(text in HOSTILE) {
            let value = serde_json::json!({ text.clone(): [text.clone()] });
            let json = sanitize_json(&serde_json::to_string_pretty(&value).unwrap());
            prop_assert!(!json.contains(|c| c != '\n' && is_trick(c)), "{json:?}");
            prop_assert!(!json.lines().any(orders), "{json:?}");
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        }
    }
}
