//! The keys, and what each takes.

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(in crate::recipe::compose) enum Type {
    Text,
    Number,
    Integer,
    Boolean,
    BooleanOrMap,
    /// As Go writes one.
    Duration,
    /// So many bytes, `1.5g`.
    Size,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A list of texts.
    Texts,
    TextOrTexts,
    /// A list of texts, none of them twice.
    Unique,
    TextOrUnique,
    /// A list, whose items are these, none of them twice.
    UniqueList(&'static Type),
    ListOf(&'static Type),
    /// A text, or this.
    TextOr(&'static Type),
    TextOrNumberOr(&'static Type),
    /// A list of texts, none of them twice, or a map of these.
    UniqueOrMapOf(&'static Type),
    MapOf(&'static Type),
    IntegerOr(&'static Type),
    TextOrNumber,
    TextNumberOrNull,
    /// `NAME=value` texts, or a map of texts, numbers and nothing.
    Pairs,
    /// With these keys alone.
    Map(Keys),
    /// With these keys, and any others.
    Open(Keys),
    /// The same, and `x-` ones.
    Extended(Keys),
    /// The same, or nothing.
    MaybeMap(Keys),
    MaybeExtended(Keys),
    /// As it is written: what interpolation makes of it stays a text, and is refused.
    Uncast(&'static Type),
    /// Since version 3 and so much.
    Since(u8, &'static Type),
    /// Looked at by whoever reads it.
    Any,
}

pub(in crate::recipe::compose) type Keys = &'static [(&'static str, Type)];

use Type::{
    Any, Boolean, BooleanOrMap, Duration, Integer, IntegerOr, ListOf, Map, MapOf, MaybeMap, Number, OneOf,
    Open, Pairs, Since, Size, Text, TextNumberOrNull, TextOr, TextOrNumber, TextOrNumberOr, TextOrTexts,
    TextOrUnique, Texts, Uncast, Unique, UniqueList, UniqueOrMapOf,
};

pub(in crate::recipe::compose) const SERVICE: Keys = &[
    ("build", Any),
    ("cap_add", Unique),
    ("cap_drop", Unique),
    ("cgroup_parent", Text),
    ("cgroupns_mode", Since(13, &Text)),
    ("command", TextOrTexts),
    ("configs", ListOf(&TextOr(&Open(FILE)))),
    ("container_name", Text),
    ("credential_spec", Map(&[("config", Text), ("file", Text), ("registry", Text)])),
    ("depends_on", Unique),
    ("deploy", MaybeMap(DEPLOY)),
    ("devices", Unique),
    ("dns", TextOrUnique),
    ("dns_search", TextOrUnique),
    ("domainname", Text),
    ("entrypoint", TextOrTexts),
    ("env_file", TextOrUnique),
    ("environment", Pairs),
    ("expose", UniqueList(&TextOrNumber)),
    ("external_links", Unique),
    ("extra_hosts", Pairs),
    ("healthcheck", Map(HEALTHCHECK)),
    ("hostname", Text),
    ("image", Text),
    ("init", Uncast(&Boolean)),
    ("ipc", Text),
    ("isolation", Text),
    ("labels", Pairs),
    ("links", Unique),
    ("logging", Map(LOGGING)),
    ("mac_address", Text),
    ("network_mode", Text),
    ("networks", UniqueOrMapOf(&MaybeMap(JOINED))),
    ("oom_score_adj", Since(13, &Integer)),
    ("pid", Text),
    ("ports", UniqueList(&TextOrNumberOr(&Map(PORT)))),
    ("privileged", Boolean),
    ("read_only", Boolean),
    ("restart", Text),
    ("secrets", ListOf(&TextOr(&Open(FILE)))),
    ("security_opt", Unique),
    ("shm_size", Text),
    ("stdin_open", Boolean),
    ("stop_grace_period", Duration),
    ("stop_signal", Text),
    ("sysctls", Pairs),
    ("tmpfs", TextOrUnique),
    ("tty", Boolean),
    ("ulimits", MapOf(&IntegerOr(&Map(&[("hard", Integer), ("soft", Integer)])))),
    ("user", Text),
    ("userns_mode", Text),
    ("volumes", ListOf(&TextOr(&Map(MOUNT)))),
    ("working_dir", Text),
];

const DEPLOY: Keys = &[
    ("endpoint_mode", Text),
    ("labels", Pairs),
    ("mode", Text),
    (
        "placement",
        Map(&[
            ("constraints", Texts),
            ("max_replicas_per_node", Integer),
            ("preferences", ListOf(&Map(&[("spread", Text)]))),
        ]),
    ),
    ("replicas", Integer),
    ("resources", Map(&[("limits", Map(LIMITS)), ("reservations", Map(RESERVATIONS))])),
    (
        "restart_policy",
        Map(&[("condition", Text), ("delay", Duration), ("max_attempts", Integer), ("window", Duration)]),
    ),
    ("rollback_config", Map(UPDATE)),
    ("update_config", Map(UPDATE)),
];

const LIMITS: Keys = &[("cpus", Text), ("memory", Size), ("pids", Since(9, &Uncast(&Integer)))];

const RESERVATIONS: Keys = &[
    ("cpus", Text),
    (
        "generic_resources",
        ListOf(&Map(&[("discrete_resource_spec", Map(&[("kind", Text), ("value", Uncast(&Number))]))])),
    ),
    ("memory", Size),
];

const UPDATE: Keys = &[
    ("delay", Duration),
    ("failure_action", Text),
    ("max_failure_ratio", Number),
    ("monitor", Duration),
    ("order", OneOf(&["start-first", "stop-first"])),
    ("parallelism", Integer),
];

const HEALTHCHECK: Keys = &[
    ("disable", Boolean),
    ("interval", Duration),
    ("retries", Number),
    ("start_interval", Since(12, &Duration)),
    ("start_period", Duration),
    ("test", TextOrTexts),
    ("timeout", Duration),
];

const LOGGING: Keys = &[("driver", Text), ("options", MapOf(&TextNumberOrNull))];

/// Of a network that a service joins.
const JOINED: Keys = &[
    ("aliases", Unique),
    ("driver_opts", MapOf(&TextOrNumber)),
    ("ipv4_address", Text),
    ("ipv6_address", Text),
];

const PORT: Keys = &[("mode", Text), ("protocol", Text), ("published", Integer), ("target", Integer)];

/// Of a secret or a config that a service gets.
const FILE: Keys = &[("gid", Text), ("mode", Number), ("source", Text), ("target", Text), ("uid", Text)];

const MOUNT: Keys = &[
    ("bind", Open(&[("propagation", Text)])),
    ("consistency", Text),
    ("read_only", Boolean),
    ("source", Text),
    ("target", Text),
    ("tmpfs", Open(&[("size", Uncast(&Integer))])),
    ("type", Text),
    ("volume", Open(&[("nocopy", Boolean)])),
];

pub(super) const VOLUME: Keys = &[
    ("cluster_spec", Since(11, &Any)),
    ("driver", Text),
    ("driver_opts", MapOf(&TextOrNumber)),
    ("external", BooleanOrMap),
    ("labels", Pairs),
    ("name", Text),
];

pub(super) const NETWORK: Keys = &[
    ("attachable", Boolean),
    ("driver", Text),
    ("driver_opts", MapOf(&TextOrNumber)),
    ("external", BooleanOrMap),
    ("internal", Boolean),
    ("ipam", Map(&[("config", ListOf(&Map(&[("subnet", Text)]))), ("driver", Text)])),
    ("labels", Pairs),
    ("name", Text),
];

pub(super) const SECRET: Keys = &[
    ("driver", Text),
    ("driver_opts", MapOf(&TextOrNumber)),
    ("external", BooleanOrMap),
    ("file", Text),
    ("labels", Pairs),
    ("name", Text),
    ("template_driver", Text),
];

pub(super) const CONFIG: Keys = &[
    ("external", BooleanOrMap),
    ("file", Text),
    ("labels", Pairs),
    ("name", Text),
    ("template_driver", Text),
];
