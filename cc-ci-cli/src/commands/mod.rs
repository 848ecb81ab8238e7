//! One file a command.

pub mod audit;
pub mod bridge;
mod cancel;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
pub mod janitor;
pub mod locks;
pub mod past;
pub mod recipe;
mod recipe_source;
mod rerun;
mod run;
pub mod schema;
pub mod status;
pub mod warm;
mod with_lock;

use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::TakenOver;

use crate::app::Base;
use crate::args::{self, Cli, Command, Recipe};
use crate::config::Config;
use crate::terminal::Terminal;
use cc_ci_core::Failure;

pub use run::BUILD_NUMBERS;

/// Runs the command, and tells what went wrong with it.
pub fn dispatch(cli: Cli, taken: TakenOver, terminal: &Terminal) -> Exit {
    terminal.log();
    terminal.tell_panics();
    let variables: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    for warning in args::strange_variables(variables.iter().map(String::as_str)) {
        terminal.warn(warning);
    }
    let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| execute(cli, taken, terminal)));
    match end {
        Ok(Ok(exit)) => exit,
        Ok(Err(error)) => {
            let exit = error.fault().into();
            terminal.error(&error);
            terminal.error_result(&error, exit);
            exit
        }
        Err(_) => {
            // The panic's own message is told by the hook.
            terminal.error_result(&Failure::host("cc-ci panicked: stderr says where"), Exit::Harness);
            Exit::Harness
        }
    }
}

fn execute(cli: Cli, taken: TakenOver, terminal: &Terminal) -> Result<Exit, Failure> {
    let settings = &cli.settings;
    #[cfg(feature = "demo")]
    if let Command::Demo(demo) = &cli.command {
        return demo::demo(demo, settings, taken, terminal);
    }
    if let Command::Bridge(_) = &cli.command {
        return Err(bridge::misplaced());
    }
    if let Command::Recipe(Recipe::Check(check)) = &cli.command {
        return recipe::check(check, settings, taken, terminal);
    }
    let config = Config::load(settings)?;
    if let Command::Config(args::ShowConfig::Show) = &cli.command {
        return config::show(&config, settings, terminal);
    }
    let base = Base::new(config, terminal)?;
    match cli.command {
        Command::Run(run) => run::run(*run, settings, base, taken, terminal),
        Command::Janitor(janitor) => janitor::janitor(&janitor, settings, base, taken, terminal),
        Command::Warm(args::Warm::Reconcile(args)) => warm::reconcile(&args, settings, base, taken, terminal),
        Command::Locks(domains) => locks::locks(domains.domains, settings, &base, terminal),
        Command::WithLock(with_lock) => {
            let end = with_lock::with_lock(&with_lock, settings, &base, taken, terminal);
            with_lock::status(end, terminal)
        }
        Command::Audit(audit) => audit::audit(audit.domains, settings, base, taken, terminal),
        Command::Runs(args) => {
            past::at_leisure(taken, terminal, || past::runs(&args, settings, &base, terminal))
        }
        Command::Report(args) => {
            past::at_leisure(taken, terminal, || past::report(&args, settings, &base, terminal))
        }
        Command::Logs(args) => {
            past::at_leisure(taken, terminal, || past::logs(&args, settings, &base, terminal))
        }
        Command::Cancel(args) => cancel::cancel(&args, settings, &base, taken, terminal),
        Command::Rerun(args) => rerun::rerun(args, settings, base, taken, terminal),
        Command::Status(args) => status::status(&args, settings, base, taken, terminal),
        Command::Doctor => doctor::doctor(settings, base, taken, terminal),
        #[cfg(feature = "demo")]
        Command::Demo(_) => Ok(Exit::Green),
        Command::Bridge(_)
        | Command::Config(_)
        | Command::Recipe(_)
        | Command::Schema(_)
        | Command::ExitCodes
        | Command::Help(_)
        | Command::Man(_) => Ok(Exit::Green),
    }
}
