//! The grammar of one line: RFC 9112 (HTTP/1.1, 2022), sections 2 to 7, without what it lets a lenient server overlook.

use crate::error::{Error, Kind};

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    kind: Kind,
    /// What was wrong and what to change.
    pub(crate) text: &'static str,
}

const fn bad(text: &'static str) -> Fault {
    Fault {
        kind: Kind::BadRequest,
        text,
    }
}

impl Fault {
    pub(super) const BARE_LF: Self = bad("a line ends in a bare line feed: end lines with CR LF");
    pub(super) const REQUEST_LINE: Self =
        bad("the request line is not 'METHOD target HTTP/1.1': send that, with one space each");
    pub(super) const VERSION: Self = bad("the request line does not end in HTTP/1.1 or HTTP/1.0: send one of them");
    pub(super) const FOLDED: Self = bad("a header line begins with white space: send each header in one line");
    pub(super) const HEADER: Self = bad(
        "a header line is not 'name: value': send a name of letters, digits and dashes, a colon right after it, and a value without control characters",
    );
    pub(super) const HOST: Self = bad("send exactly one Host header");
    pub(super) const HOST_VALUE: Self =
        bad("the Host header names no host: send one name or address, with its port where it has one");
    pub(super) const LENGTH: Self = bad("Content-Length is not a number of bytes: send decimal digits alone");
    pub(super) const LENGTH_TWICE: Self =
        bad("the body's length is said twice: send one Content-Length, or Transfer-Encoding: chunked without it");
    pub(super) const ENCODING: Self =
        bad("the Transfer-Encoding is not taken: send 'chunked' alone, over HTTP/1.1, or a Content-Length");
    pub(super) const CHUNK: Self =
        bad("a chunk is not as its size says: send its size in hexadecimal digits, CR LF, so many bytes, CR LF");
    pub(super) const TRAILER: Self = bad("the lines after the last chunk are not taken: send none");
    pub(super) const TOO_MANY_LINES: Self = Self {
        kind: Kind::HeadTooLarge,
        text: "the head has more than 100 header lines: send fewer",
    };
    pub(super) const HEAD_TOO_LARGE: Self = Self {
        kind: Kind::HeadTooLarge,
        text: "the head is too large: send fewer or shorter headers, or raise max_head_bytes",
    };
    pub(super) const TARGET_TOO_LONG: Self = Self {
        kind: Kind::TargetTooLong,
        text: "the request line is too long: send a shorter path, or raise max_head_bytes",
    };

    /// As clients see it.
    pub(crate) fn error(self) -> Error {
        Error::new(self.kind, self.text)
    }
}

/// Which bytes a word may have.
struct Set([bool; 256]);

impl Set {
    const fn of(others: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            #[expect(
                clippy::indexing_slicing,
                clippy::cast_possible_truncation,
                reason = "at build time, below 128"
            )]
            {
                set[byte] = (byte as u8).is_ascii_alphanumeric();
            }
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            #[expect(clippy::indexing_slicing, reason = "at build time")]
            {
                set[others[at] as usize] = true;
            }
            at += 1;
        }
        Self(set)
    }

    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).is_some_and(|has| *has)
    }

    fn has_all(&self, word: &[u8]) -> bool {
        word.iter().all(|byte| self.has(*byte))
    }
}

static TOKEN: Set = Set::of(b"!#$%&'*+-.^_`|~");
/// Names, addresses, a port; of what RFC 3986 allows besides, only the comma could be read as two.
static HOST: Set = Set::of(b"-._~%!$&'()*+;=:[]");

/// True where one is in it, a tab excepted. All bytes are looked at, many at a time.
fn has_control(text: &[u8]) -> bool {
    let is_control = |byte: u8| (byte < b' ') & (byte != b'\t') | (byte == 0x7f);
    text.iter().fold(false, |found, byte| found | is_control(*byte))
}

/// The request line; true for HTTP/1.1.
pub(super) fn request(line: &[u8]) -> Result<bool, Fault> {
    let (front, version) = line.split_last_chunk::<9>().ok_or(Fault::VERSION)?;
    let is_11 = match version {
        b" HTTP/1.1" => true,
        b" HTTP/1.0" => false,
        _ => return Err(Fault::VERSION),
    };
    let space = front.iter().position(|byte| *byte == b' ').ok_or(Fault::REQUEST_LINE)?;
    let (method, target) = front.split_at_checked(space).ok_or(Fault::REQUEST_LINE)?;
    let target = target.get(1..).unwrap_or_default();
    let is_whole = !target.is_empty() && !target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f);
    // What is no text hyper would refuse, in words of its own.
    let is_text = target.is_ascii() || std::str::from_utf8(target).is_ok();
    match is_whole && is_text && !method.is_empty() && TOKEN.has_all(method) {
        true => Ok(is_11),
        false => Err(Fault::REQUEST_LINE),
    }
}

/// What stands before a line's end, of which a part may have come.
pub(super) fn without_cr(part: &[u8]) -> &[u8] {
    part.strip_suffix(b"\r").unwrap_or(part)
}

/// A request line of which this much has come.
pub(super) fn begins_request(part: &[u8]) -> Result<(), Fault> {
    let part = without_cr(part);
    let mut words = part.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next());
    let is_method = TOKEN.has_all(method) && (!method.is_empty() || part.is_empty());
    let is_target = target.is_none_or(|target| !target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f));
    let Some(version) = words.next() else {
        return if is_method && is_target {
            Ok(())
        } else {
            Err(Fault::REQUEST_LINE)
        };
    };
    let is_version = b"HTTP/1.1".starts_with(version) || b"HTTP/1.0".starts_with(version);
    match is_method && is_target && target != Some(b"") && words.next().is_none() {
        true if is_version => Ok(()),
        true => Err(Fault::VERSION),
        false => Err(Fault::REQUEST_LINE),
    }
}

/// A header line of which this much has come.
pub(super) fn begins_header(part: &[u8]) -> Result<(), Fault> {
    match without_cr(part) {
        [] => Ok(()),
        name if TOKEN.has_all(name) => Ok(()),
        part => header(part).map(drop),
    }
}

/// A header line: its name and its value without the white space around it.
pub(super) fn header(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = line.iter().position(|byte| !TOKEN.has(*byte)).unwrap_or(line.len());
    match line.split_at_checked(end) {
        Some(([], [b' ' | b'\t', ..])) => Err(Fault::FOLDED),
        Some((name @ [_, ..], [b':', value @ ..])) if !has_control(value) => Ok((name, value.trim_ascii())),
        _ => Err(Fault::HEADER),
    }
}

/// A line after the last chunk. What would say where a request ends or whom it is for is not taken there.
pub(super) fn trailer(line: &[u8]) -> Result<(), Fault> {
    let (name, _) = header(line).map_err(|_| Fault::TRAILER)?;
    let framing: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];
    match framing.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        true => Err(Fault::TRAILER),
        false => Ok(()),
    }
}

/// A value of Host; an empty one is allowed.
pub(super) fn host(value: &[u8]) -> Result<(), Fault> {
    match HOST.has_all(value) {
        true => Ok(()),
        false => Err(Fault::HOST_VALUE),
    }
}

/// A value of Content-Length.
pub(super) fn length(value: &[u8]) -> Result<u64, Fault> {
    // 18 digits are no overflow, and more than anybody has.
    let is_number = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    match is_number {
        true => Ok(value
            .iter()
            .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))),
        false => Err(Fault::LENGTH),
    }
}

/// The size in a chunk's first line.
pub(super) fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let end = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
    let (digits, extensions) = line.split_at_checked(end).ok_or(Fault::CHUNK)?;
    if has_control(extensions) || !(1..=15).contains(&digits.len()) {
        return Err(Fault::CHUNK);
    }
    digits.iter().try_fold(0, |size, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(Fault::CHUNK)?;
        Ok(size * 16 + u64::from(digit))
    })
}
