//! The walk itself: model, functions, graphs, nodes, attributes, tensors.

use super::classes::Found;
use super::wire::{Field, Value, fields, push_ints, text};
use super::{MAX_DEPTH, MAX_NODES, Scan, ScanError};

/// Longest text kept of a producer's name or version (CatBoost puts its build log there).
const LONGEST_PRODUCER: usize = 80;

/// More dimensions than any operator takes.
const MAX_RANK: usize = 64;
/// More elements than a machine holds, and few enough that sizes in bytes cannot overflow.
const MAX_ELEMENTS: u64 = 1 << 40;

/// What the walk has gathered so far.
#[derive(Default)]
struct Walk {
    scan: Scan,
    found: Found,
}

/// Reads a `ModelProto`.
pub(super) fn model(bytes: &[u8]) -> Result<Scan, ScanError> {
    let mut walk = Walk::default();
    let mut graphs = 0usize;
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            1 => walk.scan.ir_version = field.varint(1).unwrap_or(0).cast_signed(),
            2 => walk.scan.producer = producer(&field),
            3 => walk.scan.producer_version = producer(&field),
            7 => {
                graphs += 1;
                walk.graph(message(&field)?, 1)?;
            }
            8 => walk.opset(message(&field)?)?,
            14 => walk.metadata(message(&field)?)?,
            25 => walk.function(message(&field)?)?,
            _ => {}
        }
    }
    if graphs != 1 || walk.scan.ir_version == 0 {
        return Err(ScanError(
            "not an onnx model: the bytes hold no graph. if the copy was interrupted, copy the file again, whole"
                .into(),
        ));
    }
    walk.scan.classes = walk.found.decide(&walk.scan.metadata);
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
    line.chars()
        .filter(|c| !c.is_control())
        .take(LONGEST_PRODUCER)
        .collect()
}

impl Walk {
    fn opset(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        let (mut domain, mut version) = (String::new(), 0);
        for field in fields(bytes) {
            let field = field?;
            if let Some(name) = field.bytes(1) {
                domain = text(name);
            }
            version = field.varint(2).unwrap_or(version);
        }
        self.scan.opsets.insert(domain, version.cast_signed());
        Ok(())
    }

    fn metadata(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        let (key, value) = entry(bytes)?;
        self.scan.metadata.insert(key, value);
        Ok(())
    }

    fn function(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        for field in fields(bytes) {
            let field = field?;
            if let Some(node) = field.bytes(7) {
                self.node(node, 1)?;
            }
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
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                1 => self.node(message(&field)?, depth)?,
                5 => {
                    let tensor = message(&field)?;
                    self.tensor(tensor)?;
                    if depth == 1 {
                        self.found.initializer(tensor)?;
                    }
                }
                15 => self.sparse(message(&field)?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, bytes: &[u8], depth: usize) -> Result<(), ScanError> {
        self.scan.nodes += 1;
        if self.scan.nodes > MAX_NODES {
            return Err(ScanError(format!(
                "the file has more than {MAX_NODES} nodes, which is the limit"
            )));
        }
        let (mut op, mut domain) = (String::new(), String::new());
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                4 => op = text(message(&field)?),
                7 => domain = text(message(&field)?),
                _ => {}
            }
        }
        // `ai.onnx` is the long name of the default domain.
        let domain = if domain == "ai.onnx" { "" } else { domain.as_str() };
        for field in fields(bytes) {
            if let Some(attribute) = field?.bytes(5) {
                self.attribute(attribute, depth, domain, &op)?;
            }
        }
        *self.scan.operators.entry(format!("{domain}:{op}")).or_default() += 1;
        Ok(())
    }

    fn attribute(&mut self, bytes: &[u8], depth: usize, domain: &str, op: &str) -> Result<(), ScanError> {
        if domain == "ai.onnx.ml" {
            self.found.attribute(op, bytes)?;
        }
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                5 | 10 => self.tensor(message(&field)?)?,
                6 | 11 => self.graph(message(&field)?, depth + 1)?,
                22 | 23 => self.sparse(message(&field)?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn sparse(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        for field in fields(bytes) {
            let field = field?;
            if let Some(tensor) = field.bytes(1).or_else(|| field.bytes(2)) {
                self.tensor(tensor)?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        let (mut dims, mut name) = (Vec::new(), &[][..]);
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                1 => push_ints(&mut dims, field.value)?,
                8 => name = field.bytes(8).unwrap_or_default(),
                13 => {
                    let (key, value) = entry(message(&field)?)?;
                    if key == "location" && !self.scan.external.contains(&value) {
                        self.scan.external.push(value);
                    }
                }
                _ => {}
            }
        }
        elements(&dims).map_or_else(|| Err(impossible(name, &dims)), |_| Ok(()))
    }
}

/// How many elements a tensor of these dimensions has, where that can be.
fn elements(dims: &[i64]) -> Option<u64> {
    let product = dims
        .iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?));
    product.filter(|&elements| dims.len() <= MAX_RANK && elements <= MAX_ELEMENTS)
}

fn impossible(name: &[u8], dims: &[i64]) -> ScanError {
    let name: String = text(name)
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST_PRODUCER)
        .collect();
    let shown = dims.get(..dims.len().min(MAX_RANK)).unwrap_or_default();
    ScanError(format!(
        "tensor {name} claims the impossible dimensions {shown:?}: export the model again"
    ))
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
