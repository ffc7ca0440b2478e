//! A client without opinions: raw bytes out, status, head and body back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Head as sent, lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `null` where it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a whole request, which must ask for `connection: close`, and reads to the end.
pub(crate) fn raw(to: SocketAddr, request: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    // A server that refuses early may stop reading: its answer counts all the same.
    let _ = stream.write_all(request);
    rest(&mut stream)
}

/// Reads an answer to the end of its connection.
pub(crate) fn rest(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    if bytes.is_empty() {
        read?;
    }
    parse(&bytes).ok_or_else(|| std::io::Error::other(format!("no answer in {:?}", String::from_utf8_lossy(&bytes))))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    })
}

/// A request's bytes; `headers` end each line with `\r\n`, and a `host:` among them replaces the usual one.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n").into_bytes();
    if !headers.contains("host:") {
        bytes.extend_from_slice(b"host: localhost\r\n");
    }
    bytes.extend_from_slice(headers.as_bytes());
    if !body.is_empty() || method == "POST" {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// `GET`.
pub(crate) fn get(to: SocketAddr, path: &str) -> Answer {
    raw(to, &request("GET", path, "", b"")).unwrap()
}

/// `POST` of JSON.
pub(crate) fn post(to: SocketAddr, path: &str, body: &Value) -> Answer {
    let headers = "content-type: application/json\r\n";
    raw(to, &request("POST", path, headers, body.to_string().as_bytes())).unwrap()
}
