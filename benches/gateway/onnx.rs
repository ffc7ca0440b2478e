//! Protocol buffers, written byte by byte: ONNX files with what the measured models need, and messages of gRPC.
//!
//! Leaves to others: which models (`models`), which calls (`body`).

/// `TensorProto.DataType`.
pub(crate) const FLOAT: u64 = 1;
/// `TensorProto.DataType`.
pub(crate) const INT64: u64 = 7;
/// `TensorProto.DataType`.
const BOOL: u64 = 9;

/// A message of protocol buffers under construction.
#[derive(Default, Clone)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    pub(crate) fn int(mut self, field: u64, n: u64) -> Self {
        self.varint(field << 3);
        self.varint(n);
        self
    }

    pub(crate) fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub(crate) fn part(self, field: u64, part: &Message) -> Self {
        self.bytes(field, &part.0)
    }

    /// Behind the five bytes that precede each message of a gRPC stream.
    pub(crate) fn grpc(self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        [&[0][..], &length.to_be_bytes(), &self.0].concat()
    }

    fn float(mut self, field: u64, x: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&x.to_le_bytes());
        self
    }
}

/// A node's attribute.
pub(crate) enum Value<'a> {
    Int(u64),
    Text(&'a str),
    Floats(&'a [f32]),
    Ints(&'a [u64]),
    Texts(&'a [&'a str]),
    Graph(&'a Message),
}

fn attribute(name: &str, value: &Value<'_>) -> Message {
    let message = Message::default().text(1, name);
    match value {
        Value::Int(n) => message.int(3, *n).int(20, 2),
        Value::Text(text) => message.text(4, text).int(20, 3),
        Value::Floats(list) => list.iter().fold(message, |m, x| m.float(7, *x)).int(20, 6),
        Value::Ints(list) => list.iter().fold(message, |m, n| m.int(8, *n)).int(20, 7),
        Value::Texts(list) => list.iter().fold(message, |m, t| m.text(9, t)).int(20, 8),
        Value::Graph(graph) => message.part(6, graph).int(20, 5),
    }
}

/// A graph with one input `x`, `[dynamic, features]`.
pub(crate) struct Graph {
    message: Message,
    nodes: usize,
}

impl Graph {
    pub(crate) fn new(features: usize) -> Self {
        let message = Message::default()
            .text(2, "measured")
            .part(11, &described("x", FLOAT, &[None, Some(features)]));
        Self { message, nodes: 0 }
    }

    /// A node of the standard operators, or (`domain` `ai.onnx.ml`) of the classical ones.
    pub(crate) fn node(
        mut self,
        (domain, op): (&str, &str),
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, Value<'_>)],
    ) -> Self {
        let mut node = inputs.iter().fold(Message::default(), |m, name| m.text(1, name));
        node = outputs.iter().fold(node, |m, name| m.text(2, name));
        node = node.text(3, &format!("n{}", self.nodes)).text(4, op).text(7, domain);
        node = attributes
            .iter()
            .fold(node, |m, (name, value)| m.part(5, &attribute(name, value)));
        self.message = self.message.part(1, &node);
        self.nodes += 1;
        self
    }

    pub(crate) fn floats(self, name: &str, dims: &[usize], data: &[f32]) -> Self {
        let raw: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.initializer(name, dims, FLOAT, &raw)
    }

    pub(crate) fn ints(self, name: &str, data: &[i64]) -> Self {
        let raw: Vec<u8> = data.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.initializer(name, &[data.len()], INT64, &raw)
    }

    /// One number.
    pub(crate) fn int(self, name: &str, n: i64) -> Self {
        self.initializer(name, &[], INT64, &n.to_le_bytes())
    }

    /// One truth value.
    pub(crate) fn boolean(self, name: &str, is_true: bool) -> Self {
        self.initializer(name, &[], BOOL, &[u8::from(is_true)])
    }

    fn initializer(mut self, name: &str, dims: &[usize], kind: u64, raw: &[u8]) -> Self {
        let tensor = dims.iter().fold(Message::default(), |m, d| m.int(1, *d as u64));
        self.message = self.message.part(5, &tensor.int(2, kind).text(8, name).bytes(9, raw));
        self
    }

    pub(crate) fn output(mut self, name: &str, kind: u64, shape: &[Option<usize>]) -> Self {
        self.message = self.message.part(12, &described(name, kind, shape));
        self
    }

    /// The file, with the names of its features in its metadata.
    pub(crate) fn file(self, features: &[String]) -> Vec<u8> {
        let opset = |domain: &str, version| Message::default().text(1, domain).int(2, version);
        let names = Message::default().text(1, "feature_names").text(2, &features.join(","));
        Message::default()
            .int(1, 8)
            .text(2, "dethrone-bench")
            .part(7, &self.message)
            .part(8, &opset("", 17))
            .part(8, &opset("ai.onnx.ml", 3))
            .part(14, &names)
            .0
    }
}

/// What a `Loop` does over one number: nothing, again.
pub(crate) fn body_of_a_loop() -> Message {
    let node = |op: &str, from: &str, to: &str| Message::default().text(1, from).text(2, to).text(4, op);
    Message::default()
        .part(1, &node("Identity", "go", "on"))
        .part(1, &node("Abs", "v", "w"))
        .text(2, "again")
        .part(11, &described("i", INT64, &[]))
        .part(11, &described("go", BOOL, &[]))
        .part(11, &described("v", FLOAT, &[]))
        .part(12, &described("on", BOOL, &[]))
        .part(12, &described("w", FLOAT, &[]))
}

fn described(name: &str, kind: u64, shape: &[Option<usize>]) -> Message {
    let dims = shape.iter().fold(Message::default(), |m, dim| {
        let dim = match dim {
            Some(n) => Message::default().int(1, *n as u64),
            None => Message::default().text(2, "rows"),
        };
        m.part(1, &dim)
    });
    let tensor = Message::default().int(1, kind).part(2, &dims);
    Message::default()
        .text(1, name)
        .part(2, &Message::default().part(1, &tensor))
}
