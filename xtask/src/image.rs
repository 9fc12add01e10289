//! OCI archives without a Docker engine and without a registry: our programs and the libraries they need, and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{cluster, machine, steps};

/// The sample's archives. Every node has the one of `pause` from its start.
pub(crate) struct Archives {
    /// The client of the sample: a shell and curl.
    pub(crate) curl: PathBuf,
    /// Our program, and the sample's servers, which are in it.
    pub(crate) catamaran: PathBuf,
}

/// The sample's images by the names people use: of a registry's library, as in our manifests, and of Istio's.
const CURL: [&str; 2] = [
    "docker.io/library/curl:8.1.2",
    "docker.io/curlimages/curl:8.1.2",
];

/// `image [--binary FILE] [--version V] [NAME..]`
pub(crate) fn run(args: &[&str]) -> Result<ExitCode, String> {
    let mut binary = None;
    let mut version = None;
    let mut wanted = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match *arg {
            "--binary" => {
                let file = rest.next().ok_or("--binary takes a file")?;
                binary = Some(PathBuf::from(file));
            }
            "--version" => version = Some(*rest.next().ok_or("--version takes a version")?),
            "pause" | "curl" | "catamaran" => wanted.push(*arg),
            other => {
                return Err(format!(
                    "image makes pause, curl and catamaran, not {other:?}"
                ));
            }
        }
    }
    if let Some(version) = version {
        if binary.is_some() || wanted.iter().any(|name| *name != "catamaran") {
            return Err("--version builds our own program anew, so it goes with no other name and no --binary".into());
        }
        let (program, image) = of_version(version)?;
        println!("{}\n{}", image.display(), program.display());
        return Ok(ExitCode::SUCCESS);
    }
    if wanted.is_empty() {
        wanted = vec!["pause", "curl", "catamaran"];
    }
    for name in wanted {
        let made = match name {
            "pause" => pause()?,
            "curl" => curl()?,
            _ => catamaran(binary.as_deref())?,
        };
        println!("{}", made.display());
    }
    Ok(ExitCode::SUCCESS)
}

static TURN: AtomicU32 = AtomicU32::new(0);

/// What the sample needs, made where they are missing or older than what goes in.
pub(crate) fn sample(binary: Option<&Path>) -> Result<Archives, String> {
    Ok(Archives {
        curl: curl()?,
        catamaran: catamaran(binary)?,
    })
}

/// The image of every pod's first process. Built with the clusters, since it is written in their language.
pub(crate) fn pause() -> Result<PathBuf, String> {
    let program = cluster::pause_program()?;
    archive("pause", &[program.as_path()], |root| {
        root.add(&program, "/pause")?;
        Ok(vec![Image {
            names: vec!["catamaran.dev/pause:1".into()],
            entrypoint: vec!["/pause".into()],
            labels: &[],
        }])
    })
}

/// The sample's client: busybox for a shell and `sleep`, and this machine's curl.
pub(crate) fn curl() -> Result<PathBuf, String> {
    machine::prepare_images()?;
    let curl = machine::find("curl").ok_or("curl is not on this machine")?;
    let busybox = machine::find("busybox").ok_or("busybox is not on this machine")?;
    archive("curl", &[curl.as_path(), busybox.as_path()], |root| {
        root.add(&busybox, "/bin/busybox")?;
        let applets = output(&busybox, &["--list"])?;
        for applet in applets.lines().filter(|name| *name != "busybox") {
            root.link("busybox", &format!("/bin/{applet}"))?;
        }
        root.add(&curl, "/usr/bin/curl")?;
        Ok(vec![Image {
            names: CURL.map(str::to_owned).to_vec(),
            entrypoint: vec!["/usr/bin/curl".into()],
            labels: &[],
        }])
    })
}

/// Our program, with `nft` for the redirect of pods' connections, and the sample's servers as images of their own on the same layer.
pub(crate) fn catamaran(binary: Option<&Path>) -> Result<PathBuf, String> {
    let built;
    let binary = match binary {
        Some(given) => given,
        None => {
            steps::build()?;
            built = steps::binary();
            &built
        }
    };
    machine::prepare_images()?;
    let nft = machine::find("nft").ok_or("nft is not on this machine")?;
    archive("catamaran", &[binary, nft.as_path()], |root| {
        own_files(root, binary, &nft)?;
        let server = |version: &str| Image {
            names: ["library", "istio"]
                .map(|of| format!("docker.io/{of}/examples-helloworld-{version}:1.0"))
                .to_vec(),
            entrypoint: [PROGRAM, "helloworld", "--version", version]
                .map(str::to_owned)
                .to_vec(),
            labels: &[],
        };
        Ok(vec![
            own(&[env!("CARGO_PKG_VERSION"), "dev"]),
            server("v1"),
            server("v2"),
        ])
    })
}

/// Our program as one of another version, beside its image: for trying what happens between versions. The version is compiled in,
/// so the target folder's program is built twice: with it, and as it was.
pub(crate) fn of_version(version: &str) -> Result<(PathBuf, PathBuf), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if version.is_empty() || !version.chars().all(fits) {
        return Err(format!("{version:?} is no version"));
    }
    let folder = steps::target().join("versions").join(version);
    create(&folder)?;
    let program = folder.join("catamaran");
    let args = ["build", "--workspace", "--bins", "--locked"];
    steps::cargo(&args, &[("CATAMARAN_VERSION", version)])?;
    copy(&steps::binary(), &program)?;
    steps::build()?;
    machine::prepare_images()?;
    let nft = machine::find("nft").ok_or("nft is not on this machine")?;
    let name = format!("catamaran-{version}");
    let image = archive(&name, &[program.as_path(), nft.as_path()], |root| {
        own_files(root, &program, &nft)?;
        Ok(vec![own(&[version])])
    })?;
    Ok((program, image))
}

/// What is written on our image. The Dockerfile makes the same one; a test holds it to what is here.
const LABELS: [(&str, &str); 2] = [
    ("org.opencontainers.image.title", "catamaran"),
    ("org.opencontainers.image.licenses", "Apache-2.0"),
];
/// Where programs are looked for.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
/// Where our program is in its image.
const PROGRAM: &str = "/usr/local/bin/catamaran";
/// Where the program for redirects is.
const NFT: &str = "/usr/sbin/nft";

fn own_files(root: &Root, binary: &Path, nft: &Path) -> Result<(), String> {
    root.add_stripped(binary, PROGRAM)?;
    root.add(nft, NFT)
}

fn own(tags: &[&str]) -> Image {
    Image {
        names: (tags.iter())
            .map(|tag| format!("catamaran.dev/catamaran:{tag}"))
            .collect(),
        entrypoint: vec![PROGRAM.into()],
        labels: &LABELS,
    }
}

struct Image {
    names: Vec<String>,
    entrypoint: Vec<String>,
    labels: &'static [(&'static str, &'static str)],
}

/// Makes an archive of one layer, unless there is one younger than the files it is made of.
fn archive(
    name: &str,
    of: &[&Path],
    fill: impl FnOnce(&Root) -> Result<Vec<Image>, String>,
) -> Result<PathBuf, String> {
    let folder = steps::target().join("images");
    let made = folder.join(format!("{name}.tar"));
    // This program too is what an image is made from.
    let own = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
    if of
        .iter()
        .chain([&own.as_path()])
        .all(|file| older(file, &made))
    {
        return Ok(made);
    }
    // Whoever makes the same archive at the same time must not share a folder.
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let work = folder.join(format!(".{name}-{}-{turn}", std::process::id()));
    let outcome = make(&work, fill).and_then(|tar| {
        std::fs::rename(&tar, &made).map_err(|error| format!("{}: {error}", made.display()))
    });
    let _ = std::fs::remove_dir_all(&work);
    outcome.map(|()| made)
}

/// Whether a file is older than what was made of it.
fn older(file: &Path, made: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    matches!((time(file), time(made)), (Some(file), Some(made)) if file < made)
}

fn make(
    work: &Path,
    fill: impl FnOnce(&Root) -> Result<Vec<Image>, String>,
) -> Result<PathBuf, String> {
    let root = Root::new(work.join("root"))?;
    let images = fill(&root)?;
    let layout = work.join("layout");
    let blobs = layout.join("blobs/sha256");
    create(&blobs)?;
    let layer = work.join("layer.tar");
    tar(&root.folder, &layer)?;
    let layer = Blob::keep(&blobs, &layer)?;
    let mut manifests = String::new();
    for image in &images {
        let words: Vec<String> = image.entrypoint.iter().map(|word| quote(word)).collect();
        let labels: Vec<String> = (image.labels.iter())
            .map(|(name, value)| format!("{}:{}", quote(name), quote(value)))
            .collect();
        let config = write(
            &blobs,
            &format!(
                r#"{{"architecture":{},"os":"linux","config":{{"Entrypoint":[{}],"Env":["PATH={PATH}"],"WorkingDir":"/","Labels":{{{}}}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
                quote(architecture()),
                words.join(","),
                labels.join(","),
                layer.sha256
            ),
        )?;
        let manifest = write(
            &blobs,
            &format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
                config.descriptor("application/vnd.oci.image.config.v1+json", ""),
                layer.descriptor("application/vnd.oci.image.layer.v1.tar", "")
            ),
        )?;
        for name in &image.names {
            let tag = name.rsplit(':').next().unwrap_or(name);
            let annotations = format!(
                r#","annotations":{{"io.containerd.image.name":{},"org.opencontainers.image.ref.name":{}}}"#,
                quote(name),
                quote(tag)
            );
            let separator = if manifests.is_empty() { "" } else { "," };
            let _ = write!(
                manifests,
                "{separator}{}",
                manifest.descriptor("application/vnd.oci.image.manifest.v1+json", &annotations)
            );
        }
    }
    put(
        &layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    put(
        &layout.join("index.json"),
        &format!(r#"{{"schemaVersion":2,"manifests":[{manifests}]}}"#),
    )?;
    let made = work.join("image.tar");
    tar(&layout, &made)?;
    Ok(made)
}

/// The files of an image.
struct Root {
    folder: PathBuf,
}

impl Root {
    /// What every program may expect: users with names, a place for temporary files, and names looked up in files, then by DNS.
    fn new(folder: PathBuf) -> Result<Root, String> {
        for name in ["etc", "tmp", "bin", "usr/bin", "usr/sbin", "usr/local/bin"] {
            create(&folder.join(name))?;
        }
        mode(&folder.join("tmp"), 0o1777)?;
        put(
            &folder.join("etc/passwd"),
            "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        )?;
        put(&folder.join("etc/group"), "root:x:0:\nnobody:x:65534:\n")?;
        put(&folder.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
        Ok(Root { folder })
    }

    fn at(&self, path: &str) -> Result<PathBuf, String> {
        let full = self.folder.join(path.trim_start_matches('/'));
        if let Some(folder) = full.parent() {
            create(folder)?;
        }
        Ok(full)
    }

    /// Copies a program, and the libraries the loader would give it, each to where the loader looks for it.
    fn add(&self, program: &Path, path: &str) -> Result<(), String> {
        let to = self.at(path)?;
        copy(program, &to)?;
        mode(&to, 0o755)?;
        for library in libraries(program)? {
            let to = self.at(&library)?;
            copy(Path::new(&library), &to)?;
            mode(&to, 0o755)?;
        }
        Ok(())
    }

    /// The same without what only a debugger reads, which in a debug build is most of it.
    fn add_stripped(&self, program: &Path, path: &str) -> Result<(), String> {
        self.add(program, path)?;
        call("strip", &["--strip-debug", text(&self.at(path)?)?])
    }

    fn link(&self, to: &str, path: &str) -> Result<(), String> {
        let at = self.at(path)?;
        symlink(to, &at).map_err(|error| format!("{}: {error}", at.display()))
    }
}

/// The libraries of a program with their paths; none if it brings everything along.
fn libraries(program: &Path) -> Result<BTreeSet<String>, String> {
    let said = Command::new("ldd")
        .arg(program)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("ldd could not be started: {error}"))?;
    let listing = String::from_utf8_lossy(&said.stdout);
    let complaint = String::from_utf8_lossy(&said.stderr);
    if complaint.contains("not a dynamic executable") || listing.contains("statically linked") {
        return Ok(BTreeSet::new());
    }
    if !said.status.success() {
        return Err(format!("ldd {}: {complaint}", program.display()));
    }
    read_libraries(&listing).map_err(|missing| {
        format!(
            "{} needs {missing}, which this machine lacks",
            program.display()
        )
    })
}

/// Reads what `ldd` says: `libc.so.6 => /lib/libc.so.6 (0x..)`, `/lib64/ld-linux.so.2 (0x..)`, `linux-vdso.so.1 (0x..)`.
fn read_libraries(listing: &str) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    for line in listing.lines() {
        let (name, target) = match line.split_once("=>") {
            Some((name, target)) => (name.trim(), target.trim()),
            None => (line.trim(), line.trim()),
        };
        if target.starts_with("not found") {
            return Err(name.to_owned());
        }
        let path = target.split(" (").next().unwrap_or(target);
        if path.starts_with('/') {
            found.insert(path.to_owned());
        }
    }
    Ok(found)
}

/// A file named by its content.
struct Blob {
    sha256: String,
    size: u64,
}

impl Blob {
    fn keep(blobs: &Path, file: &Path) -> Result<Blob, String> {
        let sha256 = sha256(file)?;
        let size = file
            .metadata()
            .map_err(|error| format!("{}: {error}", file.display()))?
            .len();
        let to = blobs.join(&sha256);
        std::fs::rename(file, &to).map_err(|error| format!("{}: {error}", to.display()))?;
        Ok(Blob { sha256, size })
    }

    fn descriptor(&self, media_type: &str, more: &str) -> String {
        format!(
            r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":{}{more}}}"#,
            self.sha256, self.size
        )
    }
}

fn write(blobs: &Path, json: &str) -> Result<Blob, String> {
    let file = blobs.join("new");
    put(&file, json)?;
    Blob::keep(blobs, &file)
}

pub(crate) fn sha256(file: &Path) -> Result<String, String> {
    let said = output(Path::new("sha256sum"), &[text(file)?])?;
    match said.split_whitespace().next() {
        Some(sum) if sum.len() == 64 => Ok(sum.to_owned()),
        _ => Err(format!("sha256sum said {said:?}")),
    }
}

/// Equal folders give equal archives, so that an image has one digest.
fn tar(folder: &Path, into: &Path) -> Result<(), String> {
    call(
        "tar",
        &[
            "--create",
            "--file",
            text(into)?,
            "--sort=name",
            "--mtime=@0",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--format=gnu",
            "--directory",
            text(folder)?,
            ".",
        ],
    )
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A JSON string. Names of images and words of commands have nothing in them but what is printed.
fn quote(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

fn create(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

fn put(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    match std::fs::copy(from, to) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{} to {}: {error}", from.display(), to.display())),
    }
}

fn mode(path: &Path, mode: u32) -> Result<(), String> {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str()
        .ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

fn call(program: &str, args: &[&str]) -> Result<(), String> {
    output(Path::new(program), args).map(drop)
}

fn output(program: &Path, args: &[&str]) -> Result<String, String> {
    let said = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} could not be started: {error}", program.display()))?;
    if !said.status.success() {
        return Err(format!(
            "{} {} failed ({}): {}",
            program.display(),
            args.join(" "),
            said.status,
            String::from_utf8_lossy(&said.stderr)
        ));
    }
    String::from_utf8(said.stdout)
        .map_err(|error| format!("{} said no text: {error}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_where_the_loader_finds_them() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1a)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f1b)\n";
        let found: Vec<String> = read_libraries(listing).unwrap().into_iter().collect();
        assert_eq!(
            found,
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
    }

    #[test]
    fn a_missing_library_is_named() {
        assert_eq!(
            read_libraries("\tlibnope.so.1 => not found\n").unwrap_err(),
            "libnope.so.1"
        );
    }
    /// The words of the Dockerfile's last stage, one instruction a line.
    fn last_stage() -> Vec<String> {
        let text = std::fs::read_to_string(steps::root().join("Dockerfile")).unwrap();
        let lines = text.replace("\\\n", " ");
        let lines = (lines.lines()).filter(|line| !line.starts_with('#'));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = lines.map(words).collect();
        let last = lines.iter().rposition(|line| line.starts_with("FROM "));
        lines[last.unwrap()..].to_vec()
    }

    #[test]
    fn the_dockerfile_makes_the_same_image() {
        let stage = last_stage();
        let said = |word: &str| {
            let prefix = format!("{word} ");
            let mut all = stage.iter().filter_map(|line| line.strip_prefix(&prefix));
            let first = all.next().map(str::to_owned);
            assert!(all.next().is_none(), "{word} is said twice");
            first
        };
        let own = own(&["1"]);
        let words: Vec<String> = own.entrypoint.iter().map(|word| quote(word)).collect();
        assert_eq!(
            said("ENTRYPOINT").unwrap(),
            format!("[{}]", words.join(", "))
        );
        assert_eq!(said("CMD"), None);
        // Pods say who their containers are: the same image redirects connections, which an ordinary user may not.
        assert_eq!(said("USER"), None);
        assert_eq!(said("WORKDIR").unwrap(), "/");
        assert_eq!(said("ENV").unwrap(), format!("PATH={PATH}"));
        let labels: Vec<String> = (own.labels.iter())
            .map(|(name, value)| format!("{name}={}", quote(value)))
            .collect();
        assert_eq!(said("LABEL").unwrap(), labels.join(" "));
        let copy = said("COPY").unwrap();
        assert!(copy.ends_with(&format!(" {PROGRAM}")), "{copy}");
        // nftables of Debian is at /usr/sbin/nft.
        assert_eq!(said("FROM").unwrap(), "debian:12-slim");
        assert!(said("RUN").unwrap().contains(" nftables "));
        assert_eq!(NFT, "/usr/sbin/nft");
    }

    #[test]
    fn what_the_program_is_built_from_reaches_the_build() {
        let root = steps::root();
        let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
        let ignored = read(".dockerignore");
        // The members of the workspace, and what they include.
        for needed in [
            "crates",
            "xtask",
            "e2e",
            "judge",
            "hostile",
            "bench",
            "examples",
            "Cargo.lock",
        ] {
            assert!(!ignored.lines().any(|line| line == needed), "{needed}");
        }
        let toml = read("Cargo.toml");
        let rust = toml
            .lines()
            .find_map(|line| line.strip_prefix("rust-version = "));
        let rust = rust.unwrap().trim_matches('"');
        assert!(read("Dockerfile").contains(&format!("FROM rust:{rust}-bookworm AS build")));
    }
}
