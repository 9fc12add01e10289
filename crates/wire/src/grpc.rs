//! The two gRPC services of the mesh, both ends of each: discovery and certificates.
//!
//! A server is a [`tower_service::Service`] that tonic's router takes; a client takes a channel, or a server directly,
//! which is how tests do without sockets.

mod answers;
mod requests;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::GrpcService;
use tonic::codegen::{Body, BoxFuture, StdError};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{IntoRequest, IntoStreamingRequest, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

use answers::Answers;
pub use requests::Requests;

use crate::Encode;
use crate::csr::{IstioCertificateRequest, IstioCertificateResponse};
use crate::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

/// In bytes, for a message in either direction, unless a client or server is told otherwise. tonic's own limit of 4 MiB
/// is less than the endpoints of a large mesh take in one response.
pub const MESSAGE_LIMIT: usize = 16 << 20;

const DISCOVERY: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
const STREAM: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// A gRPC method of [`AggregatedDiscoveryService`], as a path: for who passes its streams on unread.
pub const AGGREGATED_METHODS: [&str; 2] = [STREAM, DELTA];
const SECRETS: &str = "envoy.service.secret.v3.SecretDiscoveryService";
const STREAM_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
const DELTA_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets";
const CERTIFICATES: &str = "istio.v1.auth.IstioCertificateService";
const CREATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// What a server answers on a stream; an error ends it.
pub type Responses<T> = BoxStream<'static, Result<T, Status>>;

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`
pub trait AggregatedDiscoveryService: Send + Sync + 'static {
    /// What goes out as a [`DiscoveryResponse`].
    type Full: Encode;
    /// What goes out as a [`DeltaDiscoveryResponse`].
    type Delta: Encode;

    /// State of the world: each response holds all resources of its type.
    fn stream_aggregated_resources(
        &self,
        request: Request<Requests<DiscoveryRequest>>,
    ) -> impl Future<Output = Result<Response<Responses<Self::Full>>, Status>> + Send;

    /// Each response holds what changed.
    fn delta_aggregated_resources(
        &self,
        request: Request<Requests<DeltaDiscoveryRequest>>,
    ) -> impl Future<Output = Result<Response<Responses<Self::Delta>>, Status>> + Send;
}

/// `envoy.service.secret.v3.SecretDiscoveryService`, but for its unary method
pub trait SecretDiscoveryService: Send + Sync + 'static {
    /// State of the world: each response holds all secrets that were asked for.
    fn stream_secrets(
        &self,
        request: Request<Requests<DiscoveryRequest>>,
    ) -> impl Future<Output = Result<Response<Responses<DiscoveryResponse>>, Status>> + Send;

    /// Each response holds what changed.
    fn delta_secrets(
        &self,
        request: Request<Requests<DeltaDiscoveryRequest>>,
    ) -> impl Future<Output = Result<Response<Responses<DeltaDiscoveryResponse>>, Status>> + Send;
}

/// `istio.v1.auth.IstioCertificateService`
pub trait IstioCertificateService: Send + Sync + 'static {
    fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> impl Future<Output = Result<Response<IstioCertificateResponse>, Status>> + Send;
}

/// Serves an [`AggregatedDiscoveryService`].
pub struct AggregatedDiscoveryServer<S> {
    service: Arc<S>,
    message_limit: usize,
}

/// Serves a [`SecretDiscoveryService`].
pub struct SecretDiscoveryServer<S> {
    service: Arc<S>,
    message_limit: usize,
}

/// Serves an [`IstioCertificateService`].
pub struct IstioCertificateServer<S> {
    service: Arc<S>,
    message_limit: usize,
}

macro_rules! server {
    ($server:ident, $trait:ident, $name:expr) => {
        impl<S: $trait> $server<S> {
            pub fn new(service: Arc<S>) -> Self {
                Self {
                    service,
                    message_limit: MESSAGE_LIMIT,
                }
            }

            /// In bytes, for requests and responses alike.
            pub fn with_message_limit(self, message_limit: usize) -> Self {
                Self {
                    message_limit,
                    ..self
                }
            }
        }

        impl<S> Clone for $server<S> {
            fn clone(&self) -> Self {
                Self {
                    service: self.service.clone(),
                    message_limit: self.message_limit,
                }
            }
        }

        impl<S> NamedService for $server<S> {
            const NAME: &'static str = $name;
        }
    };
}

server!(
    AggregatedDiscoveryServer,
    AggregatedDiscoveryService,
    DISCOVERY
);
server!(SecretDiscoveryServer, SecretDiscoveryService, SECRETS);
server!(
    IstioCertificateServer,
    IstioCertificateService,
    CERTIFICATES
);

impl<S, B> Service<http::Request<B>> for AggregatedDiscoveryServer<S>
where
    S: AggregatedDiscoveryService,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Self {
            service,
            message_limit,
        } = self.clone();
        match request.uri().path() {
            STREAM => Box::pin(async move {
                let call = move |request| {
                    let service = service.clone();
                    async move { service.stream_aggregated_resources(request).await }
                };
                Ok(streaming(message_limit, call, request).await)
            }),
            DELTA => Box::pin(async move {
                let call = move |request| {
                    let service = service.clone();
                    async move { service.delta_aggregated_resources(request).await }
                };
                Ok(streaming(message_limit, call, request).await)
            }),
            path => Box::pin(std::future::ready(Ok(no_such_method(path)))),
        }
    }
}

impl<S, B> Service<http::Request<B>> for SecretDiscoveryServer<S>
where
    S: SecretDiscoveryService,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Self {
            service,
            message_limit,
        } = self.clone();
        match request.uri().path() {
            STREAM_SECRETS => Box::pin(async move {
                let call = move |request| {
                    let service = service.clone();
                    async move { service.stream_secrets(request).await }
                };
                Ok(streaming(message_limit, call, request).await)
            }),
            DELTA_SECRETS => Box::pin(async move {
                let call = move |request| {
                    let service = service.clone();
                    async move { service.delta_secrets(request).await }
                };
                Ok(streaming(message_limit, call, request).await)
            }),
            path => Box::pin(std::future::ready(Ok(no_such_method(path)))),
        }
    }
}

impl<S, B> Service<http::Request<B>> for IstioCertificateServer<S>
where
    S: IstioCertificateService,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Self {
            service,
            message_limit,
        } = self.clone();
        match request.uri().path() {
            CREATE => Box::pin(async move {
                let call = Call(move |request| {
                    let service = service.clone();
                    async move { service.create_certificate(request).await }
                });
                Ok(server_end(message_limit).unary(call, request).await)
            }),
            path => Box::pin(std::future::ready(Ok(no_such_method(path)))),
        }
    }
}

/// A closure in the shape that tonic's server calls a method in.
struct Call<F>(F);

impl<F, A, R, O> Service<A> for Call<F>
where
    F: FnMut(A) -> R,
    R: Future<Output = Result<O, Status>>,
{
    type Response = O;
    type Error = Status;
    type Future = R;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, argument: A) -> R {
        (self.0)(argument)
    }
}

fn server_end<Res, Req>(message_limit: usize) -> tonic::server::Grpc<ProstCodec<Res, Req>>
where
    Res: Message + 'static,
    Req: Message + Default + 'static,
{
    tonic::server::Grpc::new(ProstCodec::default())
        .max_decoding_message_size(message_limit)
        .max_encoding_message_size(message_limit)
}

/// Answers a stream with a stream: [`Requests`] come in, [`Answers`] go out.
async fn streaming<Req, Res, R, B>(
    message_limit: usize,
    call: impl FnOnce(Request<Requests<Req>>) -> R + Send,
    request: http::Request<B>,
) -> http::Response<tonic::body::Body>
where
    Req: Message + Default,
    Res: Encode,
    R: Future<Output = Result<Response<Responses<Res>>, Status>> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    let (head, body) = request.into_parts();
    let requests = Requests::new(body, message_limit);
    let metadata = MetadataMap::from_headers(head.headers);
    let request = Request::from_parts(metadata, head.extensions, requests);
    let (metadata, responses, extensions) = match call(request).await {
        Ok(response) => response.into_parts(),
        Err(status) => return status.into_http(),
    };
    let body = tonic::body::Body::new(Answers::new(responses, message_limit));
    let mut response = http::Response::new(body);
    *response.headers_mut() = metadata.into_headers();
    *response.extensions_mut() = extensions;
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

fn no_such_method(path: &str) -> http::Response<tonic::body::Body> {
    Status::unimplemented(format!("no method {path:?} here")).into_http()
}

/// Asks an `envoy.service.discovery.v3.AggregatedDiscoveryService`.
#[derive(Clone, Debug)]
pub struct AggregatedDiscoveryClient<T> {
    inner: tonic::client::Grpc<T>,
}

/// Asks an `envoy.service.secret.v3.SecretDiscoveryService`.
#[derive(Clone, Debug)]
pub struct SecretDiscoveryClient<T> {
    inner: tonic::client::Grpc<T>,
}

/// Asks an `istio.v1.auth.IstioCertificateService`.
#[derive(Clone, Debug)]
pub struct IstioCertificateClient<T> {
    inner: tonic::client::Grpc<T>,
}

macro_rules! client {
    ($client:ident { $($methods:item)* }) => {
        impl<T> $client<T>
        where
            T: GrpcService<tonic::body::Body>,
            T::Error: Into<StdError>,
            T::ResponseBody: Body<Data = Bytes> + Send + 'static,
            <T::ResponseBody as Body>::Error: Into<StdError> + Send,
        {
            pub fn new(channel: T) -> Self {
                Self { inner: tonic::client::Grpc::new(channel) }.with_message_limit(MESSAGE_LIMIT)
            }

            /// In bytes, for requests and responses alike.
            pub fn with_message_limit(self, limit: usize) -> Self {
                let inner = self.inner.max_decoding_message_size(limit).max_encoding_message_size(limit);
                Self { inner }
            }

            async fn ready(&mut self) -> Result<(), Status> {
                self.inner.ready().await.map_err(|error| Status::unavailable(format!("not connected: {}", error.into())))
            }

            $($methods)*
        }
    };
}

client!(AggregatedDiscoveryClient {
    /// Ends when the server ends it, or after `requests` do and the server has answered.
    pub async fn stream_aggregated_resources(
        &mut self,
        requests: impl IntoStreamingRequest<Message = DiscoveryRequest>,
    ) -> Result<Response<Streaming<DiscoveryResponse>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(STREAM);
        self.inner.streaming(requests.into_streaming_request(), path, ProstCodec::default()).await
    }

    /// Ends when the server ends it, or after `requests` do and the server has answered.
    pub async fn delta_aggregated_resources(
        &mut self,
        requests: impl IntoStreamingRequest<Message = DeltaDiscoveryRequest>,
    ) -> Result<Response<Streaming<DeltaDiscoveryResponse>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(DELTA);
        self.inner.streaming(requests.into_streaming_request(), path, ProstCodec::default()).await
    }
});

client!(SecretDiscoveryClient {
    /// Ends when the server ends it, or after `requests` do and the server has answered.
    pub async fn stream_secrets(
        &mut self,
        requests: impl IntoStreamingRequest<Message = DiscoveryRequest>,
    ) -> Result<Response<Streaming<DiscoveryResponse>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(STREAM_SECRETS);
        self.inner.streaming(requests.into_streaming_request(), path, ProstCodec::default()).await
    }

    /// Ends when the server ends it, or after `requests` do and the server has answered.
    pub async fn delta_secrets(
        &mut self,
        requests: impl IntoStreamingRequest<Message = DeltaDiscoveryRequest>,
    ) -> Result<Response<Streaming<DeltaDiscoveryResponse>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(DELTA_SECRETS);
        self.inner.streaming(requests.into_streaming_request(), path, ProstCodec::default()).await
    }
});

client!(IstioCertificateClient {
    /// The caller's token goes into the request's metadata: `authorization: Bearer ..`, and `clusterid`.
    pub async fn create_certificate(
        &mut self,
        request: impl IntoRequest<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(CREATE);
        self.inner.unary(request.into_request(), path, ProstCodec::default()).await
    }
});

#[cfg(test)]
mod tests;
