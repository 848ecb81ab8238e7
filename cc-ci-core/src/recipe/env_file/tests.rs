use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> EnvFile {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn every_way_to_write_a_value_is_read() {
    for (line, expected) in [
        ("A=1", "1"),
        ("  export\tA = 1  ", "1"),
        ("A=", ""),
        ("A=  \t", ""),
        ("A=\"\" # a comment", ""),
        ("A='#x'", "#x"),
        ("A=x#y # z", "x#y"),
        ("A=a b   # c", "a b"),
        ("A=\"a\" # it's #5", "a"),
        ("A='x'#y", "x"),
        ("A='it\\'s'", "it\\'s"),
        ("A=\"a\nb\" # c\nB=1", "a\nb"),
        ("A='a\r\nB=2\r\n'\r\nB=1", "a\nB=2\n"),
        ("A=\"a # b\" # c", "a # b"),
        ("A='a # \\n $B b'", "a # \\n $B b"),
        ("A=\"a\\\"b\\\\c\\nd\\$e\\é\"", "a\"b\\c\nd$eé"),
        ("A=\\n\\$x\\", "\\n$x\\"),
        ("A=', `www.example.org`'", ", `www.example.org`"),
        ("A=https://example.org/?a=b&c=d", "https://example.org/?a=b&c=d"),
        ("A=\"\"", ""),
        ("A=1\r", "1"),
        ("A=\"1\"\r", "1"),
        ("B=b\nA=$B-${B}x$NONE${NONE}.", "b-bx."),
        ("A=$", "$"),
        ("A=$-${}$(id)${b}$$", "$-${}$(id)${b}$$"),
        ("A=p$ss", "p$ss"),
        ("A=\\$1\\${B:-x}\\$Ab", "$1${B:-x}$Ab"),
        ("A='$1${B:-x}\\$Ab'", "$1${B:-x}\\$Ab"),
        ("A=\"\\\\\\$B\"", "\\$B"),
        ("A=\u{3000}a\u{a0}# c", "\u{3000}a"),
    ] {
        let file = parse(line);
        assert_eq!(file.get("A"), Some(expected), "{line:?}");
        assert_eq!(file.to_string(), line);
    }
}

#[test]
fn a_variable_grows_with_each_assignment() {
    let file = parse(
        "COMPOSE_FILE=compose.yml\nCOMPOSE_FILE=\"$COMPOSE_FILE:compose.db.yml\"\n#COMPOSE_FILE=no\nCOMPOSE_FILE=\"${COMPOSE_FILE}:compose.smtp.yml\"\n",
    );
    assert_eq!(file.get("COMPOSE_FILE"), Some("compose.yml:compose.db.yml:compose.smtp.yml"));
    assert_eq!(file.vars().len(), 1);
}

#[test]
fn a_bad_line_is_named_with_its_rule() {
    for (text, line, says) in [
        ("A=1\nno assignment", 2, "NAME=value"),
        ("1A=1", 1, "first no digit"),
        ("=1", 1, "a name is"),
        ("A B=1", 1, "a name is"),
        ("\n\nA='x", 3, "ends with the quote"),
        ("A=\"x\ny\"\nB", 3, "NAME=value"),
        ("A=\"x\\\"", 1, "ends with the quote"),
        ("A=\"x\\\"\"", 1, "with its own quote"),
        ("A=\"x\"y", 1, "only a comment"),
        ("A= # x", 1, "right after the ="),
        ("A=#x", 1, "right after the ="),
        ("A=1 # see #5", 1, "keep one"),
        ("A=$1", 1, "before a digit"),
        ("A=${B:-x}", 1, "without operators"),
        ("A=${B", 1, "without operators"),
        ("A=$B}", 1, "without operators"),
        ("A=$(B)", 1, "without operators"),
        ("A=$({B}", 1, "without operators"),
        ("A=\"$Bc\"", 1, "without operators"),
        ("A=\\\\$B", 1, "single quotes"),
        ("A=\"\\\\$B\"", 1, "single quotes"),
        ("A=\"x\\\ny\"", 1, "single quotes"),
        ("A=x\ry", 1, "carriage return"),
        ("\u{feff}A=1", 1, "byte order mark"),
        ("A=1\0", 1, "NUL"),
        ("# \0", 1, "NUL"),
    ] {
        let error = text.parse::<EnvFile>().unwrap_err();
        assert!(matches!(error, EnvFileError::Line { line: at, .. } if at == line), "{text:?}: {error}");
        assert!(error.to_string().contains(says), "{text:?}: {error}");
    }
}

#[test]
fn size_and_expansion_are_bounded() {
    assert!("#".repeat(MAX_LEN).parse::<EnvFile>().is_ok());
    // Said before any line is looked at.
    assert_eq!("=".repeat(MAX_LEN + 1).parse::<EnvFile>().unwrap_err(), EnvFileError::TooLong);

    let doubling = format!("A=x\n{}", "A=$A$A\n".repeat(100));
    let error = doubling.parse::<EnvFile>().unwrap_err();
    assert!(matches!(error, EnvFileError::Line { line: 20..=24, .. }), "{error}");
    let many = format!("A={}\n{}", "x".repeat(100_000), "B=$A\n".repeat(100));
    assert!(many.parse::<EnvFile>().is_err());

    let mut file = parse("A=1");
    assert_eq!(file.set("B", &"x".repeat(MAX_LEN)), Err(EnvFileError::TooLong));
    assert_eq!(file.to_string(), "A=1");
}

#[test]
fn setting_edits_in_place_and_keeps_the_comment() {
    let mut file = parse("# top\nA=1\n export B='x' # about b\n\nA=$A-2\t# last\n");
    file.set("A", "two words").unwrap();
    file.set("B", "").unwrap();
    file.set("C", "it's $new").unwrap();
    let expected = "# top\nA=1\n export B='' # about b\n\nA='two words'\t# last\nC=\"it's \\$new\"\n";
    assert_eq!(file.to_string(), expected);
    assert_eq!(
        (file.get("A"), file.get("B"), file.get("C")),
        (Some("two words"), Some(""), Some("it's $new"))
    );

    let mut file = parse("A=\"a\nb\"   # comment");
    file.set("A", "x").unwrap();
    assert_eq!(file.to_string(), "A='x'   # comment");
    file.set("D", "y").unwrap();
    assert_eq!(file.to_string(), "A='x'   # comment\nD=y\n");
    for (text, expected) in [("A='x'#y", "A='z'#y"), ("A=\"1\" # see #5", "A='z' # see #5")] {
        let mut file = parse(text);
        file.set("A", "z").unwrap();
        assert_eq!((file.get("A"), file.to_string().as_str()), (Some("z"), expected));
    }
}

#[test]
fn setting_recomputes_what_depends_on_it() {
    let mut file = parse("A=1\nB=$A$A\n");
    file.set("A", "x").unwrap();
    assert_eq!(file.get("B"), Some("xx"));
}

#[test]
fn what_no_file_can_hold_is_not_set() {
    let mut file = parse("A=1\n");
    for (name, value) in [
        ("", "x"),
        ("A B", "x"),
        ("A=B", "x"),
        ("A\nB", "x"),
        ("A", "x\0"),
        ("N", "x\0"),
        ("A", "x'\""),
        ("N", "x \\"),
    ] {
        assert!(matches!(file.set(name, value), Err(EnvFileError::Set { .. })), "{name:?}");
    }
    assert_eq!(file.to_string(), "A=1\n");
}

#[test]
fn an_upgrades_new_variables_are_added_as_the_sample_has_them() {
    let mut file = parse("TYPE=x\nCOMPOSE_FILE=compose.yml");
    let sample = parse(
        "TYPE=y\nCOMPOSE_FILE=a.yml\nCOMPOSE_FILE=$COMPOSE_FILE:b.yml\n# about new\nSECRET_NEW_VERSION=v1 # length=9\n\
         LIST=a\nLIST=$LIST:b\n#OFF=1\n",
    );
    assert_eq!(file.add_missing(&sample).unwrap(), ["SECRET_NEW_VERSION", "LIST"]);
    let expected =
        "TYPE=x\nCOMPOSE_FILE=compose.yml\nSECRET_NEW_VERSION=v1 # length=9\nLIST=a\nLIST=$LIST:b\n";
    assert_eq!(file.to_string(), expected);
    assert_eq!(file.get("LIST"), Some("a:b"));
    assert_eq!(file.add_missing(&sample).unwrap(), [""; 0]);
    assert_eq!(file.to_string(), expected);
}

#[test]
fn secrets_are_described_by_their_comment() {
    let file = parse(
        "SECRET_DB_PASSWORD_VERSION=v1       # length=64 charset=hex\nSECRET_KEY_VERSION=v1\nSECRET_KEY_VERSION=v2 # generate=false\n\
         SECRET_ODD_VERSION=v1 # made by hand, length=10\nSECRET_OTHER_KEY=v1\nSECRET__VERSION=v1\n#SECRET_OFF_VERSION=v1\n",
    );
    let spec = |name: &str, version: &str, length, charset: Option<&str>, generate| SecretSpec {
        name: name.into(),
        version: version.into(),
        length,
        charset: charset.map(Into::into),
        generate,
    };
    let expected = [
        spec("_", "v1", None, None, true),
        spec("db_password", "v1", Some(64), Some("hex"), true),
        spec("key", "v2", None, None, false),
        spec("odd", "v1", Some(10), None, true),
    ];
    assert_eq!(file.secrets().unwrap(), expected[1..], "{:?}", expected[0]);
    for (line, says) in [
        ("SECRET_._VERSION=v1", "name is"),
        ("SECRET_.._VERSION=v1", "name is"),
        ("SECRET_A.B_VERSION=v1", "name is"),
        ("SECRET_A_VERSION=", "version is"),
        ("SECRET_A_VERSION=v/1", "version is"),
        ("SECRET_A_VERSION=v1 # length=0", "1 to 4096"),
        ("SECRET_A_VERSION=v1 # length=99999", "1 to 4096"),
        ("SECRET_A_VERSION=v1 # length=x", "1 to 4096"),
        ("SECRET_A_VERSION=v1 # charset=$(id)", "charset"),
        ("SECRET_A_VERSION=v1 # generate=no", "true or false"),
    ] {
        let error = parse(&format!("\n{line}\n")).secrets().unwrap_err().to_string();
        assert!(error.starts_with("line 2: ") && error.contains(says), "{line}: {error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_kept(text in "([A-C]=|export |[a#' \"$\\\\{}\\t\\r]|\\n){0,40}|\\PC{0,80}") {
        if let Ok(file) = text.parse::<EnvFile>() {
            prop_assert_eq!(file.to_string(), text);
            drop(file.secrets());
        }
    }

    #[test]
    fn what_is_set_is_read_back(
        text in "([A-C]=([a-c$][a-c$ ]{0,3}( # [a-z= ]{0,9})?|('[a-c ]{0,3}'|\"[a-c ]{0,3}\") ?(#[a-z=# ]{0,9})?)\\r?\\n|#[a-z]{0,9}\\n|\\n){0,8}",
        name in "[A-D]",
        value in "[a$#'\"\\\\\n\r\t `{}A=]{0,12}|(?s).{0,40}",
    ) {
        prop_assume!(!value.contains('\0'));
        let Ok(mut file) = text.parse::<EnvFile>() else { return Err(TestCaseError::reject("refused")) };
        let before: Vec<_> = file.vars().keys().cloned().collect();
        if let Err(error) = file.set(&name, &value) {
            prop_assert!(value.ends_with(['\\', '"']), "{}", error);
            return Ok(());
        }
        prop_assert_eq!(file.get(&name), Some(value.as_str()));
        let again = parse(&file.to_string());
        prop_assert_eq!(again.vars(), file.vars());
        prop_assert!(before.iter().all(|name| again.get(name).is_some()));
    }
}
