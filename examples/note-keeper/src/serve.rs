//! The server's life: prepare, listen, answer, end in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::app::{App, router};
use crate::auth::Key;
use crate::output;
use crate::settings::Settings;
use crate::store::{Format, Store, StoreError};

/// Why the server didn't start, or ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("read the key file {}", file.display())]
    Key { file: PathBuf, source: io::Error },
    #[error("read the notice {}", file.display())]
    Notice { file: PathBuf, source: io::Error },
    #[error("prepare the data directory {}", dir.display())]
    Prepare { dir: PathBuf, source: StoreError },
    #[error("listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("start the runtime")]
    Runtime(#[source] io::Error),
    #[error("serve")]
    Serve(#[source] io::Error),
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(settings: Settings, format: Format) -> Result<(), ServeError> {
    let read_key =
        |file: &PathBuf| Key::read(file).map_err(|source| ServeError::Key { file: file.clone(), source });
    let notice = settings
        .notice_file
        .map(|file| std::fs::read_to_string(&file).map_err(|source| ServeError::Notice { file, source }))
        .transpose()?;
    let store = Store::new(settings.data_dir.clone(), format);
    let app = App {
        write_key: read_key(&settings.write_key_file)?,
        admin_key: settings.admin_key_file.as_ref().map(read_key).transpose()?,
        store,
        stats_dir: settings.stats_dir,
        instance_name: settings.instance_name,
        notice,
        max_length: settings.max_length,
    };
    app.store.prepare().map_err(|source| ServeError::Prepare { dir: settings.data_dir, source })?;
    in_runtime(|stop| serve(app, settings.listen, settings.stop_grace, stop)).map_err(ServeError::Runtime)?
}

/// Becomes true when the process was asked to end.
pub(crate) type Stop = watch::Receiver<bool>;

/// Runs `work` in a runtime of its own; SIGTERM and SIGINT reach it through its argument.
pub(crate) fn in_runtime<T, F: Future<Output = T>>(work: impl FnOnce(Stop) -> F) -> io::Result<T> {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, stop) = watch::channel(false);
        let listen = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            sender.send_replace(true);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            done = work(stop) => Ok(done),
            () = listen => Err(io::Error::other("the wait for signals ended")),
        }
    });
    // A file operation that hangs (a lock that another process holds) must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn serve(app: App, address: SocketAddr, grace: Duration, stop: Stop) -> Result<(), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let stopped = |mut stop: Stop| async move { drop(stop.wait_for(|&stop| stop).await) };
    let out_of_grace = {
        let stopped = stopped(stop.clone());
        async move {
            stopped.await;
            tokio::time::sleep(grace).await;
        }
    };
    output::say(&format!("listening on http://{bound}"));
    tokio::select! {
        done = axum::serve(listener, router(app)).with_graceful_shutdown(stopped(stop)) => {
            done.map_err(ServeError::Serve)
        }
        () = out_of_grace => {
            output::say("stopped with requests still open");
            Ok(())
        }
    }
}
