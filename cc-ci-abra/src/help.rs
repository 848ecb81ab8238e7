//! What an abra's `--help` tells: which flags there are.

use std::collections::BTreeSet;

/// More flags than any command has.
const MAX_FLAGS: usize = 256;

/// The flags in a help text, in every spelling. A line tells flags when it begins with one, up to the gap before the
/// description: `  -C, --chaos   ignore …`, or `--domain value, -d value  …`.
pub(crate) fn flags(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in
        text.lines().map(str::trim_start).filter(|line| line.starts_with('-') && !line.starts_with("- "))
    {
        let end = line.find("  ").or_else(|| line.find('\t')).unwrap_or(line.len());
        for part in line[..end].split(',') {
            let word = part.split_whitespace().next().unwrap_or_default();
            let word = word.split(['=', '[']).next().unwrap_or_default();
            let name = word.trim_start_matches('-');
            let dashes = word.len() - name.len();
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if (1..=2).contains(&dashes)
                && (1..=64).contains(&name.len())
                && name.chars().all(plain)
                && found.len() < MAX_FLAGS
            {
                found.insert(word.to_owned());
            }
        }
    }
    found
}

/// Whether this is the help of that subcommand. Asked for one that it lacks, abra gives the help of the one above it,
/// and says that all is well.
pub(crate) fn is_of(text: &str, subcommand: &str) -> bool {
    text.lines().any(|line| {
        let line = format!(" {} ", line.split_whitespace().collect::<Vec<_>>().join(" "));
        line.contains(&format!(" {subcommand} "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_in_both_forms_and_never_in_prose() {
        let cobra = "Deploy an app; --not-this one.\n\nUsage:\n  abra app deploy <domain> [version] [flags]\n\nFlags:\n  \
                     -C, --chaos                ignore changes, see --force-this\n  -c, --no-converge-checks   do \
                     not wait\n      --domain string   domain name\n\t-D\tno tests\n - a list, --no\n";
        let found = flags(cobra);
        let expected = ["--chaos", "--domain", "--no-converge-checks", "-C", "-D", "-c"];
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        let urfave = "OPTIONS:\n   --chaos, -C               Proceed\n   --server value, -s value  Show\n";
        let found = flags(urfave);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["--chaos", "--server", "-C", "-s"]);
        assert!(flags(&"  --x\n".repeat(3)).len() == 1 && flags("---x\n--\n-\n").is_empty());
    }

    #[test]
    fn the_help_of_the_command_above_is_not_the_subcommands() {
        assert!(is_of("Usage:\n  abra app backup create <domain> [flags]", "app backup create"));
        assert!(is_of("NAME:\n   abra app ls - List", "app ls"));
        assert!(!is_of("Usage:\n  abra app [cmd]\n\nCommands:\n  backup   Manage", "app backup create"));
        assert!(!is_of("  abra app lsx", "app ls"));
    }
}
