//! What stands between an Envoy and the control plane: its stream is passed on over the workload's connection, its secrets
//! are answered here, and a response may be changed on its way.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use catamaran_wire::core::{DataSource, DataSourceSpecifier};
use catamaran_wire::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use catamaran_wire::grpc::{
    AggregatedDiscoveryClient, AggregatedDiscoveryServer, AggregatedDiscoveryService, Requests,
    Responses,
};
use catamaran_wire::tls::{CertificateValidationContext, Secret, SecretType, TlsCertificate};
use catamaran_wire::{Any, TypeUrl};
use futures_util::StreamExt;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tower_service::Service;

use crate::client::Channel;

/// Changes a resource on its way to the Envoy.
pub(crate) type Spoil = fn(&mut Any);

/// What the Envoy answered and was told, for tests to look at.
#[derive(Default)]
pub(crate) struct Talk {
    /// The texts of refusals.
    pub(crate) refusals: Vec<String>,
    /// How many responses it was sent.
    pub(crate) responses: usize,
}

#[derive(Clone)]
pub(crate) struct Door {
    channel: Channel,
    spoil: Arc<Mutex<Option<Spoil>>>,
    pub(crate) talk: Arc<Mutex<Talk>>,
}

/// PEM texts, as an agent hands them out.
#[derive(Clone)]
pub(crate) struct Papers {
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) roots: String,
}

impl Door {
    /// Opens one at a socket in `folder`.
    pub(crate) fn open(channel: Channel, papers: Papers, folder: &Path) -> (Door, PathBuf) {
        let path = folder.join("door");
        let listener = UnixListener::bind(&path).unwrap();
        let door = Door {
            channel,
            spoil: Arc::default(),
            talk: Arc::default(),
        };
        let server = tonic::transport::Server::builder()
            .add_service(AggregatedDiscoveryServer::new(Arc::new(door.clone())))
            .add_service(Secrets(AggregatedDiscoveryServer::new(Arc::new(Desk(
                papers,
            )))))
            .serve_with_incoming(UnixListenerStream::new(listener));
        tokio::spawn(server);
        (door, path)
    }

    /// From now on every resource passes through this.
    pub(crate) fn spoil(&self, how: Option<Spoil>) {
        *self.spoil.lock().unwrap() = how;
    }

    fn pass(&self, resource: &mut Any) {
        if let Some(spoil) = *self.spoil.lock().unwrap() {
            spoil(resource);
        }
    }

    fn refused(&self, said: Option<&catamaran_wire::well_known::Status>) {
        let said = said.map(|status| status.message.clone());
        self.talk.lock().unwrap().refusals.extend(said);
    }
}

impl AggregatedDiscoveryService for Door {
    type Full = DiscoveryResponse;
    type Delta = DeltaDiscoveryResponse;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Requests<DiscoveryRequest>>,
    ) -> Result<Response<Responses<DiscoveryResponse>>, Status> {
        let door = self.clone();
        let requests = request.into_inner().filter_map(move |request| {
            let request = request.ok();
            door.refused(
                request
                    .as_ref()
                    .and_then(|request| request.error_detail.as_ref()),
            );
            std::future::ready(request)
        });
        let mut client = AggregatedDiscoveryClient::new(self.channel.clone());
        let responses = client
            .stream_aggregated_resources(requests)
            .await?
            .into_inner();
        let door = self.clone();
        let passed = responses.map(move |response| {
            let mut response = response?;
            door.talk.lock().unwrap().responses += 1;
            response
                .resources
                .iter_mut()
                .for_each(|resource| door.pass(resource));
            Ok(response)
        });
        Ok(Response::new(passed.boxed()))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Requests<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses<DeltaDiscoveryResponse>>, Status> {
        let door = self.clone();
        let requests = request.into_inner().filter_map(move |request| {
            let request = request.ok();
            door.refused(
                request
                    .as_ref()
                    .and_then(|request| request.error_detail.as_ref()),
            );
            std::future::ready(request)
        });
        let mut client = AggregatedDiscoveryClient::new(self.channel.clone());
        let responses = client
            .delta_aggregated_resources(requests)
            .await?
            .into_inner();
        let door = self.clone();
        let passed = responses.map(move |response| {
            let mut response = response?;
            door.talk.lock().unwrap().responses += 1;
            let resources = response.resources.iter_mut();
            resources
                .filter_map(|resource| resource.resource.as_mut())
                .for_each(|resource| door.pass(resource));
            Ok(response)
        });
        Ok(Response::new(passed.boxed()))
    }
}

/// Secrets are streams of the same messages under another name.
#[derive(Clone)]
struct Secrets(AggregatedDiscoveryServer<Desk>);

impl NamedService for Secrets {
    const NAME: &'static str = "envoy.service.secret.v3.SecretDiscoveryService";
}

impl Service<http::Request<tonic::body::Body>> for Secrets {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future =
        <AggregatedDiscoveryServer<Desk> as Service<http::Request<tonic::body::Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        assert!(
            request.uri().path().ends_with("/StreamSecrets"),
            "{}",
            request.uri()
        );
        let path =
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
        *request.uri_mut() = path.parse().unwrap();
        self.0.call(request)
    }
}

struct Desk(Papers);

impl AggregatedDiscoveryService for Desk {
    type Full = DiscoveryResponse;
    type Delta = DeltaDiscoveryResponse;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Requests<DiscoveryRequest>>,
    ) -> Result<Response<Responses<DiscoveryResponse>>, Status> {
        let papers = self.0.clone();
        let answers = request.into_inner().filter_map(move |request| {
            let first = request
                .ok()
                .filter(|request| request.response_nonce.is_empty());
            let answer = first.map(|request| DiscoveryResponse {
                version_info: "1".into(),
                nonce: "1".into(),
                type_url: Secret::TYPE_URL.into(),
                resources: request
                    .resource_names
                    .iter()
                    .map(|name| papers.secret(name))
                    .collect(),
                ..Default::default()
            });
            std::future::ready(answer.map(Ok))
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Requests<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses<DeltaDiscoveryResponse>>, Status> {
        Err(Status::unimplemented(
            "secrets are asked for as the state of the world",
        ))
    }
}

impl Papers {
    fn secret(&self, name: &str) -> Any {
        let text = |text: &str| {
            Some(DataSource {
                specifier: Some(DataSourceSpecifier::InlineString(text.to_owned())),
                ..Default::default()
            })
        };
        let kind = match name {
            "default" => SecretType::TlsCertificate(TlsCertificate {
                certificate_chain: text(&self.chain),
                private_key: text(&self.key),
                ..Default::default()
            }),
            "ROOTCA" => SecretType::ValidationContext(CertificateValidationContext {
                trusted_ca: text(&self.roots),
                ..Default::default()
            }),
            other => panic!("no secret has the name {other}"),
        };
        Any::pack(&Secret {
            name: name.to_owned(),
            r#type: Some(kind),
        })
    }
}
