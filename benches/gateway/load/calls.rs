//! The closed loop over gRPC: one thread, one call at a time per connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::super::Fallible;
use super::{Load, Outcome};

/// Calls over `connections` connections until the time is over. A call that fails is noted with status 500.
pub(crate) fn calls(address: SocketAddr, connections: usize, load: &Load<'_>) -> Fallible<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut senders = Vec::with_capacity(connections);
        let mut wires = JoinSet::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, wire) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            wires.spawn(wire);
            senders.push(sender);
        }
        let requests: Vec<Bytes> = load.requests.iter().cloned().map(Bytes::from).collect();
        let begun = Instant::now();
        let mut callers = JoinSet::new();
        for (at, sender) in senders.into_iter().enumerate() {
            callers.spawn(caller(sender, address, requests.clone(), at, begun + load.time));
        }
        let mut all = Outcome::default();
        while let Some(part) = callers.join_next().await {
            for (is_fine, latency) in part?? {
                all.note(if is_fine { 200 } else { 500 }, &[], latency, None);
            }
        }
        all.took = begun.elapsed();
        all.latencies.sort_unstable();
        Ok(all)
    })
}

async fn caller(
    mut sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    requests: Vec<Bytes>,
    mut at: usize,
    end: Instant,
) -> Fallible<Vec<(bool, Duration)>> {
    let uri = format!("http://{address}/inference.GRPCInferenceService/ModelInfer");
    let uri: http::Uri = uri.parse()?;
    let mut seen = Vec::new();
    while Instant::now() < end {
        at += 1;
        let request = Request::post(uri.clone())
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(requests[at % requests.len()].clone()))?;
        let sent = Instant::now();
        let answer = sender.send_request(request).await?;
        let in_head = answer.headers().get("grpc-status").cloned();
        let body = answer.into_body().collect().await?;
        let status = in_head.or_else(|| {
            body.trailers()
                .and_then(|trailers| trailers.get("grpc-status").cloned())
        });
        let is_fine = status.is_some_and(|status| status == "0") && body.to_bytes().len() > 5;
        seen.push((is_fine, sent.elapsed()));
    }
    Ok(seen)
}
