//! Messages as they travel: one byte that says whether it is packed, four of length, the bytes.
//!
//! Always holds: a message is at most `max_body_bytes` long, packed or not; nothing is packed for a client that does not
//! pack. Leaves to others: the packing and its bounds (`http::coding`).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use tokio::sync::Semaphore;

use crate::error::{Error, Kind};
use crate::http::Limits;
use crate::http::body::{self, Body};
use crate::http::coding::{self, Coding};

/// Bytes before each message.
pub(super) const PREFIX: usize = 5;
/// Smaller answers are not worth packing.
const MIN_PACKED: usize = 1_024;
/// How messages are packed, both ways.
pub(super) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The codings that are taken.
pub(super) const CODINGS: HeaderValue = HeaderValue::from_static("identity,deflate,gzip");

/// How messages are packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Codings {
    /// Those that come.
    pub(super) sent: Option<Coding>,
    /// Those that go.
    pub(super) wanted: Option<Coding>,
}

impl Codings {
    /// What a head says. Many clients say of every request that they would take packed answers: one that wants them
    /// packs what it sends.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let Some(sent) = coding::named(headers, &ENCODING)? else {
            return Ok(Self::default());
        };
        let accepted = headers.get("grpc-accept-encoding").and_then(|v| v.to_str().ok());
        let takes = accepted.is_some_and(|list| list.split(',').any(|one| one.trim() == sent.name()));
        Ok(Self {
            sent: Some(sent),
            wanted: takes.then_some(sent),
        })
    }
}

/// What stands before a message: whether it is packed, and its length.
pub(super) fn head(bytes: &[u8], max: usize) -> Result<Option<(bool, usize)>, Error> {
    let Some(([flag, length @ ..], _)) = bytes.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let packed = match flag {
        0 => false,
        1 => true,
        _ => {
            let text = "the first byte of a message is neither 0 nor 1: send messages as gRPC frames them";
            return Err(Error::new(Kind::MalformedBody, text));
        }
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > max {
        return Err(body::too_large(max));
    }
    Ok(Some((packed, length)))
}

/// The message of a request that has one, off its whole body.
pub(super) async fn only(
    body: Body,
    sent: Option<Coding>,
    limits: &Limits,
    budget: &Arc<Semaphore>,
) -> Result<Body, Error> {
    let length = body.bytes.len();
    let (packed, said) = head(&body.bytes, limits.max_body_bytes)?.ok_or_else(|| {
        let text = format!("the body has {length} bytes, which are no message: send one message");
        Error::new(Kind::MalformedBody, text)
    })?;
    if said != length - PREFIX {
        let text = format!(
            "the message's head says {said} bytes, {} follow: send one message, whole",
            length - PREFIX
        );
        return Err(Error::new(Kind::MalformedBody, text));
    }
    let Body { bytes, share } = body;
    unpacked(Body::of(bytes.slice(PREFIX..), share), packed, sent, limits, budget).await
}

/// A message as it was before it was packed.
pub(super) async fn unpacked(
    message: Body,
    packed: bool,
    sent: Option<Coding>,
    limits: &Limits,
    budget: &Arc<Semaphore>,
) -> Result<Body, Error> {
    if !packed {
        return Ok(message);
    }
    let coding = sent.ok_or_else(|| {
        let text = "a message says that it is packed, and no grpc-encoding says how: send the header";
        Error::new(Kind::MalformedBody, text)
    })?;
    coding::unpack(coding, message, limits, budget).await
}

/// An empty frame to write a message into, with room for `length` bytes.
pub(super) fn open(length: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PREFIX + length);
    frame.extend_from_slice(&[0; PREFIX]);
    frame
}

/// A frame with a generated message.
pub(super) fn of(message: &impl Message) -> Vec<u8> {
    let mut frame = open(message.encoded_len());
    // A vector grows: there is always room.
    let _ = message.encode(&mut frame);
    frame
}

/// A frame whose message has been written: its head filled in, packed where that is wanted.
pub(super) async fn close(mut frame: Vec<u8>, wanted: Option<Coding>) -> Result<Bytes, Error> {
    if let Some(coding) = wanted.filter(|_| frame.len() > MIN_PACKED) {
        let packed = coding::pack(coding, frame.split_off(PREFIX)).await?;
        let mut whole = open(packed.len());
        whole.extend_from_slice(&packed);
        return sealed(whole, 1);
    }
    sealed(frame, 0)
}

fn sealed(mut frame: Vec<u8>, packed: u8) -> Result<Bytes, Error> {
    let length = u32::try_from(frame.len().saturating_sub(PREFIX)).map_err(|_| {
        let text = "the answer is larger than 4 GiB: ask for fewer rows or outputs";
        Error::new(Kind::TooLarge, text)
    })?;
    if let Some(head) = frame.first_chunk_mut::<PREFIX>() {
        let [a, b, c, d] = length.to_be_bytes();
        *head = [packed, a, b, c, d];
    }
    Ok(frame.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            max_body_bytes: 1 << 20,
            ..Limits::default()
        }
    }

    async fn read(frame: &[u8], sent: Option<Coding>) -> Result<Bytes, Error> {
        let body = Body::of(Bytes::copy_from_slice(frame), None);
        let budget = body::budget(&limits());
        only(body, sent, &limits(), &budget).await.map(|body| body.bytes)
    }

    async fn framed(message: &[u8], wanted: Option<Coding>) -> Bytes {
        let mut frame = open(0);
        frame.extend_from_slice(message);
        close(frame, wanted).await.unwrap()
    }

    #[tokio::test]
    async fn messages_are_read_as_they_were_written_in_every_coding() {
        let message: Vec<u8> = (0..5_000u32).map(|i| (i % 251) as u8).collect();
        for coding in [None, Some(Coding::Gzip), Some(Coding::Deflate)] {
            for length in [0, 1, MIN_PACKED, message.len()] {
                let frame = framed(&message[..length], coding).await;
                assert_eq!(
                    read(&frame, coding).await.unwrap(),
                    message[..length],
                    "{coding:?} {length}"
                );
            }
            assert_eq!(framed(&message, coding).await[0], u8::from(coding.is_some()));
        }
    }

    #[tokio::test]
    async fn heads_that_lie_are_refused() {
        let whole = framed(b"abc", None).await;
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end], None).await.unwrap_err().kind, Kind::MalformedBody);
        }
        let two = [&whole[..], &whole[..]].concat();
        for (bytes, kind) in [
            (&two[..], Kind::MalformedBody),
            (&[2, 0, 0, 0, 0], Kind::MalformedBody),
            (&[1, 0, 0, 0, 1, 9], Kind::MalformedBody),
            (&[0, 255, 255, 255, 255, 1], Kind::TooLarge),
        ] {
            assert_eq!(read(bytes, None).await.unwrap_err().kind, kind, "{bytes:?}");
        }
        let garbled = read(&[1, 0, 0, 0, 1, 9], Some(Coding::Gzip)).await;
        assert_eq!(garbled.unwrap_err().kind, Kind::MalformedBody);
    }

    #[tokio::test]
    async fn a_bomb_is_refused_at_the_limit() {
        for coding in [Coding::Gzip, Coding::Deflate] {
            let bomb = framed(&vec![0; 50 << 20], Some(coding)).await;
            assert!(bomb.len() < 1 << 20);
            assert_eq!(read(&bomb, Some(coding)).await.unwrap_err().kind, Kind::TooLarge);
        }
    }

    #[test]
    fn answers_are_packed_only_for_clients_that_pack() {
        let of = |sent: Option<&'static str>, takes: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in [("grpc-encoding", sent), ("grpc-accept-encoding", takes)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            Codings::of(&headers).map(|codings| (codings.sent, codings.wanted))
        };
        let (gzip, deflate) = (Some(Coding::Gzip), Some(Coding::Deflate));
        let all = Some("identity, deflate, gzip");
        assert_eq!(of(None, all), Ok((None, None)));
        assert_eq!(of(Some("identity"), all), Ok((None, None)));
        assert_eq!(of(Some("gzip"), all), Ok((gzip, gzip)));
        assert_eq!(of(Some("deflate"), all), Ok((deflate, deflate)));
        assert_eq!(of(Some("gzip"), None), Ok((gzip, None)));
        assert!(of(Some("br"), all).is_err());
    }
}
