use cc_ci_core::Fault;

use super::recipes::source;
use super::*;

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let (error, hint) = File::parse("sufix = \"ci.example.org\"\n").unwrap_err();
    assert!(error.to_string().contains("sufix"), "{error}");
    assert_eq!(hint.as_deref(), Some("did you mean suffix?"));
    let (_, hint) = File::parse("[abra]\nbackup = \"labels\"\n").unwrap_err();
    assert_eq!(hint.as_deref(), Some("did you mean backups?"));
    let (_, hint) = File::parse("[workspace]\ncatalog = \"copy\"\n").unwrap_err();
    assert_eq!(hint.as_deref(), Some("did you mean catalogue?"));
}

#[test]
fn a_value_that_is_like_no_known_one_is_taken_for_none() {
    let (error, hint) = File::parse("executor = \"docker\"\n").unwrap_err();
    assert!(error.to_string().contains("`auto`, `local`, `abra`"), "{error}");
    assert_eq!(hint, None);
}

#[test]
fn every_key_of_the_file_is_told_and_no_other() {
    let known = |table: &str, prefix: &str| {
        let (error, _) = File::parse(&format!("{table}\nx-x = 1\n")).unwrap_err();
        let names: Vec<String> = error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect();
        names.into_iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>()
    };
    let tables = [
        "local",
        "abra",
        "workspace",
        "proxy",
        "git",
        "registry",
        "limits",
        "sandbox",
        "nodes",
        "recipes",
        "bridge",
    ];
    let mut all = known("", "");
    all.retain(|name| !tables.contains(&name.as_str()));
    for table in &tables[..8] {
        all.extend(known(&format!("[{table}]"), &format!("{table}.")));
    }
    all.extend(known("[nodes.X]", "nodes.X."));
    all.extend(known("[recipes.X]", "recipes.X."));
    all.sort();
    let mut told: Vec<&str> = KEYS.iter().map(|(name, _)| *name).collect();
    told.sort_unstable();
    assert_eq!(told, all);
}

/// What is said of a file with this text.
fn refused(text: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let flags = crate::args::settings_of(&["--config", file.path().to_str().unwrap()]);
    let error = Config::load(&flags).unwrap_err();
    assert_eq!(error.fault(), Fault::Configuration, "{error}");
    error.chain().replace(&file.path().display().to_string(), "FILE")
}

#[test]
fn a_wrong_value_is_told_with_its_line_and_what_is_allowed() {
    let limit = "it must be longer than nothing; write it like 90s, 15m or 1h, a year at the most";
    for key in ["deadline", "teardown_budget", "janitor_deadline", "test_timeout", "converge_max"] {
        assert_eq!(refused(&format!("\n{key} = \"0s\"\n")), format!("FILE:2: \"0s\": {limit}"));
    }
    let said = refused("[recipes.a]\nsource = \"https://me:hunter22@git.example.org/a\"\n");
    assert!(said.contains("[git] credentials_file") && !said.contains("hunter"), "{said}");
    for (text, told) in [
        ("keep_runs = 0\n", "FILE:1: 0: it is how many runs are kept, 1 or more"),
        ("\nkeep_runs = \"many\"\n", "FILE:2: \"many\": it is how many runs are kept, 1 or more"),
        (
            "lock_group = \"no such group\"\n",
            "FILE:1: \"no such group\": this host has no such group: getent group lists them",
        ),
        ("lock_group = -1\n", "FILE:1: -1: it is a group's name or number"),
        ("trusted_lock_owners = [\"me\"]\n", "FILE:1: \"me\": it is a user's number"),
        ("trusted_lock_owners = [0, -1]\n", "FILE:1: -1: it is a user's number"),
        ("\n[recipes.x]\nallow = [\"sudo\"]\n", "FILE:3: recipes.x.allow: \"sudo\" is no privilege"),
        ("[recipes.x]\nwarm_api = true\n", "FILE:2: recipes.x.warm_api: the recipe has no warm app"),
        ("[recipes.x]\nsource = \"/srv/y\"\n", "FILE:2: recipes.x.source: it is of the recipe y"),
        ("[recipes.x]\nfixtures = \"f\"\n", "FILE:2: recipes.x.fixtures: it is no absolute path: f"),
        ("[sandbox]\npaths = [\"/\", \"p\"]\n", "FILE:2: sandbox.paths: it is no absolute path: p"),
        (
            "[limits]\nruns = 101\n",
            "FILE:2: 101: it is how many runs may go on at once, 100 at the most, or 0 for any number",
        ),
        ("[limits]\nfree_disk = \"10\"\n", "FILE:2: \"10\": it is a size like 512 MiB or 10 GiB, or 0"),
        ("[proxy]\nca_file = \"/x.pem\"\n", "FILE:2: proxy.ca_file: there is no proxy.address"),
        (
            "[nodes.w]\nengine = \"w:2376\"\n",
            "FILE:2: \"w:2376\": it is unix:///PATH, tcp://HOST:PORT or ssh://[USER@]HOST[:PORT][/SOCKET]",
        ),
        (
            "[nodes.w]\nengine = \"ssh://root:hunter22@w\"\n",
            "FILE:2: ssh://…: it has no password: ssh logs in with a key",
        ),
        (
            "[nodes.\"w.x\"]\nengine = \"tcp://w:2376\"\n",
            "FILE:2: nodes.w.x.engine: without ca_file anybody could be the engine, or use it",
        ),
    ] {
        assert_eq!(refused(text), told);
    }
    assert!(
        refused("[sandbox]\npaths = [\"/nowhere/x\"]\n").starts_with("FILE:2: sandbox.paths: /nowhere/x: ")
    );
    assert!(File::parse("lock_group = \"root\"\n").unwrap().lock_group.is_some_and(|group| group.0 == 0));
    assert!(File::parse("lock_timeout = \"0s\"\n").is_ok(), "who does not want to wait");
}

#[test]
fn each_value_is_shown_with_whoever_says_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "lock_dir = \"/locks\"\nkeep_runs = 7\n\n[recipes.\"a.b\"]\nsource = \"https://git.example.org/a.b\"\nallow = [\"port=1\", \"port=2\"]\n[nodes.w]\nengine = \"unix:///w.sock\"\n";
    fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let flags = crate::args::settings_of(&["--config", path, "--lock-dir", "/mine"]);
    let rows = rows(&Config::load(&flags).unwrap(), &flags).unwrap();
    let of = |key: &str| {
        let row = rows.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("{key} is not shown"));
        (row.value.as_deref().unwrap_or("-"), row.origin.replace(path, "FILE"))
    };
    assert_eq!(of("lock_dir"), ("/mine", "--lock-dir".to_owned()));
    assert_eq!(of("keep_runs"), ("7", "FILE:2".to_owned()));
    assert_eq!(of("test_timeout"), ("5m", "default".to_owned()));
    assert_eq!(of("recipes.a.b.source"), ("https://git.example.org/a.b", "FILE:5".to_owned()));
    assert_eq!(of("recipes.a.b.allow"), ("port=1, port=2", "FILE:6".to_owned()));
    assert_eq!(of("nodes.w.engine"), ("unix:///w.sock", "FILE:8".to_owned()));
    for (key, _) in KEYS.iter().filter(|(key, _)| !key.contains(".X.")) {
        let may_lack = [
            "suffix",
            "protect",
            "lock_group",
            "trusted_lock_owners",
            "tests_dir",
            "abra_dir",
            "git.credentials_file",
            "registry.credentials_file",
            "sandbox.paths",
        ];
        assert!(of(key).0 != "-" || may_lack.contains(key) || key.starts_with("proxy."), "{key}");
    }
}

#[test]
fn a_default_is_told_as_it_is() {
    let flags = crate::args::settings_of(&["--config", "/dev/null"]);
    let rows = rows(&Config::load(&flags).unwrap(), &flags).unwrap();
    for (key, what) in KEYS.iter().filter(|(key, _)| !key.contains(".X.")) {
        let row = rows.iter().find(|row| row.key == *key).unwrap();
        let told = what.strip_suffix(']').and_then(|what| what.rsplit_once('[')).map(|(_, told)| told);
        let Some(told) = told.filter(|told| !told.starts_with('~') && row.origin == "default") else {
            continue;
        };
        assert_eq!(row.value.as_deref().unwrap_or("none"), told, "{key}");
    }
}

#[test]
fn every_flag_of_all_commands_is_a_key_or_no_part_of_the_configuration() {
    let keys: Vec<&str> = KEYS.iter().map(|(key, _)| show::flag_of(key)).collect();
    for argument in crate::args::command().get_arguments() {
        let id = argument.get_id().as_str();
        let of_a_call = ["config", "format", "parent", "parent_pid"].contains(&id);
        assert!(argument.get_env().is_none() || of_a_call != keys.contains(&id), "{id}");
    }
}

#[test]
fn the_bridges_table_is_its_own_affair() {
    assert!(File::parse("[bridge]\nrepos = [\"a/b\"]\n[bridge.work]\nstate_dir = \"/x\"\n").is_ok());
}

#[test]
fn a_relative_path_in_the_file_is_refused_by_its_key() {
    let read = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        File::read(Some(file.path()))
    };
    for (key, text) in [
        ("lock_dir", "lock_dir = \"locks\""),
        ("runs_dir", "runs_dir = \"./runs\""),
        ("abra_dir", "abra_dir = \"~/.abra\""),
        ("tests_dir", "tests_dir = \"\""),
        ("local.root", "[local]\nroot = \"../local\""),
        ("proxy.ca_file", "[proxy]\nca_file = \"ca.pem\""),
        ("registry.credentials_file", "[registry]\ncredentials_file = \"r\""),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.fault(), Fault::Configuration, "{key}");
        let line = if text.starts_with('[') { 2 } else { 1 };
        assert!(error.chain().contains(&format!(":{line}: {key}: it is no absolute path: ")), "{error}");
        assert!(error.hint().is_some(), "{error}");
        assert!(read(&text.replacen("= \"", "= \"/x/", 1)).is_ok(), "{key}");
    }
}

#[test]
fn a_recipe_in_the_file_is_a_name_a_url_or_an_absolute_path() {
    for good in ["blog", "https://git.example.org/blog", "/srv/blog"] {
        assert!(source(&Source::default(), "recipes.x.depends", good).is_ok(), "{good}");
    }
    for bad in ["./blog", "..", "recipes/blog", "-x"] {
        let error = source(&Source::default(), "recipes.x.depends", bad).unwrap_err();
        assert!(error.chain().contains("recipes.x.depends"), "{error}");
        assert_eq!(error.fault(), Fault::Configuration);
    }
}

#[test]
fn a_flag_wins_over_the_files_proxy_and_roots_alone_are_refused() {
    let table = |text: &str| File::parse(text).unwrap().proxy;
    let which_proxy = |asked, file| which_proxy(asked, file, &Source::default());
    let file = "[proxy]\naddress = \"127.0.0.1:443\"\nca_file = \"/x.pem\"\n";
    let at = |address: &str| address.parse::<SocketAddr>().unwrap();
    let ca_file = Some(PathBuf::from("/x.pem"));
    assert_eq!(which_proxy(None, table(file)).unwrap(), Some((at("127.0.0.1:443"), ca_file.clone())));
    let flag = Some("[::1]:8443".parse().unwrap());
    assert_eq!(which_proxy(flag, table(file)).unwrap(), Some((at("[::1]:8443"), ca_file)));
    assert_eq!(which_proxy(Some(ProxyAddress::None), table(file)).unwrap(), None);
    assert_eq!(which_proxy(None, table("")).unwrap(), None);
    let error = which_proxy(None, table("[proxy]\nca_file = \"/x.pem\"\n")).unwrap_err();
    assert!(error.hint().is_some(), "{error}");
    let (error, _) = File::parse("[proxy]\naddress = \"proxy.example.org\"\n").unwrap_err();
    assert!(error.to_string().contains("ADDRESS:PORT"), "{error}");
}

#[test]
fn a_value_that_breaks_a_rule_says_the_rule() {
    let (error, _) = File::parse("suffix = \"CI.example.org\"\n").unwrap_err();
    assert!(error.to_string().contains("lower-case"), "{error}");
    let (error, _) = File::parse("deadline = \"soon\"\n").unwrap_err();
    assert!(error.to_string().contains("90s"), "{error}");
}
