//! What the command takes.

mod complete;
mod past;
mod schema;
mod settings;
#[cfg(test)]
mod tests;
mod topics;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use cc_ci_core::names::{Domain, RunId};
use cc_ci_core::workspace::{RecipeSource, Revision, redact_addresses};
use clap::builder::FalseyValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, FromArgMatches as _, Subcommand, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

pub use complete::complete;
pub use past::{Cancel, Logs, Report, Rerun, Runs, State};
pub use schema::{Form, Schema};
pub use settings::{Colour, Executor, Format, Parent, ProxyAddress, ServerName, Settings};
pub use topics::strange_variables;

/// The command whose stdout is another program's.
const WITH_LOCK: &str = "with-lock";

const EXAMPLES: &str = "\
Examples:
  cc-ci run .                      test the recipe in this directory
  cc-ci run my-app --pr 12         test what the abra tree has, as pull request 12
  cc-ci runs --since 24h           what ran since yesterday
  cc-ci report RUN                 why it is red
  cc-ci status --watch             what goes on
  cc-ci help environment           also: exit-codes, files, config
  source <(COMPLETE=bash cc-ci)    completions; zsh, fish and elvish alike";

/// What was asked for.
pub enum Invocation {
    /// Text for stdout, and nothing else to do.
    Help(String),
    /// A command.
    Command(Box<Cli>),
}

/// Reads the arguments. The error is clap's own text.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, String> {
    match parsed(args) {
        Ok(cli) => match &cli.command {
            Command::ExitCodes => Ok(Invocation::Help(exit_codes())),
            Command::Help(help) => topics::help(help).map(Invocation::Help),
            Command::Man(man) => topics::man(man).map(Invocation::Help),
            Command::Schema(schema) => Ok(Invocation::Help(crate::commands::schema::text(schema.form))),
            _ => Ok(Invocation::Command(Box::new(cli))),
        },
        // It quotes what is refused: an address with a password, too.
        Err(error) if error.use_stderr() => Err(redact_addresses(&error.render().to_string())),
        Err(error) => Ok(Invocation::Help(error.render().to_string())),
    }
}

/// Everything that the command takes.
pub fn command() -> clap::Command {
    Command::augment_subcommands(common())
}

/// What all commands take.
fn common() -> clap::Command {
    Settings::augment_args(clap::Command::new("cc-ci"))
        .version(env!("CC_CI_VERSION"))
        .about("Tests Co-op Cloud recipes on a shared host: nothing is left behind, nothing else is touched")
        .after_help(EXAMPLES)
        .max_term_width(100)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
}

/// What a line is read by: of all commands only the one that stands first, where one does. Each other would get a copy of
/// every flag that all take.
fn command_of(line: &[OsString]) -> clap::Command {
    let all = command();
    let first = line.get(1).and_then(|word| word.to_str());
    match first.and_then(|word| all.find_subcommand(word)) {
        Some(asked) => common().subcommand(asked.clone()),
        None => all,
    }
}

/// Reads a line as `cc-ci` would.
pub fn parsed(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let line: Vec<OsString> = line.into_iter().collect();
    let command = command_of(&line);
    read_by(command, line)
}

fn read_by(mut command: clap::Command, args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let matches = command.try_get_matches_from_mut(args)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let origin = |argument| Some((Arg::get_id(argument).to_string(), origin(argument, &matches)?));
    cli.settings.origins = command.get_arguments().filter_map(origin).collect();
    Ok(cli)
}

/// Who says what an argument is: the flag or the variable.
fn origin(argument: &Arg, matches: &ArgMatches) -> Option<String> {
    match matches.value_source(argument.get_id().as_str())? {
        ValueSource::CommandLine => argument.get_long().map(|flag| format!("--{flag}")),
        ValueSource::EnvVariable => argument.get_env().map(|name| name.to_string_lossy().into_owned()),
        _ => None,
    }
}

/// What a variable says in the place of the flag `id` that only `command` takes, and its name.
pub fn by_variable<T: Clone + Send + Sync + 'static>(
    command: &str,
    id: &str,
) -> Result<Option<(T, String)>, String> {
    let mut all = crate::args::command();
    all.build();
    let of_command = all.find_subcommand(command).into_iter().flat_map(clap::Command::get_arguments);
    let Some(argument) = of_command.into_iter().find(|argument| argument.get_id() == id) else {
        return Err(format!("error: {command} has no flag {id}"));
    };
    // By itself: what else the command takes is wrong or not.
    let alone = clap::Command::new("cc-ci").no_binary_name(true).arg(argument.clone());
    let matches = alone.try_get_matches_from([""; 0]).map_err(|error| error.to_string())?;
    let Some(origin) = origin(argument, &matches) else { return Ok(None) };
    Ok(matches.get_one::<T>(id).map(|value| (value.clone(), origin)))
}

/// The settings of a call with these flags.
#[cfg(test)]
pub fn settings_of(flags: &[&str]) -> Settings {
    let line = ["cc-ci", "status"].iter().chain(flags).map(OsString::from);
    parsed(line).unwrap().settings
}

/// The format that refused arguments ask for. By hand: clap gives none of them, and where it is to ignore errors, those
/// before the first one only.
pub fn format_of(args: impl IntoIterator<Item = OsString>) -> Format {
    let args: Vec<String> = args
        .into_iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .take_while(|arg| arg != "--")
        .collect();
    let all = command();
    let is_command = |word: &&String| all.find_subcommand(word).is_some();
    if args.iter().find(is_command).is_some_and(|command| command == WITH_LOCK) {
        return Format::Human;
    }
    let after = |pair: &[String]| (pair[0] == "--format").then(|| pair[1].clone());
    let named = args.windows(2).filter_map(after).next_back();
    let joined = args.iter().filter_map(|arg| arg.strip_prefix("--format=")).next_back().map(str::to_owned);
    let asked = named.or(joined).or_else(|| std::env::var("CCCI_FORMAT").ok());
    asked.and_then(|asked| Format::from_str(&asked, false).ok()).unwrap_or_default()
}

/// A call: what all commands take, and the command.
#[derive(Debug, Args)]
pub struct Cli {
    #[command(flatten)]
    pub settings: Settings,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// How results are written. What is on the stdout of `with-lock` is its command's alone.
    pub fn format(&self) -> Format {
        match self.command {
            Command::WithLock(_) => Format::Human,
            _ => self.settings.format,
        }
    }
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Test a recipe: deploy, upgrade, back up, restore, take down, report
    Run(Box<Run>),
    /// Remove what dead runs left behind, and nothing else
    Janitor(Janitor),
    /// Show who holds and who awaits which app's lock; takes none
    Locks(Domains),
    /// Run a command while holding an app's lock
    #[command(name = WITH_LOCK)]
    WithLock(WithLock),
    /// Look after warm apps: those that the quick lane upgrades and rolls back
    #[command(subcommand)]
    Warm(Warm),
    /// Show whatever exists of run apps; changes nothing
    Audit(Audit),
    /// Show what goes on: live runs, runs that wait, what is left behind; takes no lock
    Status(Status),
    /// List runs, past and live ones: how each ended and why, or what it does
    Runs(Runs),
    /// Show a run's result again: why it is red, by what evidence, and what to do next
    Report(Report),
    /// Show what a run's services and tests logged
    Logs(Logs),
    /// Tell a live run to end, as SIGTERM does, and wait until it has taken its app down
    Cancel(Cancel),
    /// Test again what a run tested: its recipe at its commit, with its flags
    Rerun(Rerun),
    /// Look whether this host can do its work; changes nothing
    Doctor,
    /// Show what holds of the configuration, and who says so
    #[command(subcommand)]
    Config(ShowConfig),
    /// Look at a recipe without deploying it
    #[command(subcommand)]
    Recipe(Recipe),
    /// Answer requests on pull requests: executes cc-ci-bridge, where that is installed
    Bridge(Bridge),
    /// See every promise kept, on a small example of its own
    #[cfg(feature = "demo")]
    Demo(Demo),
    /// Print the JSON Schema of what commands write with `--format json`
    Schema(Schema),
    /// Print what the exit codes mean
    #[command(name = "exit-codes", long_about = exit_codes())]
    ExitCodes,
    /// Tell of a topic (environment, exit-codes, files, config) or of a command
    Help(topics::Help),
    /// Write a page of the manual, for man(1): cc-ci man run | man -l -
    Man(topics::Man),
}

#[derive(Debug, Args)]
pub struct Status {
    /// Show it again each 2 seconds, until it is ended or nobody reads it
    #[arg(long, short)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct Bridge {
    /// What cc-ci-bridge is called with: `cc-ci bridge --help` is its help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub args: Vec<OsString>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Run {
    /// The recipe: a path with `/` or `.`, a URL, or a name in the canonical abra tree
    #[arg(default_value = ".", add = ArgValueCompleter::new(complete::recipes))]
    pub recipe: RecipeSource,
    /// The commit, branch or tag under test, or an ancestor of it like main~1 [default: the source's HEAD]
    #[arg(long, env = "CCCI_COMMIT", value_name = "REV")]
    pub commit: Option<Revision>,
    /// The pull request's number: the same one always gets the same domain
    #[arg(long, env = "CCCI_PR", value_name = "N", value_parser = pull_request)]
    pub pr: Option<u64>,
    /// Names the run and its directory [default: the CI's build number, else manual-PID]
    #[arg(long = "run-id", env = "CCCI_RUN_ID", value_name = "ID")]
    pub id: Option<RunId>,
    /// How long the run may take, without the wait for its lock [default: 1h]
    #[arg(long, env = "CCCI_DEADLINE", value_name = "TIME", value_parser = limit)]
    pub deadline: Option<Duration>,
    /// The operator's own tests, in DIR/RECIPE/
    #[arg(long, env = "CCCI_TESTS_DIR", value_name = "DIR")]
    pub tests_dir: Option<PathBuf>,
    /// Deploy the commit itself, without an earlier release to upgrade from
    #[arg(long, env = "CCCI_FRESH", value_parser = FalseyValueParser::new())]
    pub fresh: bool,
    /// The releases to upgrade from: all, the N newest, or these tags; each older one in a pass of its own [default: 1]
    #[arg(long, env = "CCCI_UPGRADE_FROM", value_name = "all|N|TAG")]
    pub upgrade_from: Vec<String>,
    /// Copy the recipe from the canonical abra tree instead of fetching it
    #[arg(long, env = "CCCI_SKIP_FETCH", value_parser = FalseyValueParser::new())]
    pub skip_fetch: bool,
    /// Only warn of privileges that the configuration does not grant, and of what is deployed beyond what was judged; confines
    /// nothing: the recipe's scripts run as cc-ci's own user
    #[arg(long, env = "CCCI_REPORT_ONLY", value_parser = FalseyValueParser::new())]
    pub report_only: bool,
    /// Keep a red app up for so long, for a person to look, and then take it down; within the deadline [default: 0s]
    #[arg(long, env = "CCCI_KEEP_ON_RED", value_name = "TIME", value_parser = time)]
    pub keep_on_red: Option<Duration>,
    /// The quick lane: upgrade the recipe's warm app in place, test it, roll it back; it proves less
    #[arg(long, env = "CCCI_QUICK", value_parser = FalseyValueParser::new())]
    pub quick: bool,
}

#[derive(Debug, Subcommand)]
pub enum ShowConfig {
    /// Show each key with its value and where that comes from: a flag, a variable, a line of the file, or the default
    Show,
}

#[derive(Debug, Subcommand)]
pub enum Warm {
    /// Restore warm apps to their baselines, where they are not
    Reconcile(Reconcile),
}

#[derive(Debug, Args)]
pub struct Reconcile {
    /// Only these, by domain or recipe [default: every warm app of the configuration]
    #[arg(value_name = "DOMAIN|RECIPE")]
    pub apps: Vec<String>,
    /// Only say what would be done; takes no lock and fetches nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Janitor {
    /// Only say what would be done; takes no lock
    #[arg(long)]
    pub dry_run: bool,
    /// Try this domain though it is in quarantine: passes before could not reap it
    #[arg(long, value_name = "DOMAIN", add = ArgValueCandidates::new(complete::domains))]
    pub retry: Vec<Domain>,
    /// Before that, look no more for what apps had on this node, which left the Swarm for good and could not be seen
    #[arg(long, value_name = "NODE", conflicts_with = "dry_run")]
    pub forget_node: Option<String>,
    /// How long it may take in all [default: 30m]
    #[arg(long, env = "CCCI_JANITOR_DEADLINE", value_name = "TIME", value_parser = limit)]
    pub deadline: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Domains {
    /// Only these domains
    #[arg(add = ArgValueCandidates::new(complete::domains))]
    pub domains: Vec<Domain>,
}

#[derive(Debug, Args)]
pub struct Audit {
    /// The domains to look at
    #[arg(conflicts_with = "all", add = ArgValueCandidates::new(complete::domains))]
    pub domains: Vec<Domain>,
    /// Every run app there is (the default without a domain)
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct WithLock {
    /// Whose lock
    #[arg(add = ArgValueCandidates::new(complete::domains))]
    pub domain: Domain,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub enum Recipe {
    /// Say what breaks a rule, where, why it matters and how to mend it; changes nothing
    Check(RecipeCheck),
}

#[derive(Debug, Args)]
pub struct RecipeCheck {
    /// The recipe: a path with `/` or `.`, or a name in the canonical abra tree
    #[arg(default_value = ".", add = ArgValueCompleter::new(complete::recipes))]
    pub recipe: RecipeSource,
    /// Write SARIF 2.1.0, whatever --format says
    #[arg(long)]
    pub sarif: bool,
}

#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub struct Demo {
    /// Keep the demo's directory for a look around
    #[arg(long)]
    pub keep: bool,
}

/// A time as people write it: `90s`, `15m`, `1h`; a year at the most.
pub fn time(text: &str) -> Result<Duration, String> {
    let rule = "write it like 90s, 15m or 1h, a year at the most";
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}; {rule}"))?;
    if time <= Duration::from_hours(24 * 366) { Ok(time) } else { Err(rule.to_owned()) }
}

/// What something may take: a time, and not none.
pub fn limit(text: &str) -> Result<Duration, String> {
    let rule = "it must be longer than nothing; write it like 90s, 15m or 1h, a year at the most";
    time(text).and_then(|time| if time.is_zero() { Err(rule.to_owned()) } else { Ok(time) })
}

fn pull_request(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        // CI systems have an empty variable where there is no pull request.
        return Err(
            "it must not be empty; leave --pr and CCCI_PR out where there is no pull request".to_owned()
        );
    }
    text.parse().map_err(|_| "it is a pull request's number, e.g. 42".to_owned())
}

fn exit_codes() -> String {
    use cc_ci_core::exit::Exit;
    use std::fmt::Write as _;
    let mut exits = Exit::ALL;
    exits.sort_by_key(|exit| exit.code());
    exits.iter().fold(String::new(), |mut text, exit| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{:>3}  {}", exit.code(), exit.meaning());
        text
    })
}
