//! Protobuf's wire format, read as borrowed slices and written into one buffer: the two messages of inference take this
//! way, all others are prost's.
//!
//! A generated message would allocate for each name, parameter and repeated field before anything is checked: two bytes
//! of an empty input become two hundred, so that a body within its limit could take gigabytes. Here nothing is
//! allocated for what the bytes do not hold. Every length is checked; nothing panics.

use crate::error::{Error, Kind};

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// Integers, booleans.
    Varint(u64),
    /// Four bytes.
    Fixed32([u8; 4]),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// Text, bytes, messages, packed numbers.
    Bytes(&'a [u8]),
}

/// The fields of a message, in order: number and value. After an error there are no more.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(&'a [u8]);

/// Reads a message.
pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields(message)
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read().ok_or_else(malformed);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<(u64, Value<'a>)> {
        let key = varint(&mut self.0)?;
        let number = key >> 3;
        if number == 0 || number > 0x1FFF_FFFF {
            return None;
        }
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.0)?),
            1 => Value::Fixed64(self.array()?),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).ok()?;
                let (taken, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(taken)
            }
            5 => Value::Fixed32(self.array()?),
            // Groups are not of this version of the language.
            _ => return None,
        };
        Some((number, value))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
}

/// A number of at most ten bytes, taken off `rest`.
pub(super) fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The bytes are no message.
pub(super) fn malformed() -> Error {
    Error::new(
        Kind::MalformedBody,
        "the bytes are no protobuf message of this RPC: they are cut off or garbled, send the message whole",
    )
}

/// Text of a field.
pub(super) fn text(value: Value<'_>) -> Result<&str, Error> {
    let Value::Bytes(bytes) = value else {
        return Err(malformed());
    };
    std::str::from_utf8(bytes).map_err(|_| {
        Error::new(
            Kind::MalformedBody,
            "a name or an id in the message is not UTF-8: send text",
        )
    })
}

/// Bytes of a field.
pub(super) fn bytes(value: Value<'_>) -> Result<&[u8], Error> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(malformed()),
    }
}

/// Appends a number.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Appends the head of a field of so many bytes.
pub(super) fn put_head(out: &mut Vec<u8>, number: u8, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

/// Appends a field of bytes, unless there are none.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_head(out, number, bytes.len());
        out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_as_they_stand_and_every_cut_is_found() {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, b"name");
        put_varint(&mut message, 2 << 3);
        put_varint(&mut message, u64::MAX);
        message.extend_from_slice(&[3 << 3 | 5, 1, 2, 3, 4, 4 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        let read: Result<Vec<_>, Error> = fields(&message).collect();
        let whole = vec![
            (1, Value::Bytes(b"name".as_slice())),
            (2, Value::Varint(u64::MAX)),
            (3, Value::Fixed32([1, 2, 3, 4])),
            (4, Value::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])),
        ];
        assert_eq!(read, Ok(whole));
        let ends = [0, 6, 17, 22, message.len()];
        for end in 0..message.len() {
            let cut = fields(&message[..end]).any(|field| field.is_err());
            assert_eq!(cut, !ends.contains(&end), "cut at {end}");
        }
    }

    #[test]
    fn numbers_without_end_fields_without_number_and_groups_are_refused() {
        for bytes in [
            &[8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1][..],
            &[0, 1],
            &[11, 12],
            &[10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 7],
        ] {
            assert!(fields(bytes).any(|field| field.is_err()), "{bytes:?}");
        }
    }
}
