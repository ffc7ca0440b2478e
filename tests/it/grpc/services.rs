//! Health, reflection, and what is not offered.

use dethrone::grpc::pb::health::health_check_response::ServingStatus;
use dethrone::grpc::pb::health::{HealthCheckRequest, HealthCheckResponse};
use dethrone::grpc::pb::inference as pb;
use dethrone::grpc::pb::reflection::server_reflection_request::MessageRequest;
use dethrone::grpc::pb::reflection::server_reflection_response::MessageResponse;
use dethrone::grpc::pb::reflection::{ServerReflectionRequest, ServerReflectionResponse};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::support::grpc::{Client, codes};
use crate::support::{Site, gateway, shipped};

fn service(name: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: name.into() }
}

#[tokio::test]
async fn health_is_told_at_once_and_its_change_to_whoever_watches() {
    let site = Site::new("poll = \"100ms\"\n");
    let gateway = site.start();
    let mut client = Client::connect(gateway.grpc).await;
    let live: pb::ServerLiveResponse = client.ask("ServerLive", pb::ServerLiveRequest {}).await.unwrap();
    let ready: pb::ServerReadyResponse = client.ask("ServerReady", pb::ServerReadyRequest {}).await.unwrap();
    assert_eq!((live.live, ready.ready), (true, false));
    let (check, watch) = ("grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch");
    let now: HealthCheckResponse = client.call(check, service("")).await.unwrap().into_inner();
    assert_eq!(now.status(), ServingStatus::NotServing);
    let asked = tokio_stream::iter([service("inference.GRPCInferenceService")]);
    let mut watching = client.stream::<_, HealthCheckResponse>(watch, asked).await.unwrap();
    assert_eq!(
        watching.next().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    assert_eq!(watching.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let now: HealthCheckResponse = client.call(check, service("")).await.unwrap().into_inner();
    assert_eq!(now.status(), ServingStatus::Serving);
    let ready: pb::ServerReadyResponse = client.ask("ServerReady", pb::ServerReadyRequest {}).await.unwrap();
    assert!(ready.ready);
    let refused = client
        .call::<_, HealthCheckResponse>(check, service("nothing"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let asked = tokio_stream::iter([service("nothing")]);
    let mut unknown = client.stream::<_, HealthCheckResponse>(watch, asked).await.unwrap();
    assert_eq!(
        unknown.next().await.unwrap().unwrap().status(),
        ServingStatus::ServiceUnknown
    );
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_its_versions() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    for version in ["v1", "v1alpha"] {
        let path = format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let ask = |asked| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(asked),
        };
        let asked = tokio_stream::iter([
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol(
                "inference.ModelInferRequest".into(),
            )),
        ]);
        let mut told = client
            .stream::<_, ServerReflectionResponse>(&path, asked)
            .await
            .unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = told.next().await.unwrap().unwrap().message_response
        else {
            panic!("no list");
        };
        assert!(
            list.service.iter().any(|s| s.name == "inference.GRPCInferenceService"),
            "{list:?}"
        );
        let file = told.next().await.unwrap().unwrap().message_response;
        assert!(
            matches!(file, Some(MessageResponse::FileDescriptorResponse(_))),
            "{file:?}"
        );
        assert!(told.next().await.is_none());
    }
}

#[tokio::test]
async fn what_is_not_offered_is_unimplemented() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    for method in [
        "SystemSharedMemoryStatus",
        "SystemSharedMemoryRegister",
        "SystemSharedMemoryUnregister",
        "CudaSharedMemoryStatus",
        "CudaSharedMemoryRegister",
        "CudaSharedMemoryUnregister",
        "TraceSetting",
        "LogSettings",
        "Nothing",
    ] {
        let asked = client.ask::<pb::ServerLiveRequest, pb::ServerLiveResponse>(method, pb::ServerLiveRequest {});
        let refused = asked.await.unwrap_err();
        assert_eq!(codes(&refused), (Code::Unimplemented, "not_implemented"), "{method}");
    }
}
