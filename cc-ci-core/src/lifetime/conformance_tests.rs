//! The cases hold for the embedded lifetime, and each is red on a double that breaks its promise.

use super::conformance::CASES;
use super::*;
use crate::model::event::Silent;
use crate::sys::process::{Signal, kill_process, wait_gone};
use std::sync::{Arc, Mutex, OnceLock};

fn embedded(bounds: Bounds) -> EmbeddedMode {
    EmbeddedMode::new(bounds, Arc::new(Silent)).unwrap()
}

/// What the double does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    ForgetsTeardown,
    SpawnsPlainly,
    LosesTheGroup,
    EndsNobody,
    ForgetsForce,
    CallsEveryEndForced,
    EndsServices,
    SharesOneLife,
    IgnoresHolds,
    RecordsTooLate,
}

#[derive(Debug)]
struct Broken(Arc<EmbeddedMode>, Fault, Mutex<Vec<ProcessIdentity>>);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.1)
    }
}

#[async_trait]
impl RunLifetime for Broken {
    fn cancellation(&self) -> &Cancellation {
        self.0.cancellation()
    }
    fn owner(&self) -> &ProcessIdentity {
        self.0.owner()
    }
    fn hold_deadline(&self) -> DeadlineHold {
        if self.1 == Fault::IgnoresHolds { DeadlineHold::none() } else { self.0.hold_deadline() }
    }
    fn deadline_remaining(&self) -> Option<Duration> {
        self.0.deadline_remaining()
    }
    fn begin_teardown(&self) -> Teardown {
        if self.1 == Fault::ForgetsTeardown {
            let began = Instant::now();
            return Teardown { began, until: began + Duration::from_secs(90) };
        }
        self.0.begin_teardown()
    }
    fn teardown(&self) -> Option<Teardown> {
        self.0.teardown()
    }
    fn tell_turns(&self, to: std::sync::mpsc::Sender<()>) {
        self.0.tell_turns(to);
    }
    fn blocking_tasks(&self) -> &BlockingTasks {
        self.0.blocking_tasks()
    }
    async fn spawn(&self, command: Command) -> Result<Child, SpawnError> {
        let command = match self.1 {
            // A shell in between ignores a signal, opens a descriptor, adds a variable and keeps the outer mark.
            Fault::SpawnsPlainly => Command::new("/bin/sh", &command.cwd)
                .envs(&command.env)
                .args(["-c", "trap '' HUP; export X=1; exec 9</; \"$@\"", "sh"])
                .arg(&command.program)
                .args(&command.args),
            Fault::LosesTheGroup => Command::new("setsid", &command.cwd)
                .envs(&command.env)
                .arg("--wait")
                .arg(&command.program)
                .args(&command.args),
            _ => command,
        };
        self.0.spawn(command).await
    }
    async fn spawn_detached(
        &self,
        command: Command,
        record: RecordDetached,
    ) -> Result<ProcessIdentity, SpawnError> {
        if self.1 == Fault::RecordsTooLate {
            let early = self.0.spawn_detached(command, Box::new(|_| Ok(()))).await;
            if let Ok(process) = &early {
                let _late = record(process).is_err();
            }
            return early;
        }
        let process = self.0.spawn_detached(command, record).await?;
        self.2.lock().unwrap().push(process.clone());
        Ok(process)
    }
    async fn end_children(&self) -> ChildrenEnded {
        match self.1 {
            Fault::EndsNobody => ChildrenEnded::default(),
            Fault::CallsEveryEndForced => ChildrenEnded { by_force: true, ..self.0.end_children().await },
            Fault::ForgetsForce => ChildrenEnded { by_force: false, ..self.0.end_children().await },
            Fault::EndsServices => {
                let services = std::mem::take(&mut *self.2.lock().unwrap());
                for service in services {
                    kill_process(&service, &service.boot_id, Signal::Kill).unwrap();
                    let far = Instant::now() + Duration::from_mins(1);
                    wait_gone(&service, &service.boot_id, far).await.unwrap();
                }
                self.0.end_children().await
            }
            _ => self.0.end_children().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_lifetime_keeps_the_contract() {
    for case in CASES {
        case.run(&|bounds| Box::new(embedded(bounds))).await;
    }
}

/// Runs a case on a double, where it must panic.
macro_rules! red {
    ($($fault:ident: $case:ident),* $(,)?) => {
        $(red_on_a_double(Fault::$fault, stringify!($case)).await;)*
    };
}

async fn red_on_a_double(fault: Fault, name: &str) {
    use futures_util::FutureExt as _;
    let shared = OnceLock::new();
    let make = |bounds| -> Box<dyn RunLifetime> {
        let supervisor = match fault {
            Fault::SharesOneLife => Arc::clone(shared.get_or_init(|| Arc::new(embedded(bounds)))),
            _ => Arc::new(embedded(bounds)),
        };
        Box::new(Broken(supervisor, fault, Mutex::default()))
    };
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    let outcome = std::panic::AssertUnwindSafe(case.run(&make)).catch_unwind().await;
    assert!(outcome.is_err(), "{name} is green on a double that {fault:?}");
}

#[tokio::test]
async fn each_case_is_red_on_a_broken_double() {
    red! {
        ForgetsTeardown: teardown_refuses_children_of_the_body,
        ForgetsTeardown: the_deadline_ends_with_the_body,
        SpawnsPlainly: a_child_starts_clean,
        SpawnsPlainly: a_mark_replaces_the_outer_one,
        LosesTheGroup: a_leaders_exit_ends_its_group,
        CallsEveryEndForced: an_exit_is_no_end_by_force,
        ForgetsForce: an_end_by_its_limit_is_told_at_the_end,
        ForgetsForce: an_end_by_a_signal_is_told_at_the_end,
        ForgetsForce: the_end_of_what_a_leader_left_is_told_at_the_end,
        EndsNobody: ending_leaves_nobody,
        EndsNobody: blocking_work_is_waited_for,
        EndsNobody: a_scope_ends_children_however_its_body_ends,
        SharesOneLife: two_lifetimes_end_their_own_children_only,
        IgnoresHolds: the_deadline_stands_still_while_held,
        EndsServices: a_detached_process_is_recorded_before_it_executes,
        RecordsTooLate: a_detached_process_that_nobody_recorded_never_executes,
    }
}
