//! A client of gRPC that is not ours (tonic's), and one that sends exactly the bytes it is given.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use dethrone::grpc::pb::inference::infer_parameter::ParameterChoice;
use dethrone::grpc::pb::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use dethrone::grpc::pb::inference::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, IntoRequest, IntoStreamingRequest, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// Most bytes of a message that the client takes or sends: as much as there can be.
const UNLIMITED: usize = i32::MAX as usize;

/// A connection.
#[derive(Clone)]
pub(crate) struct Client(Grpc<Channel>);

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        let channel = Channel::from_shared(format!("http://{to}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let grpc = Grpc::new(channel)
            .max_decoding_message_size(UNLIMITED)
            .max_encoding_message_size(UNLIMITED);
        Self(grpc)
    }

    /// The same, packing what it sends and taking packed answers.
    pub(crate) fn packing(self) -> Self {
        let grpc = self.0.send_compressed(CompressionEncoding::Gzip);
        Self(grpc.accept_compressed(CompressionEncoding::Gzip))
    }

    /// One request, one answer, of a method by its full path without the slash.
    pub(crate) async fn call<Q, A>(&mut self, path: &str, request: impl IntoRequest<Q>) -> Result<Response<A>, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await.unwrap();
        let path = format!("/{path}").try_into().unwrap();
        self.0
            .unary(request.into_request(), path, ProstCodec::<Q, A>::default())
            .await
    }

    /// A method of `inference.GRPCInferenceService`.
    pub(crate) async fn ask<Q, A>(&mut self, method: &str, request: impl IntoRequest<Q>) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let path = format!("inference.GRPCInferenceService/{method}");
        self.call(&path, request).await.map(Response::into_inner)
    }

    pub(crate) async fn infer(
        &mut self,
        request: impl IntoRequest<ModelInferRequest>,
    ) -> Result<ModelInferResponse, Status> {
        self.ask("ModelInfer", request).await
    }

    /// Many requests, many answers.
    pub(crate) async fn stream<Q, A>(
        &mut self,
        path: &str,
        requests: impl IntoStreamingRequest<Message = Q>,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await.unwrap();
        let path = format!("/{path}").try_into().unwrap();
        let answers = self
            .0
            .streaming(requests.into_streaming_request(), path, ProstCodec::<Q, A>::default());
        answers.await.map(Response::into_inner)
    }
}

/// The stable code in a status, and the status' own.
pub(crate) fn codes(status: &Status) -> (Code, &str) {
    let stable = status
        .metadata()
        .get("dethrone-code")
        .map_or("", |code| code.to_str().unwrap());
    (status.code(), stable)
}

/// An input without elements.
pub(crate) fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        ..Default::default()
    }
}

/// An input with FP32 contents.
pub(crate) fn fp32(name: &str, shape: &[i64], values: &[f32]) -> InferInputTensor {
    InferInputTensor {
        contents: Some(InferTensorContents {
            fp32_contents: values.to_vec(),
            ..Default::default()
        }),
        ..input(name, "FP32", shape)
    }
}

/// A request.
pub(crate) fn request(model: &str, inputs: Vec<InferInputTensor>, raw: Vec<Vec<u8>>) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.into(),
        inputs,
        raw_input_contents: raw.into_iter().map(Bytes::from).collect(),
        ..Default::default()
    }
}

/// A wanted output.
pub(crate) fn output(name: &str) -> InferRequestedOutputTensor {
    InferRequestedOutputTensor {
        name: name.into(),
        ..Default::default()
    }
}

/// A parameter that is text.
pub(crate) fn text(parameters: &HashMap<String, InferParameter>, key: &str) -> String {
    match parameters.get(key).and_then(|p| p.parameter_choice.as_ref()) {
        Some(ParameterChoice::StringParam(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    }
}

/// The bytes of an output by name.
pub(crate) fn raw<'a>(answer: &'a ModelInferResponse, name: &str) -> &'a [u8] {
    let at = answer
        .outputs
        .iter()
        .position(|o| o.name == name)
        .unwrap_or_else(|| panic!("no '{name}': {answer:?}"));
    assert_eq!(answer.outputs.len(), answer.raw_output_contents.len());
    &answer.raw_output_contents[at]
}

/// The numbers of an FP32 output.
pub(crate) fn floats(answer: &ModelInferResponse, name: &str) -> Vec<f32> {
    let bytes = raw(answer, name).chunks_exact(4);
    bytes.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) head: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    /// The status of gRPC, wherever it stands.
    pub(crate) fn grpc_status(&self) -> &str {
        let status = self
            .trailers
            .get("grpc-status")
            .or_else(|| self.head.get("grpc-status"));
        status.map_or("none", |status| status.to_str().unwrap())
    }
}

/// A POST over HTTP/2 with this body, and these headers beside the usual ones.
pub(crate) async fn post(to: SocketAddr, path: &str, headers: &[(&'static str, &str)], body: Vec<u8>) -> Answer {
    send(to, path, headers, Full::new(Bytes::from(body))).await
}

/// The same with a body that comes as it likes.
pub(crate) async fn send<B>(to: SocketAddr, path: &str, headers: &[(&'static str, &str)], body: B) -> Answer
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let mut request = Request::post(format!("http://{to}{path}"));
    if headers.iter().all(|(name, _)| *name != "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.header("te", "trailers").body(body).unwrap();
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let answering = async {
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap();
        Answer {
            status: parts.status,
            head: parts.headers,
            trailers: body.trailers().cloned().unwrap_or_default(),
            body: body.to_bytes(),
        }
    };
    tokio::select! {
        answer = answering => answer,
        ended = connection => panic!("the connection ended first: {ended:?}"),
    }
}

/// A message in its frame.
pub(crate) fn frame(packed: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[packed][..], &length, message].concat()
}
