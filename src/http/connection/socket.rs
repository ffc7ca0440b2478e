//! The socket under hyper: what arrives is looked at, what is not taken is noticed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::Limits;
use super::super::framing::{Fault, Framing, Halt, Place};
use super::super::refusal::Left;
use super::super::stream::Stream;
use super::Watch;
use crate::metrics::Seconds;

/// The socket, with a look at what arrives.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Given on when this goes, where the connection is not over yet.
    stream: Option<Stream>,
    watch: Arc<Watch>,
    /// Time from a prediction's answer to its last byte in the socket's buffer.
    write: Seconds,
    framing: Framing,
    /// Nothing that arrives is handed on any more.
    halted: Option<Halted>,
    /// hyper has said all that it had to say.
    is_flushed: bool,
    is_shut: bool,
}

/// What hyper is told of a fault.
#[derive(Debug)]
enum Halted {
    /// The stream ends, when all requests before it are answered; `told` once it has been read.
    Head { fault: Fault, told: bool },
    /// The body is broken: whoever reads it answers.
    Body(Fault),
}

impl Watched {
    pub(crate) fn new(stream: Stream, watch: &Arc<Watch>, write: Seconds, limits: &Limits) -> Self {
        Self {
            stream: Some(stream),
            watch: Arc::clone(watch),
            write,
            framing: Framing::new(limits.max_head_bytes),
            halted: None,
            is_flushed: true,
            is_shut: false,
        }
    }

    /// Takes a fault out of what was read; `before` was in the buffer before.
    fn halt(&mut self, halt: Halt, before: usize, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Halt { fault, place } = halt;
        let (kept, halted) = match place {
            Place::Head(at) => {
                // One byte that could begin any request: while hyper has it, it does not look for the end of the
                // stream, and so does not give up a request that it is still answering.
                if let Some(byte) = buf.filled_mut().get_mut(before + at) {
                    *byte = b'G';
                }
                (at + 1, Halted::Head { fault, told: false })
            }
            Place::HeadBefore => (0, Halted::Head { fault, told: false }),
            Place::Body(at) => (at, Halted::Body(fault)),
        };
        buf.set_filled(before + kept);
        self.halted = Some(halted);
        if kept > 0 {
            Poll::Ready(Ok(()))
        } else {
            self.poll_halted()
        }
    }

    fn poll_halted(&mut self) -> Poll<io::Result<()>> {
        match &mut self.halted {
            // hyper asks again when the socket takes more.
            Some(Halted::Head { .. }) if !self.is_flushed => Poll::Pending,
            Some(Halted::Head { told, .. }) => {
                *told = true;
                Poll::Ready(Ok(()))
            }
            Some(Halted::Body(fault)) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault.text))),
            None => Poll::Pending,
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let (Some(halted), Some(stream)) = (self.halted.take(), self.stream.take()) else {
            return;
        };
        let unsaid = match halted {
            Halted::Head { fault, told: true } if !self.is_shut => Some(fault),
            _ => None,
        };
        *self.watch.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(Left { stream, unsaid });
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.halted.is_some() {
            return self.poll_halted();
        }
        let before = buf.filled().len();
        let poll = self.stream()?.poll_read(cx, buf);
        let Some(new) = buf.filled().get(before..).filter(|new| !new.is_empty()) else {
            return poll;
        };
        self.watch.has_read(new);
        match self.framing.follow(new) {
            Ok(()) => poll,
            Err(halt) => self.halt(halt, before, buf),
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.is_flushed = false;
        let poll = self.stream()?.poll_write(cx, buf);
        self.watch.has_written(&poll);
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = self.stream()?.poll_flush(cx);
        self.is_flushed = poll.is_ready();
        if poll.is_pending() {
            // Under TLS something may have been taken from hyper that the client has not taken yet.
            self.watch.is_stuck();
        }
        if self.is_flushed
            && let Some(took) = self.watch.has_flushed()
        {
            self.write.record(took);
        }
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut = true;
        self.stream()?.poll_shutdown(cx)
    }

    /// A head and a body of a few hundred bytes are copied together sooner than the system gathers them from two places.
    /// hyper decides by this once, for the connection: a large body is copied too, at a memory's speed.
    fn is_write_vectored(&self) -> bool {
        false
    }
}
