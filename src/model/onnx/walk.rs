//! The walk itself: model, functions, graphs, nodes, attributes, tensors.
//!
//! What a second reader could take otherwise is refused: parts that may stand once and stand twice (protobuf merges them),
//! names that mean two things, operators of the standard that the file defines anew.

use std::collections::{HashMap, HashSet};

use super::classes::Found;
use super::functions::{self, Body, Key};
use super::tensor::{self, External};
use super::wire::{Field, Value, acts, fields, shown, text};
use super::{
    MAX_DEPTH, MAX_METADATA_BYTES, MAX_NAME_BYTES, MAX_NODES, MAX_OPSET, MAX_VALUES, NODES_OF_A_TURN, Scan, ScanError,
};
use crate::priority::offer_turn;

/// Longest text kept of a producer's name or version (CatBoost puts its build log there).
const LONGEST_PRODUCER: usize = 80;
/// Kinds of operators in one file, domains and functions: the whole standard has some two hundred.
const MAX_KINDS: usize = 10_000;
/// Operators that answer by chance: no answer could be computed again, nor compared.
const RANDOM: [&str; 6] = [
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// What the walk has gathered so far.
#[derive(Default)]
struct Walk {
    scan: Scan,
    found: Found,
    external: External,
    /// Names of values, everywhere.
    values: usize,
    metadata_bytes: usize,
    /// What is being walked: the graph or a function.
    body: Body,
    functions: HashMap<Key, Body>,
}

/// Reads a `ModelProto`.
pub(super) fn model(bytes: &[u8]) -> Result<Scan, ScanError> {
    let mut walk = Walk::default();
    let mut main = None;
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            1 => walk.scan.ir_version = field.varint(1).unwrap_or(0).cast_signed(),
            2 => walk.scan.producer = producer(&field),
            3 => walk.scan.producer_version = producer(&field),
            7 => {
                walk.graph(message(&field)?, 1)?;
                if main.replace(std::mem::take(&mut walk.body)).is_some() {
                    return Err(ScanError("not an onnx model: it holds two graphs".into()));
                }
            }
            8 => walk.opset(message(&field)?)?,
            14 => walk.metadata(message(&field)?)?,
            25 => walk.function(message(&field)?)?,
            _ => {}
        }
    }
    let Some(main) = main.filter(|_| walk.scan.ir_version > 0) else {
        return Err(ScanError(
            "not an onnx model: the bytes hold no graph. if the copy was interrupted, copy the file again, whole"
                .into(),
        ));
    };
    functions::check(&main, &walk.functions)?;
    walk.scan.external = walk.external.keys().cloned().collect();
    walk.scan.external_bytes = walk.external;
    walk.scan.classes = walk.found.decide(&walk.scan.metadata);
    walk.scan.check_names()?;
    Ok(walk.scan)
}

/// A field that must hold a message.
fn message<'a>(field: &Field<'a>) -> Result<&'a [u8], ScanError> {
    match field.value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Varint(_) | Value::Fixed => Err(ScanError(
            "not an onnx model: a number stands where a part is due".into(),
        )),
    }
}

/// One short line, without control characters: it goes into logs and replies.
fn producer(field: &Field<'_>) -> String {
    let all = field.bytes(field.number).map(text).unwrap_or_default();
    let tag = all.split_whitespace().find_map(|word| word.strip_prefix("tags/"));
    let line = tag.or_else(|| all.lines().next()).unwrap_or_default();
    line.chars().filter(|&c| !acts(c)).take(LONGEST_PRODUCER).collect()
}

/// A name that is printed, and by which things are found: short and plain.
fn name(bytes: &[u8], what: &str) -> Result<String, ScanError> {
    let name = text(bytes);
    if bytes.len() > MAX_NAME_BYTES || name.chars().any(acts) {
        return Err(ScanError(format!(
            "{what} {} is longer than {MAX_NAME_BYTES} bytes or holds control characters: rename it",
            shown(bytes)
        )));
    }
    Ok(name)
}

/// A name that may stand only once.
fn once<'a>(names: &mut HashSet<&'a [u8]>, name: &'a [u8], what: &str) -> Result<(), ScanError> {
    if name.is_empty() || names.insert(name) {
        return Ok(());
    }
    Err(ScanError(format!(
        "{what} {} stands twice in the graph: export the model again",
        shown(name)
    )))
}

/// `ai.onnx` is the long name of the default domain.
fn domain(bytes: &[u8]) -> Result<String, ScanError> {
    let domain = name(bytes, "domain")?;
    Ok(if domain == "ai.onnx" { String::new() } else { domain })
}

fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx.ml")
}

impl Walk {
    fn opset(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        let (mut own, mut version) = (String::new(), 0);
        for field in fields(bytes) {
            let field = field?;
            if let Some(bytes) = field.bytes(1) {
                own = name(bytes, "domain")?;
            }
            version = field.varint(2).unwrap_or(version);
        }
        let version = version.cast_signed();
        if !(1..=MAX_OPSET).contains(&version) {
            let own = if own.is_empty() { "ai.onnx" } else { &own };
            return Err(ScanError(format!(
                "it asks for opset {version} of {own}, which does not exist: export again with target_opset \
                 (opset_version) 18"
            )));
        }
        match self.scan.opsets.insert(own.clone(), version) {
            Some(other) if other != version => Err(ScanError(format!(
                "it asks for the opsets {other} and {version} of one domain: export it again"
            ))),
            _ => self.kinds(self.scan.opsets.len()),
        }
    }

    fn metadata(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        self.metadata_bytes = self.metadata_bytes.saturating_add(bytes.len());
        if self.metadata_bytes > MAX_METADATA_BYTES {
            return Err(ScanError(format!(
                "its metadata have more than {MAX_METADATA_BYTES} bytes, which is the limit: leave the largest out"
            )));
        }
        let (key, value) = entry(bytes)?;
        self.scan.metadata.insert(key, value);
        Ok(())
    }

    fn function(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        let mut key = Key::default();
        let mut outputs = HashSet::new();
        for field in fields(bytes) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Bytes(own)) => key.1 = name(own, "function")?,
                (4, Value::Bytes(input)) => {
                    self.value()?;
                    once(&mut outputs, input, "value")?;
                }
                (7, _) => self.node(message(&field)?, 1, &mut outputs)?,
                (10, Value::Bytes(own)) => key.0 = domain(own)?,
                // What an attribute is where the call leaves it out.
                (11, Value::Bytes(attribute)) => drop(self.attribute(attribute, 1, "", "")?),
                (13, Value::Bytes(own)) => key.2 = name(own, "overload")?,
                _ => {}
            }
        }
        let mut body = std::mem::take(&mut self.body);
        body.depth = body.depth.max(1);
        let shown = shown(key.1.as_bytes());
        if is_standard(&key.0) {
            return Err(ScanError(format!(
                "it defines {shown} of the ONNX standard anew: give its functions a domain of their own"
            )));
        }
        if self.functions.insert(key, body).is_some() {
            return Err(ScanError(format!("it defines the function {shown} twice")));
        }
        self.kinds(self.functions.len())
    }

    fn kinds(&self, count: usize) -> Result<(), ScanError> {
        if count > MAX_KINDS {
            return Err(ScanError(format!(
                "it names more than {MAX_KINDS} kinds of operators, domains or functions, which is the limit"
            )));
        }
        Ok(())
    }

    /// Takes note of one more name.
    fn value(&mut self) -> Result<(), ScanError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(ScanError(format!(
                "the file names more than {MAX_VALUES} values, which is the limit"
            )));
        }
        Ok(())
    }

    fn graph(&mut self, bytes: &[u8], depth: usize) -> Result<(), ScanError> {
        if depth > MAX_DEPTH {
            return Err(ScanError(format!(
                "graphs are nested deeper than {MAX_DEPTH}, which is the limit"
            )));
        }
        self.scan.depth = self.scan.depth.max(depth);
        self.body.depth = self.body.depth.max(depth);
        let (mut tensors, mut outputs, mut inputs) = (HashSet::new(), HashSet::new(), HashSet::new());
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                1 => self.node(message(&field)?, depth, &mut outputs)?,
                5 => {
                    let tensor = message(&field)?;
                    self.value()?;
                    once(&mut tensors, tensor::check(tensor, &mut self.external)?, "tensor")?;
                    if depth == 1 {
                        self.found.initializer(tensor)?;
                    }
                }
                11..=13 => {
                    let info = message(&field)?;
                    self.value()?;
                    let own = one(info, 1)?;
                    match field.number {
                        11 => once(&mut inputs, own, "input")?,
                        13 => continue,
                        _ => {}
                    }
                    if depth == 1 {
                        name(own, if field.number == 11 { "input" } else { "output" })?;
                    }
                }
                15 => {
                    self.value()?;
                    let own = tensor::check_sparse(message(&field)?, &mut self.external)?;
                    once(&mut tensors, own, "tensor")?;
                }
                _ => {}
            }
        }
        // The least, so that the same bytes get the same words.
        let made = outputs
            .iter()
            .filter(|&own| tensors.contains(own) || inputs.contains(own));
        made.min().map_or(Ok(()), |own| {
            Err(ScanError(format!(
                "value {} comes from two places: export the model again",
                shown(own)
            )))
        })
    }

    fn node<'a>(&mut self, bytes: &'a [u8], depth: usize, outputs: &mut HashSet<&'a [u8]>) -> Result<(), ScanError> {
        self.scan.nodes += 1;
        self.body.nodes += 1;
        if self.scan.nodes.is_multiple_of(NODES_OF_A_TURN) {
            offer_turn();
        }
        if self.scan.nodes > MAX_NODES {
            return Err(ScanError(format!(
                "the file has more than {MAX_NODES} nodes, which is the limit"
            )));
        }
        let (mut op, mut own_domain, mut overload) = (String::new(), String::new(), String::new());
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                1 | 5 => self.value()?,
                2 => {
                    self.value()?;
                    once(outputs, message(&field)?, "value")?;
                }
                4 => op = name(message(&field)?, "operator")?,
                7 => own_domain = domain(message(&field)?)?,
                8 => overload = name(message(&field)?, "overload")?,
                _ => {}
            }
        }
        if own_domain.is_empty() && RANDOM.contains(&op.as_str()) {
            return Err(ScanError(format!(
                "its operator {op} answers by chance, so that no answer could be computed again: remove it, or export \
                 the model in evaluation mode"
            )));
        }
        let mut attributes = HashSet::new();
        for field in fields(bytes) {
            if let Some(attribute) = field?.bytes(5) {
                let own = self.attribute(attribute, depth, &own_domain, &op)?;
                once(&mut attributes, own, "attribute")?;
            }
        }
        if !is_standard(&own_domain) {
            let call = self.body.calls.entry((own_domain.clone(), op.clone(), overload));
            let (count, deepest) = call.or_default();
            *count += 1;
            *deepest = depth.max(*deepest);
        }
        *self.scan.operators.entry(format!("{own_domain}:{op}")).or_default() += 1;
        self.kinds(self.scan.operators.len())
    }

    /// Gives its name.
    fn attribute<'a>(&mut self, bytes: &'a [u8], depth: usize, domain: &str, op: &str) -> Result<&'a [u8], ScanError> {
        if domain == "ai.onnx.ml" {
            self.found.attribute(op, bytes)?;
        }
        let (mut own, mut single) = (&[][..], 0);
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                1 => own = message(&field)?,
                5 | 10 => drop(tensor::check(message(&field)?, &mut self.external)?),
                6 | 11 => self.graph(message(&field)?, depth + 1)?,
                22 | 23 => drop(tensor::check_sparse(message(&field)?, &mut self.external)?),
                _ => {}
            }
            single += usize::from(matches!(field.number, 5 | 6 | 22));
        }
        if single > 1 {
            return Err(ScanError(format!(
                "attribute {} has two values: export the model again",
                shown(own)
            )));
        }
        Ok(own)
    }
}

impl Scan {
    /// What people and clients will read must not act on what they read it with.
    fn check_names(&self) -> Result<(), ScanError> {
        for key in self.metadata.keys() {
            name(key.as_bytes(), "metadata key")?;
        }
        for feature in self.feature_names().unwrap_or_default() {
            name(feature.as_bytes(), "feature")?;
        }
        if let Some(super::Classes::Names(names)) = &self.classes {
            for class in names {
                name(class.as_bytes(), "class")?;
            }
        }
        Ok(())
    }
}

/// The last field of bytes with this number.
fn one(message: &[u8], number: u64) -> Result<&[u8], ScanError> {
    let mut last = &[][..];
    for field in fields(message) {
        last = field?.bytes(number).unwrap_or(last);
    }
    Ok(last)
}

/// A `StringStringEntryProto`.
fn entry(bytes: &[u8]) -> Result<(String, String), ScanError> {
    let (mut key, mut value) = (String::new(), String::new());
    for field in fields(bytes) {
        let field = field?;
        if let Some(name) = field.bytes(1) {
            key = text(name);
        }
        if let Some(content) = field.bytes(2) {
            value = text(content);
        }
    }
    Ok((key, value))
}
