use futures_util::{StreamExt, stream};

use super::*;
use crate::TypeUrl;
use crate::cluster::Cluster;

/// Answers each request with its own type, and a nonce that counts.
struct Echo;

impl AggregatedDiscoveryService for Echo {
    type Full = DiscoveryResponse;
    type Delta = DeltaDiscoveryResponse;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Requests<DiscoveryRequest>>,
    ) -> Result<Response<Responses<DiscoveryResponse>>, Status> {
        let answers = request.into_inner().enumerate().map(|(index, asked)| {
            asked.map(|asked| DiscoveryResponse {
                type_url: asked.type_url,
                nonce: index.to_string(),
                ..Default::default()
            })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Requests<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses<DeltaDiscoveryResponse>>, Status> {
        let answers = request.into_inner().map(|asked| {
            asked.map(|asked| DeltaDiscoveryResponse {
                type_url: asked.type_url,
                removed_resources: asked.resource_names_unsubscribe,
                ..Default::default()
            })
        });
        Ok(Response::new(answers.boxed()))
    }
}

impl IstioCertificateService for Echo {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        match request.metadata().get("authorization") {
            Some(_) => Ok(Response::new(IstioCertificateResponse {
                cert_chain: vec![request.into_inner().csr, "root".into()],
            })),
            None => Err(Status::unauthenticated("no token")),
        }
    }
}

fn discovery() -> AggregatedDiscoveryServer<Echo> {
    AggregatedDiscoveryServer::new(Arc::new(Echo))
}

#[tokio::test]
async fn the_state_of_the_world_goes_both_ways() {
    let asked = DiscoveryRequest {
        type_url: Cluster::TYPE_URL.into(),
        ..Default::default()
    };
    let answers = AggregatedDiscoveryClient::new(discovery())
        .stream_aggregated_resources(stream::iter([asked.clone(), asked]))
        .await
        .unwrap();
    let nonces: Vec<String> = answers
        .into_inner()
        .map(|answer| answer.unwrap().nonce)
        .collect()
        .await;
    assert_eq!(nonces, ["0", "1"]);
}

#[tokio::test]
async fn changes_go_both_ways() {
    let asked = DeltaDiscoveryRequest {
        type_url: Cluster::TYPE_URL.into(),
        resource_names_unsubscribe: vec!["gone".into()],
        ..Default::default()
    };
    let mut answers = AggregatedDiscoveryClient::new(discovery())
        .delta_aggregated_resources(stream::iter([asked]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(
        (answer.type_url.as_str(), answer.removed_resources),
        (Cluster::TYPE_URL, vec!["gone".into()])
    );
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_certificate_is_signed_for_a_token_only() {
    let mut client = IstioCertificateClient::new(IstioCertificateServer::new(Arc::new(Echo)));
    let asked = IstioCertificateRequest {
        csr: "csr".into(),
        ..Default::default()
    };
    let refused = client.create_certificate(asked.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);

    let mut with_token = Request::new(asked);
    with_token
        .metadata_mut()
        .insert("authorization", "Bearer token".parse().unwrap());
    let signed = client
        .create_certificate(with_token)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(signed.cert_chain, ["csr", "root"]);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let asked = DiscoveryRequest {
        type_url: "x".repeat(100),
        ..Default::default()
    };
    let mut answers = AggregatedDiscoveryClient::new(discovery())
        .with_message_limit(100)
        .stream_aggregated_resources(stream::iter([asked]))
        .await
        .unwrap()
        .into_inner();
    assert!(answers.message().await.is_err());
}

#[tokio::test]
async fn a_method_of_another_service_is_refused_by_name() {
    let mut client = IstioCertificateClient::new(discovery());
    let refused = client
        .create_certificate(IstioCertificateRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    assert_eq!(refused.message(), format!("no method {CREATE:?} here"));
}

/// Answers one request with a response of the size that it names.
struct Large;

impl AggregatedDiscoveryService for Large {
    type Full = DiscoveryResponse;
    type Delta = DeltaDiscoveryResponse;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Requests<DiscoveryRequest>>,
    ) -> Result<Response<Responses<DiscoveryResponse>>, Status> {
        Err(Status::permission_denied("not here"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Requests<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses<DeltaDiscoveryResponse>>, Status> {
        let answers = request.into_inner().map(|asked| {
            let size = asked?.type_url.parse();
            let size = size.map_err(|_| Status::invalid_argument("not a size"))?;
            Ok(DeltaDiscoveryResponse {
                nonce: "x".repeat(size),
                ..Default::default()
            })
        });
        Ok(Response::new(answers.boxed()))
    }
}

async fn large(sizes: &[&str]) -> Streaming<DeltaDiscoveryResponse> {
    let asked: Vec<_> = (sizes.iter())
        .map(|size| DeltaDiscoveryRequest {
            type_url: (*size).into(),
            ..Default::default()
        })
        .collect();
    let server = AggregatedDiscoveryServer::new(Arc::new(Large)).with_message_limit(1 << 20);
    let answers = AggregatedDiscoveryClient::new(server)
        .delta_aggregated_resources(stream::iter(asked))
        .await;
    answers.unwrap().into_inner()
}

#[tokio::test]
async fn responses_come_whole_and_the_stream_ends_with_its_status() {
    let mut answers = large(&["0", "300000", "7", "not a size", "8"]).await;
    for size in [0, 300_000, 7] {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.nonce.len(), size);
    }
    let end = answers.message().await.unwrap_err();
    assert_eq!(
        (end.code(), end.message()),
        (tonic::Code::InvalidArgument, "not a size")
    );
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_response_over_the_servers_limit_ends_the_stream_and_says_so() {
    let mut answers = large(&["5", "2000000"]).await;
    assert_eq!(answers.message().await.unwrap().unwrap().nonce.len(), 5);
    let end = answers.message().await.unwrap_err();
    assert_eq!(end.code(), tonic::Code::OutOfRange);
    assert!(end.message().contains("2000"), "{}", end.message());
}

#[tokio::test]
async fn a_stream_that_is_refused_says_why() {
    let refused = AggregatedDiscoveryClient::new(AggregatedDiscoveryServer::new(Arc::new(Large)))
        .stream_aggregated_resources(stream::iter([DiscoveryRequest::default()]))
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::PermissionDenied, "not here")
    );
}
