//! The short ways in which Compose writes durations, ports, mounts and commands.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Mount, MountKind, MountOptions, Port, Protocol};

/// `1m30s`, `1.5h`, `500ms`: what Go reads as a duration.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const RULE: &str = "a duration is numbers with units, e.g. 1m30s; units are h, m, s, ms, us and ns";
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total: u64 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, tail) = rest.split_at(len);
        let len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(len);
        let unit = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1000,
            "ns" => 1,
            _ => return Err(RULE),
        };
        total = total.checked_add(nanos(number, unit).ok_or(RULE)?).ok_or(RULE)?;
        rest = tail;
    }
    // Go counts nanoseconds in 64 bits. So no sum with a time on our clocks overflows either.
    if unsigned.is_empty() || i64::try_from(total).is_err() {
        return Err(RULE);
    }
    if total > 0 && text.starts_with('-') {
        return Err("Docker takes a time before its beginning: write one that is not negative");
    }
    Ok(Duration::from_nanos(total))
}

/// So many of a unit, which has so many nanoseconds: what is less than one is cut off.
fn nanos(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    // More digits than these make no nanosecond.
    let digits = fraction.get(..15).unwrap_or(fraction);
    let part = if digits.is_empty() { 0 } else { digits.parse::<u64>().ok()? };
    let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    let part = u64::try_from(u128::from(part) * u128::from(unit) / scale).ok()?;
    whole.checked_mul(unit)?.checked_add(part)
}

/// `[[ip:]published:]target[/protocol]`, where both can be ranges of the same length.
pub(super) fn ports(text: &str) -> Result<Vec<Port>, &'static str> {
    const RULE: &str = "a port is [[address:]published:]target[/tcp|udp|sctp], each a port or a range";
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = self::protocol(protocol).ok_or(RULE)?;
    let (rest, target) = ports.rsplit_once(':').map_or((None, ports), |(rest, target)| (Some(rest), target));
    let (address, published) = match rest.map(|rest| rest.rsplit_once(':').unwrap_or(("", rest))) {
        Some((address, published)) => (address, Some(published)),
        None => ("", None),
    };
    let inner = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let is_address = inner.map_or_else(
        || address.is_empty() || address.parse::<Ipv4Addr>().is_ok(),
        |inner| inner.parse::<IpAddr>().is_ok(),
    );
    if !is_address {
        return Err(RULE);
    }
    let (first, last) = range(target).ok_or(RULE)?;
    let published = match published.filter(|published| !published.is_empty() && *published != "0") {
        Some(published) => Some(range(published).ok_or(RULE)?),
        None => None,
    };
    let published = match published {
        // Each of them leads to the one.
        Some((from, to)) if first == last && from < to => {
            let port =
                |published| Port { target: first, published: Some(published), protocol, host_mode: false };
            return Ok((from..=to).map(port).collect());
        }
        Some((from, to)) => Some(from).filter(|_| to - from == last - first).map(Some).ok_or(RULE)?,
        None => None,
    };
    Ok((first..=last)
        .map(|target| Port {
            target,
            published: published.map(|start| start + (target - first)),
            protocol,
            host_mode: false,
        })
        .collect())
}

pub(super) fn protocol(text: &str) -> Option<Protocol> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

/// What a bind mount can share with the host, beyond what is in it.
pub(super) const PROPAGATION: [&str; 6] = ["private", "rprivate", "rshared", "rslave", "shared", "slave"];

/// Whose home that is, the recipe does not know.
pub(super) const HOME: &str = "Docker takes ~ for the home of whoever deploys: write an absolute path";

/// `[source:]target[:options]`; a source that begins like a path is bound, any other is a volume.
pub(super) fn mount(text: &str) -> Result<Mount, &'static str> {
    const RULE: &str = "a mount is [volume or path:]/path[:options]";
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 1 && parts[0].len() == 1 && parts[0].starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err("Docker takes a letter before the colon for a drive: give the volume a longer name");
    }
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(RULE),
    };
    if !target.starts_with('/') || source.is_some_and(str::is_empty) {
        return Err(RULE);
    }
    if source.is_some_and(|source| source.starts_with('~')) {
        return Err(HOME);
    }
    let is_path = |source: &str| source.starts_with(['/', '.']);
    Ok(Mount {
        kind: if source.is_some_and(is_path) { MountKind::Bind } else { MountKind::Volume },
        source: source.map(str::to_owned),
        target: target.to_owned(),
        // The last of them counts.
        read_only: options.split(',').rfind(|option| matches!(*option, "ro" | "rw")) == Some("ro"),
        options: MountOptions {
            no_copy: options.split(',').any(|option| option == "nocopy"),
            propagation: options.split(',').rfind(|option| PROPAGATION.contains(option)).map(str::to_owned),
            ..MountOptions::default()
        },
    })
}

/// The words of a command line, as the library that Docker splits it with has them: a backslash takes what follows as it
/// stands, in double quotes too, and a `#` begins a comment; nothing is expanded.
pub(super) fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = chars.next().ok_or("a command doesn't end with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (None, '#') if word.is_none() => {
                chars.by_ref().find(|c| *c == '\n');
            }
            (None, ' ' | '\t' | '\r' | '\n') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a command's quotes are closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [
            ("0", 0),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("500ms", 500),
            (".5s", 500),
            ("1000us", 1),
            ("+1s", 1000),
            ("-0s", 0),
            ("0.0015s", 1),
        ] {
            assert_eq!(duration(text).map(|time| time.as_millis()), Ok(millis), "{text}");
        }
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "+",
            "+-1s",
            ".s",
            "1 s",
            "1d",
            "1..5s",
            "1e3s",
            "99999999999999999999h",
            "10000000000000000000s",
            "1s ",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_single_or_ranges() {
        let port = |target, published, protocol| Port { target, published, protocol, host_mode: false };
        assert_eq!(ports("80"), Ok(vec![port(80, None, Protocol::Tcp)]));
        assert_eq!(ports("8080:80/udp"), Ok(vec![port(80, Some(8080), Protocol::Udp)]));
        assert_eq!(ports("127.0.0.1:8080:80"), Ok(vec![port(80, Some(8080), Protocol::Tcp)]));
        assert_eq!(ports("127.0.0.1::80"), Ok(vec![port(80, None, Protocol::Tcp)]));
        let range = ports("65533-65535:1-3").unwrap();
        assert_eq!(range.last(), Some(&port(3, Some(65535), Protocol::Tcp)));
        assert_eq!(range.len(), 3);
        let many = ports("8106-8108:80").unwrap();
        assert_eq!(many.len(), 3);
        assert_eq!(many[2], port(80, Some(8108), Protocol::Tcp));
        assert_eq!(ports("1:2/UDP"), Ok(vec![port(2, Some(1), Protocol::Udp)]));
        for bad in [
            "",
            "0",
            "80:",
            "x",
            "1-2:3-5",
            "1:3-5",
            "2-1",
            "80/icmp",
            "70000",
            "80:80:",
            "-",
            "80:80:80",
            "::1:80:80",
        ] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_are_volumes_or_paths() {
        let read = |text| mount(text).map(|m| (m.kind, m.source, m.target, m.read_only));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(read("/data"), Ok((MountKind::Volume, None, "/data".into(), false)));
        assert_eq!(read("db:/data"), Ok((MountKind::Volume, text("db"), "/data".into(), false)));
        assert_eq!(read("db:/data:nocopy,ro"), Ok((MountKind::Volume, text("db"), "/data".into(), true)));
        assert_eq!(read("./x:/data"), Ok((MountKind::Bind, text("./x"), "/data".into(), false)));
        assert_eq!(
            read("/s.sock:/s.sock:ro"),
            Ok((MountKind::Bind, text("/s.sock"), "/s.sock".into(), true))
        );
        for bad in ["", "data", ":/data", "a:b", "a:/b:c:d", "a:", "~/a:/a"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn commands_are_split_as_docker_does() {
        assert_eq!(
            words(" a  'b c' \"d\\\"e\\n\" f\\ g '' h\"i\"j k#l # not '\n"),
            Ok(["a", "b c", "d\"en", "f g", "", "hij", "k#l"].map(str::to_owned).to_vec())
        );
        assert_eq!(words(""), Ok(vec![]));
        assert!(words("'a").is_err() && words("a\\").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9:/.smh-]{0,20}|['\"\\\\ a]{0,20}|\\PC{0,40}") {
            drop((duration(&text), ports(&text), mount(&text), words(&text)));
        }
    }
}
