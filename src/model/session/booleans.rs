//! Booleans out of ONNX Runtime, byte by byte.
//!
//! A file may carry any byte as a boolean (a constant's raw data is not checked), and a Rust `bool` that is neither 0
//! nor 1 is undefined behaviour: so they are read as bytes, and what is not 0 is true.

use ort::value::{DynTensorValueType, DynValue};

/// The elements of a boolean tensor.
#[allow(
    unsafe_code,
    reason = "the binding offers booleans only as `bool`, which they need not be"
)]
pub(super) fn read(value: &DynValue) -> Result<Vec<bool>, String> {
    let value = value
        .view()
        .downcast::<DynTensorValueType>()
        .map_err(|_| "is not a tensor")?;
    let count = value.shape().num_elements();
    if count == 0 {
        return Ok(Vec::new());
    }
    if !value.memory_info().is_cpu_accessible() {
        return Err("is not in this machine's memory".into());
    }
    // SAFETY: the caller has matched the type to a tensor of booleans, one byte each; ONNX Runtime keeps `count` of them
    // at this address in CPU memory for as long as the value lives, which outlives this borrow; it has written them.
    let bytes = unsafe { std::slice::from_raw_parts(value.data_ptr().cast::<u8>(), count) };
    Ok(bytes.iter().map(|&byte| byte != 0).collect())
}
