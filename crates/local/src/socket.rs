//! Sockets with a path, also where the path is longer than the system allows for one.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A path of the same file that is short enough for a socket's address, for as long as the value lives.
#[derive(Debug)]
pub struct ShortPath {
    path: PathBuf,
    _folder: File,
}

impl ShortPath {
    /// Goes through an open handle of the folder, which must exist.
    pub fn of(path: &Path) -> io::Result<ShortPath> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let folder = File::open(folder)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok(ShortPath {
            path,
            _folder: folder,
        })
    }

    /// The short path; it means something in this process only.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Connects to the socket at `path`.
pub async fn connect(path: &Path) -> io::Result<tokio::net::UnixStream> {
    let short = ShortPath::of(path)?;
    tokio::net::UnixStream::connect(short.path()).await
}

/// Listens at `path`, in the place of whatever socket lay there before.
pub fn listen(path: &Path) -> io::Result<tokio::net::UnixListener> {
    crate::atomic::remove(path)?;
    let short = ShortPath::of(path)?;
    tokio::net::UnixListener::bind(short.path())
}
