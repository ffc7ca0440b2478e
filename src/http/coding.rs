//! Compressed bodies: gzip and deflate (zlib), in and out, for the Open Inference Protocol alone.
//!
//! Always holds: what a body unpacks to is bounded by the largest body and by the budget of all bodies; nothing is
//! packed that was not asked for; never brotli or zstd, which a widespread client advertises and cannot read.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, HeaderName};
use tokio::sync::Semaphore;

use super::Limits;
use super::body::{self, Body};
use crate::decode::clip;
use crate::error::{Error, Kind};

/// Larger bodies are packed and unpacked away from the async workers.
const INLINE: usize = 64 * 1024;
/// Unpacked at a time.
const STEP: usize = 64 * 1024;

/// A way of packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    /// Its name in headers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn of(name: &str) -> Option<Self> {
        let name = name.trim();
        [Self::Gzip, Self::Deflate]
            .into_iter()
            .find(|coding| name.eq_ignore_ascii_case(coding.name()))
    }
}

/// How a request's body is packed.
pub(crate) fn sent(headers: &HeaderMap) -> Result<Option<Coding>, Error> {
    named(headers, &CONTENT_ENCODING)
}

/// The coding that a header names.
pub(crate) fn named(headers: &HeaderMap, header: &HeaderName) -> Result<Option<Coding>, Error> {
    let Some(value) = headers.get(header) else {
        return Ok(None);
    };
    let name = value.to_str().unwrap_or("");
    if name.is_empty() || name.eq_ignore_ascii_case("identity") {
        return Ok(None);
    }
    Coding::of(name).map(Some).ok_or_else(|| {
        let text = format!("{header} '{}' is not taken: send gzip, deflate or none", clip(name));
        Error::new(Kind::UnsupportedMediaType, text)
    })
}

/// How the client wants its answer packed.
pub(crate) fn wanted(headers: &HeaderMap) -> Option<Coding> {
    let list = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
    list.split(',').find_map(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        let weight = weight
            .trim()
            .strip_prefix("q=")
            .and_then(|q| q.trim().parse::<f32>().ok());
        Coding::of(name).filter(|_| weight.is_none_or(|q| q > 0.0))
    })
}

/// The body as it was before it was packed.
pub(crate) async fn unpack(
    coding: Coding,
    body: Body,
    limits: &Limits,
    budget: &Arc<Semaphore>,
) -> Result<Body, Error> {
    let (max, budget) = (limits.max_body_bytes, Arc::clone(budget));
    let work = move || match coding {
        Coding::Gzip => inflate(MultiGzDecoder::new(&*body.bytes), max, &budget),
        Coding::Deflate => inflate(ZlibDecoder::new(&*body.bytes), max, &budget),
    };
    // Little packed may be much unpacked: only what cannot be much is done here.
    aside(max <= INLINE, work).await?
}

fn inflate(mut from: impl Read, max: usize, budget: &Arc<Semaphore>) -> Result<Body, Error> {
    let (mut all, mut share) = (BytesMut::new(), None);
    let mut step = vec![0; STEP];
    loop {
        let count = from.read(&mut step).map_err(|e| {
            let text = format!("the body is not packed as its head says ({e}): pack it again");
            Error::new(Kind::MalformedBody, text)
        })?;
        if count == 0 {
            return Ok(Body::of(all.freeze(), share));
        }
        all.extend_from_slice(step.get(..count).unwrap_or_default());
        if all.len() > max {
            return Err(body::too_large(max));
        }
        body::grow(&mut share, all.len(), budget)?;
    }
}

/// The bytes, packed.
pub(crate) async fn pack(coding: Coding, bytes: Vec<u8>) -> Result<Bytes, Error> {
    let is_small = bytes.len() <= INLINE;
    let work = move || {
        let room = Vec::with_capacity(bytes.len() / 2 + 64);
        let packed = match coding {
            Coding::Gzip => {
                let mut to = GzEncoder::new(room, Compression::fast());
                to.write_all(&bytes).and_then(|()| to.finish())
            }
            Coding::Deflate => {
                let mut to = ZlibEncoder::new(room, Compression::fast());
                to.write_all(&bytes).and_then(|()| to.finish())
            }
        };
        packed
            .map(Bytes::from)
            .map_err(|e| Error::new(Kind::Internal, format!("the answer could not be packed: {e}")))
    };
    aside(is_small, work).await?
}

/// Runs work here, or away from the async workers.
async fn aside<T: Send + 'static>(here: bool, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    if here {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::new(Kind::Internal, "the body could not be packed or unpacked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_what_is_asked_for_and_known_is_packed() {
        for (list, coding) in [
            ("gzip, deflate, br", Some(Coding::Gzip)),
            ("br, deflate", Some(Coding::Deflate)),
            ("gzip;q=0, deflate;q=0.5", Some(Coding::Deflate)),
            ("br, zstd", None),
            ("*", None),
            ("identity", None),
        ] {
            assert_eq!(wanted(&headers(ACCEPT_ENCODING, list)), coding, "{list}");
        }
        assert_eq!(wanted(&HeaderMap::new()), None);
        for (name, coding) in [
            ("GZIP", Some(Coding::Gzip)),
            ("deflate", Some(Coding::Deflate)),
            ("identity", None),
        ] {
            assert_eq!(sent(&headers(CONTENT_ENCODING, name)), Ok(coding), "{name}");
        }
        for name in ["br", "zstd", "gzip, gzip"] {
            let error = sent(&headers(CONTENT_ENCODING, name)).unwrap_err();
            assert_eq!(error.status(), 415, "{name}");
        }
    }

    #[tokio::test]
    async fn a_body_that_was_packed_comes_out_as_it_was_and_a_bomb_is_refused() {
        let limits = Limits {
            max_body_bytes: 1 << 20,
            ..Limits::default()
        };
        let budget = body::budget(&limits);
        let text = vec![b'7'; 1 << 20];
        for coding in [Coding::Gzip, Coding::Deflate] {
            let packed = pack(coding, text.clone()).await.unwrap();
            assert!(packed.len() < 10_000, "{coding:?}");
            let out = unpack(coding, Body::of(packed.clone(), None), &limits, &budget)
                .await
                .unwrap();
            assert!(out.bytes == text);
            drop(out);
            let bomb = pack(coding, vec![0; (1 << 20) + 1]).await.unwrap();
            let error = unpack(coding, Body::of(bomb, None), &limits, &budget)
                .await
                .unwrap_err();
            assert_eq!(error.kind, Kind::TooLarge, "{coding:?}");
            let cut = packed.slice(..packed.len() / 2);
            let error = unpack(coding, Body::of(cut, None), &limits, &budget).await.unwrap_err();
            assert_eq!(error.kind, Kind::MalformedBody, "{coding:?}");
        }
        assert_eq!(budget.available_permits(), body::budget(&limits).available_permits());
    }
}
