//! abra: whether the installed one can do what cc-ci asks of it.

use std::time::Duration;

use cc_ci_abra::{Abra, Capability, Flag, Subcommand};
use cc_ci_core::blocking;
use cc_ci_core::engine::{Failure, Redactor};
use cc_ci_core::lifetime::Command;

use super::{Check, Patient, host};
use crate::app::servers_of;
use crate::engine::{self, Choice, Engine, INSTALL_ABRA};

/// What listing all apps may take, each time.
const LIST_LIMIT: Duration = Duration::from_secs(4);

pub async fn all(patient: &Patient) -> Vec<Check> {
    if !matches!(&patient.choice, Ok(Choice { engine: Engine::Swarm(_), .. })) {
        return vec![host::program(patient, "abra", None).await];
    }
    let check = asked(patient, Check::of("abra")).await;
    let config = patient.base.config.clone();
    let find = move || {
        let servers = servers_of(&config.abra_tree()?, &config)?;
        Ok::<_, Failure>(servers.join(config.server.as_str()))
    };
    let check = match blocking::run(find).await {
        Ok(apps) => check.fact(format!("this engine's apps are in {}", apps.display())),
        Err(error) => check.error(&error),
    };
    vec![check]
}

async fn asked(patient: &Patient, check: Check) -> Check {
    let config = patient.base.config.clone();
    let probe = match blocking::run(move || engine::abra_probe(&config)).await {
        Ok(probe) => probe,
        Err(error) => return check.error(&error),
    };
    let command = Command::new(&probe.program, "/")
        .envs(probe.environment.iter().map(|(name, value)| (name, value)))
        .grace(Duration::ZERO);
    // Without a cache: a look keeps nothing.
    let abra = match Abra::probe(patient.lifetime.as_ref(), probe).await {
        Ok(abra) => abra,
        Err(error) => {
            let fix = error.hint().unwrap_or(INSTALL_ABRA).to_owned();
            return check.problem(cc_ci_core::error_chain(&error), fix);
        }
    };
    let mut check = check.fact(format!("{} ({})", abra.version(), abra.program().display()));
    let capabilities = abra.capabilities();
    for subcommand in Subcommand::ALL {
        check = check.fact(row(subcommand, &capabilities));
    }
    let check = check.fact(listed(patient, &abra, command).await);
    match abra.require() {
        Ok(()) => check,
        Err(error) => check.problem(error.to_string(), error.hint().unwrap_or(INSTALL_ABRA)),
    }
}

/// A subcommand, how its flags are spelled, and what is missing of them.
fn row(subcommand: Subcommand, capabilities: &[Capability]) -> String {
    let of_it = || capabilities.iter().filter(|found| found.subcommand == subcommand);
    let need = |found: &Capability| if found.needed { "needed" } else { "not needed" };
    if let Some(lacking) = of_it().find(|found| found.flag.is_none() && found.found.is_none()) {
        return format!("{subcommand}: missing, {}", need(lacking));
    }
    let flags = of_it().filter_map(|found| Some((found.flag?, found)));
    let flags = flags.map(|(flag, found)| match found.found {
        Some(spelling) => spelling.to_owned(),
        None => format!("{flag} missing ({})", need(found)),
    });
    format!("{subcommand}: {}", flags.collect::<Vec<_>>().join(", "))
}

/// Whether abra can list its apps. That it can't is no problem: cc-ci reads the `.env` files by itself.
async fn listed(patient: &Patient, abra: &Abra, command: Command) -> String {
    let is_there = abra
        .capabilities()
        .iter()
        .any(|found| found.subcommand == Subcommand::List && found.flag.is_none() && found.found.is_some());
    if !is_there {
        return "app ls is not asked: there is none".to_owned();
    }
    let is_offline = abra.capabilities().iter().any(|found| {
        found.subcommand == Subcommand::List && found.flag == Some(Flag::Offline) && found.found.is_some()
    });
    if !is_offline {
        return "app ls is not asked: without --offline it may fetch recipes".to_owned();
    }
    match abra.apps(patient.lifetime.as_ref(), command, &Redactor::default(), LIST_LIMIT).await {
        Ok(apps) => format!("app ls lists {} apps", apps.len()),
        Err(error) => {
            format!("app ls does not work, and cc-ci does without: {}", cc_ci_core::error_chain(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_is_there_and_what_of_the_rest_is_needed() {
        let of = |flag, found, needed| Capability { subcommand: Subcommand::Deploy, flag, found, needed };
        let all = [
            of(None, Some("app deploy"), true),
            of(Some(Flag::Chaos), Some("-C"), true),
            of(Some(Flag::Force), None, true),
            of(Some(Flag::Offline), None, false),
        ];
        let expected = "app deploy: -C, --force/-f missing (needed), --offline/-o missing (not needed)";
        assert_eq!(row(Subcommand::Deploy, &all), expected);
        assert_eq!(row(Subcommand::Deploy, &[of(None, None, true)]), "app deploy: missing, needed");
    }
}
