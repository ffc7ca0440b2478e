//! Protobuf's wire format, as far as ONNX files use it: fields of a message, borrowed, every length checked.

use super::ScanError;

/// A field's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// Integers, booleans, enumerations.
    Varint(u64),
    /// Text, bytes, messages, packed numbers.
    Bytes(&'a [u8]),
    /// Fixed-size numbers, which nothing here needs.
    Fixed,
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    pub(super) value: Value<'a>,
    /// Tag and value as they stand in the file, for copying.
    pub(super) raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// The bytes, when the field has this number and holds bytes.
    pub(super) fn bytes(&self, number: u64) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) if self.number == number => Some(bytes),
            _ => None,
        }
    }

    /// The number, when the field has this number and holds one.
    pub(super) fn varint(&self, number: u64) -> Option<u64> {
        match self.value {
            Value::Varint(x) if self.number == number => Some(x),
            _ => None,
        }
    }
}

/// The fields of a message, in order. After an error there are no more.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// Reads a message.
pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<Field<'a>, ScanError> {
        let start = self.rest;
        let tag = varint(&mut self.rest)?;
        let number = tag >> 3;
        if number == 0 || number > 0x1FFF_FFFF {
            return Err(malformed());
        }
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = varint(&mut self.rest)?;
                Value::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(malformed()),
        };
        let used = start.len() - self.rest.len();
        let raw = start.get(..used).unwrap_or_default();
        Ok(Field { number, value, raw })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ScanError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| {
            let missing = length - self.rest.len();
            ScanError(format!(
                "the file is truncated: {missing} bytes are missing. copy it again, whole"
            ))
        })?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Reads a number of at most ten bytes.
pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, ScanError> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let Some((&byte, tail)) = rest.split_first() else {
            return Err(ScanError(
                "the file is truncated: it ends within a number. copy it again, whole".into(),
            ));
        };
        *rest = tail;
        value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed())
}

fn malformed() -> ScanError {
    ScanError("not an onnx model: the bytes are no protobuf message. export the model again".into())
}

/// Numbers, packed or one by one.
pub(super) fn push_ints(ints: &mut Vec<i64>, value: Value<'_>) -> Result<(), ScanError> {
    match value {
        Value::Varint(x) => ints.push(x.cast_signed()),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                ints.push(varint(&mut packed)?.cast_signed());
            }
        }
        Value::Fixed => {}
    }
    Ok(())
}

/// Text, with what is not UTF-8 replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Appends a number.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a field of bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a field that is a number.
pub(super) fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

/// Longest text of a file that a sentence repeats.
const LONGEST_SHOWN: usize = 80;

/// A name of the file as it may stand in a log, on a terminal or in a reply: short, and nothing that acts there.
pub(super) fn shown(bytes: &[u8]) -> String {
    let head = bytes.get(..bytes.len().min(LONGEST_SHOWN * 4)).unwrap_or_default();
    text(head).chars().filter(|&c| !acts(c)).take(LONGEST_SHOWN).collect()
}

/// True for characters that a terminal or a reader of logs obeys instead of showing them: controls, line ends of
/// Unicode, and those that turn the direction of the text around them.
pub(super) fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
