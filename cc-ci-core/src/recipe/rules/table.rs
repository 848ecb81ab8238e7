//! Every rule, once: what `docs/recipe-check.md`, the findings and SARIF say of it.

use schemars::JsonSchema;
use serde::Serialize;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A deploy or an upgrade fails, or touches what is not the app's own.
    Error,
    /// It may work, but not as meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// Its word, also SARIF's.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A rule that recipes are judged by. Its id is stable.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// Its id, in kebab case.
    pub id: &'static str,
    /// How much breaking it weighs.
    pub severity: Severity,
    /// What it asks for.
    pub summary: &'static str,
    /// Why that matters.
    pub why: &'static str,
    /// How a recipe that breaks it is mended.
    pub mend: &'static str,
}

macro_rules! rules {
    ($($name:ident $severity:ident $id:literal: $summary:literal, $why:literal, $mend:literal;)*) => {
        $(pub(in crate::recipe) static $name: Rule = Rule {
            id: $id,
            severity: Severity::$severity,
            summary: $summary,
            why: $why,
            mend: $mend,
        };)*

        /// All rules, in the order of the documentation.
        pub static RULES: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    COMPOSE_INVALID Error "compose-invalid":
        "Each compose file can be read, alone or over `compose.yml`",
        "`docker stack deploy` refuses it, or reads it differently than it was meant",
        "correct what the finding names";
    SAMPLE_INVALID Error "sample-invalid":
        "There is an `.env.sample`, of assignments and comments",
        "`abra app new` copies it to the app's `.env`",
        "write `NAME=value`, as the finding says";
    FILE_UNREADABLE Error "file-unreadable":
        "The files that configs, secrets and `env_file` name can be read, and lie in the recipe",
        "without them a deploy fails when networks and volumes exist already",
        "add the file, or correct the path";
    FOREIGN_NAME Error "foreign-name":
        "Volumes, secrets, configs, the recipe's own networks and aliases in shared ones are named after the app's stack, and \
         no service in a shared network is named like a host or like a service of another stack",
        "two apps of the recipe would share the object, and removing one app takes it from the other",
        "leave `name:` out, or begin it with `${STACK_NAME}_`";
    FOREIGN_NETWORK Error "foreign-network":
        "External networks are those that the operator shares among apps: `proxy`, unless they say otherwise",
        "the app would be in the midst of another app's services, and could take their names there",
        "use a network of the recipe's own; what is shared on purpose the operator lists in cc-ci's `shared_networks`";
    FOREIGN_HOST Error "foreign-host":
        "Each alternative of a router's rule asks for a host at the app's domain",
        "the proxy would give the app the requests of another one",
        "write ``Host(`${DOMAIN}`)``, or hosts below it, and join other matchers to it by `&&`";
    VOLUME_OUTSIDE Warning "volume-outside":
        "Volumes are kept by the engine, or in memory; an overlay may keep them elsewhere",
        "the data is not the app's alone, and stays when the app is removed",
        "leave `driver:` and the device in `driver_opts:` out, or put them into an overlay of their own";
    NAME_TOO_LONG Error "name-too-long":
        "Names of secrets and configs have at most 64 characters",
        "Swarm refuses longer ones in the middle of a deploy",
        "shorten what follows `${STACK_NAME}_` in `name:`";
    NAME_UNFINISHED Error "name-unfinished":
        "Names of secrets and configs end with a letter or a digit",
        "Swarm refuses others in the middle of a deploy; mostly a version is not set",
        "set the version: of a config in `abra.sh`, of a secret in `.env.sample`";
    IMAGE_INVALID Error "image-invalid":
        "Each image is `[registry/]name[:tag][@digest]`",
        "the engine refuses it in the middle of a deploy; mostly a variable is not set",
        "correct the name, or give the variable a value in `.env.sample`";
    EXPORT_DOUBTFUL Error "export-doubtful":
        "What `abra.sh` exports and compose files use is versions, at the top level and as plain words",
        "abra puts what it exports over the `.env`: another file, object or host than the judged one may be deployed",
        "write `export <NAME>_VERSION=v1` for a version, and say other variables in `.env.sample`";
    SECRET_NOT_IN_SAMPLE Error "secret-not-in-sample":
        "Each external secret is said by a `SECRET_<NAME>_VERSION` in `.env.sample`",
        "abra generates only what is said there, and the deploy fails for the rest",
        "add `SECRET_<NAME>_VERSION=v1` to `.env.sample`, and name the secret `${STACK_NAME}_<name>_${SECRET_<NAME>_VERSION}`";
    TEST_UNFIT Error "test-unfit":
        "Each file of `tests/` that is meant to be run can be run",
        "a test that does not run proves nothing: a run is red by its name",
        "as the finding says";
    CONFIG_NOT_BUMPED Error "config-not-bumped":
        "A config or secret has a new name when its file changed since the last release",
        "Swarm's configs and secrets can't be changed: the upgrade of every deployed app fails",
        "raise its version in `abra.sh`";
    RELEASE_TAG_LIGHTWEIGHT Error "release-tag-lightweight":
        "Tags that are named like a release are annotated",
        "abra reads annotated tags only, and some of its commands fail on others",
        "make it anew on its commit: `git tag -f -a -m <version> <version> '<version>^{commit}'`, and push it";
    RELEASE_TAG_NO_COMMIT Error "release-tag-no-commit":
        "Tags that are named like a release name a commit, not another tag",
        "abra can't read the release, as if it were not there",
        "make it anew on its commit: `git tag -f -a -m <version> <version> '<version>^{commit}'`, and push it";
    RELEASE_TAG_MISNAMED Warning "release-tag-misnamed":
        "Tags with a version are releases: `<recipe semver>+<upstream>`",
        "abra takes no other tag for a release: apps can't be deployed at it nor upgraded to it",
        "tag the release like `1.2.0+1.27.0`";
    VERSION_LABEL_NOT_THE_TAG Error "version-label-not-the-tag":
        "At a release, the version label is the tag's name",
        "abra takes the deployed version from the label: it would offer wrong upgrades",
        "tag the commit whose label names the release, or correct the label and release anew";
    VERSION_LABEL_MISSING Warning "version-label-missing":
        "A `coop-cloud.${STACK_NAME}.version` label names the recipe's version",
        "abra can't tell which version an app has, nor upgrade it",
        "add the label below `deploy.labels` of `app`";
    VERSION_LABEL_MISPLACED Warning "version-label-misplaced":
        "The version label is on the service `app`",
        "abra looks for it there",
        "move the label to `app`";
    VERSION_LABEL_NO_RELEASE Warning "version-label-no-release":
        "The version label's value is a release: `<recipe semver>+<upstream>`",
        "abra can't order the version among releases",
        "write it like `1.2.0+1.27.0`, without variables";
    NEW_VARIABLE_UNANNOUNCED Warning "new-variable-unannounced":
        "A variable without a default that is new since the last release is named in a new release note",
        "the `.env` of deployed apps does not have it: after the upgrade it is empty",
        "give it a default (`${NAME:-value}`), or name it in `release/<version>`";
    VARIABLE_NOT_IN_SAMPLE Warning "variable-not-in-sample":
        "Each variable without a default is in `.env.sample`, if only in a comment, or in `abra.sh`",
        "who deploys the recipe does not know of it, and it is empty",
        "add it to `.env.sample`, or give it a default (`${NAME:-value}`)";
    IMAGE_FLOATING Warning "image-floating":
        "Each image has a tag with a version, or a digest",
        "the same release deploys different software from day to day, and a rollback brings nothing back",
        "name a version: `image: name:1.2.3`";
    HEALTHCHECK_MISSING Warning "healthcheck-missing":
        "Each service says how it is known to be healthy, or that it can't be (`disable: true`)",
        "Swarm takes a task for running as soon as its process starts, and goes on with an upgrade that is broken",
        "add a `healthcheck:`; where the image brings its own, name that one again";
    COMPOSE_VERSION Warning "compose-version":
        "`compose.yml` says `version: \"3.8\"`",
        "abra's lint asks for it (R001), and all files of a recipe must say the same",
        "write `version: \"3.8\"` at the top of each file";
    SERVICE_APP_MISSING Warning "service-app-missing":
        "One service is named `app`",
        "abra looks there for the recipe's labels, and its lint takes another name for an error (R009)",
        "name the service that people use `app`";
    PROXY_NOT_ENABLED Warning "proxy-not-enabled":
        "A service with a router of the proxy's has the label `traefik.enable=true`",
        "where the proxy serves only what asks for it, nobody reaches the app; abra's lint takes it for an error (R010)",
        "add `traefik.enable=true` to the service's `deploy.labels`";
    CONFIG_VERSION_MISSING Warning "config-version-missing":
        "The name of each config has a version in it that `abra.sh` exports",
        "Swarm's configs can't be changed: with the file the name must change. abra's lint takes it for an error (R012)",
        "name it `${STACK_NAME}_<name>_${<NAME>_VERSION}`, and write `export <NAME>_VERSION=v1` in `abra.sh`";
    SECRET_NAME_LONG Warning "secret-name-long":
        "The key of a secret has at most 12 characters",
        "with a long domain the secret's name has no room; abra's lint warns of it (R015)",
        "shorten the key, and the variable with it";
    BACKUP_TWICE Warning "backup-twice":
        "`backupbot.backup` is turned on by one service",
        "the stack is backed up once for each",
        "keep it on one service, and leave volumes out by `backupbot.backup.volumes.<volume>=false`";
    LABEL_NOT_UNDERSTOOD Warning "label-not-understood":
        "Labels of abra and of the backup are known, and their values are what they can be",
        "a label that is misspelt, or of an older backup, does nothing",
        "correct or remove the label";
    PROXY_NAME Warning "proxy-name":
        "Routers, services and middlewares of the proxy are named after the stack, and take no whole entrypoint",
        "all apps share them: where two say different things, the proxy serves neither",
        "begin their names with `${STACK_NAME}`";
    PRIVILEGE Warning "privilege":
        "The app asks for nothing of the host, the engine or other programs that is not its own",
        "it is the operator's to grant: a run is red without `[recipes.<recipe>] allow`",
        "leave it out, or tell the operators what to allow";
    EXTERNAL_VOLUME Warning "external-volume":
        "Volumes are the app's own, not external",
        "somebody must make it by hand before each deploy, and abra does not remove it with the app",
        "leave `external:` out";
    HOST_MOUNT Warning "host-mount":
        "Nothing of the host is mounted",
        "the app reads or changes what is not its own, and needs a host that has it",
        "use a volume or a config";
    PUBLISHED_PORT Warning "published-port":
        "`compose.yml` publishes no port of the host; an overlay may",
        "two apps of the recipe can't run on one Swarm, and the proxy is passed by",
        "let the proxy serve it, or publish it in an overlay of its own";
    NAME_LEAVES_LITTLE_ROOM Note "name-leaves-little-room":
        "Names of secrets and configs fit the longest stack that abra makes",
        "the recipe can't be deployed at a long domain",
        "shorten what follows `${STACK_NAME}_` in `name:`";
}
