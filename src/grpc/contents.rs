//! Typed `contents` of a tensor: each datatype has its field, the small integers share those of 32 bits.

use super::wire::{self, Value, fields};
use crate::decode::clip;
use crate::error::{Error, Kind};
use crate::model::tensor::{Data, Datatype, Tensor, Text};
use crate::oip;

/// The fields of `InferTensorContents`.
const FIELDS: [(u64, &str); 8] = [
    (1, "bool_contents"),
    (2, "int_contents"),
    (3, "int64_contents"),
    (4, "uint_contents"),
    (5, "uint64_contents"),
    (6, "fp32_contents"),
    (7, "fp64_contents"),
    (8, "bytes_contents"),
];

/// A tensor from its typed contents.
///
/// # Errors
/// The elements are of another type, out of range, or not as many as the shape says.
pub(super) fn read(input: &str, datatype: Datatype, sent: &[i64], contents: &[u8]) -> Result<Tensor, Error> {
    let (shape, count) = oip::shape(input, sent)?;
    let reader = Reader {
        input,
        datatype,
        count,
        contents,
    };
    let data = match datatype {
        Datatype::Bool => Data::Bool(reader.integers(1, |x| Some(x != 0))?),
        Datatype::Int8 => Data::Int8(reader.integers(2, |x| i8::try_from(int(x)).ok())?),
        Datatype::Int16 => Data::Int16(reader.integers(2, |x| i16::try_from(int(x)).ok())?),
        Datatype::Int32 => Data::Int32(reader.integers(2, |x| Some(int(x)))?),
        Datatype::Int64 => Data::Int64(reader.integers(3, |x| Some(x.cast_signed()))?),
        Datatype::Uint8 => Data::Uint8(reader.integers(4, |x| u8::try_from(uint(x)).ok())?),
        Datatype::Uint16 => Data::Uint16(reader.integers(4, |x| u16::try_from(uint(x)).ok())?),
        Datatype::Uint32 => Data::Uint32(reader.integers(4, |x| Some(uint(x)))?),
        Datatype::Uint64 => Data::Uint64(reader.integers(5, Some)?),
        Datatype::Fp16 => {
            let text = format!(
                "input '{}' is FP16, which has no typed contents: send it in raw_input_contents",
                clip(input)
            );
            return Err(Error::new(Kind::WrongType, text));
        }
        Datatype::Fp32 => Data::Fp32(reader.floats(6, f32::from_le_bytes, |value| match value {
            Value::Fixed32(bytes) => Some(bytes),
            _ => None,
        })?),
        Datatype::Fp64 => Data::Fp64(reader.floats(7, f64::from_le_bytes, |value| match value {
            Value::Fixed64(bytes) => Some(bytes),
            _ => None,
        })?),
        Datatype::Bytes => Data::Bytes(reader.texts()?),
    };
    let held = data.len();
    Tensor::new(shape, data).ok_or_else(|| {
        let text = format!(
            "input '{}' has {held} elements, and shape {sent:?} takes {count}: send as many as the shape says",
            clip(input)
        );
        Error::new(Kind::WrongShape, text)
    })
}

/// The low half, as the wire format defines it for fields of 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "the wire format's own rule")]
fn uint(wide: u64) -> u32 {
    wide as u32
}

fn int(wide: u64) -> i32 {
    uint(wide).cast_signed()
}

/// One tensor's contents.
struct Reader<'a> {
    input: &'a str,
    datatype: Datatype,
    /// As the shape says.
    count: usize,
    contents: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The values of the field that this datatype's elements stand in; others must be empty.
    fn values(&self, number: u64) -> impl Iterator<Item = Result<Value<'a>, Error>> {
        let foreign = move |found: u64| {
            let name = |number| {
                FIELDS
                    .iter()
                    .find(|(n, _)| *n == number)
                    .map_or("another field", |f| f.1)
            };
            let (input, datatype) = (clip(self.input), self.datatype);
            let (found, wanted) = (name(found), name(number));
            let text = format!("input '{input}' is {datatype} and has {found}: send its elements in {wanted}");
            Error::new(Kind::WrongType, text)
        };
        fields(self.contents).filter_map(move |field| match field {
            Ok((found, value)) if found == number => Some(Ok(value)),
            Ok((_, Value::Bytes([]))) => None,
            Ok((found, _)) => Some(Err(foreign(found))),
            Err(error) => Some(Err(error)),
        })
    }

    /// Room for the elements that the shape claims, as far as the bytes can hold them.
    fn room<T>(&self, bytes_each: usize) -> Vec<T> {
        Vec::with_capacity(self.count.min(self.contents.len() / bytes_each))
    }

    fn integers<T>(&self, number: u64, narrow: impl Fn(u64) -> Option<T>) -> Result<Vec<T>, Error> {
        let mut all = self.room(1);
        let mut add = |wide: u64| match narrow(wide) {
            Some(x) => {
                all.push(x);
                Ok(())
            }
            None => {
                let (input, at, datatype) = (clip(self.input), all.len(), self.datatype);
                let text = format!("input '{input}', element {at}: the value is out of the range of {datatype}");
                Err(Error::new(Kind::WrongType, text))
            }
        };
        for value in self.values(number) {
            match value? {
                Value::Varint(wide) => add(wide)?,
                Value::Bytes(mut packed) => {
                    while !packed.is_empty() {
                        add(wire::varint(&mut packed).ok_or_else(wire::malformed)?)?;
                    }
                }
                _ => return Err(wire::malformed()),
            }
        }
        Ok(all)
    }

    fn floats<T, const N: usize>(
        &self,
        number: u64,
        float: impl Fn([u8; N]) -> T,
        single: impl Fn(Value<'_>) -> Option<[u8; N]>,
    ) -> Result<Vec<T>, Error> {
        let mut all = self.room(N);
        for value in self.values(number) {
            match value? {
                Value::Bytes(packed) => {
                    let (chunks, rest) = packed.as_chunks::<N>();
                    if !rest.is_empty() {
                        return Err(wire::malformed());
                    }
                    all.extend(chunks.iter().map(|bytes| float(*bytes)));
                }
                value => all.push(float(single(value).ok_or_else(wire::malformed)?)),
            }
        }
        Ok(all)
    }

    fn texts(&self) -> Result<Text, Error> {
        let mut all = Text::default();
        for value in self.values(8) {
            let Value::Bytes(element) = value? else {
                return Err(wire::malformed());
            };
            if !all.push(element) {
                let text = "too much text in one tensor: send fewer rows";
                return Err(Error::new(Kind::TooLarge, text));
            }
        }
        Ok(all)
    }
}
