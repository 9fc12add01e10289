//! `envoy.service.secret.v3.SecretDiscoveryService`: the workload's certificate and the mesh's roots, under Istio's names.
//!
//! A stream that asks for another name is ended with that name in the reason; an Envoy has a stream for each secret, so the
//! others go on. What is not there yet (the first certificate) is answered when it comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_identity::Credentials;
use catamaran_model::TrustDomain;
use catamaran_wire::core::DataSource;
use catamaran_wire::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    Resource as WireResource,
};
use catamaran_wire::grpc::{Requests, Responses, SecretDiscoveryService};
use catamaran_wire::tls::{CertificateValidationContext, Secret, SecretType, TlsCertificate};
use catamaran_wire::well_known::Status as Said;
use catamaran_wire::{Any, Message, TypeUrl};
use catamaran_xds::Version;
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::certificate::CertificateStatus;

/// The secret with the workload's certificate, chain and key.
pub(crate) const CERTIFICATE: &str = "default";
/// The secret with the roots.
pub(crate) const ROOTS: &str = "ROOTCA";
/// Answers that wait for an Envoy that does not read.
const ANSWERS: usize = 4;

/// One secret, packed once for all streams.
#[derive(Debug, Clone, PartialEq)]
struct Packed {
    version: String,
    body: Any,
}

impl Packed {
    fn new(name: &str, content: SecretType) -> Packed {
        let body = Any::pack(&Secret {
            name: name.into(),
            r#type: Some(content),
        });
        Packed {
            version: Version::of(&body.value).to_string(),
            body,
        }
    }
}

/// The secrets that are there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Secrets(BTreeMap<&'static str, Packed>);

impl Secrets {
    pub(crate) fn of(credentials: &Credentials, trust_domain: &TrustDomain) -> Secrets {
        let roots = SecretType::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(DataSource::inline(
                credentials.bundle().to_pem(trust_domain),
            )),
            ..CertificateValidationContext::default()
        });
        let mut secrets = BTreeMap::from([(ROOTS, Packed::new(ROOTS, roots))]);
        if let Some(held) = credentials.holding() {
            let certificate = SecretType::TlsCertificate(TlsCertificate {
                certificate_chain: Some(DataSource::inline(held.chain_pem())),
                private_key: Some(DataSource::inline(held.key_pem().to_string())),
                ..TlsCertificate::default()
            });
            secrets.insert(CERTIFICATE, Packed::new(CERTIFICATE, certificate));
        }
        Secrets(secrets)
    }
}

/// Follows the certificate's keeper, for ever.
pub(crate) async fn follow(
    credentials: Arc<Credentials>,
    trust_domain: TrustDomain,
    mut renewed: watch::Receiver<CertificateStatus>,
    secrets: watch::Sender<Secrets>,
) {
    loop {
        let now = Secrets::of(&credentials, &trust_domain);
        secrets.send_if_modified(|before| {
            let differs = *before != now;
            if differs {
                *before = now;
            }
            differs
        });
        if renewed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// One end of a stream, without its socket.
trait Session: Default + Send + 'static {
    type Request: Message + Default;
    type Response: Send + 'static;

    /// Takes what the client asks, accepts or refuses.
    fn hear(&mut self, request: Self::Request) -> Result<(), Status>;
    /// What the client should have and was not sent.
    fn due(&mut self, secrets: &Secrets) -> Option<Self::Response>;
}

/// What a client asked for, and what of it it was sent.
#[derive(Debug, Default)]
struct Asked {
    names: BTreeSet<String>,
    sent: BTreeMap<String, String>,
    nonce: u64,
}

impl Asked {
    fn differs(&self, name: &str, secrets: &Secrets) -> bool {
        let packed = secrets.0.get(name);
        packed.is_some_and(|packed| self.sent.get(name) != Some(&packed.version))
    }

    fn send<'a>(&mut self, name: &str, secrets: &'a Secrets) -> Option<&'a Packed> {
        let packed = secrets.0.get(name)?;
        self.sent.insert(name.into(), packed.version.clone());
        Some(packed)
    }

    fn next_nonce(&mut self) -> String {
        self.nonce += 1;
        self.nonce.to_string()
    }
}

/// The state of the world: each response holds everything.
#[derive(Debug, Default)]
struct Full(Asked);

impl Session for Full {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn hear(&mut self, request: DiscoveryRequest) -> Result<(), Status> {
        check(&request.type_url, &request.resource_names)?;
        note(request.error_detail.as_ref(), &request.resource_names);
        self.0.names = request.resource_names.into_iter().collect();
        let names = &self.0.names;
        self.0.sent.retain(|name, _| names.contains(name));
        Ok(())
    }

    fn due(&mut self, secrets: &Secrets) -> Option<DiscoveryResponse> {
        let names = self.0.names.clone();
        if !names.iter().any(|name| self.0.differs(name, secrets)) {
            return None;
        }
        let packed: Vec<&Packed> = names
            .iter()
            .filter_map(|name| self.0.send(name, secrets))
            .collect();
        let versions: Vec<&str> = packed
            .iter()
            .map(|packed| packed.version.as_str())
            .collect();
        Some(DiscoveryResponse {
            version_info: versions.join("-"),
            resources: packed.iter().map(|packed| packed.body.clone()).collect(),
            type_url: Secret::TYPE_URL.into(),
            nonce: self.0.next_nonce(),
            ..DiscoveryResponse::default()
        })
    }
}

/// Deltas: each response holds what changed.
#[derive(Debug, Default)]
struct Deltas(Asked);

impl Session for Deltas {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn hear(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        check(&request.type_url, &request.resource_names_subscribe)?;
        let names: Vec<String> = self.0.names.iter().cloned().collect();
        note(request.error_detail.as_ref(), &names);
        for name in request.resource_names_unsubscribe {
            self.0.names.remove(&name);
            self.0.sent.remove(&name);
        }
        for name in request.resource_names_subscribe {
            // Who asks again is answered again, but for what it says that it has.
            self.0.sent.remove(&name);
            if let Some(version) = request.initial_resource_versions.get(&name) {
                self.0.sent.insert(name.clone(), version.clone());
            }
            self.0.names.insert(name);
        }
        Ok(())
    }

    fn due(&mut self, secrets: &Secrets) -> Option<DeltaDiscoveryResponse> {
        let names = self.0.names.iter();
        let names: Vec<String> = names
            .filter(|name| self.0.differs(name, secrets))
            .cloned()
            .collect();
        if names.is_empty() {
            return None;
        }
        let resources = names.into_iter().filter_map(|name| {
            let packed = self.0.send(&name, secrets)?;
            Some(WireResource {
                name,
                version: packed.version.clone(),
                resource: Some(packed.body.clone()),
                ..WireResource::default()
            })
        });
        Some(DeltaDiscoveryResponse {
            resources: resources.collect(),
            type_url: Secret::TYPE_URL.into(),
            nonce: self.0.next_nonce(),
            ..DeltaDiscoveryResponse::default()
        })
    }
}

fn check(type_url: &str, names: &[String]) -> Result<(), Status> {
    if !["", Secret::TYPE_URL].contains(&type_url) {
        return Err(Status::invalid_argument(format!(
            "{type_url:?} is not served here; only secrets are"
        )));
    }
    match names
        .iter()
        .find(|name| ![CERTIFICATE, ROOTS].contains(&name.as_str()))
    {
        None => Ok(()),
        Some(other) => Err(Status::not_found(format!(
            "there is no secret {:?}: a workload has {CERTIFICATE:?}, its certificate, and {ROOTS:?}, the mesh's roots",
            other.chars().take(100).collect::<String>()
        ))),
    }
}

fn note(refusal: Option<&Said>, names: &[String]) {
    if let Some(refusal) = refusal {
        tracing::warn!(
            secrets = names.join(", "),
            reason = refusal.message,
            "the Envoy does not take its secrets; it goes on with those before"
        );
    }
}

/// Serves secrets.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) secrets: watch::Receiver<Secrets>,
}

impl Desk {
    fn open<S: Session>(&self, requests: Requests<S::Request>) -> Response<Responses<S::Response>> {
        let (answers, outgoing) = mpsc::channel(ANSWERS);
        tokio::spawn(converse::<S>(requests, self.secrets.clone(), answers));
        Response::new(ReceiverStream::new(outgoing).boxed())
    }
}

async fn converse<S: Session>(
    mut requests: Requests<S::Request>,
    mut secrets: watch::Receiver<Secrets>,
    answers: mpsc::Sender<Result<S::Response, Status>>,
) {
    let mut session = S::default();
    loop {
        tokio::select! {
            request = requests.message() => {
                let heard = match request {
                    Ok(Some(request)) => session.hear(request),
                    Ok(None) | Err(_) => return,
                };
                if let Err(refused) = heard {
                    tracing::warn!(reason = refused.message(), "a stream for secrets is ended");
                    // Who is gone needs no reason.
                    let _ = answers.send(Err(refused)).await;
                    return;
                }
            }
            changed = secrets.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = answers.closed() => return,
        }
        let due = session.due(&secrets.borrow_and_update());
        if let Some(response) = due
            && answers.send(Ok(response)).await.is_err()
        {
            return;
        }
    }
}

impl SecretDiscoveryService for Desk {
    async fn stream_secrets(
        &self,
        request: Request<Requests<DiscoveryRequest>>,
    ) -> Result<Response<Responses<DiscoveryResponse>>, Status> {
        Ok(self.open::<Full>(request.into_inner()))
    }

    async fn delta_secrets(
        &self,
        request: Request<Requests<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses<DeltaDiscoveryResponse>>, Status> {
        Ok(self.open::<Deltas>(request.into_inner()))
    }
}
