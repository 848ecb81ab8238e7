//! An `abra` that can do everything and does nothing: for commands that only ask what it can.

use crate::{CcCi, World};

/// It says its version and its flags, and lists no app.
const SCRIPT: &str = r#"
case "$*" in
--version) echo 'abra version 0.10.0' ;;
*--help)
    printf 'Usage:\n  abra %s [flags]\n\nFlags:\n' "${*% --help}"
    for flag in no-input chaos no-converge-checks no-domain-checks force offline server domain file machine status; do
        printf '      --%s   words\n' "$flag"
    done
    ;;
*) echo '{}' ;;
esac
"#;

/// One of long ago: it only says its version.
const OLD: &str = "echo 'abra version 0.1.0'";

impl World {
    /// The call where such an `abra` is found before all others.
    pub fn with_quiet_abra(&self, call: CcCi) -> CcCi {
        self.with_script(call, "quiet", SCRIPT)
    }

    /// The same with one that lacks everything.
    pub fn with_old_abra(&self, call: CcCi) -> CcCi {
        self.with_script(call, "old", OLD)
    }

    /// The same with one that leaves a process of another session behind, whose pid it writes to the file, and lacks
    /// everything.
    pub fn with_leaving_abra(&self, call: CcCi, pid: &std::path::Path) -> CcCi {
        let pid = pid.display();
        let script = format!(
            "if [ \"$*\" = --version ]; then\n\
             setsid sh -c 'echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 1000' </dev/null >/dev/null 2>&1 &\n\
             until [ -e {pid} ]; do :; done; fi\n{OLD}"
        );
        self.with_script(call, "leaving", &script)
    }

    fn with_script(&self, call: CcCi, name: &str, script: &str) -> CcCi {
        let bin = self.path().join(format!("{name}-abra"));
        if !bin.exists() {
            self.recipe_at(&bin).script("abra", script);
        }
        let path = std::env::var("PATH").expect("a test has a PATH");
        call.env("PATH", format!("{}:{path}", bin.display()))
    }
}
