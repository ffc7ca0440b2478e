//! The end of a connection whose framing is at fault: its last answer, and time to read it.
//!
//! Always holds: the answer is written by nobody but us, once, and after all answers before it; a client that sends on
//! is not reset before it could read.

use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::framing::Fault;
use super::stream::Stream;
use crate::error::Error;

/// How long the client has to read its answer.
const LINGER: Duration = Duration::from_secs(2);
/// What it may send meanwhile.
const MAX_IGNORED: usize = 1 << 20;

/// A socket that hyper has let go.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) stream: Stream,
    /// What is still to be said.
    pub(crate) unsaid: Option<Fault>,
}

impl Left {
    /// Says it, and reads what the client still sends until it closes, within bounds.
    pub(super) async fn settle(mut self) {
        let say = async {
            if let Some(fault) = self.unsaid {
                self.stream.write_all(&answer(&fault.error())).await?;
            }
            self.stream.shutdown().await?;
            let (mut ignored, mut buffer) = (0, [0; 4096]);
            while ignored < MAX_IGNORED {
                match self.stream.read(&mut buffer).await? {
                    0 => break,
                    read => ignored += read,
                }
            }
            Ok::<_, std::io::Error>(())
        };
        // Whether it was read is the client's affair.
        let _ = tokio::time::timeout(LINGER, say).await;
    }
}

/// Head and body.
fn answer(error: &Error) -> Vec<u8> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let body = error.to_json();
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    answer
}
