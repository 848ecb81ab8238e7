//! One file a command.

pub mod audit;
pub mod bridge;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
pub mod janitor;
pub mod locks;
pub mod past;
pub mod recipe;
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

/// Runs the command, and tells what went wrong with it.
pub fn dispatch(cli: Cli, taken: TakenOver, terminal: &Terminal) -> Exit {
    terminal.log();
    terminal.tell_panics();
    let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| execute(cli, taken, terminal)));
    match end {
        Ok(Ok(exit)) => exit,
        Ok(Err(error)) => {
            terminal.error(&error);
            error.fault().into()
        }
        // The panic's own message is told by the hook.
        Err(_) => Exit::Harness,
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
    if let Command::Schema(wanted) = &cli.command {
        return past::at_leisure(taken, terminal, || {
            terminal.json(&schema::of(wanted.form));
            Ok(Exit::Green)
        });
    }
    let base = Base::new(Config::load(settings)?, terminal)?;
    match cli.command {
        Command::Run(run) => run::run(*run, settings, base, taken, terminal),
        Command::Janitor(janitor) => janitor::janitor(&janitor, settings, base, taken, terminal),
        Command::Warm(args::Warm::Reconcile(args)) => warm::reconcile(&args, settings, base, taken, terminal),
        Command::Locks(domains) => locks::locks(domains.domains, settings, &base, terminal),
        Command::WithLock(with_lock) => with_lock::with_lock(&with_lock, settings, &base, taken, terminal),
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
        Command::Status => status::status(settings, base, taken, terminal),
        Command::Doctor => doctor::doctor(settings, base, taken, terminal),
        #[cfg(feature = "demo")]
        Command::Demo(_) => Ok(Exit::Green),
        Command::Bridge(_) | Command::Recipe(_) | Command::Schema(_) | Command::ExitCodes => Ok(Exit::Green),
    }
}
