//! Flat typed tensors: the one form in which values enter and leave a model.
//!
//! Always holds: `shape` multiplies out to the number of elements in `data`; data is row-major.
//! Leaves to others: what a tensor means (`layout`, `head`), how it travels (`arena::channel`,
//! `oip`), and ONNX Runtime's own value type (`session`).

pub mod raw;

use half::f16;

/// Element types, spelled as the Open Inference Protocol spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    /// The protocol's spelling, e.g. `FP32`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The type of this name, in the protocol's spelling.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.name() == name)
    }

    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// Bytes of one element; `None` for text, whose elements differ.
    #[must_use]
    pub fn size(self) -> Option<usize> {
        Some(match self {
            Self::Bool | Self::Uint8 | Self::Int8 => 1,
            Self::Uint16 | Self::Int16 | Self::Fp16 => 2,
            Self::Uint32 | Self::Int32 | Self::Fp32 => 4,
            Self::Uint64 | Self::Int64 | Self::Fp64 => 8,
            Self::Bytes => return None,
        })
    }

    /// True for the types that can stand for a real number.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Fp32 | Self::Fp64)
    }
}

impl std::fmt::Display for Datatype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Strings one after the other in one buffer; element `i` ends at `ends[i]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Text {
    /// Appends one element. Returns false, and appends nothing, when the buffer would pass 4 GiB.
    pub fn push(&mut self, element: &[u8]) -> bool {
        let Ok(end) = u32::try_from(self.bytes.len() + element.len()) else {
            return false;
        };
        self.bytes.extend_from_slice(element);
        self.ends.push(end);
        true
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Element `i`, or `None` past the end.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)? as usize;
        let start = match i.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|i| self.get(i))
    }
}

/// The elements of a tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "one variant per datatype")]
pub enum Data {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<f16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(Text),
}

/// Runs the same expression on the vector inside any [`Data`] variant but `Bytes`, which gets its own.
#[macro_export]
macro_rules! each_data {
    ($data:expr, $v:ident => $numbers:expr, $t:ident => $text:expr) => {
        match $data {
            $crate::model::tensor::Data::Bool($v) => $numbers,
            $crate::model::tensor::Data::Uint8($v) => $numbers,
            $crate::model::tensor::Data::Uint16($v) => $numbers,
            $crate::model::tensor::Data::Uint32($v) => $numbers,
            $crate::model::tensor::Data::Uint64($v) => $numbers,
            $crate::model::tensor::Data::Int8($v) => $numbers,
            $crate::model::tensor::Data::Int16($v) => $numbers,
            $crate::model::tensor::Data::Int32($v) => $numbers,
            $crate::model::tensor::Data::Int64($v) => $numbers,
            $crate::model::tensor::Data::Fp16($v) => $numbers,
            $crate::model::tensor::Data::Fp32($v) => $numbers,
            $crate::model::tensor::Data::Fp64($v) => $numbers,
            $crate::model::tensor::Data::Bytes($t) => $text,
        }
    };
}

impl Data {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        each_data!(self, v => v.len(), t => t.len())
    }

    /// True when there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type.
    #[must_use]
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::Bool(_) => Datatype::Bool,
            Self::Uint8(_) => Datatype::Uint8,
            Self::Uint16(_) => Datatype::Uint16,
            Self::Uint32(_) => Datatype::Uint32,
            Self::Uint64(_) => Datatype::Uint64,
            Self::Int8(_) => Datatype::Int8,
            Self::Int16(_) => Datatype::Int16,
            Self::Int32(_) => Datatype::Int32,
            Self::Int64(_) => Datatype::Int64,
            Self::Fp16(_) => Datatype::Fp16,
            Self::Fp32(_) => Datatype::Fp32,
            Self::Fp64(_) => Datatype::Fp64,
            Self::Bytes(_) => Datatype::Bytes,
        }
    }

    /// Element `i` as a real number, if it is one (booleans are 0 and 1).
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "scores and labels are far below 2^53")]
    pub fn number(&self, i: usize) -> Option<f64> {
        match self {
            Self::Bool(v) => v.get(i).map(|&b| f64::from(u8::from(b))),
            Self::Uint8(v) => v.get(i).map(|&x| f64::from(x)),
            Self::Uint16(v) => v.get(i).map(|&x| f64::from(x)),
            Self::Uint32(v) => v.get(i).map(|&x| f64::from(x)),
            Self::Uint64(v) => v.get(i).map(|&x| x as f64),
            Self::Int8(v) => v.get(i).map(|&x| f64::from(x)),
            Self::Int16(v) => v.get(i).map(|&x| f64::from(x)),
            Self::Int32(v) => v.get(i).map(|&x| f64::from(x)),
            Self::Int64(v) => v.get(i).map(|&x| x as f64),
            Self::Fp16(v) => v.get(i).map(|&x| f64::from(x)),
            Self::Fp32(v) => v.get(i).map(|&x| f64::from(x)),
            Self::Fp64(v) => v.get(i).copied(),
            Self::Bytes(_) => None,
        }
    }
}

/// A shaped block of values.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of this shape, or `None` when the shape's checked product is not the element count.
    #[must_use]
    pub fn new(shape: Vec<usize>, data: Data) -> Option<Self> {
        let count = shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d))?;
        (count == data.len()).then_some(Self { shape, data })
    }

    /// Dimensions, outermost first; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The element type.
    #[must_use]
    pub fn datatype(&self) -> Datatype {
        self.data.datatype()
    }

    /// First dimension; 1 for a scalar.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements per row: the product of all dimensions but the first.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Rows `start..end` along the first axis as a tensor of their own; `None` outside the tensor or for a scalar.
    #[must_use]
    pub fn slice_rows(&self, start: usize, end: usize) -> Option<Self> {
        if start > end || self.shape.is_empty() || end > self.rows() {
            return None;
        }
        let width = self.row_len();
        let (from, to) = (start * width, end * width);
        macro_rules! cut {
            ($($variant:ident),*) => {
                match &self.data {
                    $(Data::$variant(v) => Data::$variant(v.get(from..to)?.to_vec()),)*
                    Data::Bytes(t) => {
                        let mut out = Text::default();
                        for i in from..to {
                            out.push(t.get(i)?);
                        }
                        Data::Bytes(out)
                    }
                }
            };
        }
        let data = cut!(
            Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64
        );
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = end - start;
        }
        Some(Self { shape, data })
    }

    /// Joins tensors of one datatype and equal inner dimensions along the first axis.
    #[must_use]
    pub fn concat(parts: &[&Tensor]) -> Option<Self> {
        let (first, rest) = parts.split_first()?;
        let mut joined = (*first).clone();
        for part in rest {
            if part.shape.is_empty() || part.shape.get(1..) != joined.shape.get(1..) {
                return None;
            }
            macro_rules! join {
                ($($variant:ident),*) => {
                    match (&mut joined.data, &part.data) {
                        $((Data::$variant(a), Data::$variant(b)) => a.extend_from_slice(b),)*
                        (Data::Bytes(a), Data::Bytes(b)) => {
                            for element in b.iter() {
                                a.push(element);
                            }
                        }
                        _ => return None,
                    }
                };
            }
            join!(
                Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64
            );
            if let Some(rows) = joined.shape.first_mut() {
                *rows += part.rows();
            }
        }
        Some(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_that_does_not_match_its_elements_is_refused() {
        assert!(Tensor::new(vec![2, 3], Data::Fp32(vec![0.0; 6])).is_some());
        assert!(Tensor::new(vec![2, 3], Data::Fp32(vec![0.0; 5])).is_none());
        assert!(Tensor::new(vec![usize::MAX, 2], Data::Fp32(vec![])).is_none());
    }

    #[test]
    fn joining_slices_gives_the_whole_again() {
        let mut text = Text::default();
        for word in ["a", "", "ccc", "dd"] {
            assert!(text.push(word.as_bytes()));
        }
        for data in [Data::Bytes(text), Data::Int64(vec![1, 2, 3, 4])] {
            let whole = Tensor::new(vec![4, 1], data).unwrap();
            let (a, b) = (whole.slice_rows(0, 1).unwrap(), whole.slice_rows(1, 4).unwrap());
            assert_eq!(Tensor::concat(&[&a, &b]).unwrap(), whole);
            assert!(whole.slice_rows(3, 5).is_none());
        }
    }
}
