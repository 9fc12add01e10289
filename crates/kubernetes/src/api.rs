//! Lists and watches of one kind, page by page and line by line, with a limit on everything that the other side decides.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::core::Status;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::{Instant, timeout_at};

use crate::connect::{Access, DialError};
use crate::failure::{Failure, printable};
use crate::seen::{Bad, Key, Meta, Read};

/// The most bytes of a list's page.
pub(crate) const MAX_PAGE: usize = 128 << 20;
/// The most bytes of one line of a watch: an object can be 1.5 MiB in etcd, and JSON is larger than that.
pub(crate) const MAX_LINE: usize = 16 << 20;
/// The most bytes of an answer that is not what was asked for.
const MAX_COMPLAINT: usize = 64 << 10;

/// A page of a list.
pub(crate) struct Page<T> {
    pub(crate) revision: String,
    pub(crate) next: Option<String>,
    pub(crate) items: Vec<Result<T, Bad>>,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct ListOf<T> {
    metadata: ListMeta,
    /// An empty list may be `null`.
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

/// One line of a watch.
pub(crate) enum Line<T> {
    Put(T, String),
    Gone(Key, String),
    Bad(Bad, String),
    Bookmark(String),
    Failed(Failure),
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    #[allow(dead_code, reason = "it must be there")]
    object: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Of<T> {
    object: T,
}

#[derive(Deserialize)]
struct OnlyMeta {
    metadata: Meta,
}

/// Asks for one page, which must be there whole within `limit`.
pub(crate) async fn page<T: Read>(
    access: &Access,
    path: &str,
    limit: Duration,
) -> Result<Page<T>, Failure> {
    let deadline = Instant::now() + limit;
    let slow = |_| Failure::Slow { limit };
    let response = timeout_at(
        deadline,
        send(access, path, T::METADATA_ONLY.then_some("List")),
    );
    let response = response.await.map_err(slow)??;
    let body = timeout_at(deadline, whole(response, MAX_PAGE));
    read_page(&body.await.map_err(slow)??)
}

pub(crate) fn read_page<T: Read>(body: &[u8]) -> Result<Page<T>, Failure> {
    let unreadable = |error: serde_json::Error| Failure::Unreadable {
        why: printable(&error.to_string()),
    };
    let (metadata, items) = match serde_json::from_slice::<ListOf<T>>(body) {
        Ok(list) => {
            let items: Vec<_> = list.items.into_iter().flatten().map(Ok).collect();
            (list.metadata, items)
        }
        // One object that cannot be understood must not hide the others.
        Err(_) => {
            let list: ListOf<serde_json::Value> =
                serde_json::from_slice(body).map_err(unreadable)?;
            let read = |item: serde_json::Value| {
                T::deserialize(&item).map_err(|error| {
                    let key = OnlyMeta::deserialize(&item).ok();
                    Bad {
                        key: key.and_then(|only| only.metadata.key().ok()),
                        reason: printable(&error.to_string()),
                    }
                })
            };
            let items = list.items.into_iter().flatten().map(read).collect();
            (list.metadata, items)
        }
    };
    if metadata.resource_version.is_empty() && metadata.next.is_empty() {
        return Err(Failure::Unreadable {
            why: "the list has no resourceVersion".into(),
        });
    }
    Ok(Page {
        revision: metadata.resource_version,
        next: Some(metadata.next).filter(|next| !next.is_empty()),
        items,
    })
}

/// Opens a watch; the server must answer within `limit`.
pub(crate) async fn watch<T: Read>(
    access: &Access,
    path: &str,
    limit: Duration,
) -> Result<Lines, Failure> {
    let opened = send(access, path, T::METADATA_ONLY.then_some(""));
    let response = tokio::time::timeout(limit, opened);
    let response = response.await.map_err(|_| Failure::Slow { limit })??;
    Ok(Lines {
        body: response.into_body(),
        waiting: BytesMut::new(),
        searched: 0,
    })
}

/// The open answer of a watch.
pub(crate) struct Lines {
    body: Body,
    waiting: BytesMut,
    searched: usize,
}

impl Lines {
    /// The next line; `None` when the server ended the watch in order.
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next<T: Read>(&mut self) -> Option<Line<T>> {
        loop {
            if let Some(found) = memchr(&self.waiting[self.searched..]) {
                let line = self.waiting.split_to(self.searched + found);
                self.waiting.advance(1);
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Some(read_line(&line));
            }
            self.searched = self.waiting.len();
            if self.waiting.len() > MAX_LINE {
                return Some(Line::Failed(Failure::TooLarge { limit: MAX_LINE }));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.waiting.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    return Some(Line::Failed(Failure::Cut {
                        why: innermost(&error),
                    }));
                }
                None if self.waiting.is_empty() => return None,
                None => {
                    self.waiting.clear();
                    self.searched = 0;
                    return Some(Line::Failed(Failure::Cut {
                        why: "in the middle of an event".into(),
                    }));
                }
            }
        }
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n')
}

pub(crate) fn read_line<T: Read>(line: &[u8]) -> Line<T> {
    let unreadable = |error: serde_json::Error| {
        Line::Failed(Failure::Unreadable {
            why: printable(&error.to_string()),
        })
    };
    let meta = || serde_json::from_slice::<Of<OnlyMeta>>(line).map(|of| of.object.metadata);
    let head: Head = match serde_json::from_slice(line) {
        Ok(head) => head,
        Err(error) => return unreadable(error),
    };
    match head.kind.as_str() {
        "ADDED" | "MODIFIED" => match serde_json::from_slice::<Of<T>>(line) {
            Ok(of) => {
                let revision = of.object.meta().resource_version.clone();
                Line::Put(of.object, revision)
            }
            Err(error) => match meta() {
                Ok(meta) => Line::Bad(
                    Bad {
                        key: meta.key().ok(),
                        reason: printable(&error.to_string()),
                    },
                    meta.resource_version,
                ),
                Err(_) => unreadable(error),
            },
        },
        "DELETED" => match meta() {
            Ok(meta) => match meta.key() {
                Ok(key) => Line::Gone(key, meta.resource_version),
                // What has no legal name was never taken up.
                Err(reason) => Line::Bad(Bad { key: None, reason }, meta.resource_version),
            },
            Err(error) => unreadable(error),
        },
        "BOOKMARK" => match meta() {
            Ok(meta) => Line::Bookmark(meta.resource_version),
            Err(error) => unreadable(error),
        },
        "ERROR" => match serde_json::from_slice::<Of<Status>>(line) {
            Ok(of) => Line::Failed(of_status(of.object.code, &of.object, None)),
            Err(error) => unreadable(error),
        },
        other => Line::Failed(Failure::Unreadable {
            why: format!("an event of type {}", printable(other)),
        }),
    }
}

/// Sends a GET; anything but 200 is a failure.
async fn send(
    access: &Access,
    path: &str,
    partial: Option<&str>,
) -> Result<Response<Body>, Failure> {
    let accept = match partial {
        None => "application/json".to_owned(),
        // Labels are all that is needed of it; servers that cannot do that send whole objects.
        Some(list) => format!(
            "application/json;as=PartialObjectMetadata{list};g=meta.k8s.io;v=v1,application/json"
        ),
    };
    let request = Request::get(path).header(http::header::ACCEPT, accept);
    let request = request
        .body(Body::empty())
        .map_err(|e| Failure::Unreadable { why: e.to_string() })?;
    let response =
        (access.client().send(request).await).map_err(|error| of_error(access, &error))?;
    if response.status() == StatusCode::OK {
        return Ok(response);
    }
    Err(complaint(response).await)
}

async fn complaint(response: Response<Body>) -> Failure {
    let code = response.status().as_u16();
    let after = (response.headers().get(http::header::RETRY_AFTER))
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    // Every answer of an API server bears this, and nobody else's does.
    let of_api_server = response.headers().contains_key("audit-id");
    let body = tokio::time::timeout(Duration::from_secs(5), whole(response, MAX_COMPLAINT));
    let body = body.await.ok().and_then(Result::ok).unwrap_or_default();
    match serde_json::from_slice::<Status>(&body) {
        Ok(status) => of_status(code, &status, after),
        // Of a group of which it has no kind at all, an API server says so in plain words.
        Err(_) if code == 404 && of_api_server => Failure::Absent,
        Err(_) => {
            let text = String::from_utf8_lossy(&body);
            let said = printable(text.lines().next().unwrap_or_default());
            let status = Status {
                message: said,
                ..Status::default()
            };
            of_status(code, &status, after)
        }
    }
}

fn of_status(code: u16, status: &Status, after: Option<Duration>) -> Failure {
    let said = printable(&status.message);
    match code {
        401 => Failure::Unauthorized { said },
        403 => Failure::Forbidden { said },
        // Only an API server says so in these words; anything else may be a proxy that has lost its way.
        404 if status.reason == "NotFound" => Failure::Absent,
        410 => Failure::Expired,
        429 => Failure::Busy { after },
        500..=599 => Failure::Server { code, said },
        _ => Failure::Unexpected { code, said },
    }
}

/// What kube's client and hyper below it failed with.
pub(crate) fn of_error(access: &Access, error: &(dyn StdError + 'static)) -> Failure {
    let server = access.server().to_string();
    let mut inner = Some(error);
    while let Some(error) = inner {
        if let Some(kube::Error::Api(status)) = error.downcast_ref() {
            return of_status(status.code, status, None);
        }
        match error.downcast_ref::<DialError>() {
            Some(DialError::Unreachable(why)) => {
                let why = why.clone();
                return Failure::Unreachable { server, why };
            }
            Some(DialError::Address(why)) => {
                let why = why.clone();
                return Failure::Address { server, why };
            }
            Some(DialError::Tls(why)) => {
                let why = why.clone();
                return Failure::Tls { server, why };
            }
            None => {}
        }
        inner = error.source();
    }
    Failure::Unreachable {
        server,
        why: innermost(error),
    }
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    let text = inner.to_string();
    // Some end with the address of a manual.
    let said = text.split(": https://").next().unwrap_or_default();
    printable(said)
}

async fn whole(response: Response<Body>, limit: usize) -> Result<Bytes, Failure> {
    let mut body = response.into_body();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Truncated {
            why: innermost(&error),
        })?;
        if let Ok(data) = frame.into_data() {
            if all.len() + data.len() > limit {
                return Err(Failure::TooLarge { limit });
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(all.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn not_found(header: Option<&str>) -> Failure {
        let mut response = Response::builder().status(404);
        if let Some(name) = header {
            response = response.header(name, "5be9f4c0");
        }
        let body = Body::from(b"404 page not found\n".to_vec());
        complaint(response.body(body).unwrap()).await
    }

    #[tokio::test]
    async fn only_an_api_server_says_that_a_kind_is_not_there() {
        assert_eq!(not_found(Some("Audit-Id")).await, Failure::Absent);
        let elsewhere = not_found(None).await;
        assert!(matches!(elsewhere, Failure::Unexpected { code: 404, .. }));
    }
}
