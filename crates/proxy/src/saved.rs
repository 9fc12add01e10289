//! Files that a proxy keeps over its restarts: caches that may be deleted, but for what they spare.
//!
//! A file is written beside its place, synced, and renamed, with mode 0600. What is read is checked against the hash in its
//! first line; a file that does not hold is said and passed over, never half believed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use catamaran_wire::discovery::Resource as WireResource;
use catamaran_wire::{Any, Message};
use catamaran_xds::{Resource, ResourceSet, TypeUrlKind, Version};

/// A larger file is not read.
pub(crate) const FILE_LIMIT: u64 = 256 << 20;

const MAGIC: &str = "catamaran-saved-1";

/// Why a saved file was not used. It is made anew; nothing needs to be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SavedError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It was not written to its end, or was changed by somebody.
    #[error("{}: it is torn or was changed ({reason}); it is passed over", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        reason: &'static str,
    },
    /// It was saved for somebody else.
    #[error("{}: it was saved for {found:?}; it is passed over", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// For whom.
        found: String,
    },
}

/// Writes `content` for `owner`, as a whole or not at all.
///
/// # Errors
/// The disk's. What was saved before is then still there.
pub(crate) fn write(path: &Path, owner: &str, content: &[u8]) -> Result<(), SavedError> {
    let owner: String = owner.chars().filter(|c| !c.is_whitespace()).collect();
    let (hash, size) = (Version::of(content), content.len());
    let mut whole = format!("{MAGIC} {hash} {size} {owner}\n").into_bytes();
    whole.extend_from_slice(content);
    replace(path, &whole).map_err(|source| SavedError::Io {
        path: path.into(),
        source,
    })
}

/// Puts a file of mode 0600 in the place of one, as a whole or not at all.
///
/// # Errors
/// The disk's. What was there before is then still there.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads what was saved for `owner`; `None` when nothing was.
///
/// # Errors
/// The file is there and cannot be used.
pub(crate) fn read(path: &Path, owner: &str) -> Result<Option<Bytes>, SavedError> {
    let io = |source| SavedError::Io {
        path: path.into(),
        source,
    };
    let torn = |reason| SavedError::Torn {
        path: path.into(),
        reason,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(torn("it is too large"));
    }
    match content(Bytes::from(bytes), owner) {
        Ok(content) => Ok(Some(content)),
        Err(Wrong::Torn(reason)) => Err(torn(reason)),
        Err(Wrong::Other(found)) => Err(SavedError::Other {
            path: path.into(),
            found,
        }),
    }
}

/// What is wrong with the bytes of a file.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// What does not hold.
    Torn(&'static str),
    /// For whom it was saved.
    Other(String),
}

/// What a file holds for `owner`, if its first line is true.
pub(crate) fn content(mut bytes: Bytes, owner: &str) -> Result<Bytes, Wrong> {
    let torn = Wrong::Torn;
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let header = bytes.split_to(end.ok_or(torn("no first line"))?);
    let content = bytes.slice(1..);
    let header = std::str::from_utf8(&header).map_err(|_| torn("no first line"))?;
    let [MAGIC, hash, size, found] = header.split(' ').collect::<Vec<_>>()[..] else {
        return Err(torn("not a file of ours"));
    };
    if size != content.len().to_string() {
        return Err(torn("its length"));
    }
    if Version::parse(hash) != Some(Version::of(&content)) {
        return Err(torn("its hash"));
    }
    if found != owner {
        return Err(Wrong::Other(found.into()));
    }
    Ok(content)
}

/// The resources, each as it travels, one after another.
pub(crate) fn encode(resources: &ResourceSet) -> Bytes {
    let mut content = BytesMut::new();
    for resource in resources.iter() {
        let message = WireResource {
            name: resource.name.to_string(),
            resource: Some(resource.any()),
            ..WireResource::default()
        };
        content.reserve(message.encoded_len() + 10);
        // A buffer that grows does not run out of room.
        let _ = message.encode_length_delimited(&mut content);
    }
    content.freeze()
}

/// What [`encode`] wrote. Kinds that are not known any more are left out.
///
/// # Errors
/// Something in it is no resource.
pub(crate) fn decode(mut content: Bytes) -> Result<ResourceSet, catamaran_wire::DecodeError> {
    let mut resources = ResourceSet::default();
    while !content.is_empty() {
        let message = WireResource::decode_length_delimited(&mut content)?;
        let Any { type_url, value } = message.resource.unwrap_or_default();
        if let Some(kind) = TypeUrlKind::of(&type_url) {
            resources.insert(Arc::new(Resource::from_bytes(kind, message.name, value)));
        }
    }
    Ok(resources)
}

#[cfg(test)]
mod tests;
