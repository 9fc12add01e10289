//! How many pods of a Deployment to make and which to end; a pure function.

/// What matters of a pod here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Whether it was made from the Deployment's present template.
    pub(crate) current: bool,
    pub(crate) ready: bool,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) create: usize,
    pub(crate) end: Vec<String>,
}

/// Makes before it breaks: a pod of an old template goes when a pod of the present one is ready in its place.
pub(crate) fn plan(replicas: usize, members: &[Member]) -> Plan {
    let mut current: Vec<&Member> = members.iter().filter(|m| m.current).collect();
    let mut old: Vec<&Member> = members.iter().filter(|m| !m.current).collect();
    // Whom to end first stands first: those that serve nobody, then the youngest.
    let order = |m: &&Member| (m.ready, std::cmp::Reverse(m.created), m.name.clone());
    current.sort_by_key(order);
    old.sort_by_key(order);
    let ready = current.iter().filter(|m| m.ready).count().min(replicas);
    let too_many = current.len().saturating_sub(replicas);
    let old_too_many = old.len().saturating_sub(replicas - ready);
    let end = current
        .iter()
        .take(too_many)
        .chain(old.iter().take(old_too_many));
    Plan {
        create: replicas.saturating_sub(current.len()),
        end: end.map(|m| m.name.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` and `b` of the present template, `x` and `y` of an old one; capitals are ready.
    fn planned(replicas: usize, pods: &str) -> (usize, String) {
        let members: Vec<Member> = (pods.chars().zip(0..))
            .map(|(c, created)| Member {
                name: c.to_string(),
                current: c.to_ascii_lowercase() < 'm',
                ready: c.is_uppercase(),
                created,
            })
            .collect();
        let plan = plan(replicas, &members);
        (plan.create, plan.end.concat())
    }

    #[test]
    fn pods_are_made_before_others_end() {
        assert_eq!(planned(2, ""), (2, "".into()));
        assert_eq!(planned(2, "AB"), (0, "".into()));
        assert_eq!(
            planned(2, "XY"),
            (2, "".into()),
            "nothing ends before something new is ready"
        );
        assert_eq!(planned(2, "XYab"), (0, "".into()));
        assert_eq!(planned(2, "XYAb"), (0, "Y".into()));
        assert_eq!(planned(2, "XYAB"), (0, "YX".into()));
        assert_eq!(
            planned(1, "xX"),
            (1, "x".into()),
            "who serves nobody goes first"
        );
    }

    #[test]
    fn scaling_down_ends_the_unready_and_then_the_youngest() {
        assert_eq!(planned(1, "ABC"), (0, "CB".into()));
        assert_eq!(planned(1, "aBC"), (0, "aC".into()));
        assert_eq!(planned(0, "AX"), (0, "AX".into()));
    }
}
