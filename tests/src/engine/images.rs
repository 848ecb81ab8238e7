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

/// Gives the engine its images.
pub(super) fn import(engine: &Engine, note_keeper: &Path) -> Result<(), Failure> {
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
    let image = tree(root.path(), "note-keeper", note_keeper)?;
    // Linked as it is built on this host, so with this host's libraries: what is built already need not be built again.
    for library in libraries(note_keeper)? {
        let inside = image.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(inside.parent().unwrap_or(&image))?;
        fs::copy(&library, inside)?;
    }
    NOTE_KEEPER.iter().try_for_each(|name| import_tree(engine, &image, name))
}

/// What the loader takes for `program`, itself among it; nothing for one that is linked statically.
fn libraries(program: &Path) -> Result<Vec<PathBuf>, Failure> {
    let message =
        Command::new("ldd").arg(program).output().map_err(|error| format!("can't start ldd: {error}"))?;
    let message = String::from_utf8_lossy(&message.stdout).into_owned();
    // `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader without an arrow.
    let path = |line: &str| {
        let path = line.split_once("=>").map_or(line, |(_, path)| path).split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    Ok(message.lines().filter_map(path).collect())
}

/// A root directory with `program` in it.
fn tree(root: &Path, name: &str, program: &Path) -> Result<PathBuf, Failure> {
    let image = root.join(name);
    for directory in ["bin", "etc", "tmp"] {
        fs::create_dir_all(image.join(directory))?;
    }
    let copied = fs::copy(program, image.join("bin").join(name));
    copied.map_err(|error| {
        format!("{}: {error}; `cargo build --workspace` builds the example app", program.display())
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
