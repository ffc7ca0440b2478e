//! The gRPC listener: the Open Inference Protocol, health and reflection, over the same connections as the HTTP ones.
//!
//! gRPC is HTTP/2 with a head of five bytes before each message and the status in the trailers. That much is done here,
//! on hyper, so that what holds for the HTTP listeners holds for this one without a second copy of it: bodies and their
//! common budget, the clock of idle and slow connections, eviction, shedding, shutdown; and so that an inference boxes
//! nothing. The messages of inference are read and written by hand (`request`, `answer`); all others are prost's.
//!
//! Always holds: an answer or a status for every call; no message larger than `max_body_bytes`, packed or not; one limit
//! of requests at once over all listeners; answers carry raw tensors; what cannot be had says UNIMPLEMENTED.
//! Leaves to others: what a request means and what is answered (`oip`, [`Backend`]).

mod about;
mod answer;
mod contents;
mod edge;
mod frame;
mod gate;
mod health;
mod infer;
pub mod pb;
mod reflection;
mod reply;
mod request;
mod rpc;
mod status;
mod stream;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

pub use rpc::Rpc;
pub use status::Code;

use crate::http::{App, Backend, Listener, Servers};
use crate::metrics::GrpcMetrics;
use crate::tls::Speaks;

/// Serves gRPC on `listener`; returns the bound address.
///
/// # Errors
/// The socket has no address.
pub fn start<B: Backend>(
    servers: &Servers,
    listener: Listener,
    app: &Arc<App<B>>,
    metrics: GrpcMetrics,
) -> io::Result<SocketAddr> {
    let bound = listener.socket.local_addr()?.ip();
    servers.open(("grpc", listener), Speaks::Grpc, |background| {
        edge::Edge::new(app, metrics, bound, background)
    })
}
