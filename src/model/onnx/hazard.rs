//! What in a file may bring down the process that runs it, as far as the file alone shows.
//!
//! A division of integers by zero, or of the least one by −1, ends the process; control flow may not end; an operator from
//! outside the ONNX standard may do anything; a tensor of a size that the request states takes all memory (`sizes`).
//! Always holds: a division counts as harmless only where one of its numbers is
//! known to be floating-point, or where its divisor stands in the file. Element types are followed from where the
//! file states them (inputs, weights, `value_info`: ONNX Runtime refuses a file that states a wrong one) through operators
//! that keep them or give floats only; whatever is not known counts as an integer.

mod sizes;

use std::collections::{BTreeSet, HashMap, HashSet};

use super::wire::{Field, Value, fields, shown, text, varint};
use super::{NODES_OF_A_TURN, ScanError};
use crate::priority::offer_turn;

/// Operators with a graph inside, or that ONNX Runtime turns into such.
const CONTROL_FLOW: [&str; 4] = ["If", "Loop", "Scan", "SequenceMap"];

/// All inputs and the output are of one type.
const ALIKE: &str = " Add Sub Mul Div Mod Max Min Sum Mean Concat MatMul Gemm PRelu ";
/// The first output is of the first input's type.
const KEEP: &str = " Abs Ceil Clip Compress CumSum DepthToSpace Dropout Einsum Erf Expand Flatten Floor Gather GatherElements \
    GatherND Identity MaxPool Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin \
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence Round ScatterElements ScatterND Sign Slice \
    SpaceToDepth Squeeze Tile TopK Transpose Trilu Unique Unsqueeze Upsample \
    ArrayFeatureExtractor Binarizer Imputer TreeEnsemble ";
/// All outputs are floating-point, whatever the inputs are.
const FLOAT: &str = " Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Celu Conv ConvTranspose Cos Cosh \
    DequantizeLinear Elu Exp GRU Gelu GlobalAveragePool GlobalMaxPool GroupNormalization HardSigmoid HardSwish Hardmax \
    InstanceNormalization LRN LSTM LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LpPool Mish RNN Reciprocal Selu \
    Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu ";
/// The same, of `ai.onnx.ml`.
const FLOAT_ML: &str =
    " FeatureVectorizer LinearRegressor Normalizer OneHotEncoder SVMRegressor Scaler TreeEnsembleRegressor ";
/// Labels first, then floating-point scores.
const CLASSIFIERS: &str = " LinearClassifier SVMClassifier TreeEnsembleClassifier ";

fn is_in(list: &str, op: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == op)
}

/// The operators of a model file that may bring a process down, as an engineer calls them.
///
/// # Errors
/// The bytes are no protobuf message.
pub(super) fn find(model: &[u8]) -> Result<Vec<String>, ScanError> {
    let mut look = Look::default();
    let functions = messages(model, 25)?;
    for function in &functions {
        let name = one(function, 1)?.map(text).unwrap_or_default();
        let domain = domain(one(function, 10)?);
        look.functions.insert((domain, name));
    }
    for function in functions {
        // Its inputs may be anything.
        look.nodes(function, 7, Types::default())?;
    }
    for graph in messages(model, 7)? {
        look.nodes(graph, 1, Types::stated(graph)?)?;
    }
    Ok(look.found.into_iter().collect())
}

/// What is known of a graph's values, by name.
#[derive(Default)]
struct Types<'a> {
    floats: HashSet<&'a [u8]>,
    /// Numbers that stand in the file.
    constants: HashMap<&'a [u8], &'a [u8]>,
    /// Values that no number of a request changes; at most its shape does.
    settled: HashSet<&'a [u8]>,
}

impl<'a> Types<'a> {
    fn stated(graph: &'a [u8]) -> Result<Self, ScanError> {
        let mut types = Self::default();
        let mut inputs = Vec::new();
        for field in fields(graph) {
            let field = field?;
            let Value::Bytes(bytes) = field.value else { continue };
            match field.number {
                5 => {
                    let name = one(bytes, 8)?.unwrap_or_default();
                    types.constants.insert(name, bytes);
                    types.settled.insert(name);
                    types.put(name, is_float(data_type(bytes)?));
                }
                11..=13 => {
                    let name = one(bytes, 1)?.unwrap_or_default();
                    types.put(name, is_float(element_type(bytes)?));
                    if field.number == 11 {
                        inputs.push(name);
                    }
                }
                _ => {}
            }
        }
        // What a caller may replace is no constant.
        for name in inputs {
            types.constants.remove(name);
            types.settled.remove(name);
        }
        Ok(types)
    }

    fn put(&mut self, name: &'a [u8], is_float: bool) {
        if is_float && !name.is_empty() {
            self.floats.insert(name);
        }
    }
}

#[derive(Default)]
struct Look {
    /// Functions that the file itself defines: what they do is looked at in their own nodes.
    functions: HashSet<(String, String)>,
    found: BTreeSet<String>,
}

impl Look {
    fn nodes<'a>(&mut self, graph: &'a [u8], number: u64, mut types: Types<'a>) -> Result<(), ScanError> {
        for (n, field) in fields(graph).enumerate() {
            if n.is_multiple_of(NODES_OF_A_TURN) {
                offer_turn();
            }
            if let Some(bytes) = field?.bytes(number) {
                let node = Node::read(bytes)?;
                if let Some(hazard) = self.hazard(&node, &types)? {
                    self.found.insert(hazard);
                }
                if !self.is_function(&node) {
                    node.give(&mut types)?;
                }
            }
        }
        Ok(())
    }

    fn is_function(&self, node: &Node<'_>) -> bool {
        !self.functions.is_empty() && self.functions.contains(&(node.domain.clone(), node.op.clone()))
    }

    fn hazard(&self, node: &Node<'_>, types: &Types<'_>) -> Result<Option<String>, ScanError> {
        let op = &node.op;
        if node.has_graph() || node.domain.is_empty() && CONTROL_FLOW.contains(&op.as_str()) {
            return Ok(Some(format!("{op} (control flow)")));
        }
        if self.is_function(node) {
            return Ok(None);
        }
        if !matches!(node.domain.as_str(), "" | "ai.onnx.ml") {
            let shown = shown(format!("{}:{op}", node.domain).as_bytes());
            return Ok(Some(format!("{shown} (not of the ONNX standard)")));
        }
        if sizes::asks(node, types) {
            return Ok(Some(format!("{op} to a size that the request gives")));
        }
        if !node.domain.is_empty() || !matches!(op.as_str(), "Div" | "Mod") {
            return Ok(None);
        }
        let is_float = node
            .inputs
            .iter()
            .chain(&node.outputs)
            .any(|name| types.floats.contains(name));
        let divisor = node.inputs.get(1).and_then(|name| types.constants.get(name));
        let is_harmless = is_float
            || divisor
                .map(|tensor| divides_safely(tensor))
                .transpose()?
                .unwrap_or(false);
        Ok((!is_harmless).then(|| format!("{op} of integers")))
    }
}

/// A node's parts.
#[derive(Default)]
struct Node<'a> {
    op: String,
    domain: String,
    inputs: Vec<&'a [u8]>,
    outputs: Vec<&'a [u8]>,
    attributes: Vec<&'a [u8]>,
}

impl<'a> Node<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ScanError> {
        let mut node = Self::default();
        for field in fields(bytes) {
            let Field {
                number,
                value: Value::Bytes(bytes),
                ..
            } = field?
            else {
                continue;
            };
            match number {
                1 => node.inputs.push(bytes),
                2 => node.outputs.push(bytes),
                4 => node.op = text(bytes),
                5 => node.attributes.push(bytes),
                7 => node.domain = domain(Some(bytes)),
                _ => {}
            }
        }
        Ok(node)
    }

    fn has_graph(&self) -> bool {
        let is_graph = |field: Field<'_>| matches!(field.number, 6 | 11);
        let mut all = self.attributes.iter().flat_map(|attribute| fields(attribute).flatten());
        all.any(is_graph)
    }

    /// True where an attribute is what the caller of the function gives it: what stands here says nothing then.
    fn is_given(&self) -> bool {
        let is_reference = |field: Field<'_>| field.number == 21;
        let mut all = self.attributes.iter().flat_map(|attribute| fields(attribute).flatten());
        all.any(is_reference)
    }

    fn attribute(&self, name: &[u8]) -> Option<&'a [u8]> {
        let is_it = |attribute: &&&[u8]| one(attribute, 1).is_ok_and(|found| found == Some(name));
        self.attributes.iter().find(is_it).copied()
    }

    /// Takes note of what is known of the outputs.
    fn give(&self, types: &mut Types<'a>) -> Result<(), ScanError> {
        if sizes::is_settled(self, types) {
            types.settled.extend(self.outputs.iter().copied());
        }
        if self.is_given() {
            return Ok(());
        }
        let is_known = |at: usize| self.inputs.get(at).is_some_and(|name| types.floats.contains(name));
        let op = self.op.as_str();
        let (first, others) = if !self.domain.is_empty() {
            let all = is_in(FLOAT_ML, op) || is_in(KEEP, op) && is_known(0);
            (all, all || is_in(CLASSIFIERS, op))
        } else if is_in(FLOAT, op) {
            (true, true)
        } else if is_in(ALIKE, op) {
            ((0..self.inputs.len()).any(is_known), false)
        } else if is_in(KEEP, op) {
            (is_known(0), false)
        } else {
            match op {
                "Split" => (is_known(0), is_known(0)),
                "Where" => (is_known(1) || is_known(2), false),
                "CastLike" => (is_known(1), false),
                "Cast" => (is_float(number(self.attribute(b"to"), 3)?), false),
                "Constant" => (self.constant(types)?, false),
                "ConstantOfShape" => (self.filled()?, false),
                _ => (false, false),
            }
        };
        for (at, name) in self.outputs.iter().enumerate() {
            types.put(name, if at == 0 { first } else { others });
        }
        Ok(())
    }

    /// True for a constant of floats.
    fn constant(&self, types: &mut Types<'a>) -> Result<bool, ScanError> {
        if self
            .attribute(b"value_float")
            .or(self.attribute(b"value_floats"))
            .is_some()
        {
            return Ok(true);
        }
        let Some(tensor) = self
            .attribute(b"value")
            .map(|value| one(value, 5))
            .transpose()?
            .flatten()
        else {
            return Ok(false);
        };
        if let Some(name) = self.outputs.first() {
            types.constants.insert(name, tensor);
        }
        Ok(is_float(data_type(tensor)?))
    }

    /// True where the shape is filled with floats, as it is where nothing is said.
    fn filled(&self) -> Result<bool, ScanError> {
        let tensor = self.attribute(b"value").map(|value| one(value, 5)).transpose()?;
        tensor
            .flatten()
            .map_or(Ok(true), |tensor| data_type(tensor).map(is_float))
    }
}

/// `ai.onnx` is the long name of the default domain.
fn domain(bytes: Option<&[u8]>) -> String {
    bytes.map(text).filter(|name| name != "ai.onnx").unwrap_or_default()
}

fn messages(message: &[u8], number: u64) -> Result<Vec<&[u8]>, ScanError> {
    let mut all = Vec::new();
    for field in fields(message) {
        all.extend(field?.bytes(number));
    }
    Ok(all)
}

/// The last field of bytes with this number.
fn one(message: &[u8], number: u64) -> Result<Option<&[u8]>, ScanError> {
    let mut last = None;
    for field in fields(message) {
        last = field?.bytes(number).or(last);
    }
    Ok(last)
}

fn number(message: Option<&[u8]>, wanted: u64) -> Result<u64, ScanError> {
    let mut last = 0;
    for field in fields(message.unwrap_or_default()) {
        last = field?.varint(wanted).unwrap_or(last);
    }
    Ok(last)
}

/// `TensorProto.data_type`.
fn data_type(tensor: &[u8]) -> Result<u64, ScanError> {
    number(Some(tensor), 2)
}

/// The element type of a `ValueInfoProto` that is a tensor.
fn element_type(value: &[u8]) -> Result<u64, ScanError> {
    let kind = one(value, 2)?.unwrap_or_default();
    number(one(kind, 1)?, 1)
}

/// FLOAT, FLOAT16, DOUBLE, BFLOAT16.
fn is_float(data_type: u64) -> bool {
    matches!(data_type, 1 | 10 | 11 | 16)
}

/// Whether all numbers of an integer tensor stand in the file, and none is 0 or −1.
fn divides_safely(tensor: &[u8]) -> Result<bool, ScanError> {
    let bytes: usize = match data_type(tensor)? {
        2 | 3 => 1,
        4 | 5 => 2,
        6 | 12 => 4,
        7 | 13 => 8,
        _ => return Ok(false),
    };
    let ones = u64::MAX >> (64 - 8 * bytes);
    let is_safe = |number: u64| number & ones != 0 && number & ones != ones;
    let mut found = false;
    for field in fields(tensor) {
        let field = field?;
        let all_safe = match (field.number, field.value) {
            (5 | 7 | 11, Value::Varint(number)) => is_safe(number),
            (5 | 7 | 11, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    if !is_safe(varint(&mut packed)?) {
                        return Ok(false);
                    }
                }
                true
            }
            (9, Value::Bytes(raw)) => !raw.is_empty() && raw.chunks(bytes).map(little_endian).all(is_safe),
            // Elsewhere.
            (13 | 14, _) => false,
            _ => continue,
        };
        if !all_safe {
            return Ok(false);
        }
        found = true;
    }
    Ok(found)
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0u64, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
