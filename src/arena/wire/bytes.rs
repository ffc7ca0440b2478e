//! Numbers, lists and tensors of the wire: the part that reads hostile lengths.
//!
//! Always holds: a count is compared with the bytes that are left before anything is allocated for it.

use super::WireError;
use crate::model::tensor::raw::{self, Misread};
use crate::model::tensor::{Data, Datatype, Tensor};

/// Deeper shapes than any operator takes.
const MAX_RANK: u8 = 32;
const SHORT: WireError = WireError("it ends too early");

/// A length as 4 bytes. Longer ones make a frame that the channel refuses to send.
pub(super) fn put_len(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

pub(super) fn put_tensors(out: &mut Vec<u8>, tensors: &[Tensor]) {
    put_len(out, tensors.len());
    for tensor in tensors {
        put_tensor(out, tensor);
    }
}

fn put_tensor(out: &mut Vec<u8>, tensor: &Tensor) {
    let datatype = Datatype::ALL.iter().position(|&d| d == tensor.datatype());
    out.push(datatype.and_then(|d| u8::try_from(d).ok()).unwrap_or(u8::MAX));
    out.push(u8::try_from(tensor.shape().len()).unwrap_or(u8::MAX));
    for &dimension in tensor.shape() {
        out.extend_from_slice(&(dimension as u64).to_le_bytes());
    }
    raw::write(tensor.data(), out);
}

/// What is left to read.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// The message, if nothing is left over.
    pub(super) fn end<T>(self, message: T) -> Result<T, WireError> {
        if !self.0.is_empty() {
            return Err(WireError("it goes on after its end"));
        }
        Ok(message)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_le_bytes)
    }

    /// One of a list, by its place in it.
    pub(super) fn choice<T: Copy>(&mut self, all: &[T]) -> Result<T, WireError> {
        all.get(usize::from(self.u8()?))
            .copied()
            .ok_or(WireError("a choice that there is not"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes with their length before them.
    pub(super) fn block(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<String, WireError> {
        self.block().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    pub(super) fn numbers(&mut self) -> Result<Vec<u32>, WireError> {
        let count = self.u32()? as usize;
        let bytes = self.take(count.checked_mul(4).ok_or(SHORT)?)?;
        Ok(bytes.as_chunks().0.iter().map(|c| u32::from_le_bytes(*c)).collect())
    }

    pub(super) fn tensors(&mut self) -> Result<Vec<Tensor>, WireError> {
        let count = self.u32()?;
        // Grown as they come: the count is only a claim.
        let mut tensors = Vec::new();
        for _ in 0..count {
            tensors.push(self.tensor()?);
        }
        Ok(tensors)
    }

    fn tensor(&mut self) -> Result<Tensor, WireError> {
        let datatype = Datatype::ALL.get(usize::from(self.u8()?)).copied();
        let datatype = datatype.ok_or(WireError("unknown datatype"))?;
        let shape = self.shape()?;
        let count = shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d));
        let count = count.ok_or(WireError("a shape beyond all memory"))?;
        let data = self.data(datatype, count)?;
        Tensor::new(shape, data).ok_or(WireError("a shape that is not its elements'"))
    }

    fn shape(&mut self) -> Result<Vec<usize>, WireError> {
        let rank = self.u8()?;
        if rank > MAX_RANK {
            return Err(WireError("a rank beyond any operator's"));
        }
        (0..rank)
            .map(|_| usize::try_from(self.u64()?).map_err(|_| WireError("a dimension beyond all memory")))
            .collect()
    }

    fn data(&mut self, datatype: Datatype, count: usize) -> Result<Data, WireError> {
        let (data, rest) = raw::read(datatype, count, self.0).map_err(|misread| match misread {
            Misread::Short => SHORT,
            Misread::NoBoolean => WireError("a boolean that is neither"),
            Misread::TooMuchText => WireError("more than 4 GiB of text"),
        })?;
        self.0 = rest;
        Ok(data)
    }
}
