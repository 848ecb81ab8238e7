//! The images of a private engine: no registry is asked for anything.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Engine;
use super::private::{Failure, path};

/// An image with a shell and the common tools, all of them busybox: for tasks that misbehave in a line of script.
pub const BUSYBOX: &str = "cc-ci-test/busybox:1";
/// The example app, as its recipe's releases name it.
pub const NOTE_KEEPER: [&str; 2] = ["note-keeper:1.0.0", "note-keeper:1.1.0"];
/// What the releases of the example of four services name; both are the busybox of this host.
const FOUR_SERVICES: [&str; 2] = ["busybox:1.35", "busybox:1.36"];

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Builds the example app so that it needs no library, in a target directory of its own.
///
/// # Errors
/// When that can't be started, or nobody knows for which platform.
pub fn build_command() -> Result<Command, Failure> {
    let (triple, target) = place()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--locked", "--package", "note-keeper", "--target", &triple, "--target-dir"])
        .arg(target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        // Faster, and a tenth of the size.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(workspace())
        .stdin(Stdio::null());
    Ok(command)
}

/// The host's triple and the target directory of static programs.
fn place() -> Result<(String, PathBuf), Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("-vV").current_dir(workspace()).output();
    let said = said.map_err(|error| format!("can't start rustc: {error}"))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let triple = said.lines().find_map(|line| line.strip_prefix("host: "));
    let triple = triple.ok_or("rustc -vV names no host")?;
    Ok((triple.to_owned(), workspace().join("target/static")))
}

fn note_keeper() -> Result<PathBuf, Failure> {
    let (triple, target) = place()?;
    Ok(target.join(triple).join("debug/note-keeper"))
}

/// Gives the engine its images.
pub(super) fn import(engine: &Engine) -> Result<(), Failure> {
    let root = TempDir::with_prefix("cc-ci-images-")?;
    let busybox =
        env::split_paths(&path()).map(|directory| directory.join("busybox")).find(|path| path.exists());
    let busybox = busybox.ok_or("busybox is missing")?;
    let image = tree(root.path(), "busybox", &busybox)?;
    let applets = Command::new(&busybox).arg("--list").output()?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|&applet| applet != "busybox") {
        symlink("busybox", image.join("bin").join(applet))?;
    }
    for name in [BUSYBOX].into_iter().chain(FOUR_SERVICES) {
        import_tree(engine, &image, name)?;
    }
    let image = tree(root.path(), "note-keeper", &note_keeper()?)?;
    NOTE_KEEPER.iter().try_for_each(|name| import_tree(engine, &image, name))
}

/// A root directory with `program` in it.
fn tree(root: &Path, name: &str, program: &Path) -> Result<PathBuf, Failure> {
    let image = root.join(name);
    for directory in ["bin", "etc", "tmp"] {
        fs::create_dir_all(image.join(directory))?;
    }
    let copied = fs::copy(program, image.join("bin").join(name));
    copied.map_err(|error| {
        format!("{}: {error}; `private-engine build-app` builds the example app", program.display())
    })?;
    Ok(image)
}

fn import_tree(engine: &Engine, tree: &Path, name: &str) -> Result<(), Failure> {
    let mut tar = Command::new("tar").arg("-C").arg(tree).args(["-c", "."]).stdout(Stdio::piped()).spawn()?;
    let packed = tar.stdout.take().ok_or("tar has no stdout")?;
    // A label tells two images of one program apart.
    let label = format!("LABEL cc-ci-test.image={name}");
    let mut import = engine.command(["import", "--change", &label, "-", name]);
    let imported = import.stdin(packed).output()?;
    let packed = tar.wait()?;
    if !imported.status.success() || !packed.success() {
        return Err(
            format!("can't import {name}: {}", String::from_utf8_lossy(&imported.stderr).trim()).into()
        );
    }
    Ok(())
}
