//! The name that a person may have meant.

/// The known name that is nearest to `wanted`: at most two letters away, and less than half of it.
pub fn nearest(wanted: &str, known: &[impl AsRef<str>]) -> Option<String> {
    (known.iter().map(AsRef::as_ref))
        .map(|name| (distance(wanted, name), name))
        .filter(|(far, name)| *far <= 2 && far * 2 < name.chars().count().max(1) && *name != wanted)
        .min()
        .map(|(_, name)| name.to_owned())
}

/// How many letters must be put in, left out, replaced, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_noticed_and_a_different_name_is_not() {
        let known = ["mesh-1", "mesh-2", "payments"];
        assert_eq!(nearest("mehs-1", &known).as_deref(), Some("mesh-1"));
        assert_eq!(nearest("payment", &known).as_deref(), Some("payments"));
        assert_eq!(nearest("orders", &known), None);
        assert_eq!(nearest("mesh-1", &["mesh-1"]), None);
    }
}
