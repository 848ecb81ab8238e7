//! One function a command.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cc_ci_bridge::bridge::Bridge;
use cc_ci_bridge::config::Config;
use cc_ci_bridge::dashboard::Dashboard;
use cc_ci_bridge::names::Key;
use cc_ci_bridge::receive::Receiver;
use cc_ci_bridge::server;
use cc_ci_bridge::store::Store;
use cc_ci_bridge::{doctor, explain, work};
use cc_ci_core::Failure;
use cc_ci_core::exit::Exit;
use cc_ci_core::model::error_chain;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::args::{Cli, Command};
use crate::terminal;

pub fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let config = Config::load(cli.config.as_deref())?;
    match cli.command {
        Command::Serve => block_on(serve(config)),
        Command::Work => block_on(async move {
            let store = Arc::new(config.store()?);
            let end = ended()?;
            terminal::progress(&format!("runs jobs below {}\n", config.work()?.state_dir.display()));
            work::work(&config, store, end).await?;
            Ok(Exit::Green)
        }),
        Command::Explain { url } => {
            let (repo, comment) = explain::parse(&url, config.forge_address())?;
            terminal::result(&explain::explain(&config.store()?, &repo, comment)?);
            Ok(Exit::Green)
        }
        Command::Doctor => block_on(async move {
            let report = doctor::look(&config).await;
            terminal::result(&report.text());
            Ok(if report.is_well() { Exit::Green } else { Exit::Red })
        }),
        Command::Backup { file } => backup(&config.store()?, &file),
        Command::RunJob { key } => run_job(&config, &key),
    }
}

fn run_job(config: &Config, key: &Key) -> Result<Exit, Failure> {
    work::supervise(config, key)?;
    Ok(Exit::Green)
}

fn backup(store: &Store, file: &Path) -> Result<Exit, Failure> {
    store.backup(file)?;
    Ok(Exit::Green)
}

async fn serve(config: Config) -> Result<Exit, Failure> {
    let end = ended()?;
    let store = Arc::new(config.store()?);
    let forge = config.forge()?;
    let starter = config.starter(store.clone())?;
    let wake = Arc::new(Notify::new());
    let mut servers = Vec::new();
    if let Some(listen) = config.dashboard() {
        let repos = config.settings.repos.clone();
        let pages = Dashboard::new(Arc::new(config.store()?), config.forge_address(), repos, end.clone());
        let (listener, address) = listen_at(listen).await?;
        terminal::progress(&format!("shows what goes on at http://{address}/\n"));
        servers.push(tokio::spawn(server::serve(listener, pages.routes(), end.clone())));
    }
    if let Some((listen, secret)) = config.receive()? {
        let receiver = Receiver::new(store.clone(), secret, config.settings.repos.clone(), wake.clone());
        let (listener, address) = listen_at(listen).await?;
        terminal::progress(&format!("receives at http://{address}/hook\n"));
        // What is delivered is written down even while the forge does not answer.
        servers.push(tokio::spawn(server::serve(listener, receiver.routes(), end.clone())));
    }
    let name = async {
        let mut failures = 0;
        loop {
            match forge.own_name().await {
                Ok(name) => return name,
                Err(error) => {
                    failures += 1;
                    tracing::warn!("the forge does not say who the token's user is: {}", error_chain(&error));
                    tokio::time::sleep(cc_ci_bridge::settings::backoff(failures, error.retry_after())).await;
                }
            }
        }
    };
    let mut waiting = end.clone();
    let name = tokio::select! {
        name = name => Some(name),
        _ = waiting.wait_for(|end| *end) => None,
    };
    if let Some(name) = name {
        terminal::progress(&format!("works as {name} at {}\n", config.forge_address()));
        Bridge::new(store, forge, starter, config.settings, wake, name).run(end).await;
    }
    for server in servers {
        // It has a bound of its own.
        let _over = server.await;
    }
    Ok(Exit::Green)
}

async fn listen_at(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failure = |error| Failure::host(format!("can't listen at {listen}")).with_source(error);
    let listener = TcpListener::bind(listen).await.map_err(failure)?;
    let address = listener.local_addr().map_err(failure)?;
    Ok((listener, address))
}

/// Becomes true at TERM, INT or HUP.
fn ended() -> Result<watch::Receiver<bool>, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::host("can't wait for signals").with_source(error));
    let (mut term, mut int, mut hup) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    let (send, receive) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = hup.recv() => {}
        }
        send.send_replace(true);
        // The channel stays open: who looks later must see it, too.
        std::future::pending::<()>().await;
    });
    Ok(receive)
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::host("can't start the runtime").with_source(error))?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}
