//! Model files made on the spot: as large as a test needs, with weights from a seed, so that no two are alike.

/// `y = relu(… relu(x · w0) … · wn)`, square layers of this width: `x [-1, width] → y [-1, width]`.
pub(crate) fn layers(count: usize, width: usize, seed: u64) -> Vec<u8> {
    let mut random = seed | 1;
    let mut graph = Vec::new();
    for layer in 0..count {
        let (from, to) = (format!("h{layer}"), format!("h{}", layer + 1));
        let from = if layer == 0 { "x" } else { &from };
        let to = if layer + 1 == count { "y" } else { &to };
        let (weight, product) = (format!("w{layer}"), format!("m{layer}"));
        field(&mut graph, 1, &node("MatMul", &[from, &weight], &product));
        field(&mut graph, 1, &node("Relu", &[&product], to));
    }
    field(&mut graph, 2, b"layers");
    // Sums of so many terms stay near the size of their inputs.
    #[expect(clippy::cast_precision_loss, reason = "a width")]
    let scale = (2.0 / width as f32).sqrt() * 2.0;
    for layer in 0..count {
        let mut raw = Vec::with_capacity(width * width * 4);
        for _ in 0..width * width {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
            let unit = (random >> 40) as f32 / (1 << 24) as f32 - 0.5;
            raw.extend_from_slice(&(unit * scale).to_le_bytes());
        }
        let mut tensor = Vec::new();
        number(&mut tensor, 1, width as u64);
        number(&mut tensor, 1, width as u64);
        number(&mut tensor, 2, 1);
        field(&mut tensor, 8, format!("w{layer}").as_bytes());
        field(&mut tensor, 9, &raw);
        field(&mut graph, 5, &tensor);
    }
    field(&mut graph, 11, &info("x", width));
    field(&mut graph, 12, &info("y", width));
    finished(&graph)
}

/// `label = the column of x with the larger number`: a classifier without scores, `x [-1, 2] → label [-1]`, INT64.
pub(crate) fn label_only() -> Vec<u8> {
    let mut largest = node("ArgMax", &["x"], "label");
    for (name, value) in [("axis", 1), ("keepdims", 0)] {
        let mut attribute = Vec::new();
        field(&mut attribute, 1, name.as_bytes());
        number(&mut attribute, 3, value);
        number(&mut attribute, 20, 2);
        field(&mut largest, 5, &attribute);
    }
    let mut graph = Vec::new();
    field(&mut graph, 1, &largest);
    field(&mut graph, 2, b"label");
    field(&mut graph, 11, &info("x", 2));
    let (mut rows, mut shape, mut kind, mut typed, mut label) = Default::default();
    field(&mut rows, 2, b"n");
    field(&mut shape, 1, &rows);
    number(&mut kind, 1, 7);
    field(&mut kind, 2, &shape);
    field(&mut typed, 1, &kind);
    field(&mut label, 1, b"label");
    field(&mut label, 2, &typed);
    field(&mut graph, 12, &label);
    finished(&graph)
}

/// The same model under other bytes: with a line of metadata more.
pub(crate) fn again(model: &[u8], name: &str) -> Vec<u8> {
    let mut entry = Vec::new();
    field(&mut entry, 1, b"copy");
    field(&mut entry, 2, name.as_bytes());
    let mut copy = model.to_vec();
    field(&mut copy, 14, &entry);
    copy
}

fn finished(graph: &[u8]) -> Vec<u8> {
    let mut model = Vec::new();
    number(&mut model, 1, 8);
    field(&mut model, 7, graph);
    let mut opset = Vec::new();
    number(&mut opset, 2, 16);
    field(&mut model, 8, &opset);
    model
}

fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut node = Vec::new();
    inputs.iter().for_each(|input| field(&mut node, 1, input.as_bytes()));
    field(&mut node, 2, output.as_bytes());
    field(&mut node, 4, op.as_bytes());
    node
}

fn info(name: &str, width: usize) -> Vec<u8> {
    let (mut rows, mut columns, mut shape, mut kind, mut typed, mut info) = Default::default();
    field(&mut rows, 2, b"n");
    number(&mut columns, 1, width as u64);
    field(&mut shape, 1, &rows);
    field(&mut shape, 1, &columns);
    number(&mut kind, 1, 1);
    field(&mut kind, 2, &shape);
    field(&mut typed, 1, &kind);
    field(&mut info, 1, name.as_bytes());
    field(&mut info, 2, &typed);
    info
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
