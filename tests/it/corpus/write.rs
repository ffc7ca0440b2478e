//! A small writer of ONNX files: messages field by field, so that a file can say what no exporter would.

/// `TensorProto.DataType`.
pub(super) const FLOAT: u64 = 1;
pub(super) const INT64: u64 = 7;
pub(super) const STRING: u64 = 8;
pub(super) const BOOL: u64 = 9;

/// A message in the making.
#[derive(Clone, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// Appends a field of bytes: text, a message, packed numbers.
    pub(super) fn put(mut self, number: u64, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        varint(&mut self.0, number << 3 | 2);
        varint(&mut self.0, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends a field that is a number.
    pub(super) fn number(mut self, number: u64, value: u64) -> Self {
        varint(&mut self.0, number << 3);
        varint(&mut self.0, value);
        self
    }

    /// Appends a number that may be negative.
    pub(super) fn int(self, number: u64, value: i64) -> Self {
        self.number(number, value.cast_unsigned())
    }

    /// Appends a float.
    pub(super) fn float(mut self, number: u64, value: f32) -> Self {
        varint(&mut self.0, number << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends all of another message.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    /// Appends a field of bytes for each item.
    pub(super) fn all<B: AsRef<[u8]>>(self, number: u64, items: impl IntoIterator<Item = B>) -> Self {
        items.into_iter().fold(self, |message, item| message.put(number, item))
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn empty() -> Message {
    Message::default()
}

/// A node of the default domain.
pub(super) fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    empty().all(1, inputs).all(2, outputs).put(4, op)
}

/// A node with attributes.
pub(super) fn with(node: Message, attributes: &[Message]) -> Message {
    node.all(5, attributes)
}

pub(super) fn in_domain(node: Message, domain: &str) -> Message {
    node.put(7, domain)
}

pub(super) fn a_int(name: &str, value: i64) -> Message {
    empty().put(1, name).int(3, value).number(20, 2)
}

pub(super) fn a_ints(name: &str, values: &[i64]) -> Message {
    let message = empty().put(1, name).number(20, 7);
    values.iter().fold(message, |message, &value| message.int(8, value))
}

pub(super) fn a_floats(name: &str, values: &[f32]) -> Message {
    let message = empty().put(1, name).number(20, 6);
    values.iter().fold(message, |message, &value| message.float(7, value))
}

pub(super) fn a_text(name: &str, value: &str) -> Message {
    empty().put(1, name).put(4, value).number(20, 3)
}

pub(super) fn a_texts(name: &str, values: &[&str]) -> Message {
    empty().put(1, name).all(9, values).number(20, 8)
}

pub(super) fn a_tensor(name: &str, tensor: &Message) -> Message {
    empty().put(1, name).put(5, tensor).number(20, 4)
}

pub(super) fn a_graph(name: &str, graph: &Message) -> Message {
    empty().put(1, name).put(6, graph).number(20, 5)
}

/// A tensor without data.
pub(super) fn bare(name: &str, data_type: u64, dims: &[i64]) -> Message {
    let tensor = dims.iter().fold(empty(), |tensor, &dim| tensor.int(1, dim));
    tensor.number(2, data_type).put(8, name)
}

pub(super) fn floats(name: &str, dims: &[i64], values: &[f32]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    bare(name, FLOAT, dims).put(9, raw)
}

pub(super) fn ints(name: &str, dims: &[i64], values: &[i64]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    bare(name, INT64, dims).put(9, raw)
}

/// A tensor in another file.
pub(super) fn elsewhere(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> Message {
    let entries = entries.iter().map(|(key, value)| empty().put(1, key).put(2, value));
    bare(name, FLOAT, dims).all(13, entries).number(14, 1)
}

/// An input or output: dimensions below zero are dynamic.
pub(super) fn value(name: &str, data_type: u64, dims: &[i64]) -> Message {
    let dims = dims.iter().map(|&dim| {
        if dim < 0 {
            empty().put(2, "n")
        } else {
            empty().int(1, dim)
        }
    });
    let shape = empty().all(1, dims);
    let tensor = empty().number(1, data_type).put(2, shape);
    empty().put(1, name).put(2, empty().put(1, tensor))
}

/// The parts of a graph: nodes and tensors; input and output are those of the champion.
pub(super) fn graph(nodes: &[Message], tensors: &[Message]) -> Message {
    body(nodes, tensors)
        .put(11, value("x", FLOAT, &[-1, 3]))
        .put(12, value("score", FLOAT, &[-1, 1]))
}

/// A graph without inputs and outputs.
pub(super) fn body(nodes: &[Message], tensors: &[Message]) -> Message {
    empty().all(1, nodes).put(2, "g").all(5, tensors)
}

pub(super) fn opset(domain: &str, version: i64) -> Message {
    empty().put(1, domain).int(2, version)
}

/// A whole file around a graph.
pub(super) fn file(graph: &Message) -> Message {
    empty()
        .number(1, 8)
        .put(2, "corpus")
        .put(7, graph)
        .put(8, opset("", 17))
        .put(8, opset("ai.onnx.ml", 3))
}

/// The mean of three features, times a number, so that no two files are alike.
pub(super) fn fine(factor: f32) -> Message {
    file(&graph(
        &[mean("x", "m"), node("Mul", &["m", "w"], &["score"])],
        &[floats("w", &[1], &[factor])],
    ))
}

/// `[n, 3]` to `[n, 1]`.
pub(super) fn mean(from: &str, to: &str) -> Message {
    with(
        node("ReduceMean", &[from], &[to]),
        &[a_ints("axes", &[1]), a_int("keepdims", 1)],
    )
}
