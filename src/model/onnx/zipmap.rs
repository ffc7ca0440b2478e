//! Cutting ZipMap out of a file, on the wire: everything else keeps its bytes.
//!
//! ZipMap turns a row of probabilities into a dictionary, which no client can be sent and which costs more than the
//! model. Its input is given the name of its output, and that output the type of a plain tensor.

use std::collections::HashMap;

use super::classes::{CUT_CLASSES, labels};
use super::wire::{fields, put_bytes, put_number, text};
use super::{Classes, ScanError, scan};

/// `TensorProto.FLOAT`, the only type that ZipMap takes: a file in which it gets another is as invalid after the cut.
const FLOAT: u64 = 1;

/// Far more than any classifier has outputs.
const MAX_ZIPMAPS: usize = 64;

/// One ZipMap node.
struct ZipMap {
    input: Vec<u8>,
    output: Vec<u8>,
    classes: Option<Classes>,
}

/// The same model with its ZipMap nodes cut out and their inputs exposed as plain tensors under the ZipMap
/// output's name; `None` when there is no ZipMap. The class names stay, in the metadata.
///
/// # Errors
/// Not a model.
pub fn cut_zipmap(bytes: &[u8]) -> Result<Option<Vec<u8>>, ScanError> {
    let classes = scan(bytes)?.classes;
    let mut out = Vec::with_capacity(bytes.len() + 256);
    let mut cut = false;
    for field in fields(bytes) {
        let field = field?;
        match field.bytes(7) {
            Some(graph) => {
                let edited = edit_graph(graph)?;
                cut |= edited.is_some();
                match edited {
                    Some(graph) => put_bytes(&mut out, 7, &graph),
                    None => out.extend_from_slice(field.raw),
                }
            }
            None => out.extend_from_slice(field.raw),
        }
    }
    if !cut {
        return Ok(None);
    }
    if let Some(json) = classes.and_then(|classes| serde_json::to_string(&classes).ok()) {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, CUT_CLASSES.as_bytes());
        put_bytes(&mut entry, 2, json.as_bytes());
        put_bytes(&mut out, 14, &entry);
    }
    Ok(Some(out))
}

fn edit_graph(graph: &[u8]) -> Result<Option<Vec<u8>>, ScanError> {
    let mut cut = Vec::new();
    let mut outputs = Vec::new();
    for field in fields(graph) {
        let field = field?;
        if let Some(zipmap) = field.bytes(1).map(zipmap).transpose()?.flatten() {
            cut.push(zipmap);
            // Each is looked for among all outputs.
            if cut.len() > MAX_ZIPMAPS {
                return Err(ScanError(format!(
                    "it has more than {MAX_ZIPMAPS} ZipMap nodes: export with zipmap=False"
                )));
            }
        }
        if let Some(output) = field.bytes(12) {
            outputs.push(name_of(output)?);
        }
    }
    if cut.is_empty() {
        return Ok(None);
    }
    // A ZipMap whose input is an output already is dropped with its output; the others hand their names down.
    let renamed: HashMap<&[u8], &[u8]> = cut
        .iter()
        .filter(|z| !outputs.contains(&z.input))
        .map(|z| (z.input.as_slice(), z.output.as_slice()))
        .collect();
    let mut out = Vec::with_capacity(graph.len());
    for field in fields(graph) {
        let field = field?;
        match field.number {
            1 => {
                let node = field.bytes(1).unwrap_or_default();
                if zipmap(node)?.is_none() {
                    put_bytes(&mut out, 1, &rename(node, &renamed)?);
                }
            }
            12 => {
                let output = field.bytes(12).unwrap_or_default();
                let name = name_of(output)?;
                match cut.iter().find(|z| z.output == name) {
                    None => out.extend_from_slice(field.raw),
                    Some(z) if renamed.contains_key(z.input.as_slice()) => put_bytes(&mut out, 12, &plain(z)),
                    Some(_) => {}
                }
            }
            // Types noted for the old names would contradict the new ones.
            13 if mentions(field.bytes(13).unwrap_or_default(), &cut)? => {}
            _ => out.extend_from_slice(field.raw),
        }
    }
    Ok(Some(out))
}

/// The node's names, when it is a ZipMap.
fn zipmap(node: &[u8]) -> Result<Option<ZipMap>, ScanError> {
    let (mut input, mut output, mut op, mut classes) = (Vec::new(), Vec::new(), String::new(), None);
    for field in fields(node) {
        let field = field?;
        if let Some(name) = field.bytes(1) {
            input = name.to_vec();
        } else if let Some(name) = field.bytes(2) {
            output = name.to_vec();
        } else if let Some(name) = field.bytes(4) {
            op = text(name);
        } else if let Some(attribute) = field.bytes(5) {
            classes = labels(attribute)?.or(classes);
        }
    }
    Ok((op == "ZipMap").then_some(ZipMap { input, output, classes }))
}

/// A node with the inputs and outputs of these names renamed.
fn rename(node: &[u8], renamed: &HashMap<&[u8], &[u8]>) -> Result<Vec<u8>, ScanError> {
    let mut out = Vec::with_capacity(node.len());
    for field in fields(node) {
        let field = field?;
        let name = field.bytes(1).or_else(|| field.bytes(2));
        match name.and_then(|name| renamed.get(name)) {
            Some(new) => put_bytes(&mut out, field.number, new),
            None => out.extend_from_slice(field.raw),
        }
    }
    Ok(out)
}

/// A `ValueInfoProto`: float, `[any, classes]`.
fn plain(zipmap: &ZipMap) -> Vec<u8> {
    let mut second = Vec::new();
    if let Some(classes) = &zipmap.classes {
        put_number(&mut second, 1, classes.len() as u64);
    }
    let mut shape = Vec::new();
    put_bytes(&mut shape, 1, &[]);
    put_bytes(&mut shape, 1, &second);
    let mut tensor = Vec::new();
    put_number(&mut tensor, 1, FLOAT);
    put_bytes(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    put_bytes(&mut kind, 1, &tensor);
    let mut info = Vec::new();
    put_bytes(&mut info, 1, &zipmap.output);
    put_bytes(&mut info, 2, &kind);
    info
}

fn name_of(info: &[u8]) -> Result<Vec<u8>, ScanError> {
    let mut name = Vec::new();
    for field in fields(info) {
        if let Some(bytes) = field?.bytes(1) {
            name = bytes.to_vec();
        }
    }
    Ok(name)
}

fn mentions(info: &[u8], cut: &[ZipMap]) -> Result<bool, ScanError> {
    let name = name_of(info)?;
    Ok(cut.iter().any(|z| z.input == name || z.output == name))
}
