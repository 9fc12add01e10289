//! Becoming a pod's program: the last thing our own process does before it turns into another one.
//!
//! The node starts `catamaran launch --spec FILE`; that process enters the pod's namespaces and then replaces itself. It is a
//! process of its own because a thread cannot enter another's mounts, and because nothing may run between fork and exec here.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, chdir, execve, fexecve, setgid, setgroups, setsid, setuid};
use serde::{Deserialize, Serialize};

use crate::atomic;

/// The exit code of a launcher that could not become the program; its reason is the last line of its errors.
pub const LAUNCH_FAILED: i32 = 125;
/// Where the system keeps the names of network namespaces.
pub const NETNS_FOLDER: &str = "/run/netns";

/// What to become, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The program, with a path or to be found in the `PATH` of `env`, and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The network namespace, by name; then mounts and host name are the pod's own too.
    #[serde(default)]
    pub netns: Option<String>,
    /// What is seen as `/etc/resolv.conf`.
    #[serde(default)]
    pub resolv_conf: Option<PathBuf>,
    /// The pod's host name.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Folders that are seen at other places: `(folder, mount path)`.
    #[serde(default)]
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// The user and group to become.
    #[serde(default)]
    pub user: Option<u32>,
    /// Whether to leave the starter's session, as everything does that must outlive it.
    #[serde(default)]
    pub session: bool,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program}: {step}: {source}")]
pub struct LaunchError {
    /// The program.
    pub program: String,
    /// What was tried.
    pub step: String,
    /// What the system said.
    pub source: io::Error,
}

impl LaunchSpec {
    /// Reads a spec that the node wrote.
    pub fn read(path: &Path) -> io::Result<LaunchSpec> {
        serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
    }

    /// Writes it, mode 0600: an environment may hold secrets.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        atomic::write(path, &serde_json::to_vec(self)?, 0o600)
    }
}

/// Becomes the program of the spec in the file `spec`, or `argv` in its place when that is not empty; then the starter's
/// session is kept, for `exec`. Returns only when it failed.
pub fn exec_file(spec: &Path, argv: &[String]) -> Result<Infallible, LaunchError> {
    let mut read = LaunchSpec::read(spec).map_err(|source| LaunchError {
        program: spec.display().to_string(),
        step: "reading what to start".into(),
        source,
    })?;
    if !argv.is_empty() {
        read.argv = argv.to_vec();
        read.session = false;
    }
    exec(&read)
}

/// Becomes the program. Returns only when it failed; what was entered until then stays entered.
pub fn exec(spec: &LaunchSpec) -> Result<Infallible, LaunchError> {
    let program = spec.argv.first().cloned().unwrap_or_default();
    let failed = |step: String| {
        let program = program.clone();
        move |source: io::Error| LaunchError {
            program,
            step,
            source,
        }
    };
    if spec.session {
        // It fails for the leader of a group, which has what it wants already.
        let _ = setsid();
    }
    let text = |text: &String| {
        let step = format!("{text:?} holds a zero byte");
        CString::new(text.as_str()).map_err(|_| failed(step)(io::ErrorKind::InvalidInput.into()))
    };
    let argv: Vec<CString> = spec.argv.iter().map(text).collect::<Result<_, _>>()?;
    let env: Vec<CString> = (spec.env.iter())
        .map(|(name, value)| text(&format!("{name}={value}")))
        .collect::<Result<_, _>>()?;

    if let Some(netns) = &spec.netns {
        let path = Path::new(NETNS_FOLDER).join(netns);
        enter(&path).map_err(failed(format!("entering the network namespace {netns}")))?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
            .map_err(io::Error::from)
            .map_err(failed("leaving the machine's mounts and host name".into()))?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .map_err(io::Error::from)
            .map_err(failed("making mounts private".into()))?;
        if let Some(hostname) = &spec.hostname {
            fs::write("/proc/sys/kernel/hostname", hostname)
                .map_err(failed(format!("setting the host name {hostname}")))?;
        }
        // All paths before all mounts: a layer over a folder hides what was mounted below that folder before.
        let mut layers = Vec::new();
        for (_, at) in &spec.mounts {
            make_mount_point(at, &mut layers)
                .map_err(failed(format!("making {}", at.display())))?;
        }
        if let Some(resolv_conf) = &spec.resolv_conf {
            bind(resolv_conf, Path::new("/etc/resolv.conf"))
                .map_err(failed("mounting /etc/resolv.conf".into()))?;
        }
        for (folder, at) in &spec.mounts {
            bind(folder, at).map_err(failed(format!("mounting {}", at.display())))?;
        }
    }
    chdir(&spec.cwd)
        .map_err(io::Error::from)
        .map_err(failed(format!("entering {}", spec.cwd.display())))?;
    let found = find(&program, spec.env.get("PATH").map_or("", String::as_str))
        .ok_or_else(|| failed("it is not in PATH".into())(io::ErrorKind::NotFound.into()))?;
    // Opened before the user changes: the new one may not pass through every folder on the way.
    let file = File::open(&found).map_err(failed(format!("opening {}", found.display())))?;
    if let Some(user) = spec.user {
        let change = setgroups(&[])
            .and_then(|()| setgid(Gid::from_raw(user)))
            .and_then(|()| setuid(Uid::from_raw(user)));
        change
            .map_err(io::Error::from)
            .map_err(failed(format!("becoming user {user}")))?;
    }
    let path = CString::new(found.as_os_str().as_encoded_bytes())
        .map_err(|_| failed("its path".into())(io::ErrorKind::InvalidInput.into()))?;
    let error = match execve(&path, &argv, &env) {
        Err(Errno::EACCES) => match fexecve(&file, &argv, &env) {
            Err(error) => error,
            Ok(never) => match never {},
        },
        Err(error) => error,
        Ok(never) => match never {},
    };
    Err(failed(format!("running {}", found.display()))(error.into()))
}

/// Enters a network namespace with the calling thread.
pub fn enter(netns: &Path) -> io::Result<()> {
    let file = File::open(netns)?;
    Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
}

fn find(program: &str, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into());
    }
    let runs = |candidate: &PathBuf| {
        nix::unistd::access(candidate, nix::unistd::AccessFlags::X_OK).is_ok()
            && candidate.is_file()
    };
    path.split(':')
        .map(|folder| Path::new(folder).join(program))
        .find(runs)
}

fn bind(what: &Path, at: &Path) -> io::Result<()> {
    Ok(mount(
        Some(what),
        at,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?)
}

/// Makes a path at which a folder is mounted. Where it does not exist, the nearest folder above it is overlaid, for this pod
/// only, with a copy-on-write layer in memory in which the path is made. `layers` are the folders that have one already.
fn make_mount_point(at: &Path, layers: &mut Vec<PathBuf>) -> io::Result<()> {
    if at.is_dir() {
        return Ok(());
    }
    let above = (at.ancestors().skip(1).find(|above| above.is_dir()))
        .filter(|above| above.parent().is_some())
        .ok_or_else(|| {
            io::Error::other("it is directly below /, where no path can be made; mount it deeper")
        })?;
    if !layers.iter().any(|layer| above.starts_with(layer)) {
        lay_over(above)?;
        layers.push(above.to_owned());
    }
    fs::create_dir_all(at)
}

fn lay_over(folder: &Path) -> io::Result<()> {
    // A folder that is surely there, and that is seen again when the layer is detached from it.
    let layer = Path::new(NETNS_FOLDER);
    let none = MsFlags::empty();
    mount(Some("tmpfs"), layer, Some("tmpfs"), none, Some("mode=0755"))?;
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        folder.display(),
        upper.display(),
        work.display()
    );
    mount(
        Some("overlay"),
        folder,
        Some("overlay"),
        none,
        Some(options.as_str()),
    )?;
    Ok(nix::mount::umount2(
        layer,
        nix::mount::MntFlags::MNT_DETACH,
    )?)
}

/// A file that a process may write its output to, without cutting what others wrote.
pub fn log_file(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::options()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}
