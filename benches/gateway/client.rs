//! As much HTTP/1.1 as the measurements need: whole requests out, lengths of answers in.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Fallible;
use super::body;

/// A blocking connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Fallible<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(64 * 1024),
        })
    }

    /// Sends a request and takes its answer: the status and the body.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Fallible<(u16, Vec<u8>)> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let mut chunk = [0; 16 * 1024];
        loop {
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            self.buffer.extend_from_slice(&chunk[..read]);
            if let Some(answer) = Answer::parse(&self.buffer)? {
                return Ok((answer.status, self.buffer[answer.body..answer.end].to_vec()));
            }
        }
    }
}

/// An answer that has arrived whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where its body begins.
    pub(crate) body: usize,
    /// Where it ends.
    pub(crate) end: usize,
}

impl Answer {
    /// `None` while some of it is missing.
    pub(crate) fn parse(bytes: &[u8]) -> Fallible<Option<Self>> {
        const LENGTH: &[u8] = b"content-length:";
        let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
            return Ok(None);
        };
        let digits = |bytes: &[u8]| -> usize {
            let digits = bytes
                .iter()
                .skip_while(|b| **b == b' ')
                .take_while(|b| b.is_ascii_digit());
            digits.fold(0, |n, digit| n * 10 + usize::from(digit - b'0'))
        };
        let mut length = None;
        for line in bytes[..head].split(|b| *b == b'\n') {
            if line.len() > LENGTH.len() && line[..LENGTH.len()].eq_ignore_ascii_case(LENGTH) {
                length = Some(digits(&line[LENGTH.len()..]));
            }
        }
        let body = head + 4;
        let end = body + length.ok_or("an answer without a length")?;
        let status = u16::try_from(digits(bytes.get(9..12).unwrap_or_default()))?;
        Ok((bytes.len() >= end).then_some(Self { status, body, end }))
    }
}

/// The body of a page.
pub(crate) fn get(address: SocketAddr, path: &str) -> Fallible<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let (status, body) = Connection::open(address)?.ask(request.as_bytes())?;
    match status {
        200 => Ok(String::from_utf8(body)?),
        _ => Err(format!("{path}: {status} {}", String::from_utf8_lossy(&body)).into()),
    }
}

/// The answer to a posted JSON body.
pub(crate) fn post(connection: &mut Connection, address: SocketAddr, path: &str, json: &str) -> Fallible<()> {
    let (status, body) = connection.ask(&body::http(&address.to_string(), path, json))?;
    match status {
        200 => Ok(()),
        _ => Err(format!("{path}: {status} {}", String::from_utf8_lossy(&body)).into()),
    }
}
