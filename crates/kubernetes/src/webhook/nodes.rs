//! Whether the nodes of a cluster know sidecars: init containers that go on beside the programs (KEP-753).

use std::time::Duration;

use http::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::connect::Access;
use crate::failure::Failure;

/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(10);
/// Since this version they are on by default.
const SINCE: (u32, u32) = (1, 29);
/// Nodes of one page, and pages.
const PAGE: usize = 500;
const MAX_PAGES: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

#[derive(Deserialize)]
struct Nodes {
    metadata: ListMeta,
    items: Option<Vec<Node>>,
}

#[derive(Deserialize)]
struct ListMeta {
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Node {
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    node_info: Info,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    kubelet_version: String,
}

/// Whether the API server and every node know sidecars. One node that does not is enough for no: nobody knows where a pod will
/// run when it is asked about.
///
/// # Errors
/// Why it is not known.
pub async fn know_sidecars(access: &Access) -> Result<bool, Failure> {
    let server: Version = get(access, "/version").await?;
    if !knows(&server.git_version) {
        return Ok(false);
    }
    let mut next = String::new();
    for _ in 0..MAX_PAGES {
        // as an API server makes it, it is made of letters that need no escape
        let path = match next.is_empty() {
            true => format!("/api/v1/nodes?limit={PAGE}"),
            false => format!("/api/v1/nodes?limit={PAGE}&continue={next}"),
        };
        let page: Nodes = get(access, &path).await?;
        let nodes = page.items.unwrap_or_default();
        if !nodes
            .iter()
            .all(|node| knows(&node.status.node_info.kubelet_version))
        {
            return Ok(false);
        }
        next = page.metadata.next;
        if next.is_empty() {
            break;
        }
    }
    Ok(true)
}

/// `v1.34.1`, `v1.29.3-gke.1282000`, `v1.31+`.
fn knows(version: &str) -> bool {
    let version = version.strip_prefix('v').unwrap_or(version);
    let mut parts = version.split(['.', '-', '+']);
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    match (number(), number()) {
        (Some(major), Some(minor)) => (major, minor) >= SINCE,
        _ => false,
    }
}

async fn get<T: DeserializeOwned>(access: &Access, path: &str) -> Result<T, Failure> {
    let request = Request::get(path)
        .body(Vec::new())
        .map_err(|error| Failure::Unreadable {
            why: error.to_string(),
        })?;
    let answer = tokio::time::timeout(LIMIT, access.client().request(request)).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    answer.map_err(|error| crate::api::of_error(access, &error))
}

#[cfg(test)]
mod tests {
    use super::knows;

    #[test]
    fn sidecars_came_with_1_29() {
        for yes in [
            "v1.29.0",
            "v1.34.1",
            "1.30",
            "v2.0.0",
            "v1.29.3-gke.1282000",
            "v1.31+",
        ] {
            assert!(knows(yes), "{yes}");
        }
        for no in ["v1.28.15", "v1.3.0", "", "v1", "main", "v1.x.2"] {
            assert!(!knows(no), "{no}");
        }
    }
}
