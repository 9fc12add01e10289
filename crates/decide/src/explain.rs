use catamaran_model::Timestamp;

use crate::{Arrival, Table, View};

/// Says what would become of a call, for people: one line, then what the decision rests on.
///
/// `caller` and `callee` are only repeated: `sleep@cluster-1`, `helloworld`.
pub fn explain(
    table: &Table,
    view: &View,
    caller: &str,
    callee: &str,
    arrival: &Arrival<'_>,
    now: Timestamp,
) -> String {
    let _ = (table, view, caller, callee, arrival, now);
    todo!()
}
