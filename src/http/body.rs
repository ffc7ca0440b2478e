//! Reading a body within its limits: of one request, of its time, and of all requests together.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Limits;
use crate::error::{Error, Kind};

/// The budget is kept in pages, since a semaphore counts in 32 bits; a body of less than a page is not counted: so
/// many fit into one connection's read buffer anyway.
const PAGE: usize = 64 * 1024;
/// What is read and thrown away after an answer, so that a client that sends first and reads later gets to read it: so
/// many bodies of the largest size, or so many bytes where that is more.
const DRAINED_BODIES: usize = 4;
const MIN_DRAINED: usize = 256 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// A body with its share of the budget.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    pub(crate) share: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// Bytes with their share of the budget.
    pub(crate) fn of(bytes: Bytes, share: Option<OwnedSemaphorePermit>) -> Self {
        Self { bytes, share }
    }
}

/// The budget of all bodies.
pub(crate) fn budget(limits: &Limits) -> Arc<Semaphore> {
    let pages = limits.max_buffered_bytes.max(limits.max_body_bytes) / PAGE + 1;
    Arc::new(Semaphore::new(pages.min(Semaphore::MAX_PERMITS)))
}

/// The whole body.
pub(crate) async fn read(body: &mut Incoming, limits: &Limits, budget: &Arc<Semaphore>) -> Result<Body, Error> {
    let mut collecting = std::pin::pin!(collect(body, limits, budget));
    // Most bodies came with their heads: then no timer is made.
    if let Poll::Ready(read) = std::future::poll_fn(|context| Poll::Ready(collecting.as_mut().poll(context))).await {
        return read;
    }
    match tokio::time::timeout(limits.body_timeout, collecting).await {
        Ok(read) => read,
        Err(_) => Err(Error::new(
            Kind::Timeout,
            format!(
                "the body did not arrive within {:?}: send it faster",
                limits.body_timeout
            ),
        )),
    }
}

async fn collect(body: &mut Incoming, limits: &Limits, budget: &Arc<Semaphore>) -> Result<Body, Error> {
    let max = limits.max_body_bytes;
    if body.size_hint().lower() > max as u64 {
        return Err(too_large(max));
    }
    let Some(first) = piece(body, limits).await? else {
        return Ok(Body {
            bytes: Bytes::new(),
            share: None,
        });
    };
    if body.is_end_stream() && first.len() <= PAGE.min(max) {
        return Ok(Body {
            bytes: first,
            share: None,
        });
    }
    let mut all = BytesMut::from(first);
    let mut share = None;
    loop {
        if all.len() > max {
            return Err(too_large(max));
        }
        grow(&mut share, all.len(), budget)?;
        match piece(body, limits).await? {
            Some(chunk) => all.extend_from_slice(&chunk),
            None => break,
        }
    }
    Ok(Body {
        bytes: all.freeze(),
        share,
    })
}

/// The next chunk of data, which must not let itself be waited for too long.
async fn piece(body: &mut Incoming, limits: &Limits) -> Result<Option<Bytes>, Error> {
    let mut coming = std::pin::pin!(next(body));
    // What is there already needs no timer.
    if let Poll::Ready(piece) = std::future::poll_fn(|context| Poll::Ready(coming.as_mut().poll(context))).await {
        return piece;
    }
    match tokio::time::timeout(limits.body_idle_timeout, coming).await {
        Ok(piece) => piece,
        Err(_) => Err(Error::new(
            Kind::Timeout,
            format!(
                "nothing of the body arrived for {:?}: send it without pauses",
                limits.body_idle_timeout
            ),
        )),
    }
}

/// The next chunk of data; trailers are dropped.
pub(crate) async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Error> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| broken(&e))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// A body that ended too soon, or whose chunks are none.
fn broken(error: &hyper::Error) -> Error {
    let cause = std::error::Error::source(error);
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::new(Kind::BadRequest, format!("the body broke off: {error}{cause}"))
}

/// Takes what a body of so many bytes needs of the budget.
pub(crate) fn grow(
    share: &mut Option<OwnedSemaphorePermit>,
    bytes: usize,
    budget: &Arc<Semaphore>,
) -> Result<(), Error> {
    let pages = bytes / PAGE;
    let held = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
    let more = u32::try_from(pages.saturating_sub(held)).unwrap_or(u32::MAX);
    if more == 0 {
        return Ok(());
    }
    let Ok(permit) = Arc::clone(budget).try_acquire_many_owned(more) else {
        return Err(Error::new(Kind::Overloaded, "too many large bodies at once: try again").retry_after(1));
    };
    match share {
        Some(share) => share.merge(permit),
        None => *share = Some(permit),
    }
    Ok(())
}

/// Larger than a body may be.
pub(crate) fn too_large(max: usize) -> Error {
    Error::new(
        Kind::TooLarge,
        format!("the body is larger than {max} bytes: send fewer rows per request, or raise max_body_bytes"),
    )
}

/// Reads on what was not read before the answer, within bounds, and throws it away.
pub(crate) async fn drain(mut body: Incoming, limits: &Limits) {
    let most = limits.max_body_bytes.saturating_mul(DRAINED_BODIES).max(MIN_DRAINED);
    let throw_away = async {
        let mut drained = 0;
        while let Ok(Some(chunk)) = next(&mut body).await {
            drained += chunk.len();
            if drained > most {
                break;
            }
        }
    };
    // When the time is up the connection is closed on the client: it had its chance to read the answer.
    let _ = tokio::time::timeout(DRAIN_TIME, throw_away).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_share_one_budget_and_give_it_back() {
        let limits = Limits {
            max_body_bytes: 4 * PAGE,
            max_buffered_bytes: 7 * PAGE,
            ..Limits::default()
        };
        let budget = budget(&limits);
        let (mut first, mut second) = (None, None);
        for pages in [0, 1, 1, 4] {
            grow(&mut first, pages * PAGE, &budget).unwrap();
        }
        assert_eq!(budget.available_permits(), 4);
        grow(&mut second, 3 * PAGE, &budget).unwrap();
        let e = grow(&mut second, 5 * PAGE, &budget).unwrap_err();
        assert_eq!((e.kind, e.retry_after), (Kind::Overloaded, Some(1)));
        drop(first);
        grow(&mut second, 5 * PAGE, &budget).unwrap();
        drop(second);
        assert_eq!(budget.available_permits(), 8);
    }
}
