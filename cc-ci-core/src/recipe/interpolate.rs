//! Interpolation, as `docker stack deploy` does it: `$VAR`, `${VAR}`, defaults and required values.
//!
//! `${VAR:-text}` and `${VAR-text}` give a default, `${VAR:?text}` and `${VAR?text}` refuse, `$$` is a dollar sign. With the
//! colon an empty value counts as unset. An unset variable without a default is empty and gets listed, so that a caller can
//! warn. Values are not interpolated again.
//!
//! docker/cli finds a substitution with one regular expression, and then looks for an operator *anywhere* in it: `:-` first,
//! then `-`, `:?` and `?`. It takes a default as it stands, to the first `}`. So what is written for another reader,
//! Compose's or a shell's, is read otherwise there. Such a text is refused, with the form that everybody reads alike:
//! variables in a default, alternatives (`:+`), an operator without braces, and one that docker/cli would find elsewhere
//! than behind the name.

use std::collections::{BTreeMap, BTreeSet};

/// How long one interpolated text may become.
const MAX_LEN: usize = 1 << 20;

/// A text whose variables are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interpolated {
    /// The result.
    pub text: String,
    /// The variables that it used.
    pub used: BTreeSet<String>,
    /// Those of them without a default that are not set.
    pub unset: BTreeSet<String>,
}

/// A text could not be interpolated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterpolateError {
    /// It breaks the syntax, or is read otherwise than it was meant.
    #[error("invalid interpolation at byte {at}: {rule}")]
    Syntax {
        /// Where, counted from 0.
        at: usize,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// `${NAME:?message}`, and the variable is not set.
    #[error("required variable {name} is not set: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The recipe's message.
        message: String,
    },
    /// The result would be too long.
    #[error("the interpolated text is longer than {MAX_LEN} bytes")]
    TooLong,
}

/// How long a text with variables may be.
const MAX_TEXT: usize = 64 << 10;

/// Replaces the variables in `text` by their values in `vars`.
///
/// # Errors
/// A syntax that docker/cli refuses too, or reads otherwise than other readers do; a required variable that is not set; a
/// result of more than 1 MiB.
pub fn interpolate(text: &str, vars: &BTreeMap<String, String>) -> Result<Interpolated, InterpolateError> {
    // For each variable the end of its line is looked for.
    if text.len() > MAX_TEXT && text.contains('$') {
        return Err(InterpolateError::Syntax {
            at: MAX_TEXT,
            rule: "a text with variables has at most 64 KiB",
        });
    }
    let mut result = Interpolated::default();
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|dollar| at + dollar) {
        write(&mut result, &text[at..dollar])?;
        let (substitution, end) = parse(text, dollar)?;
        match substitution {
            None => write(&mut result, "$")?,
            Some(substitution) => substitute(&substitution, vars, &mut result)?,
        }
        at = end;
    }
    write(&mut result, &text[at..])?;
    Ok(result)
}

/// What stands between the braces, or behind the dollar sign.
struct Substitution<'a> {
    name: &'a str,
    operator: Option<Operator>,
    /// The default, or the message.
    operand: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Default { or_empty: bool },
    Required { or_empty: bool },
}

impl Operator {
    /// The one that `text` begins with, and its length.
    fn read(text: &str) -> Option<(Self, usize)> {
        let or_empty = text.starts_with(':');
        let length = 1 + usize::from(or_empty);
        match text.as_bytes().get(length - 1)? {
            b'-' => Some((Self::Default { or_empty }, length)),
            b'?' => Some((Self::Required { or_empty }, length)),
            _ => None,
        }
    }
}

/// Reads what begins with the dollar sign at `dollar`: none where it is doubled. Gives where it ends, too.
fn parse(text: &str, dollar: usize) -> Result<(Option<Substitution<'_>>, usize), InterpolateError> {
    let syntax = |at: usize, rule| InterpolateError::Syntax { at, rule };
    let rest = &text[dollar + 1..];
    if rest.starts_with('$') {
        return Ok((None, dollar + 2));
    }
    let Some(inner) = rest.strip_prefix('{') else {
        let name = name_of(rest);
        let end = dollar + 1 + name.len();
        if name.is_empty() {
            return Err(syntax(
                dollar + 1,
                "a $ is followed by a name, { or another $; write $$ for a dollar sign",
            ));
        }
        if text[end..].starts_with(['\u{17f}', '\u{212a}']) {
            return Err(syntax(end, "Docker takes \u{17f} and \u{212a} for s and k: put the name in braces"));
        }
        if Operator::read(&text[end..]).is_some() {
            return Err(syntax(
                end,
                "Docker reads an operator here: put the name in braces, as in ${NAME}-text",
            ));
        }
        return Ok((Some(Substitution { name, operator: None, operand: "" }), end));
    };
    let name = name_of(inner);
    let after = dollar + 2 + name.len();
    if name.is_empty() {
        return Err(syntax(after, "a ${ is followed by a name: a letter or _, then letters, digits or _"));
    }
    if text[after..].starts_with('}') {
        return Ok((Some(Substitution { name, operator: None, operand: "" }), after + 1));
    }
    let Some((operator, length)) = Operator::read(&text[after..]) else {
        return Err(syntax(after, "after the name comes }, or one of :- - :? ?"));
    };
    let start = after + length;
    let operand = operand_of(&text[start..]).ok_or(syntax(text.len(), "a ${ needs its }"))?;
    let end = start + operand.len();
    // As docker/cli does, whatever stands first.
    let whole = &text[dollar + 2..end];
    let found = [":-", "-", ":?", "?"].into_iter().find_map(|operator| whole.find(operator));
    if found != Some(name.len()) {
        return Err(syntax(
            start,
            "Docker takes another operator in the text for its own: write the text without :- and, after a ?, without -",
        ));
    }
    let is_default = matches!(operator, Operator::Default { .. });
    if let Some(at) = is_default.then(|| nested(operand)).flatten() {
        return Err(syntax(start + at, "Docker takes a default as it stands: write it without variables"));
    }
    Ok((Some(Substitution { name, operator: Some(operator), operand }), end + 1))
}

fn name_of(text: &str) -> &str {
    let length = text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..length] }
}

/// The text up to its closing brace, the first.
fn operand_of(rest: &str) -> Option<&str> {
    rest.find('}').map(|at| &rest[..at])
}

/// Where a variable begins that another reader would replace.
fn nested(operand: &str) -> Option<usize> {
    operand.match_indices('$').map(|(at, _)| at).find(|at| {
        let name = name_of(&operand[at + 1..]);
        // `$2y$05$` and `$apr1$` begin hashes.
        let is_variable = !name.is_empty() && !name.contains(|c: char| c.is_ascii_lowercase());
        operand[at + 1..].starts_with('{') || is_variable
    })
}

fn substitute(
    substitution: &Substitution<'_>,
    vars: &BTreeMap<String, String>,
    result: &mut Interpolated,
) -> Result<(), InterpolateError> {
    let Substitution { name, operator, operand } = *substitution;
    let value = vars.get(name).map(String::as_str);
    result.used.insert(name.to_owned());
    match operator {
        None => {
            if value.is_none() {
                result.unset.insert(name.to_owned());
            }
            write(result, value.unwrap_or_default())
        }
        Some(Operator::Default { or_empty }) => {
            write(result, value.filter(|value| !(or_empty && value.is_empty())).unwrap_or(operand))
        }
        Some(Operator::Required { or_empty }) => {
            match value.filter(|value| !(or_empty && value.is_empty())) {
                Some(value) => write(result, value),
                None => Err(InterpolateError::Required {
                    name: name.to_owned(),
                    message: operand.chars().take(200).collect(),
                }),
            }
        }
    }
}

fn write(result: &mut Interpolated, text: &str) -> Result<(), InterpolateError> {
    if result.text.len() + text.len() > MAX_LEN {
        return Err(InterpolateError::TooLong);
    }
    result.text.push_str(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vars() -> BTreeMap<String, String> {
        [("A", "1"), ("EMPTY", ""), ("PASS", "a$B${C}")].map(|(k, v)| (k.into(), v.into())).into()
    }

    #[test]
    fn every_form_gives_what_docker_gives() {
        for (text, expected) in [
            ("", ""),
            ("plain } text", "plain } text"),
            ("${A}-${A}", "1-1"),
            ("$A.x $A:1 $A", "1.x 1:1 1"),
            ("$$A $$$A", "$A $1"),
            ("${A:-d}${A-d}", "11"),
            ("[${EMPTY:-d}] [${EMPTY-d}]", "[d] []"),
            ("${NO:-d}${NO-e}${NO:-}${NO-}", "de"),
            ("${NO:-http://h:80/?a=b-c}", "http://h:80/?a=b-c"),
            ("${NO-a-b?c}", "a-b?c"),
            ("${A:?e}${A?e}", "11"),
            ("${EMPTY?e}", ""),
            ("${NO:-{}}", "{}"),
            ("${A:-{}}", "1}"),
            ("{{${A:-x}}} {{.N}}", "{{1}} {{.N}}"),
            ("${NO:-x} {{.N}}", "x {{.N}}"),
            ("${NO:-a}b${B:-{}}", "ab{}"),
            ("${NO:-a$$b $2y$05$}", "a$$b $2y$05$"),
            ("${NO:-a\nb}", "a\nb"),
            ("$PASS", "a$B${C}"),
            ("é${NO:-ü}ß", "éüß"),
        ] {
            let result = interpolate(text, &vars()).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(result.text, expected, "{text}");
            assert!(result.unset.is_empty(), "{text}: {:?}", result.unset);
        }
    }

    #[test]
    fn unset_variables_are_empty_and_listed_unless_they_have_a_default() {
        let result = interpolate("[$NO][${NONE}]${X:-d}", &vars()).unwrap();
        assert_eq!(result.text, "[][]d");
        assert_eq!(result.unset, ["NO", "NONE"].map(str::to_owned).into());
        assert_eq!(result.used, ["NO", "NONE", "X"].map(str::to_owned).into());
    }

    #[test]
    fn a_text_that_is_broken_or_read_in_two_ways_is_refused_by_its_rule() {
        for (text, says) in [
            ("^a$", "byte 3: a $ is followed"),
            ("$1", "write $$ for a dollar sign"),
            ("$é", "a $ is followed"),
            ("${", "a ${ is followed"),
            ("${}", "a ${ is followed"),
            ("${1}", "a ${ is followed"),
            ("${A", "after the name"),
            ("${A:x}", "after the name"),
            ("${A:+x}", "after the name"),
            ("${A+x}", "after the name"),
            ("${A:-x", "needs its }"),
            ("$A-b", "byte 2: Docker reads an operator here"),
            ("$A:-b", "put the name in braces"),
            ("$A?", "put the name in braces"),
            ("${A?b-c}", "byte 4: Docker takes another operator"),
            ("${A:?b-c}", "without -"),
            ("${NO:?a:-b}", "without :-"),
            ("${NO-a:-b}", "without :-"),
            ("${NO:-${A}}", "byte 6: Docker takes a default as it stands"),
            ("${NO:-x$A}", "byte 7: Docker takes a default as it stands"),
            ("$A\u{17f}", "put the name in braces"),
            ("${NO:?set NO first}", "NO is not set: set NO first"),
            ("${EMPTY:?}", "EMPTY is not set"),
        ] {
            let error = interpolate(text, &vars()).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn expansion_is_bounded_in_length() {
        let long = [("L".to_owned(), "x".repeat(MAX_LEN / 2))].into();
        assert_eq!(interpolate("$L$L", &long).unwrap().text.len(), MAX_LEN);
        assert_eq!(interpolate("$L${L}y", &long), Err(InterpolateError::TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_interpolated_or_refused(text in "[${}A:?+x é-]{0,60}|\\PC{0,60}") {
            if let Ok(result) = interpolate(&text, &vars()) {
                prop_assert!(result.text.len() <= 8 * text.len());
            }
        }

        #[test]
        fn a_text_with_its_dollars_doubled_comes_back(text in "\\PC{0,60}") {
            let doubled = text.replace('$', "$$");
            prop_assert_eq!(interpolate(&doubled, &vars()).unwrap().text, text);
        }
    }
}
