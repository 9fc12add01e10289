//! Doors for hostile bytes: what carries traffic, called with bytes and without a socket. Only the workshop's room `hostile`
//! knocks here; nothing in it is an interface.

use std::sync::Arc;

use bytes::Bytes;
use catamaran_model::{ClusterDomain, Namespace};
use catamaran_wire::names::NameTable;
use catamaran_wire::{DecodeError, Message};
use catamaran_xds::ResourceSet;

pub use crate::carry::fuzzing::{Hello, beginning, head, hello};

use crate::names::{Names, Scope, Verdict, encode, judge};
use crate::saved;

/// What the name server makes of a datagram when the control plane sent `table`: the answer, or the question that is passed on
/// to the machine's resolvers. `None` when nobody is answered.
///
/// # Errors
/// The table is refused.
pub fn dns(table: &[u8], question: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let table = NameTable::decode(table).map_err(|error| error.to_string())?;
    let names = Arc::new(Names::new(&table)?);
    let scope = Scope {
        namespace: Namespace::new("default").map_err(|error| error.to_string())?,
        domain: ClusterDomain::default(),
    };
    Ok(match judge(question, &names, &scope) {
        Verdict::Answer(answer, limit) => encode(&answer, limit),
        Verdict::Ask(question) => question.to_vec().ok(),
        Verdict::Drop => None,
    })
}

/// What a proxy makes of the content of a file that it saved.
///
/// # Errors
/// It is no list of resources.
pub fn saved_resources(content: &[u8]) -> Result<ResourceSet, DecodeError> {
    saved::decode(Bytes::copy_from_slice(content))
}

/// The same for a whole file, with its first line.
///
/// # Errors
/// Why it is passed over.
pub fn saved_file(file: &[u8], owner: &str) -> Result<Bytes, &'static str> {
    saved::content(Bytes::copy_from_slice(file), owner).map_err(|wrong| match wrong {
        saved::Wrong::Torn(reason) => reason,
        saved::Wrong::Other(_) => "it was saved for somebody else",
    })
}
