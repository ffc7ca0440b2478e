//! A small HTTP/1.1 client: one kept-alive connection, JSON out, bytes back.
//!
//! Always holds: at most one connection and one request at a time per client; a request ends within the client's
//! time limit; a request that may have reached the server is sent again only when it is a GET.
//! Leaves to others: what the answer means, and how many clients work side by side.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// An answer: status code and body.
pub type Answer = (u16, Bytes);

/// A larger answer than this is refused instead of filling the memory.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// What a request may take, connecting included.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("cannot reach {address}: {reason}; is the gateway running there?")]
    Unreachable {
        /// Where the client tried.
        address: String,
        /// The system's words.
        reason: String,
    },
    /// The time limit passed.
    #[error("{address} did not answer within {} s", limit.as_secs())]
    TimedOut {
        /// Who was asked.
        address: String,
        /// The limit.
        limit: Duration,
    },
    /// The connection broke, or the answer is not HTTP or too long.
    #[error("no whole answer from {address}: {reason}")]
    Broken {
        /// Who was asked.
        address: String,
        /// hyper's words.
        reason: String,
    },
    /// The body cannot be written as JSON.
    #[error("cannot write the request as JSON: {0}")]
    Body(#[from] serde_json::Error),
}

/// A keep-alive connection to one address.
pub struct Client {
    address: String,
    timeout: Duration,
    /// Sent with each request; never shown.
    authorization: Option<HeaderValue>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// Drives the connection; dropping the client closes it.
    driver: JoinSet<()>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What became of one attempt.
enum Attempt {
    Done(Answer),
    /// The connection was stale; sending again does no harm.
    Again(String),
}

impl Client {
    /// A client for `host:port`, which connects at the first request.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            timeout: TIMEOUT,
            authorization: None,
            tls: None,
            sender: None,
            driver: JoinSet::new(),
        }
    }

    /// A client that is already connected to `host:port`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(address: impl Into<String>) -> Result<Self, ClientError> {
        let mut client = Self::new(address);
        let sender = client.dial().await?;
        client.sender = Some(sender);
        Ok(client)
    }

    /// The same client with another time limit per request.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same client with an API key; `None` where that is none.
    #[must_use]
    pub fn with_key(mut self, key: &[u8]) -> Option<Self> {
        if key.is_empty() || key.contains(&b' ') {
            return None;
        }
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", key].concat()).ok()?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Some(self)
    }

    /// The same client over TLS; `None` where the address begins with no name that a certificate could have.
    pub(crate) fn with_tls(mut self, connector: TlsConnector) -> Option<Self> {
        let host = self
            .address
            .rsplit_once(':')
            .map_or(self.address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        self.tls = Some((connector, ServerName::try_from(host).ok()?));
        Some(self)
    }

    /// `GET path`.
    ///
    /// # Errors
    /// No whole answer came; any status is an answer.
    pub async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// No whole answer came; any status is an answer.
    pub async fn post_json(&mut self, path: &str, body: &impl Serialize) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(body)?;
        self.post(path, body.into()).await
    }

    /// `POST path` with JSON that is already written.
    ///
    /// # Errors
    /// No whole answer came; any status is an answer.
    pub async fn post(&mut self, path: &str, json: Bytes) -> Result<Answer, ClientError> {
        self.send(Method::POST, path, json).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        let limit = self.timeout;
        match tokio::time::timeout(limit, self.send_twice(&method, path, &body)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.sender = None;
                let address = self.address.clone();
                Err(ClientError::TimedOut { address, limit })
            }
        }
    }

    /// A server may close an idle connection at any moment; that is not worth an error once.
    async fn send_twice(&mut self, method: &Method, path: &str, body: &Bytes) -> Result<Answer, ClientError> {
        if self.sender.is_some()
            && let Attempt::Done(answer) = self.attempt(method, path, body).await?
        {
            return Ok(answer);
        }
        self.sender = Some(self.dial().await?);
        match self.attempt(method, path, body).await? {
            Attempt::Done(answer) => Ok(answer),
            Attempt::Again(reason) => Err(self.broken(reason)),
        }
    }

    async fn attempt(&mut self, method: &Method, path: &str, body: &Bytes) -> Result<Attempt, ClientError> {
        let Some(mut sender) = self.sender.take() else {
            return Ok(Attempt::Again("not connected".into()));
        };
        if let Err(e) = sender.ready().await {
            return Ok(Attempt::Again(e.to_string()));
        }
        let request = self.request(method, path, body)?;
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut e) => {
                let unsent = e.take_message().is_some();
                let reason = e.into_error();
                let idle = *method == Method::GET && reason.is_incomplete_message();
                return if unsent || idle {
                    Ok(Attempt::Again(reason.to_string()))
                } else {
                    Err(self.broken(reason.to_string()))
                };
            }
        };
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|e| self.broken(e.to_string()))?.to_bytes();
        self.sender = Some(sender);
        Ok(Attempt::Done((status, body)))
    }

    fn request(&self, method: &Method, path: &str, body: &Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address);
        if *method == Method::POST {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        builder
            .body(Full::new(body.clone()))
            .map_err(|e| self.broken(e.to_string()))
    }

    async fn dial(&mut self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let stream = TcpStream::connect(&self.address).await;
        let stream = stream.map_err(|e| ClientError::Unreachable {
            address: self.address.clone(),
            reason: e.to_string(),
        })?;
        // Small requests must not wait for the acknowledgement of the ones before; failing to say so costs only time.
        let _ = stream.set_nodelay(true);
        match self.tls.clone() {
            None => self.begin(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name, stream).await;
                let stream = stream.map_err(|e| self.broken(format!("no TLS: {e}")))?;
                self.begin(stream).await
            }
        }
    }

    async fn begin<S>(&mut self, stream: S) -> Result<SendRequest<Full<Bytes>>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(e.to_string()))?;
        self.driver = JoinSet::new();
        self.driver.spawn(async move {
            // A broken connection shows at the sender, where somebody waits.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn broken(&self, reason: String) -> ClientError {
        ClientError::Broken {
            address: self.address.clone(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers `per_connection` requests on each connection with its running number, then closes it.
    async fn server(per_connection: usize) -> (String, Arc<AtomicUsize>, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, mut tasks) = (Arc::clone(&connections), JoinSet::new());
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
                for _ in 0..per_connection {
                    let mut seen = Vec::new();
                    while !seen.ends_with(b"\r\n\r\n") && !seen.ends_with(b"}") {
                        let mut byte = [0];
                        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                            break;
                        }
                        seen.push(byte[0]);
                        // The head of a POST ends before its body.
                        if seen.starts_with(b"POST") && seen.ends_with(b"\r\n\r\n") {
                            seen.push(b' ');
                        }
                    }
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        (address, connections, tasks)
    }

    #[tokio::test]
    async fn one_connection_serves_many_requests() {
        let (address, connections, _server) = server(3).await;
        let mut client = Client::connect(address).await.unwrap();
        for _ in 0..2 {
            assert_eq!(client.get("/x").await.unwrap(), (200, Bytes::from_static(b"1")));
        }
        let answer = client.post_json("/x", &serde_json::json!({})).await.unwrap();
        assert_eq!(answer, (200, Bytes::from_static(b"1")));
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_connection_closed_while_idle_is_opened_again() {
        let (address, _, _server) = server(1).await;
        let mut client = Client::new(address);
        assert_eq!(client.get("/x").await.unwrap().1, "1");
        assert_eq!(client.get("/x").await.unwrap().1, "2");
    }

    #[tokio::test]
    async fn a_post_that_may_have_arrived_is_not_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let arrivals = Arc::new(AtomicUsize::new(0));
        let (counter, mut server) = (Arc::clone(&arrivals), JoinSet::new());
        server.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if stream.read(&mut [0; 4096]).await.unwrap() > 0 {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let mut client = Client::connect(address).await.unwrap();
        let error = client.post_json("/x", &serde_json::json!({})).await.unwrap_err();
        assert!(matches!(error, ClientError::Broken { .. }), "{error}");
        assert_eq!(arrivals.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_silent_server_costs_the_time_limit_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut client = Client::new(address).with_timeout(Duration::from_millis(30));
        assert!(matches!(client.get("/x").await, Err(ClientError::TimedOut { .. })));
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = Client::connect(address.clone()).await.unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
    }
}
