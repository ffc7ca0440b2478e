//! Where requests begin and end on an HTTP/1 connection, followed on the bytes beside hyper.
//!
//! hyper settles some ambiguous forms by itself, before a service sees them: a length beside chunks, the same length
//! twice, lines that end in a bare line feed, two hosts. A proxy before the gateway may settle them otherwise, and then
//! takes the answer of one request for that of another. Here they are refused.
//!
//! Always holds: what passes has one reading; nothing is copied, but for a line that arrives in pieces; a fault ends the
//! connection, and of the head in which it lies hyper sees nothing that it could answer; HTTP/2, told by its first line,
//! passes untouched.
//! Leaves to others: the refusal itself (`refusal`), what the headers mean.

mod line;

pub(crate) use line::Fault;

/// Most header lines of a head: hyper has room for so many.
const MAX_LINES: usize = 100;
/// Longest line of a chunk's size, with its extensions, which mean nothing here.
const MAX_CHUNK_LINE: usize = 4 * 1024;
/// All lines after the last chunk.
const MAX_TRAILERS: usize = 8 * 1024;
/// The lines with which HTTP/2 begins.
const H2: [&[u8]; 4] = [b"PRI * HTTP/2.0", b"", b"SM", b""];

/// See the module.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    /// Nothing has been read yet.
    is_first: bool,
    max_head: usize,
    /// A line of which a part has arrived.
    part: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Head(Head),
    /// So many lines of [`H2`] have come.
    Preface(usize),
    /// So many bytes of a body are to come.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    /// So many bytes of lines after the last chunk have come.
    Trailers(usize),
    /// Another protocol.
    Through,
}

/// What is known of a head so far.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    /// The request line among them.
    lines: usize,
    is_11: bool,
    has_host: bool,
    length: Option<u64>,
    is_chunked: bool,
}

/// A fault, and what may still be handed on of the bytes in which it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Halt {
    pub(crate) fault: Fault,
    pub(crate) place: Place,
}

/// Where a fault lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a head that begins at this byte.
    Head(usize),
    /// In a head of which a part was handed on before; nothing of these bytes may follow.
    HeadBefore,
    /// In a body, which is sound up to this byte.
    Body(usize),
}

impl Framing {
    /// For a new connection whose heads have at most so many bytes.
    pub(crate) fn new(max_head: usize) -> Self {
        Self {
            state: State::Head(Head::default()),
            is_first: true,
            max_head,
            part: Vec::new(),
        }
    }

    /// Follows the bytes that arrived.
    ///
    /// # Errors
    /// The first fault. Nothing may be followed after it.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<(), Halt> {
        let mut rest = bytes;
        let mut head_at = None;
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            match &self.state {
                State::Head(head) if head.lines == 0 && self.part.is_empty() => head_at = Some(at),
                State::Through => return Ok(()),
                _ => {}
            }
            let in_head = matches!(self.state, State::Head(_) | State::Preface(_));
            rest = self.step(rest).map_err(|fault| {
                let place = match head_at {
                    _ if !in_head => Place::Body(at),
                    Some(at) => Place::Head(at),
                    None => Place::HeadBefore,
                };
                Halt { fault, place }
            })?;
        }
        Ok(())
    }

    /// One step on; what is left.
    fn step<'b>(&mut self, rest: &'b [u8]) -> Result<&'b [u8], Fault> {
        match &mut self.state {
            State::Head(head) => {
                let room = self.max_head.saturating_sub(head.bytes);
                let too_long = if head.lines == 0 {
                    Fault::TARGET_TOO_LONG
                } else {
                    Fault::HEAD_TOO_LARGE
                };
                let is_first = self.is_first;
                let (rest, next) = on_line(&mut self.part, rest, (room, too_long), |line| {
                    if is_first && line == H2[0] {
                        return Ok(Some(State::Preface(1)));
                    }
                    head.take(line)
                })?;
                // hyper reads a line before it is whole.
                match head.lines {
                    _ if self.part.is_empty() => {}
                    0 if is_first && H2[0].starts_with(line::without_cr(&self.part)) => {}
                    0 => line::begins_request(&self.part)?,
                    _ => line::begins_header(&self.part)?,
                }
                self.is_first &= next.is_none();
                self.turn(next.flatten());
                Ok(rest)
            }
            State::Preface(lines) => {
                let due = H2.get(*lines).copied().unwrap_or_default();
                let (rest, next) = on_line(&mut self.part, rest, (4, Fault::VERSION), |line| match line == due {
                    true => Ok(*lines + 1),
                    false => Err(Fault::VERSION),
                })?;
                if !due.starts_with(line::without_cr(&self.part)) {
                    return Err(Fault::VERSION);
                }
                self.turn(next.map(|lines| match lines == H2.len() {
                    true => State::Through,
                    false => State::Preface(lines),
                }));
                Ok(rest)
            }
            State::Body(left) | State::Chunk(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= taken as u64;
                if *left == 0 {
                    let is_chunk = matches!(self.state, State::Chunk(_));
                    self.state = if is_chunk {
                        State::ChunkEnd
                    } else {
                        State::Head(Head::default())
                    };
                }
                Ok(rest.get(taken..).unwrap_or_default())
            }
            State::ChunkSize => {
                let most = (MAX_CHUNK_LINE, Fault::CHUNK);
                let (rest, next) = on_line(&mut self.part, rest, most, |line| {
                    Ok(match line::chunk_size(line)? {
                        0 => State::Trailers(0),
                        size => State::Chunk(size),
                    })
                })?;
                self.turn(next);
                Ok(rest)
            }
            State::ChunkEnd => {
                let (rest, next) = on_line(&mut self.part, rest, (2, Fault::CHUNK), |line| match line {
                    [] => Ok(State::ChunkSize),
                    _ => Err(Fault::CHUNK),
                })?;
                self.turn(next);
                Ok(rest)
            }
            State::Trailers(bytes) => {
                let most = (MAX_TRAILERS.saturating_sub(*bytes), Fault::TRAILER);
                let (rest, next) = on_line(&mut self.part, rest, most, |line| {
                    if line.is_empty() {
                        return Ok(Some(State::Head(Head::default())));
                    }
                    *bytes += line.len() + 2;
                    line::trailer(line).map(|()| None)
                })?;
                self.turn(next.flatten());
                Ok(rest)
            }
            State::Through => Ok(&[]),
        }
    }

    fn turn(&mut self, next: Option<State>) {
        if let Some(next) = next {
            self.state = next;
        }
    }
}

impl Head {
    /// Takes a line; at the end of the head, what follows it.
    fn take(&mut self, line: &[u8]) -> Result<Option<State>, Fault> {
        self.bytes += line.len() + 2;
        match (line, self.lines) {
            // Some clients end a body with a line too many.
            ([], 0) => return Ok(None),
            ([], _) => return self.end().map(Some),
            (line, 0) => self.is_11 = line::request(line)?,
            (_, lines) if lines > MAX_LINES => return Err(Fault::TOO_MANY_LINES),
            (line, _) => self.header(line)?,
        }
        self.lines += 1;
        Ok(None)
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Fault> {
        let (name, value) = line::header(line)?;
        // Told apart by their lengths: most names are none of them.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if std::mem::replace(&mut self.has_host, true) {
                    return Err(Fault::HOST);
                }
                line::host(value)
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.is_chunked || self.length.is_some() {
                    return Err(Fault::LENGTH_TWICE);
                }
                self.length = Some(line::length(value)?);
                Ok(())
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.is_chunked || self.length.is_some() {
                    return Err(Fault::LENGTH_TWICE);
                }
                self.is_chunked = true;
                match self.is_11 && value.eq_ignore_ascii_case(b"chunked") {
                    true => Ok(()),
                    false => Err(Fault::ENCODING),
                }
            }
            _ => Ok(()),
        }
    }

    fn end(&self) -> Result<State, Fault> {
        if self.is_11 && !self.has_host {
            return Err(Fault::HOST);
        }
        Ok(match self.length {
            _ if self.is_chunked => State::ChunkSize,
            Some(length @ 1..) => State::Body(length),
            _ => State::Head(Self::default()),
        })
    }
}

/// Takes a line of at most so many bytes, when it has arrived whole, and gives what is left and what `take` made of it,
/// without its line end.
fn on_line<'b, T>(
    part: &mut Vec<u8>,
    rest: &'b [u8],
    (most, too_long): (usize, Fault),
    take: impl FnOnce(&[u8]) -> Result<T, Fault>,
) -> Result<(&'b [u8], Option<T>), Fault> {
    let room = most.saturating_sub(part.len());
    let (near, _) = rest.split_at_checked(room).unwrap_or((rest, &[]));
    let Some((line, rest)) = memchr::memchr(b'\n', near).and_then(|end| rest.split_at_checked(end + 1)) else {
        if near.len() == room {
            return Err(too_long);
        }
        part.extend_from_slice(near);
        return Ok((&[], None));
    };
    if part.is_empty() {
        return Ok((rest, Some(take(ended(line)?)?)));
    }
    part.extend_from_slice(line);
    let taken = take(ended(part)?)?;
    part.clear();
    Ok((rest, Some(taken)))
}

fn ended(line: &[u8]) -> Result<&[u8], Fault> {
    line.strip_suffix(b"\r\n").ok_or(Fault::BARE_LF)
}

#[cfg(test)]
mod tests;
