//! Compose interpolation: `$VAR`, `${VAR}`, defaults, alternatives and required values.
//!
//! The forms are Compose's own: `${VAR:-text}` and `${VAR-text}` give a default, `${VAR:+text}` and `${VAR+text}`
//! an alternative, `${VAR:?text}` and `${VAR?text}` refuse, `$$` is a dollar sign. With the colon an empty value
//! counts as unset. The text after the operator is interpolated too, but only where it is used. An unset
//! variable without a default is empty and gets listed, so that a caller can warn. Values are not interpolated again.
//!
//! # Limitations
//! As in a shell, a default ends at its first free `}`: `${X:-{}}` is `{` and a literal `}`.

use std::collections::{BTreeMap, BTreeSet};

/// How deep defaults may nest.
const MAX_DEPTH: usize = 16;
/// How long one interpolated text may become.
const MAX_LEN: usize = 1 << 20;

/// A text whose variables are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interpolated {
    /// The result.
    pub text: String,
    /// The variables that it used without a default, and that are not set.
    pub unset: BTreeSet<String>,
}

/// A text could not be interpolated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterpolateError {
    /// It breaks the syntax.
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
        /// The recipe's message, not interpolated.
        message: String,
    },
    /// The result would be too long.
    #[error("the interpolated text is longer than {MAX_LEN} bytes")]
    TooLong,
}

/// Replaces the variables in `text` by their values in `vars`.
///
/// # Errors
/// A syntax that Compose refuses too, a required variable that is not set, a default nested more than 16 deep, or
/// a result of more than 1 MiB.
pub fn interpolate(text: &str, vars: &BTreeMap<String, String>) -> Result<Interpolated, InterpolateError> {
    let mut walk = Walk { text, at: 0, vars, result: Interpolated::default() };
    walk.run(0, true)?;
    Ok(walk.result)
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
    vars: &'a BTreeMap<String, String>,
    result: Interpolated,
}

impl<'a> Walk<'a> {
    /// Walks to the end, or inside braces to the closing one. What is not `live` is only checked and passed.
    fn run(&mut self, depth: usize, live: bool) -> Result<(), InterpolateError> {
        if depth > MAX_DEPTH {
            return Err(self.syntax("defaults nest at most 16 deep"));
        }
        loop {
            let rest = &self.text[self.at..];
            let stop = rest.find(|c| c == '$' || (c == '}' && depth > 0)).unwrap_or(rest.len());
            self.write(&rest[..stop], live)?;
            self.at += stop;
            match &rest.as_bytes()[stop..] {
                [] if depth > 0 => return Err(self.syntax("a ${ needs its }")),
                [] | [b'}', ..] => return Ok(()),
                [_, b'$', ..] => {
                    self.at += 2;
                    self.write("$", live)?;
                }
                [_, b'{', ..] => self.braced(depth, live)?,
                _ => {
                    self.at += 1;
                    let name = self.name("a $ is followed by a name, { or another $")?;
                    self.variable(name, live)?;
                }
            }
        }
    }

    fn braced(&mut self, depth: usize, live: bool) -> Result<(), InterpolateError> {
        self.at += 2;
        let name = self.name("a ${ is followed by a name: a letter or _, then letters, digits or _")?;
        let rest = &self.text[self.at..];
        if rest.starts_with('}') {
            self.at += 1;
            return self.variable(name, live);
        }
        let or_empty = rest.starts_with(':');
        let operator = rest.as_bytes().get(usize::from(or_empty)).copied();
        if !matches!(operator, Some(b'-' | b'?' | b'+')) {
            return Err(self.syntax("after the name comes }, or one of :- - :? ? :+ +"));
        }
        self.at += 1 + usize::from(or_empty);
        let value = self.vars.get(name).filter(|value| !(or_empty && value.is_empty()));
        let start = self.at;
        let vars = self.vars;
        match (operator, value) {
            (Some(b'-'), Some(_)) => {
                self.run(depth + 1, false)?;
                self.write(&vars[name], live)?;
            }
            (Some(b'-'), None) | (Some(b'+'), Some(_)) => self.run(depth + 1, live)?,
            (Some(b'?'), Some(value)) => {
                self.run(depth + 1, false)?;
                self.write(value, live)?;
            }
            (Some(b'?'), None) => {
                self.run(depth + 1, false)?;
                if live {
                    let message = self.text[start..self.at].chars().take(200).collect();
                    return Err(InterpolateError::Required { name: name.to_owned(), message });
                }
            }
            _ => self.run(depth + 1, false)?,
        }
        self.at += 1;
        Ok(())
    }

    fn name(&mut self, rule: &'static str) -> Result<&'a str, InterpolateError> {
        let rest = &self.text[self.at..];
        let len = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        if len == 0 || rest.as_bytes()[0].is_ascii_digit() {
            return Err(self.syntax(rule));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn variable(&mut self, name: &str, live: bool) -> Result<(), InterpolateError> {
        let vars = self.vars;
        match vars.get(name) {
            Some(value) => self.write(value, live)?,
            None if live => {
                self.result.unset.insert(name.to_owned());
            }
            None => {}
        }
        Ok(())
    }

    fn write(&mut self, text: &str, live: bool) -> Result<(), InterpolateError> {
        if !live {
            return Ok(());
        }
        if self.result.text.len() + text.len() > MAX_LEN {
            return Err(InterpolateError::TooLong);
        }
        self.result.text.push_str(text);
        Ok(())
    }

    fn syntax(&self, rule: &'static str) -> InterpolateError {
        InterpolateError::Syntax { at: self.at, rule }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vars() -> BTreeMap<String, String> {
        [("A", "1"), ("EMPTY", ""), ("PASS", "a$B${C}")].map(|(k, v)| (k.into(), v.into())).into()
    }

    #[test]
    fn every_form_gives_what_compose_gives() {
        for (text, expected) in [
            ("", ""),
            ("plain } text", "plain } text"),
            ("$A-${A}", "1-1"),
            ("$A.x", "1.x"),
            ("$$A $$$A", "$A $1"),
            ("${A:-d}${A-d}", "11"),
            ("[${EMPTY:-d}] [${EMPTY-d}]", "[d] []"),
            ("${NO:-d}${NO-e}", "de"),
            ("${NO:-${ALSO_NO:-${A}}}", "1"),
            ("${NO:-x$${A}}", "x${A}"),
            ("${NO:-http://h:80/?a=b}", "http://h:80/?a=b"),
            ("${A:+x}${EMPTY:+y}${EMPTY+z}${NO+w}", "xz"),
            ("${A:?e}${A?e}", "11"),
            ("${EMPTY?e}", ""),
            ("${A:-${NO:?never used}}", "1"),
            ("${NO:-{}}", "{}"),
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
        let result = interpolate("[$NO][${NONE}]${A:-$UNUSED}${X:-$INNER}${Y:+$Z}", &vars()).unwrap();
        assert_eq!(result.text, "[][]1");
        assert_eq!(result.unset.iter().map(String::as_str).collect::<Vec<_>>(), ["INNER", "NO", "NONE"]);
    }

    #[test]
    fn a_broken_text_is_refused_by_its_rule() {
        for (text, says) in [
            ("^a$", "byte 3: a $ is followed"),
            ("$1", "a $ is followed"),
            ("${", "a ${ is followed"),
            ("${}", "a ${ is followed"),
            ("${1}", "a ${ is followed"),
            ("${A", "after the name"),
            ("${A:x}", "after the name"),
            ("${A:-x", "needs its }"),
            ("${NO:-$}", "a $ is followed"),
            ("${A:-$}", "a $ is followed"),
            ("${NO:?set NO first}", "NO is not set: set NO first"),
            ("${EMPTY:?}", "EMPTY is not set"),
        ] {
            let error = interpolate(text, &vars()).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn expansion_is_bounded_in_depth_and_in_length() {
        let nested = format!("{}x{}", "${N:-".repeat(MAX_DEPTH), "}".repeat(MAX_DEPTH));
        assert_eq!(interpolate(&nested, &vars()).unwrap().text, "x");
        let deeper = format!("{}x{}", "${N:-".repeat(200_000), "}".repeat(200_000));
        assert!(interpolate(&deeper, &vars()).unwrap_err().to_string().contains("16 deep"));

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
