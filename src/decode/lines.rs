//! Lines out of a body that arrives in chunks, each no longer than a limit.

/// Longest line of newline-delimited JSON.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Its bytes, without the line end.
    Text(&'a [u8]),
    /// Longer than the limit; its bytes are gone.
    TooLong,
}

/// Splits chunks at `\n`; keeps at most one line's bytes.
#[derive(Debug, Default)]
pub struct LineSplitter {
    part: Vec<u8>,
    overlong: bool,
}

impl LineSplitter {
    /// Feeds a chunk; `each` gets every line that it completes, empty ones included.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Line<'_>)) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|&b| b == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.part.is_empty() && !self.overlong && line.len() <= MAX_LINE_BYTES {
                each(Line::Text(trim(line)));
            } else {
                self.keep(line);
                self.flush(&mut each);
            }
        }
        self.keep(rest);
    }

    /// The last line, when it has no line end.
    pub fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if self.overlong || !self.part.is_empty() {
            self.flush(&mut each);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.overlong || self.part.len() + bytes.len() > MAX_LINE_BYTES {
            self.overlong = true;
            self.part.clear();
        } else {
            self.part.extend_from_slice(bytes);
        }
    }

    fn flush(&mut self, each: &mut impl FnMut(Line<'_>)) {
        each(if self.overlong {
            Line::TooLong
        } else {
            Line::Text(trim(&self.part))
        });
        self.part.clear();
        self.overlong = false;
    }
}

fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(body: &[u8], chunk: usize) -> Vec<Option<Vec<u8>>> {
        let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
        let mut each = |line: Line<'_>| {
            lines.push(match line {
                Line::Text(t) => Some(t.to_vec()),
                Line::TooLong => None,
            });
        };
        for part in body.chunks(chunk) {
            splitter.push(part, &mut each);
        }
        splitter.finish(each);
        lines
    }

    #[test]
    fn lines_do_not_depend_on_where_the_chunks_end() {
        let body = b"{\"a\":1}\r\n\n{\"b\":2}\nlast";
        let whole = split(body, body.len());
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[0].as_deref(), Some(&b"{\"a\":1}"[..]));
        assert_eq!(whole[3].as_deref(), Some(&b"last"[..]));
        for chunk in 1..body.len() {
            assert_eq!(split(body, chunk), whole, "chunks of {chunk}");
        }
    }

    #[test]
    fn an_endless_line_is_reported_once_and_keeps_no_memory() {
        let mut body = vec![b'x'; 3 * MAX_LINE_BYTES];
        body.extend_from_slice(b"\nok\n");
        for chunk in [1_000, MAX_LINE_BYTES, body.len()] {
            assert_eq!(split(&body, chunk), vec![None, Some(b"ok".to_vec())]);
        }
        let mut splitter = LineSplitter::default();
        splitter.push(&body[..2 * MAX_LINE_BYTES], |_| {});
        assert!(splitter.part.is_empty());
    }
}
