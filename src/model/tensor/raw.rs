//! Elements as little-endian bytes, one after the other: how they travel to runners and in the binary tensors of the
//! Open Inference Protocol. Text elements carry their length before them, as 4 bytes.
//!
//! Always holds: nothing is allocated for a count before the bytes that are there have been compared with it.

use half::f16;

use super::{Data, Datatype, Text};

/// Why bytes are no elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misread {
    /// They end too early.
    Short,
    /// A boolean is neither 0 nor 1.
    NoBoolean,
    /// More text than one tensor holds.
    TooMuchText,
}

/// How many bytes [`write()`] appends.
#[must_use]
pub fn len(data: &Data) -> usize {
    match data {
        Data::Bytes(text) => text.iter().map(|element| 4 + element.len()).sum(),
        data => data.len() * data.datatype().size().unwrap_or(0),
    }
}

/// Appends the elements.
pub fn write(data: &Data, out: &mut Vec<u8>) {
    macro_rules! write {
        ($($variant:ident),*) => {
            match data {
                $(Data::$variant(values) => put(out, values, |x| x.to_le_bytes()),)*
                Data::Bool(values) => out.extend(values.iter().map(|&b| u8::from(b))),
                Data::Bytes(text) => {
                    for element in text.iter() {
                        // A text buffer is shorter than 4 GiB.
                        let length = u32::try_from(element.len()).unwrap_or(u32::MAX);
                        out.extend_from_slice(&length.to_le_bytes());
                        out.extend_from_slice(element);
                    }
                }
            }
        };
    }
    write!(
        Uint8,
        Uint16,
        Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64
    );
}

/// Room first, then the values: a loop without a check per element, which becomes a copy.
fn put<T: Copy, const N: usize>(out: &mut Vec<u8>, values: &[T], bytes: impl Fn(T) -> [u8; N]) {
    let start = out.len();
    out.resize(start + values.len() * N, 0);
    let (slots, _) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<N>();
    for (slot, value) in slots.iter_mut().zip(values) {
        *slot = bytes(*value);
    }
}

/// The first `count` elements, and the bytes behind them.
///
/// # Errors
/// The bytes are none of this datatype, or too few.
pub fn read(datatype: Datatype, count: usize, bytes: &[u8]) -> Result<(Data, &[u8]), Misread> {
    let Some(size) = datatype.size() else {
        return strings(count, bytes).map(|(text, rest)| (Data::Bytes(text), rest));
    };
    let length = count.checked_mul(size).ok_or(Misread::Short)?;
    let (own, rest) = bytes.split_at_checked(length).ok_or(Misread::Short)?;
    macro_rules! numbers {
        ($type:ty) => {{
            let (elements, _) = own.as_chunks::<{ size_of::<$type>() }>();
            elements.iter().map(|e| <$type>::from_le_bytes(*e)).collect()
        }};
    }
    let data = match datatype {
        Datatype::Bool if own.iter().any(|&b| b > 1) => return Err(Misread::NoBoolean),
        Datatype::Bool => Data::Bool(own.iter().map(|&b| b == 1).collect()),
        Datatype::Uint8 | Datatype::Bytes => Data::Uint8(own.to_vec()),
        Datatype::Uint16 => Data::Uint16(numbers!(u16)),
        Datatype::Uint32 => Data::Uint32(numbers!(u32)),
        Datatype::Uint64 => Data::Uint64(numbers!(u64)),
        Datatype::Int8 => Data::Int8(numbers!(i8)),
        Datatype::Int16 => Data::Int16(numbers!(i16)),
        Datatype::Int32 => Data::Int32(numbers!(i32)),
        Datatype::Int64 => Data::Int64(numbers!(i64)),
        Datatype::Fp16 => Data::Fp16(numbers!(f16)),
        Datatype::Fp32 => Data::Fp32(numbers!(f32)),
        Datatype::Fp64 => Data::Fp64(numbers!(f64)),
    };
    Ok((data, rest))
}

fn strings(count: usize, mut bytes: &[u8]) -> Result<(Text, &[u8]), Misread> {
    let mut text = Text::default();
    for _ in 0..count {
        let (length, rest) = bytes.split_first_chunk().ok_or(Misread::Short)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Misread::Short)?;
        let (element, rest) = rest.split_at_checked(length).ok_or(Misread::Short)?;
        if !text.push(element) {
            return Err(Misread::TooMuchText);
        }
        bytes = rest;
    }
    Ok((text, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_and_nothing_more() {
        let mut words = Text::default();
        for word in ["", "zwölf", "\0"] {
            assert!(words.push(word.as_bytes()));
        }
        for data in [
            Data::Bool(vec![true, false, true]),
            Data::Uint8(vec![1, 2, 255]),
            Data::Int16(vec![-1, 2, i16::MIN]),
            Data::Uint64(vec![u64::MAX, 0, 1]),
            Data::Fp16(vec![f16::from_f32(0.5), f16::NEG_INFINITY, f16::ZERO]),
            Data::Fp32(vec![0.1, f32::INFINITY, -0.0]),
            Data::Bytes(words),
        ] {
            let mut bytes = Vec::new();
            write(&data, &mut bytes);
            assert_eq!(bytes.len(), len(&data));
            for cut in 0..bytes.len() {
                let short = read(data.datatype(), 3, bytes.get(..cut).unwrap());
                assert_eq!(short, Err(Misread::Short), "{data:?} cut at {cut}");
            }
            bytes.push(7);
            assert_eq!(read(data.datatype(), 3, &bytes), Ok((data, &[7][..])));
        }
    }

    #[test]
    fn counts_and_lengths_that_lie_allocate_nothing() {
        for datatype in Datatype::ALL {
            assert_eq!(read(datatype, usize::MAX, &[0; 16]), Err(Misread::Short), "{datatype}");
        }
        assert_eq!(read(Datatype::Bytes, 1, &[255, 255, 255, 255, 1]), Err(Misread::Short));
        assert_eq!(read(Datatype::Bool, 2, &[1, 2]), Err(Misread::NoBoolean));
    }
}
