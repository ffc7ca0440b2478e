//! Between our tensors and ONNX Runtime's: numbers are borrowed on the way in and copied once on the way out.

use ort::session::SessionInputValue;
use ort::value::{DynValue, Shape, TensorElementType, TensorRef, ValueType};

use super::words::readable;
use crate::each_data;
use crate::model::tensor::{Data, Datatype, Tensor, Text};

/// The protocol's name of an element type, or `None` for those that it has not.
pub(super) fn datatype(kind: TensorElementType) -> Option<Datatype> {
    Some(match kind {
        TensorElementType::Bool => Datatype::Bool,
        TensorElementType::Uint8 => Datatype::Uint8,
        TensorElementType::Uint16 => Datatype::Uint16,
        TensorElementType::Uint32 => Datatype::Uint32,
        TensorElementType::Uint64 => Datatype::Uint64,
        TensorElementType::Int8 => Datatype::Int8,
        TensorElementType::Int16 => Datatype::Int16,
        TensorElementType::Int32 => Datatype::Int32,
        TensorElementType::Int64 => Datatype::Int64,
        TensorElementType::Float16 => Datatype::Fp16,
        TensorElementType::Float32 => Datatype::Fp32,
        TensorElementType::Float64 => Datatype::Fp64,
        TensorElementType::String => Datatype::Bytes,
        _ => return None,
    })
}

/// The tensor as an input; it must outlive the run.
pub(super) fn borrowed(tensor: &Tensor) -> Result<SessionInputValue<'_>, String> {
    let shape = tensor.shape();
    let value = each_data!(
        tensor.data(),
        numbers => TensorRef::from_array_view((shape, numbers.as_slice())).map(Into::into),
        text => return strings(shape, text)
    );
    value.map_err(|e| readable(e.message()))
}

fn strings<'a>(shape: &[usize], text: &Text) -> Result<SessionInputValue<'a>, String> {
    let mut elements = Vec::with_capacity(text.len());
    for bytes in text.iter() {
        let element = std::str::from_utf8(bytes).map_err(|_| "text is not UTF-8")?;
        if element.contains('\0') {
            return Err("text holds a NUL, which onnx runtime cannot take".into());
        }
        elements.push(element.to_owned());
    }
    let value = ort::value::Tensor::from_string_array((shape, elements.as_slice()));
    value.map(Into::into).map_err(|e| readable(e.message()))
}

/// A copy of an output.
pub(super) fn owned(value: &DynValue) -> Result<Tensor, String> {
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err(format!("is {}, not a tensor", value.dtype()));
    };
    let kind = datatype(*ty).ok_or_else(|| format!("is a tensor of {ty}, which has no datatype in the protocol"))?;
    macro_rules! numbers {
        ($variant:ident) => {{
            let (shape, elements) = value.try_extract_tensor().map_err(|e| readable(e.message()))?;
            tensor(shape, Data::$variant(elements.to_vec()))
        }};
    }
    match kind {
        Datatype::Bool => {
            let shape = value.shape();
            tensor(shape, Data::Bool(super::booleans::read(value)?))
        }
        Datatype::Uint8 => numbers!(Uint8),
        Datatype::Uint16 => numbers!(Uint16),
        Datatype::Uint32 => numbers!(Uint32),
        Datatype::Uint64 => numbers!(Uint64),
        Datatype::Int8 => numbers!(Int8),
        Datatype::Int16 => numbers!(Int16),
        Datatype::Int32 => numbers!(Int32),
        Datatype::Int64 => numbers!(Int64),
        Datatype::Fp16 => numbers!(Fp16),
        Datatype::Fp32 => numbers!(Fp32),
        Datatype::Fp64 => numbers!(Fp64),
        Datatype::Bytes => {
            let (shape, elements) = value.try_extract_strings().map_err(|e| readable(e.message()))?;
            let mut text = Text::default();
            if !elements.iter().all(|element| text.push(element.as_bytes())) {
                return Err("holds more than 4 GiB of text".into());
            }
            tensor(shape, Data::Bytes(text))
        }
    }
}

fn tensor(shape: &Shape, data: Data) -> Result<Tensor, String> {
    let dims: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
    dims.and_then(|dims| Tensor::new(dims, data))
        .ok_or_else(|| format!("has the impossible shape {shape}"))
}
