//! A plain HTTP/1.1 client that keeps its connections, as programs do: names are asked for once a connection.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::LoadConfig;

/// How much of an answer is read; a longer one is a failure.
const MAX_ANSWER: usize = 4 * 1024;
/// How many connections are kept while they are not used.
const MAX_IDLE: usize = 64;

type Connection = SendRequest<Empty<Bytes>>;

/// Clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    config: Arc<LoadConfig>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Client {
    pub(super) fn new(config: &LoadConfig) -> Client {
        Client {
            config: Arc::new(config.clone()),
            idle: Arc::default(),
        }
    }

    /// The text of a good answer, or what went wrong.
    pub(super) async fn get(&self) -> Result<String, String> {
        let patience = self.config.patience;
        match tokio::time::timeout(patience, self.call()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
        }
    }

    async fn call(&self) -> Result<String, String> {
        let failed = |error: hyper::Error| format!("request: {}", whole(&error));
        let mut connection = match self.kept().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let answer = match connection.try_send_request(self.request()?).await {
            Ok(answer) => answer,
            Err(mut error) => match error.take_message() {
                // The connection was closed before the request was on its way: nothing is lost with it.
                Some(request) => {
                    connection = self.connect().await?;
                    connection.send_request(request).await.map_err(failed)?
                }
                None => return Err(failed(error.into_error())),
            },
        };
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("body: {error}"))?.to_bytes();
        self.keep(connection);
        match status.is_success() {
            true => Ok(String::from_utf8_lossy(&body).trim_end().to_owned()),
            false => Err(format!("status {}", status.as_u16())),
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, String> {
        let uri = &self.config.url;
        let target = match self.config.proxy {
            Some(_) => uri.to_string(),
            None => uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        Request::get(target)
            .header(header::HOST, authority)
            .body(Empty::new())
            .map_err(|error| format!("request: {error}"))
    }

    async fn kept(&self) -> Option<Connection> {
        loop {
            let mut connection = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()?;
            if connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !connection.is_closed() {
            idle.push(connection);
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let uri = &self.config.url;
        let stream = match self.config.proxy {
            Some(proxy) => TcpStream::connect(proxy).await,
            None => {
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await
            }
        };
        let stream = stream.map_err(|error| format!("connect: {}", plain(&error)))?;
        stream
            .set_nodelay(true)
            .map_err(|error| format!("connect: {}", plain(&error)))?;
        let (connection, driver) = (http1::handshake(TokioIo::new(stream)).await)
            .map_err(|error| format!("handshake: {}", whole(&error)))?;
        // It ends with the last handle of the connection; what goes wrong in it is told to the request.
        tokio::spawn(driver);
        Ok(connection)
    }
}

fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "refused".into(),
        std::io::ErrorKind::ConnectionReset => "reset".into(),
        _ => error.to_string(),
    }
}

/// The error with what is behind it: hyper's own text names only the kind.
fn whole(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
