//! The weights inside a file, to be shared by several sessions of it.

use std::ops::Range;

use super::ScanError;
use super::wire::{Value, fields, push_ints, text};

/// Smaller ones are not worth a word: biases, shapes, scales.
const LEAST_BYTES: usize = 64 * 1024;

/// One initializer whose numbers stand in the file as they stand in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// Its name in the graph.
    pub name: String,
    /// ONNX's number of the element type.
    pub element: i32,
    /// Dimensions.
    pub dims: Vec<i64>,
    /// Where its bytes lie in the file, little-endian.
    pub bytes: Range<usize>,
}

/// The initializers of a file's graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    /// Those that can be shared.
    pub shared: Vec<Weight>,
    /// Bytes of all, external data not counted.
    pub bytes: usize,
    /// Some lie in other files.
    pub external: bool,
}

impl Weights {
    /// Bytes of those that can be shared.
    #[must_use]
    pub fn shared_bytes(&self) -> usize {
        self.shared.iter().map(|weight| weight.bytes.len()).sum()
    }
}

/// Finds the weights of a model file.
///
/// # Errors
/// Not a model.
pub fn weights(file: &[u8]) -> Result<Weights, ScanError> {
    let mut weights = Weights::default();
    for field in fields(file) {
        let Some(graph) = field?.bytes(7) else { continue };
        // What the caller may replace at each run is no constant.
        let mut inputs = Vec::new();
        for field in fields(graph) {
            if let Some(input) = field?.bytes(11) {
                let name = fields(input).find_map(|field| field.ok()?.bytes(1));
                inputs.push(text(name.unwrap_or_default()));
            }
        }
        for field in fields(graph) {
            if let Some(tensor) = field?.bytes(5) {
                weights.read(file, tensor)?;
            }
        }
        weights.shared.retain(|weight| !inputs.contains(&weight.name));
    }
    Ok(weights)
}

impl Weights {
    fn read(&mut self, file: &[u8], tensor: &[u8]) -> Result<(), ScanError> {
        let (mut dims, mut element, mut name, mut bytes) = (Vec::new(), 0, String::new(), &[][..]);
        for field in fields(tensor) {
            let field = field?;
            match (field.number, field.value) {
                (1, value) => push_ints(&mut dims, value)?,
                (2, Value::Varint(kind)) => element = i32::try_from(kind).unwrap_or(0),
                (8, Value::Bytes(own)) => name = text(own),
                // Raw bytes; packed floats and doubles are the same bytes.
                (9, Value::Bytes(raw)) | (4 | 10, Value::Bytes(raw)) => bytes = raw,
                (14, Value::Varint(1)) => self.external = true,
                _ => {}
            }
        }
        self.bytes += bytes.len();
        let start = (bytes.as_ptr() as usize).checked_sub(file.as_ptr() as usize);
        let Some(start) = start.filter(|_| bytes.len() >= LEAST_BYTES && !name.is_empty()) else {
            return Ok(());
        };
        self.shared.push(Weight {
            name,
            element,
            dims,
            bytes: start..start + bytes.len(),
        });
        Ok(())
    }
}
