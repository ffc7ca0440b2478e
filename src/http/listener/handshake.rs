//! TLS before the first byte of HTTP.
//!
//! Always holds: a handshake has as long as a head; whoever has not finished one makes room for others like an idle
//! connection, and shutdown does not wait for it.

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::super::Limits;
use super::super::connection::{TAKEN, Watch};
use super::super::stream::Stream;
use super::serve::Orders;

/// The connection under TLS; `None` when there is none.
pub(super) async fn shake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    watch: &Watch,
    orders: &Orders,
    limits: &Limits,
) -> Option<Stream> {
    // Boxed: a bare connection need not carry the room for it.
    let shaking = Box::pin(acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(TAKEN))));
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limits.header_timeout, shaking) => shaken,
        () = watch.evicted.notified() => return None,
        () = orders.kill.cancelled() => return None,
    };
    match shaken {
        Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
        // Port scanners and clients that trust somebody else: not for every log.
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}
