//! What an abra's `--help` tells: which flags there are.

/// More flags than any command has.
const MAX_FLAGS: usize = 256;
/// And more spellings than one flag has.
const MAX_SPELLINGS: usize = 8;

/// The flags of one help: for each line, its spellings.
pub(crate) type Flags = Vec<Vec<String>>;

/// The flags in a help text. A line tells a flag when it begins with one, up to the gap before the description:
/// `  -C, --chaos   ignore …`, or `--domain value, -d value  …`.
pub(crate) fn flags(text: &str) -> Flags {
    text.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-') && !line.starts_with("- "))
        .map(spellings)
        .filter(|spellings| !spellings.is_empty())
        .take(MAX_FLAGS)
        .collect()
}

fn spellings(line: &str) -> Vec<String> {
    let end = line.find("  ").or_else(|| line.find('\t')).unwrap_or(line.len());
    let words = line[..end].split(',').map(|part| {
        let word = part.split_whitespace().next().unwrap_or_default();
        word.split(['=', '[']).next().unwrap_or_default()
    });
    words.filter(|word| is_flag(word)).take(MAX_SPELLINGS).map(str::to_owned).collect()
}

fn is_flag(word: &str) -> bool {
    let name = word.trim_start_matches('-');
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=2).contains(&(word.len() - name.len())) && (1..=64).contains(&name.len()) && name.chars().all(plain)
}

/// Which of these spellings of one flag there is, the long one before the letter. A letter that stands beside another
/// long form is another flag's.
pub(crate) fn find(flags: &[Vec<String>], spellings: &[&'static str]) -> Option<&'static str> {
    let is_long = |spelling: &str| spelling.starts_with("--");
    spellings.iter().copied().find(|spelling| {
        flags.iter().any(|line| {
            line.iter().any(|one| one == spelling)
                && (is_long(spelling) || !line.iter().any(|one| is_long(one)))
        })
    })
}

/// Whether this is the help of the subcommand of one of these names. Asked for one that it lacks, abra gives the help of
/// the one above it, and says that all is well.
pub(crate) fn is_of(text: &str, names: &[&str]) -> bool {
    text.lines().any(|line| {
        let line = format!(" {} ", line.split_whitespace().collect::<Vec<_>>().join(" "));
        names.iter().any(|name| line.contains(&format!(" {name} ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        flags(text).iter().map(|line| line.join(" ")).collect()
    }

    #[test]
    fn flags_are_found_in_both_forms_and_never_in_prose() {
        let cobra = "Deploy an app; --not-this one.\n\nUsage:\n  abra app deploy <domain> [version] [flags]\n\nFlags:\n  \
                     -C, --chaos                ignore changes, see --force-this\n  -c, --no-converge-checks   do \
                     not wait\n      --domain string   domain name\n\t-D\tno tests\n - a list, --no\n";
        assert_eq!(found(cobra), ["-C --chaos", "-c --no-converge-checks", "--domain", "-D"]);
        let urfave = "OPTIONS:\n   --chaos, -C               Proceed\n   --server value, -s value  Show\n";
        assert_eq!(found(urfave), ["--chaos -C", "--server -s"]);
        assert!(found("---x\n--\n-\n").is_empty());
        assert_eq!(found(&"  --x\n".repeat(1000)).len(), MAX_FLAGS);
    }

    #[test]
    fn a_letter_is_a_flags_only_where_no_other_long_form_stands_beside_it() {
        let file = ["--file", "-f"];
        for (help, is) in [
            ("  -f, --file   read it\n  -F, --force   again\n", Some("--file")),
            ("  -f, --force   again\n", None),
            ("  -f   read it\n", Some("-f")),
            ("  -f, --force   again\n      --file   read it\n", Some("--file")),
        ] {
            assert_eq!(find(&flags(help), &file), is, "{help}");
        }
    }

    #[test]
    fn the_help_of_the_command_above_is_not_the_subcommands() {
        let backup = ["app backup create"];
        let list = ["app ls", "app list"];
        assert!(is_of("Usage:\n  abra app backup create <domain> [flags]", &backup));
        assert!(is_of("NAME:\n   abra app ls - List", &list));
        assert!(is_of("Usage:\n  abra app list [flags]\n\nAliases:\n  list, ls", &list));
        assert!(!is_of("Usage:\n  abra app [cmd]\n\nCommands:\n  backup   Manage", &backup));
        assert!(!is_of("  abra app lsx", &list));
    }
}
