//! Length-prefixed frames over a Unix socket, blocking, with a caller who decides how long it is worth waiting; small ones
//! through memory that both sides share, once there is some (`mailbox`), and the socket then tells who still lives.
//!
//! Always holds: memory grows with the bytes that arrive, never with a length that was only claimed; a frame beyond
//! the limit is neither sent nor read.
//! A frame may carry a descriptor from the gateway to the runner, never the other way: one that a runner sends goes with
//! the bytes that are read without it.
//! Leaves to others: what is in a frame (`wire`), and when to give up (`client`).

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::mailbox::{Found, Mailbox, Nonsense};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// Largest frame: about 64 million FP32 elements, far beyond any request the listeners let through.
pub const MAX_FRAME_BYTES: usize = 256 << 20;
/// Bytes asked for at a time: the first read takes most frames whole.
const FIRST_READ: usize = 8 << 10;
const NEXT_READ: usize = 1 << 20;
/// A buffer above this size is given back after use.
const KEEP_BYTES: usize = 4 << 20;
const HEADER: usize = 4;
/// How often the socket is looked at while an answer in shared memory is waited for.
const SIGN_OF_LIFE: Duration = Duration::from_millis(10);

/// Why there is no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The other side is gone.
    #[error("the other side is gone")]
    Closed,
    /// The caller no longer wanted to wait.
    #[error("waited for long enough")]
    GaveUp,
    /// More bytes than one frame may have.
    #[error("a frame of {0} bytes is beyond the limit")]
    TooLarge(usize),
    /// Bytes that nobody asked for.
    #[error("bytes beyond the end of a frame")]
    Extra,
    /// The kernel's own words.
    #[error("{0}")]
    Io(String),
}

impl From<Nonsense> for ChannelError {
    fn from(nonsense: Nonsense) -> Self {
        match nonsense {
            Nonsense::Number => Self::Extra,
            Nonsense::Length(bytes) => Self::TooLarge(bytes),
        }
    }
}

/// Called whenever the channel is about to wait: how long at most until the next call, or `None` to give up.
pub type Wait<'a> = &'a mut dyn FnMut() -> Option<Duration>;

/// One end of the socket.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    max_frame_bytes: usize,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    takes_descriptors: bool,
    descriptor: Option<OwnedFd>,
    /// The other way, for small frames.
    mailbox: Option<Mailbox>,
    /// The frame that is awaited was said to come over the socket all the same.
    is_elsewhere: bool,
}

impl Channel {
    /// A channel with the usual largest frame.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self::with_limit(stream, MAX_FRAME_BYTES)
    }

    /// A channel with a largest frame of its own.
    #[must_use]
    pub fn with_limit(stream: UnixStream, max_frame_bytes: usize) -> Self {
        Self {
            stream,
            max_frame_bytes: max_frame_bytes.min(u32::MAX as usize),
            incoming: Vec::new(),
            outgoing: Vec::new(),
            read_timeout: None,
            write_timeout: None,
            takes_descriptors: false,
            descriptor: None,
            mailbox: None,
            is_elsewhere: false,
        }
    }

    /// The runner's end: a frame may bring a descriptor.
    #[must_use]
    pub fn taking_descriptors(stream: UnixStream) -> Self {
        Self {
            takes_descriptors: true,
            ..Self::new(stream)
        }
    }

    /// From the next frame on small ones go through this memory, in both directions: the other side is to do the same.
    pub(super) fn set_mailbox(&mut self, mailbox: Mailbox) {
        self.mailbox = Some(mailbox);
    }

    /// What the last frame brought.
    pub fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptor.take()
    }

    /// A [`Wait`] that never gives up.
    pub fn forever() -> Option<Duration> {
        Some(Duration::MAX)
    }

    /// Sends what `encode` appends, as one frame.
    ///
    /// # Errors
    /// After any error but [`ChannelError::TooLarge`] the channel is of no more use.
    pub fn send(&mut self, encode: impl FnOnce(&mut Vec<u8>), wait: Wait<'_>) -> Result<(), ChannelError> {
        self.send_with(encode, None, wait)
    }

    /// The same with a descriptor, which the other side gets a copy of.
    ///
    /// # Errors
    /// As above.
    pub fn send_with(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>),
        descriptor: Option<BorrowedFd<'_>>,
        wait: Wait<'_>,
    ) -> Result<(), ChannelError> {
        // Whatever came before was the answer to something else.
        self.forget();
        self.outgoing.clear();
        self.outgoing.extend_from_slice(&[0; HEADER]);
        encode(&mut self.outgoing);
        let length = self.outgoing.len() - HEADER;
        let result = match u32::try_from(length) {
            Ok(header) if length <= self.max_frame_bytes => {
                if let Some(place) = self.outgoing.first_chunk_mut() {
                    *place = header.to_le_bytes();
                }
                match self.post(descriptor.is_some()) {
                    Ok(true) => Ok(()),
                    Ok(false) => self.write_all(descriptor, wait),
                    Err(error) => Err(error),
                }
            }
            _ => Err(ChannelError::TooLarge(length)),
        };
        give_back(&mut self.outgoing);
        result
    }

    /// Lays the frame into the mailbox. False where it goes over the socket: there is no mailbox, it does not fit, or a
    /// descriptor comes with it.
    fn post(&mut self, is_with_descriptor: bool) -> Result<bool, ChannelError> {
        let Some(mailbox) = &mut self.mailbox else {
            return Ok(false);
        };
        // Nobody would miss what is put into the mailbox of the dead.
        if mailbox.is_gateways() {
            look_for_life(&self.stream)?;
        }
        if is_with_descriptor {
            mailbox.announce();
            return Ok(false);
        }
        Ok(mailbox.post(self.outgoing.get(HEADER..).unwrap_or_default()))
    }

    fn write_all(&mut self, mut descriptor: Option<BorrowedFd<'_>>, wait: Wait<'_>) -> Result<(), ChannelError> {
        let mut sent = 0;
        while let Some(rest) = self.outgoing.get(sent..).filter(|rest| !rest.is_empty()) {
            let timeout = timeout(wait().ok_or(ChannelError::GaveUp)?);
            if timeout != self.write_timeout {
                self.stream.set_write_timeout(timeout).map_err(failed)?;
                self.write_timeout = timeout;
            }
            let written = match descriptor {
                Some(descriptor) => write_with(&self.stream, rest, descriptor),
                None => (&self.stream).write(rest),
            };
            sent += retryable(written)?;
            // It went with the first bytes.
            descriptor = descriptor.filter(|_| sent == 0);
        }
        Ok(())
    }

    /// The next frame.
    ///
    /// # Errors
    /// After an error the channel is of no more use, but for [`Channel::resume`] after [`ChannelError::GaveUp`].
    pub fn receive(&mut self, wait: Wait<'_>) -> Result<&[u8], ChannelError> {
        self.forget();
        give_back(&mut self.incoming);
        self.go_on(wait, false)
    }

    /// Waits for the first frame since the last one was sent, or goes on where an earlier call gave up.
    ///
    /// # Errors
    /// As [`Channel::receive`].
    pub fn resume(&mut self, wait: Wait<'_>) -> Result<&[u8], ChannelError> {
        self.go_on(wait, true)
    }

    /// `looks`: whether somebody gave up before, who may have waited for the dead.
    fn go_on(&mut self, wait: Wait<'_>, looks: bool) -> Result<&[u8], ChannelError> {
        if self.is_in_the_mailbox(wait, looks)? {
            return Ok(&self.incoming);
        }
        let mut end = self.claimed()?;
        while end.is_none_or(|end| self.incoming.len() < end) {
            let missing = end.map_or(FIRST_READ, |end: usize| end - self.incoming.len());
            self.read(missing.min(NEXT_READ), wait)?;
            end = self.claimed()?;
        }
        if end != Some(self.incoming.len()) {
            return Err(ChannelError::Extra);
        }
        self.incoming.get(HEADER..).ok_or(ChannelError::Closed)
    }

    fn forget(&mut self) {
        self.incoming.clear();
        self.is_elsewhere = false;
    }

    /// Waits for the next frame in the mailbox and copies it. False where there is no mailbox, or the frame comes over the
    /// socket.
    fn is_in_the_mailbox(&mut self, wait: Wait<'_>, mut looks: bool) -> Result<bool, ChannelError> {
        let Some(mailbox) = self.mailbox.as_mut().filter(|_| !self.is_elsewhere) else {
            return Ok(false);
        };
        let mut ended = None;
        let mut left = Duration::ZERO;
        loop {
            match mailbox.take(&mut self.incoming)? {
                Found::Here => return Ok(true),
                Found::Elsewhere => {
                    self.is_elsewhere = true;
                    return Ok(false);
                }
                Found::Nothing => {}
            }
            if let Some(error) = ended {
                return Err(error);
            }
            if looks && mailbox.is_gateways() {
                looks = false;
                ended = look_for_life(&self.stream).err();
                if ended.is_some() {
                    // What was posted meanwhile still counts.
                    continue;
                }
            }
            if left.is_zero() {
                left = wait().ok_or(ChannelError::GaveUp)?;
            }
            // A runner dies with the gateway, and needs not look.
            let time = if mailbox.is_gateways() {
                left.min(SIGN_OF_LIFE)
            } else {
                left
            };
            mailbox.sleep((time != Duration::MAX).then_some(time));
            left = left.saturating_sub(time);
            looks = true;
        }
    }

    /// Where the frame ends, by its own word.
    fn claimed(&self) -> Result<Option<usize>, ChannelError> {
        let Some(header) = self.incoming.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > self.max_frame_bytes {
            return Err(ChannelError::TooLarge(length));
        }
        Ok(Some(HEADER + length))
    }

    fn read(&mut self, at_most: usize, wait: Wait<'_>) -> Result<(), ChannelError> {
        let timeout = timeout(wait().ok_or(ChannelError::GaveUp)?);
        if timeout != self.read_timeout {
            self.stream.set_read_timeout(timeout).map_err(failed)?;
            self.read_timeout = timeout;
        }
        let before = self.incoming.len();
        self.incoming.resize(before + at_most, 0);
        let room = self.incoming.get_mut(before..).unwrap_or_default();
        let read = if self.takes_descriptors {
            read_with(&self.stream, room, &mut self.descriptor)
        } else {
            (&self.stream).read(room)
        };
        let read = match read {
            Ok(0) => Err(ChannelError::Closed),
            other => retryable(other),
        };
        self.incoming.truncate(before + read.as_ref().copied().unwrap_or(0));
        read.map(drop)
    }
}

/// What the socket says while nothing is awaited from it.
fn look_for_life(stream: &UnixStream) -> Result<(), ChannelError> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match rustix::net::recv(stream, &mut [0; 1], flags) {
        Ok((_, 0)) => Err(ChannelError::Closed),
        Ok(_) => Err(ChannelError::Extra),
        Err(error) => retryable(Err(error.into())).map(drop),
    }
}

fn write_with(stream: &UnixStream, bytes: &[u8], descriptor: BorrowedFd<'_>) -> std::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(sent)
}

fn read_with(stream: &UnixStream, room: &mut [u8], descriptor: &mut Option<OwnedFd>) -> std::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(room)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            *descriptor = descriptors.last();
        }
    }
    Ok(got.bytes)
}

fn give_back(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEEP_BYTES {
        *buffer = Vec::new();
    }
}

/// The kernel refuses a timeout of zero and has none for "never".
fn timeout(wait: Duration) -> Option<Duration> {
    (wait != Duration::MAX).then(|| wait.max(Duration::from_millis(1)))
}

fn failed(error: std::io::Error) -> ChannelError {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::NotConnected => {
            ChannelError::Closed
        }
        _ => ChannelError::Io(error.to_string()),
    }
}

fn retryable(result: std::io::Result<usize>) -> Result<usize, ChannelError> {
    match result {
        Ok(bytes) => Ok(bytes),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
            ) =>
        {
            Ok(0)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::mailbox::CAPACITY;
    use super::*;

    fn pair() -> (Channel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Channel::with_limit(ours, 1 << 20), theirs)
    }

    fn once() -> impl FnMut() -> Option<Duration> {
        let mut left = 3;
        move || {
            left -= 1;
            (left > 0).then_some(Duration::from_millis(1))
        }
    }

    #[test]
    fn a_frame_larger_than_the_socket_buffer_arrives_whole() {
        let (mut ours, theirs) = pair();
        let mut theirs = Channel::with_limit(theirs, 1 << 20);
        let body: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                ours.send(|out| out.extend_from_slice(&body), &mut Channel::forever)
                    .unwrap()
            });
            assert_eq!(theirs.receive(&mut Channel::forever).unwrap(), body);
        });
    }

    #[test]
    fn a_descriptor_arrives_with_its_frame_and_only_where_it_is_awaited() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut ours, mut theirs) = (Channel::new(ours), Channel::taking_descriptors(theirs));
        let (mut read, write) = std::io::pipe().unwrap();
        let frame = |out: &mut Vec<u8>| out.extend_from_slice(b"frame");
        ours.send_with(frame, Some(std::os::fd::AsFd::as_fd(&write)), &mut Channel::forever)
            .unwrap();
        assert_eq!(theirs.receive(&mut Channel::forever).unwrap(), b"frame");
        let copy = theirs.descriptor().unwrap();
        assert!(theirs.descriptor().is_none());
        theirs
            .send_with(frame, Some(std::os::fd::AsFd::as_fd(&copy)), &mut Channel::forever)
            .unwrap();
        drop((write, copy));
        assert_eq!(ours.receive(&mut Channel::forever).unwrap(), b"frame");
        assert!(ours.descriptor().is_none());
        // Nobody holds the writing end any more: what came back was closed.
        let mut rest = Vec::new();
        assert_eq!(read.read_to_end(&mut rest).unwrap(), 0);
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_is_refused_before_its_bytes() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(
            ours.receive(&mut Channel::forever),
            Err(ChannelError::TooLarge(u32::MAX as usize))
        );
        assert!(ours.incoming.capacity() <= 2 * FIRST_READ);
        assert_eq!(
            ours.send(|out| out.resize((1 << 20) + 5, 0), &mut Channel::forever),
            Err(ChannelError::TooLarge((1 << 20) + 1))
        );
    }

    #[test]
    fn a_claimed_length_takes_no_memory_before_its_bytes_arrive() {
        let (mut ours, mut theirs) = pair();
        ours.max_frame_bytes = MAX_FRAME_BYTES;
        theirs.write_all(&(200u32 << 20).to_le_bytes()).unwrap();
        assert_eq!(ours.receive(&mut once()), Err(ChannelError::GaveUp));
        assert!(ours.incoming.capacity() <= 4 * NEXT_READ);
    }

    #[test]
    fn what_was_given_up_on_halfway_is_taken_up_again_where_it_was_left() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(&[3, 0, 0, 0, 7]).unwrap();
        assert_eq!(ours.receive(&mut once()), Err(ChannelError::GaveUp));
        theirs.write_all(&[8, 9]).unwrap();
        assert_eq!(ours.resume(&mut Channel::forever).unwrap(), [7, 8, 9]);
        theirs.write_all(&[1, 0, 0, 0, 5]).unwrap();
        assert_eq!(ours.receive(&mut Channel::forever).unwrap(), [5]);
    }

    /// A gateway's side and a runner's, with shared memory beside the socket.
    fn with_mailbox() -> (Channel, Channel) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut ours, mut theirs) = (Channel::new(ours), Channel::new(theirs));
        let (mailbox, file) = Mailbox::create().unwrap();
        theirs.set_mailbox(Mailbox::open(&file).unwrap());
        ours.set_mailbox(mailbox);
        (ours, theirs)
    }

    #[test]
    fn small_frames_go_through_shared_memory_large_ones_over_the_socket_and_all_in_order() {
        let (mut ours, mut theirs) = with_mailbox();
        let lengths = [1, 500, CAPACITY, CAPACITY + 1, 3, 1 << 20, 0, 1 << 20, CAPACITY + 1, 9];
        let frame = |length: usize| -> Vec<u8> { (0_u8..251).cycle().take(length).collect() };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for length in lengths {
                    let question = theirs.receive(&mut Channel::forever).unwrap();
                    assert_eq!(question, frame(length));
                    // As long as another question.
                    let answer = frame(lengths[length % lengths.len()]);
                    theirs
                        .send(|out| out.extend_from_slice(&answer), &mut Channel::forever)
                        .unwrap();
                }
            });
            for length in lengths {
                ours.send(|out| out.extend_from_slice(&frame(length)), &mut Channel::forever)
                    .unwrap();
                // Given up on at once, and taken up again.
                if length % 2 == 1 {
                    let early = ours.receive(&mut || None).map(<[u8]>::to_vec);
                    let at_last = early.or_else(|_| ours.resume(&mut Channel::forever).map(<[u8]>::to_vec));
                    assert_eq!(at_last.unwrap(), frame(lengths[length % lengths.len()]));
                } else {
                    let answer = ours.receive(&mut Channel::forever).unwrap();
                    assert_eq!(answer, frame(lengths[length % lengths.len()]));
                }
            }
        });
    }

    #[test]
    fn what_a_hostile_side_does_with_shared_memory_and_socket_is_named_and_ends() {
        let send = |channel: &mut Channel, bytes: &[u8]| {
            channel
                .send(|out| out.extend_from_slice(bytes), &mut Channel::forever)
                .unwrap();
        };
        // Two answers to one question.
        let (mut ours, mut theirs) = with_mailbox();
        send(&mut theirs, b"one");
        send(&mut theirs, b"two");
        assert_eq!(ours.receive(&mut Channel::forever), Err(ChannelError::Extra));
        // A frame that is announced and never comes.
        let (mut ours, mut theirs) = with_mailbox();
        theirs.mailbox.as_mut().unwrap().announce();
        assert_eq!(ours.receive(&mut once()), Err(ChannelError::GaveUp));
        assert_eq!(ours.resume(&mut once()), Err(ChannelError::GaveUp));
        // One that comes and was not announced, found while it is waited for and at the next question.
        let (mut ours, theirs) = with_mailbox();
        (&theirs.stream).write_all(&[1, 0, 0, 0, 7]).unwrap();
        assert_eq!(ours.receive(&mut Channel::forever), Err(ChannelError::Extra));
        let asked = ours.send(|out| out.push(1), &mut Channel::forever);
        assert_eq!(asked, Err(ChannelError::Extra));
        // One that is announced as more than a frame may have.
        let (mut ours, mut theirs) = with_mailbox();
        theirs.mailbox.as_mut().unwrap().announce();
        (&theirs.stream).write_all(&u32::MAX.to_le_bytes()).unwrap();
        let claimed = u32::MAX as usize;
        assert_eq!(
            ours.receive(&mut Channel::forever),
            Err(ChannelError::TooLarge(claimed))
        );
    }

    #[test]
    fn the_end_of_the_other_side_is_seen_while_it_is_waited_for_and_its_last_words_are_heard() {
        let (mut ours, theirs) = with_mailbox();
        std::thread::scope(|scope| {
            scope.spawn(move || drop(theirs));
            assert_eq!(ours.receive(&mut Channel::forever), Err(ChannelError::Closed));
        });
        // Nobody is there to be asked.
        let asked = ours.send(|out| out.push(1), &mut Channel::forever);
        assert_eq!(asked, Err(ChannelError::Closed));
        let (mut ours, mut theirs) = with_mailbox();
        theirs.send(|out| out.push(5), &mut Channel::forever).unwrap();
        drop(theirs);
        assert_eq!(ours.resume(&mut Channel::forever).unwrap(), [5]);
        assert_eq!(ours.receive(&mut Channel::forever), Err(ChannelError::Closed));
    }

    #[test]
    fn silence_an_end_and_chatter_are_told_apart() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(&[2, 0, 0, 0, 7]).unwrap();
        assert_eq!(ours.receive(&mut once()), Err(ChannelError::GaveUp));
        theirs.write_all(&[0, 0, 0, 0, 1]).unwrap();
        assert_eq!(ours.receive(&mut Channel::forever), Err(ChannelError::Extra));
        drop(theirs);
        assert_eq!(ours.receive(&mut Channel::forever), Err(ChannelError::Closed));
    }
}
