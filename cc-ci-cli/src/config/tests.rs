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
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.fault(), Fault::Configuration, "{key}");
        assert!(error.chain().contains(&format!("{key} is no absolute path")), "{error}");
        assert!(error.hint().is_some(), "{error}");
        assert!(read(&text.replacen("= \"", "= \"/x/", 1)).is_ok(), "{key}");
    }
}

#[test]
fn a_recipe_in_the_file_is_a_name_a_url_or_an_absolute_path() {
    for good in ["blog", "https://git.example.org/blog", "/srv/blog"] {
        assert!(source("recipes.x.depends", good).is_ok(), "{good}");
    }
    for bad in ["./blog", "..", "recipes/blog", "-x"] {
        let error = source("recipes.x.depends", bad).unwrap_err();
        assert!(error.chain().contains("recipes.x.depends"), "{error}");
        assert_eq!(error.fault(), Fault::Configuration);
    }
}

#[test]
fn only_an_engine_of_this_host_is_taken() {
    let parse = |host: &str| Socket::parse(Some(OsStr::new(host)));
    for none in [Socket::parse(None), parse("")] {
        assert_eq!(none.unwrap(), Socket { path: DEFAULT_SOCKET.into(), named: false });
    }
    assert_eq!(parse("unix:///x/y.sock").unwrap(), Socket { path: "/x/y.sock".into(), named: true });
    for remote in [
        "tcp://10.0.0.1:2376",
        "ssh://root:secret@host",
        "unix://relative",
        "unix://",
        "/x/y.sock",
        "npipe:////./x",
    ] {
        let error = parse(remote).unwrap_err();
        let message = error.chain();
        assert_eq!(error.fault(), Fault::Configuration);
        assert!(message.contains("locks are per host") && error.hint().is_some(), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn a_flag_wins_over_the_files_proxy_and_roots_alone_are_refused() {
    let table = |text: &str| File::parse(text).unwrap().proxy;
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
