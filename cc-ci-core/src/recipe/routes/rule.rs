//! Rules of routers, read as Traefik reads them.

use hyper::http::uri::PathAndQuery;

use super::hosts::OwnHosts;

/// How deep a rule's brackets may be.
const MAX_DEPTH: usize = 32;

/// The matchers that ask for a path.
const PATHS: [&str; 2] = ["path", "pathprefix"];

/// What is asked where any path will do.
pub(super) const ROOT: &str = "/";

/// A longer path is asked for by nobody.
const MAX_PATH: usize = 1024;

/// The matchers that ask for a host, and whether their arguments are patterns.
const HOSTS: [(&str, bool); 5] = [
    ("host", false),
    ("hostheader", false),
    ("hostsni", false),
    ("hostregexp", true),
    ("hostsniregexp", true),
];

/// Which requests a rule takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Those at the app's own hosts.
    Own,
    /// Others too: at these.
    Hosts(Vec<String>),
    /// Others too, without a name.
    Every,
    Unreadable,
}

impl Taken {
    pub fn of(rule: &str, hosts: &OwnHosts) -> Self {
        let mut reader = Reader::new(rule, hosts);
        match reader.any() {
            Some(_) if !reader.rest.trim().is_empty() => Self::Unreadable,
            None => Self::Unreadable,
            Some(true) => Self::Own,
            Some(false) if reader.foreign.is_empty() => Self::Every,
            Some(false) => Self::Hosts(reader.foreign),
        }
    }
}

/// A path that `rule` takes at the app's domain, the root where it takes all of them; nothing of a rule that names
/// another host, takes no plain request, or can't be read.
pub(super) fn path<'a>(rule: &'a str, hosts: &OwnHosts) -> Option<&'a str> {
    let mut reader = Reader::new(rule, hosts);
    reader.any().filter(|_| reader.rest.trim().is_empty() && reader.at_domain && !reader.is_special)?;
    // A pattern is no path, and what can't stand in a request is asked for by nobody.
    let is_path = |path: &&str| {
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'{' | b'}' | b'#' | b'\\');
        let is_uri = path.parse::<PathAndQuery>().is_ok();
        path.starts_with('/') && path.len() <= MAX_PATH && path.bytes().all(plain) && is_uri
    };
    Some(reader.paths.into_iter().find(is_path).unwrap_or(ROOT))
}

/// Reads a rule: matchers like `` Host(`a`, `b`) `` with `&&`, `||`, `!` and brackets.
struct Reader<'a, 'h> {
    rest: &'a str,
    hosts: &'h OwnHosts,
    foreign: Vec<String>,
    /// The paths that it asks for.
    paths: Vec<&'a str>,
    /// Whether it names the app's domain itself.
    at_domain: bool,
    /// Whether what was read last takes no plain request: it asks for a method, a header or the like too.
    is_special: bool,
    depth: usize,
}

impl<'a, 'h> Reader<'a, 'h> {
    fn new(rule: &'a str, hosts: &'h OwnHosts) -> Self {
        Self {
            rest: rule,
            hosts,
            foreign: Vec::new(),
            paths: Vec::new(),
            at_domain: false,
            is_special: false,
            depth: 0,
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    /// Whether what is read holds at the app's own hosts only.
    fn any(&mut self) -> Option<bool> {
        let before = self.paths.len();
        let (mut own, mut some, mut is_special) = (true, true, true);
        loop {
            let known = self.paths.len();
            own &= self.all()?;
            if self.is_special {
                self.paths.truncate(known);
            } else {
                is_special = false;
                some &= self.paths.len() > known;
            }
            if !self.eat("||") {
                break;
            }
        }
        // One that asks for none takes all of them.
        if !some {
            self.paths.truncate(before);
        }
        self.is_special = is_special;
        Some(own)
    }

    fn all(&mut self) -> Option<bool> {
        let mut own = self.one()?;
        let mut is_special = self.is_special;
        while self.eat("&&") {
            own |= self.one()?;
            is_special |= self.is_special;
        }
        self.is_special = is_special;
        Some(own)
    }

    fn one(&mut self) -> Option<bool> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let own = if self.eat("!") {
            // All hosts but those: they are not its own, and not what it takes.
            let known = (self.foreign.len(), self.paths.len());
            self.one()?;
            self.foreign.truncate(known.0);
            self.paths.truncate(known.1);
            // A plain request has nothing of the kind.
            self.is_special = false;
            false
        } else if self.eat("(") {
            let own = self.any()?;
            self.eat(")").then_some(own)?
        } else {
            self.matcher()?
        };
        self.depth -= 1;
        Some(own)
    }

    fn matcher(&mut self) -> Option<bool> {
        self.rest = self.rest.trim_start();
        let len = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).filter(|len| *len > 0)?;
        let (name, rest) = self.rest.split_at(len);
        self.rest = rest;
        if !self.eat("(") {
            return None;
        }
        let mut arguments = Vec::new();
        while !self.eat(")") {
            arguments.push(self.text()?);
            if !self.eat(",") && !self.rest.trim_start().starts_with(')') {
                return None;
            }
        }
        self.is_special = false;
        let Some((_, patterns)) = HOSTS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) else {
            if PATHS.iter().any(|path| name.eq_ignore_ascii_case(path)) {
                self.paths.append(&mut arguments);
            } else {
                let gets = arguments.iter().any(|method| method.eq_ignore_ascii_case("GET"));
                self.is_special = !(name.eq_ignore_ascii_case("method") && gets);
            }
            return Some(false);
        };
        self.at_domain |=
            !patterns && arguments.iter().any(|host| host.eq_ignore_ascii_case(&self.hosts.domain));
        let own = |host: &&str| if *patterns { self.hosts.has_pattern(host) } else { self.hosts.has(host) };
        let foreign: Vec<&str> = arguments.iter().copied().filter(|host| !own(host)).collect();
        self.foreign.extend(foreign.iter().map(|host| (*host).to_owned()));
        Some(foreign.is_empty() && !arguments.is_empty())
    }

    /// A quoted text as it stands there: one with a backslash is no host.
    fn text(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '`' | '"'))?;
        let inner = &self.rest[1..];
        let end = if quote == '`' {
            inner.find('`')?
        } else {
            let mut escaped = false;
            inner.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })?
        };
        self.rest = &inner[end + 1..];
        Some(&inner[..end])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn taken(rule: &str) -> Taken {
        let hosts = OwnHosts { domain: "a.ci.org".to_owned(), chosen: ["b.example.com".to_owned()].into() };
        Taken::of(rule, &hosts)
    }

    #[test]
    fn a_rule_that_names_an_own_host_in_each_alternative_is_fine() {
        for rule in [
            "Host(`a.ci.org`)",
            " Host( `a.ci.org` , \"www.A.ci.org.\" , ) ",
            "Host(`a.ci.org`) && PathPrefix(`/x`, `/y`)",
            "PathPrefix(`/x`)&&(Host(`a.ci.org`)||Host(`b.example.com`))",
            "Host(`a.ci.org`) && (PathPrefix(`/x`) || !Path(`/y`) || Headers(`a`, `b`))",
            "Host(`a.ci.org`) && !Host(`www.a.ci.org`)",
            "HostRegexp(`{sub:[a-z]+}.a.ci.org`)",
            "HostRegexp(`^[a-z]+\\.a\\.ci\\.org$`)",
            "HostRegexp(`(www|api).a.ci.org`)",
            "HOST(`a.ci.org`) || hostsni(`a.ci.org`)",
        ] {
            assert_eq!(taken(rule), Taken::Own, "{rule}");
        }
    }

    #[test]
    fn a_rule_that_takes_other_hosts_names_them() {
        for (rule, host) in [
            ("Host(`blog.org`)", "blog.org"),
            ("Host(`a.ci.org`, `blog.org`)", "blog.org"),
            ("Host(`a.ci.org`) || (Host(`blog.org`) && Path(`/`))", "blog.org"),
            ("Host(`ci.org`)", "ci.org"),
            ("Host(`xa.ci.org`)", "xa.ci.org"),
            ("Host(\"\\x62log.org\")", "\\x62log.org"),
            ("HostRegexp(`.+`)", ".+"),
            ("HostRegexp(`blog.org|x.a.ci.org`)", "blog.org|x.a.ci.org"),
            ("HostRegexp(`\\(|blog\\.org|x.a.ci.org`)", "\\(|blog\\.org|x.a.ci.org"),
            ("HostRegexp(`([(])|blog.org|.a.ci.org`)", "([(])|blog.org|.a.ci.org"),
            ("HostSNI(`*`)", "*"),
        ] {
            assert_eq!(taken(rule), Taken::Hosts(vec![host.to_owned()]), "{rule}");
        }
        for rule in [
            "PathPrefix(`/`)",
            "!Host(`a.ci.org`)",
            "!Host(`blog.org`)",
            "Host(`a.ci.org`) || Path(`/x`)",
            "Host()",
            "Method(`GET`) && (Host(`a.ci.org`) || Path(`/`))",
        ] {
            assert_eq!(taken(rule), Taken::Every, "{rule}");
        }
    }

    #[test]
    fn what_is_no_rule_is_not_taken_for_a_harmless_one() {
        for rule in [
            "Host(`a.ci.org`",
            "Host(`a.ci.org)",
            "Host(a.ci.org)",
            "Host:a.ci.org",
            "Host(`a.ci.org`) & Path(`/`)",
            "Host(`a.ci.org`) Host(`blog.org`)",
            "Host(`a.ci.org`) ||",
            "(Host(`a.ci.org`)",
            "",
        ] {
            assert_eq!(taken(rule), Taken::Unreadable, "{rule}");
        }
        assert_eq!(taken(&"(".repeat(100_000)), Taken::Unreadable);
        assert_eq!(taken(&"!".repeat(100_000)), Taken::Unreadable);
    }

    #[test]
    fn the_path_that_is_asked_is_one_that_the_rule_takes() {
        let hosts = OwnHosts { domain: "a".to_owned(), chosen: BTreeSet::new() };
        let path = |rule| path(rule, &hosts);
        for (rule, wanted) in [
            ("Host(`a`)", Some("/")),
            ("Host(`a`) && PathPrefix(`/x`)", Some("/x")),
            ("Host(`a`) && (Path(`/x`, `/y`) || PathPrefix(`/z`))", Some("/x")),
            ("Host(`a`) && !PathPrefix(`/x`)", Some("/")),
            ("Host(`a`) && !PathPrefix(`/x`) && pathprefix(`/y`)", Some("/y")),
            ("Host(`a`) && PathPrefix(`/{id:[0-9]+}`, `/y`)", Some("/y")),
            ("Host(`a`) && Path(`/x y`)", Some("/")),
            ("Host(`a`) && Path(`x", None),
            ("Host(`b.a`) && Path(`/x`)", None),
            ("HostRegexp(`.*`) && Path(`/x`)", None),
            ("Host(`a`) && Path(`/<x>`)", Some("/")),
            ("Host(`a`) && Path(`/x`) rest", None),
            ("Host(`a`) && Path(`/x`) || Host(`a`)", Some("/")),
            ("Host(`a`) || Host(`a`) && Path(`/.well-known/x`)", Some("/")),
            ("Host(`a`) && Path(`/y`) && (Host(`a`) || Path(`/x`))", Some("/y")),
            ("Host(`a`) && Path(`/y`) || Host(`b`) && Path(`/x`)", Some("/y")),
            ("Host(`a`) && PathPrefix(`/x`) && Method(`POST`)", None),
            ("Host(`a`) && (PathPrefix(`/x`) && Method(`POST`))", None),
            ("Host(`a`) && Method(`POST`, `GET`) && Path(`/x`)", Some("/x")),
            ("Host(`a`) && !Method(`POST`)", Some("/")),
            ("Host(`a`) && (Method(`POST`) || Path(`/z`))", Some("/z")),
            ("Host(`a`) && Path(`/x`) && Headers(`k`, `v`) || Host(`a`) && Path(`/y`)", Some("/y")),
        ] {
            assert_eq!(path(rule), wanted, "{rule}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(rule in "(Host|Path|!|&&|\\|\\||\\(|\\)|`|\"|\\\\|a.ci.org|,| ){0,20}|\\PC{0,60}") {
            drop(taken(&rule));
        }
    }
}
