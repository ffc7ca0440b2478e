//! The table: what is put into the directory, and what must become of it.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::write::{
    BOOL, FLOAT, INT64, Message, STRING, a_floats, a_graph, a_int, a_ints, a_tensor, a_text, a_texts, bare, body,
    elsewhere, empty, file, fine, floats, graph, in_domain, ints, mean, node, opset, value, with,
};

/// What must become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// Rejected, with these words in the reason.
    Refuse(&'static str),
    /// Shadowed, and harmless.
    Run,
    /// Shadowed, and only ever in a process of its own.
    Boxed,
}
use Expect::{Boxed, Refuse, Run};

/// Where a case puts its files.
pub(super) struct Place<'a> {
    /// The model's directory.
    pub(super) model: &'a Path,
    /// A folder beside the models, with a canary in it: `canary.txt`, `canary.data` and `canary.onnx`.
    pub(super) outside: &'a Path,
}

type Put = Box<dyn Fn(&Place<'_>) + Send + Sync>;

/// A line of the table.
pub(super) struct Case {
    /// Its file or folder in the model's directory.
    pub(super) file: &'static str,
    pub(super) expect: Expect,
    pub(super) put: Put,
}

fn case(file: &'static str, expect: Expect, put: impl Fn(&Place<'_>) + Send + Sync + 'static) -> Case {
    let put = Box::new(put);
    Case { file, expect, put }
}

/// One file of these bytes.
fn bytes(file: &'static str, expect: Expect, bytes: impl AsRef<[u8]>) -> Case {
    let bytes = bytes.as_ref().to_vec();
    case(file, expect, move |place| {
        std::fs::write(place.model.join(file), &bytes).unwrap();
    })
}

/// One model of these nodes and tensors.
fn of(file_name: &'static str, expect: Expect, nodes: &[Message], tensors: &[Message]) -> Case {
    bytes(file_name, expect, file(&graph(nodes, tensors)))
}

/// `score = mean(x) * w`, with `w` as given.
fn weighted(file_name: &'static str, expect: Expect, weight: &Message) -> Case {
    let nodes = [mean("x", "m"), node("Mul", &["m", "w"], &["score"])];
    of(file_name, expect, &nodes, std::slice::from_ref(weight))
}

/// A weight in another file, and that file's bytes.
fn external(file_name: &'static str, expect: Expect, entries: &[(&str, &str)], beside: &'static [u8]) -> Case {
    let location = entries.iter().find(|(key, _)| *key == "location");
    let beside_name = location.map(|(_, name)| (*name).to_owned()).unwrap_or_default();
    let bytes = weighted(file_name, expect, &elsewhere("w", &[1], entries));
    case(file_name, expect, move |place| {
        if !beside.is_empty() {
            std::fs::write(place.model.join(&beside_name), beside).unwrap();
        }
        (bytes.put)(place);
    })
}

/// All cases.
pub(super) fn all() -> Vec<Case> {
    [
        debris(),
        places(),
        externals(),
        sizes(),
        structure(),
        operators(),
        bombs(),
        trees(),
        texts(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn debris() -> Vec<Case> {
    let whole = fine(1.01).0;
    // Seeded, and no protobuf.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let garbage: Vec<u8> = (0..4096)
        .map(|_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.to_le_bytes()[3]
        })
        .collect();
    vec![
        bytes("empty.onnx", Refuse("is empty"), b""),
        bytes("truncated.onnx", Refuse("truncated"), &whole[..whole.len() / 2]),
        bytes("garbage.onnx", Refuse("not an onnx model"), garbage),
        bytes("trailing.onnx", Refuse("protobuf"), [&whole[..], &[0xff; 16]].concat()),
        bytes("page.onnx", Refuse("web page"), b"<!DOCTYPE html>\n<html>404</html>"),
        bytes(
            "pointer.onnx",
            Refuse("git lfs pull"),
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n",
        ),
        bytes("archive.onnx", Refuse("zip archive"), b"PK\x03\x04\x14\0\0\0"),
        bytes("packed.onnx", Refuse("gzip"), b"\x1f\x8b\x08\0\0\0\0\0"),
        bytes("program.onnx", Refuse("ELF"), b"\x7fELF\x02\x01\x01"),
        bytes("pickle.onnx", Refuse("pickle"), b"\x80\x04\x95\x10\0\0\0"),
        bytes("flat.onnx", Refuse(".ort file"), b"\x14\0\0\0ORTM\0\0\0\0"),
        bytes("lite.onnx", Refuse("TensorFlow Lite"), b"\x1c\0\0\0TFL3\0\0\0\0"),
        bytes("words.onnx", Refuse("plain text"), b"to be exported on Monday\n"),
    ]
}

fn places() -> Vec<Case> {
    vec![
        case("link_out.onnx", Refuse("leaves the directory"), |place| {
            symlink(place.outside.join("canary.onnx"), place.model.join("link_out.onnx")).unwrap();
        }),
        case("link_up.onnx", Refuse("leaves the directory"), |place| {
            symlink("../../outside/canary.onnx", place.model.join("link_up.onnx")).unwrap();
        }),
        case("link_folder", Refuse("leaves the directory"), |place| {
            let outside = place.outside.join("folder");
            std::fs::create_dir(&outside).unwrap();
            std::fs::write(outside.join("model.onnx"), fine(1.02)).unwrap();
            symlink(outside, place.model.join("link_folder")).unwrap();
        }),
        case("link_nowhere.onnx", Refuse("check where it links to"), |place| {
            symlink("nowhere.onnx", place.model.join("link_nowhere.onnx")).unwrap();
        }),
        case("link_loop.onnx", Refuse("cannot be reached"), |place| {
            symlink("link_loop.onnx", place.model.join("link_loop.onnx")).unwrap();
        }),
        case("volume.onnx", Run, |place| {
            let inner = place.model.join("..2026_11_26");
            std::fs::create_dir(&inner).unwrap();
            std::fs::write(inner.join("volume.onnx"), fine(1.03)).unwrap();
            symlink("..2026_11_26", place.model.join("..data")).unwrap();
            symlink("..data/volume.onnx", place.model.join("volume.onnx")).unwrap();
        }),
        case("hard_model.onnx", Run, |place| {
            let outside = place.outside.join("twice.onnx");
            std::fs::write(&outside, fine(1.04)).unwrap();
            std::fs::hard_link(outside, place.model.join("hard_model.onnx")).unwrap();
        }),
        case("hard_text.onnx", Refuse("plain text"), |place| {
            std::fs::hard_link(place.outside.join("canary.txt"), place.model.join("hard_text.onnx")).unwrap();
        }),
        case("device.onnx", Refuse("leaves the directory"), |place| {
            symlink("/dev/zero", place.model.join("device.onnx")).unwrap();
        }),
        case("pipe.onnx", Refuse("not a regular file"), |place| {
            let pipe = place.model.join("pipe.onnx");
            let made = std::process::Command::new("mkfifo").arg(pipe).status().unwrap();
            assert!(made.success());
        }),
        case("socket.onnx", Refuse("not a regular file"), |place| {
            let socket = std::os::unix::net::UnixListener::bind(place.model.join("socket.onnx"));
            // A path that is too long for a socket's address gets another file that is none.
            if socket.is_err() {
                symlink("..data", place.model.join("socket.onnx")).unwrap();
            }
        }),
        case("huge.onnx", Refuse("max_model_bytes"), |place| {
            let huge = std::fs::File::create(place.model.join("huge.onnx")).unwrap();
            huge.set_len(3 << 30).unwrap();
        }),
        bytes("line\nfeed.onnx", Refuse("rename it"), fine(1.05)),
        bytes("a b.onnx", Refuse("rename it"), fine(1.06)),
        case("folder", Run, |place| {
            std::fs::create_dir(place.model.join("folder")).unwrap();
            std::fs::write(place.model.join("folder/model.onnx"), fine(1.07)).unwrap();
        }),
        case("copy.onnx", Refuse("lead"), |place| {
            std::fs::copy(place.model.join("lead.onnx"), place.model.join("copy.onnx")).unwrap();
        }),
    ]
}

fn externals() -> Vec<Case> {
    let four: &[u8] = &[0, 0, 0x80, 0x3f];
    let plain = Refuse("not a plain file name in the same folder");
    let mut cases = vec![
        external("ext_fine.onnx", Run, &[("location", "ext_fine.data")], four),
        external("ext_up.onnx", plain, &[("location", "../../outside/canary.data")], b""),
        external("ext_parent.onnx", plain, &[("location", "..")], b""),
        external("ext_sub.onnx", plain, &[("location", "sub/../w.data")], b""),
        external("ext_self.onnx", plain, &[("location", "model.onnx")], b""),
        external(
            "ext_marker.onnx",
            Refuse("an address in memory"),
            &[
                ("location", "*/_ORT_MEM_ADDR_/*"),
                ("offset", "140737488355328"),
                ("length", "4"),
            ],
            b"",
        ),
        external(
            "ext_absent.onnx",
            Refuse("its external data absent.data"),
            &[("location", "absent.data")],
            b"",
        ),
        external(
            "ext_short.onnx",
            Refuse("copy both files again"),
            &[("location", "ext_short.data"), ("offset", "4096")],
            four,
        ),
        external(
            "ext_overflow.onnx",
            Refuse("an impossible place"),
            &[("location", "ext_overflow.data"), ("offset", "18446744073709551613")],
            four,
        ),
        external(
            "ext_negative.onnx",
            Refuse("no size"),
            &[("location", "ext_negative.data"), ("length", "-4")],
            four,
        ),
        external(
            "ext_length.onnx",
            Refuse("takes 4096 bytes of another file and needs 4"),
            &[("location", "ext_length.data"), ("length", "4096")],
            four,
        ),
        external(
            "ext_twice.onnx",
            Refuse("says twice"),
            &[
                ("location", "ext_twice.data"),
                ("location", "../../outside/canary.data"),
            ],
            four,
        ),
        external("ext_nameless.onnx", Refuse("does not name"), &[("offset", "0")], b""),
    ];
    cases.push(case("ext_absolute.onnx", plain, |place| {
        let canary = place.outside.join("canary.data");
        let weight = elsewhere("w", &[1], &[("location", canary.to_str().unwrap())]);
        (weighted("ext_absolute.onnx", Run, &weight).put)(place);
    }));
    cases.push(case("ext_link.onnx", Refuse("leaves the directory"), |place| {
        symlink(place.outside.join("canary.data"), place.model.join("ext_link.data")).unwrap();
        let weight = elsewhere("w", &[1], &[("location", "ext_link.data")]);
        (weighted("ext_link.onnx", Run, &weight).put)(place);
    }));
    cases.push(case("ext_hard.onnx", Refuse("hard link"), |place| {
        std::fs::hard_link(place.outside.join("canary.data"), place.model.join("ext_hard.data")).unwrap();
        let weight = elsewhere("w", &[1], &[("location", "ext_hard.data")]);
        (weighted("ext_hard.onnx", Run, &weight).put)(place);
    }));
    // In an attribute, in a function's default, in a sparse tensor: the same rules everywhere.
    let hidden = elsewhere("c", &[1], &[("location", "../../outside/canary.data")]);
    let constant = with(node("Constant", &[], &["w"]), &[a_tensor("value", &hidden)]);
    let nodes = [constant, mean("x", "m"), node("Mul", &["m", "w"], &["score"])];
    cases.push(of("ext_attribute.onnx", plain, &nodes, &[]));
    let function = empty()
        .put(1, "f")
        .put(10, "own")
        .put(9, opset("", 17))
        .put(11, a_tensor("value", &hidden));
    cases.push(bytes("ext_function.onnx", plain, fine(1.08).put(25, function)));
    let sparse = empty().put(1, &hidden).put(2, ints("i", &[1], &[0])).int(3, 3);
    let graph = graph(&[mean("x", "score")], &[]).put(15, sparse);
    cases.push(bytes("ext_sparse.onnx", plain, file(&graph)));
    cases
}

fn sizes() -> Vec<Case> {
    let impossible = Refuse("impossible dimensions");
    let three = [1.0, 2.0, 3.0];
    let sparse = |dims: i64| {
        empty()
            .put(1, floats("w", &[1], &[2.0]))
            .put(2, ints("i", &[1], &[0]))
            .int(3, dims)
    };
    let unfolded = |dims| {
        let nodes = [
            node("MatMul", &["x", "u"], &["score"]),
            node("Reshape", &["w", "s"], &["u"]),
        ];
        file(&graph(&[nodes[1].clone(), nodes[0].clone()], &[ints("s", &[2], &[3, 1])]).put(15, sparse(dims)))
    };
    vec![
        weighted("dims_overflow.onnx", impossible, &bare("w", FLOAT, &[1 << 32, 1 << 32])),
        weighted("dims_negative.onnx", impossible, &floats("w", &[-1], &[1.0])),
        weighted("dims_rank.onnx", impossible, &floats("w", &[1; 65], &[1.0])),
        weighted("data_short.onnx", Refuse("needs 12"), &floats("w", &[3], &three[..2])),
        weighted("data_long.onnx", Refuse("needs 4"), &floats("w", &[1], &three)),
        weighted(
            "data_none.onnx",
            Refuse("needs 1099511627776"),
            &bare("w", FLOAT, &[1 << 40]),
        ),
        weighted(
            "data_twice.onnx",
            Refuse("its data twice"),
            &floats("w", &[1], &[1.0]).put(4, [0; 4]),
        ),
        weighted(
            "data_other.onnx",
            Refuse("of another type"),
            &bare("w", FLOAT, &[1]).int(7, 1),
        ),
        weighted(
            "data_text.onnx",
            Refuse("text as raw bytes"),
            &bare("w", STRING, &[1]).put(9, "text"),
        ),
        weighted(
            "data_unknown.onnx",
            Refuse("loading it failed"),
            &bare("w", 250, &[1]).put(9, "text"),
        ),
        bytes("sparse_bomb.onnx", Refuse("unfolds to"), unfolded(1 << 40)),
        bytes("sparse_fine.onnx", Run, unfolded(3)),
    ]
}

/// `If` within `If`, so many graphs deep.
fn nested(depth: usize) -> Message {
    let output = value("out", FLOAT, &[-1, 1]);
    let condition = bare("c", BOOL, &[]).put(9, [1]);
    let leaf = body(&[mean("x", "out")], &[]).put(12, &output);
    let branch = |inner: &Message, to: &str| {
        let branches = [a_graph("then_branch", inner), a_graph("else_branch", &leaf)];
        with(node("If", &["c"], &[to]), &branches)
    };
    let deepest = (2..depth).fold(leaf.clone(), |inner, _| {
        body(&[branch(&inner, "out")], &[]).put(12, &output)
    });
    file(&graph(&[branch(&deepest, "score")], &[condition]))
}

/// `own.f<i>` calls `own.f<i + 1>` so often; the last one is the mean.
fn functions(count: usize, times: usize, to: impl Fn(usize) -> usize) -> Message {
    let call = |i: usize, from: &str, to: &str| in_domain(node(&format!("f{i}"), &[from], &[to]), "own");
    let function = |i: usize, nodes: &[Message]| {
        empty()
            .put(1, format!("f{i}"))
            .put(4, "a")
            .put(5, "b")
            .all(7, nodes)
            .put(9, opset("", 17))
            .put(9, opset("own", 1))
            .put(10, "own")
    };
    let mut all = file(&graph(&[call(0, "x", "score")], &[])).put(8, opset("own", 1));
    for i in 0..count {
        let nodes: Vec<Message> = if to(i) < count {
            let name = |at: usize| if at == 0 { "b".to_owned() } else { format!("b{at}") };
            (0..times).map(|at| call(to(i), "a", &name(at))).collect()
        } else {
            vec![mean("a", "b")]
        };
        all = all.put(25, function(i, &nodes));
    }
    all
}

/// The mean, through so many nodes that change nothing.
pub(super) fn chain(count: usize) -> Message {
    let name = |i: usize| format!("h{i}");
    let step = |i: usize| node("Abs", &[&name(i)], &[&name(i + 1)]);
    let nodes: Vec<Message> = (0..count).map(step).collect();
    let ends = [mean("x", "h0"), node("Identity", &[&name(count)], &["score"])];
    file(&graph(&[&ends[..1], &nodes, &ends[1..]].concat(), &[]))
}

fn structure() -> Vec<Case> {
    let standard = empty()
        .put(1, "ReduceMean")
        .put(4, "a")
        .put(5, "b")
        .put(7, node("Abs", &["a"], &["b"]))
        .put(9, opset("", 17));
    let two = floats("w", &[1], &[2.0]);
    let again = [mean("x", "m"), node("Mul", &["m", "w"], &["score"])];
    let merged = a_ints("axes", &[1]).and(&a_tensor("axes", &two).put(5, &two));
    let twice = [a_ints("axes", &[1]), a_ints("axes", &[0])];
    let circle = [
        node("Add", &["x", "b"], &["a"]),
        node("Abs", &["a"], &["b"]),
        mean("b", "score"),
    ];
    let without = |part: u64| {
        let graph = empty().put(1, mean("x", "score")).put(2, "g");
        let (input, output) = (value("x", FLOAT, &[-1, 3]), value("score", FLOAT, &[-1, 1]));
        file(&if part == 12 {
            graph.put(11, input)
        } else {
            graph.put(12, output)
        })
    };
    let model = |versions: &[(&str, i64)]| {
        let opsets = versions.iter().map(|(domain, version)| opset(domain, *version));
        empty()
            .number(1, 8)
            .put(7, graph(&[mean("x", "score")], &[]))
            .all(8, opsets)
    };
    vec![
        bytes("nested_16.onnx", Boxed, nested(16)),
        bytes("nested_17.onnx", Refuse("nested deeper than 16"), nested(17)),
        bytes("nested_3000.onnx", Refuse("nested deeper than 16"), nested(3_000)),
        bytes("chain_2000.onnx", Run, chain(2_000)),
        bytes("chain_200k.onnx", Refuse("more than 200000 nodes"), chain(200_000)),
        bytes("functions.onnx", Run, functions(3, 1, |i| i + 1)),
        bytes("function_self.onnx", Refuse("calls itself"), functions(1, 1, |_| 0)),
        bytes(
            "function_circle.onnx",
            Refuse("calls itself"),
            functions(3, 1, |i| (i + 1) % 3),
        ),
        bytes("function_bomb.onnx", Refuse("unfold to"), functions(40, 2, |i| i + 1)),
        bytes(
            "function_chain.onnx",
            Refuse("deeper than 64"),
            functions(70, 1, |i| i + 1),
        ),
        bytes(
            "function_standard.onnx",
            Refuse("ONNX standard anew"),
            fine(1.09).put(25, standard),
        ),
        of(
            "tensor_twice.onnx",
            Refuse("stands twice"),
            &again,
            &[two.clone(), floats("w", &[1], &[3.0])],
        ),
        of(
            "value_twice.onnx",
            Refuse("stands twice"),
            &[mean("x", "score"), mean("x", "score")],
            &[],
        ),
        of(
            "value_and_tensor.onnx",
            Refuse("two places"),
            &[mean("x", "w"), node("Abs", &["w"], &["score"])],
            &[two],
        ),
        of(
            "attribute_twice.onnx",
            Refuse("stands twice"),
            &[with(node("ReduceMean", &["x"], &["score"]), &twice)],
            &[],
        ),
        of(
            "attribute_merged.onnx",
            Refuse("has two values"),
            &[with(node("ReduceMean", &["x"], &["score"]), &[merged])],
            &[],
        ),
        bytes(
            "graph_twice.onnx",
            Refuse("two graphs"),
            fine(1.10).put(7, graph(&[], &[])),
        ),
        of(
            "output_missing.onnx",
            Refuse("does not exist in the graph"),
            &[mean("x", "elsewhere")],
            &[],
        ),
        bytes("outputs_none.onnx", Refuse("no output is a plain tensor"), without(12)),
        bytes("inputs_none.onnx", Refuse("is not a graph input"), without(11)),
        of("circle.onnx", Refuse("not acyclic"), &circle, &[]),
        bytes("opset_0.onnx", Refuse("opset 0"), model(&[("", 0)])),
        bytes("opset_999.onnx", Refuse("opset 999"), model(&[("", 999)])),
        bytes("opset_50.onnx", Refuse("the file has opset 50"), model(&[("", 50)])),
        bytes("opset_none.onnx", Refuse("Missing opset"), model(&[])),
        bytes(
            "opset_two.onnx",
            Refuse("opsets 13 and 17"),
            model(&[("", 13), ("", 17)]),
        ),
        bytes("ir_99.onnx", Refuse("IR version"), fine(1.11).number(1, 99)),
    ]
}

/// `score` of an integer operator on two columns.
fn of_integers(op: &str) -> Vec<Message> {
    let to = |kind: u64| [a_int("to", kind.cast_signed())];
    vec![
        node("Abs", &["x"], &["positive"]),
        with(node("Cast", &["positive"], &["n"]), &to(INT64)),
        node("Add", &["n", "one"], &["d"]),
        node(op, &["n", "d"], &["q"]),
        with(node("Cast", &["q"], &["f"]), &to(FLOAT)),
        mean("f", "score"),
    ]
}

fn operators() -> Vec<Case> {
    let one = ints("one", &[1], &[1]);
    let zero = ints("one", &[1], &[0]);
    let by_zero = |op: &str| {
        let mut nodes = of_integers(op);
        nodes[3] = node(op, &["n", "one"], &["q"]);
        nodes
    };
    let coupled = with(
        node("ReduceMean", &["x"], &["all"]),
        &[a_ints("axes", &[0]), a_int("keepdims", 1)],
    );
    let random = with(node("RandomNormalLike", &["x"], &["r"]), &[a_int("seed", 7)]);
    let gather = with(node("Gather", &["x", "one"], &["score"]), &[a_int("axis", 1)]);
    let nodes = [
        with(node("Cast", &["x"], &["t"]), &[a_int("to", STRING.cast_signed())]),
        with(node("RegexFullMatch", &["t"], &["m"]), &[a_text("pattern", "((((")]),
        with(node("Cast", &["m"], &["f"]), &[a_int("to", 1)]),
        node("MatMul", &["f", "w"], &["score"]),
    ];
    let regex = empty()
        .number(1, 8)
        .put(7, graph(&nodes, &[floats("w", &[3, 1], &[1.0; 3])]))
        .put(8, opset("", 20));
    vec![
        of("div.onnx", Boxed, &of_integers("Div"), std::slice::from_ref(&one)),
        of("mod.onnx", Boxed, &of_integers("Mod"), std::slice::from_ref(&one)),
        of(
            "div_zero.onnx",
            Refuse("Integer division by zero"),
            &by_zero("Div"),
            std::slice::from_ref(&zero),
        ),
        of("div_seven.onnx", Run, &by_zero("Div"), &[ints("one", &[1], &[7])]),
        of(
            "unknown_domain.onnx",
            Refuse("without custom operators"),
            &[in_domain(node("Frob", &["x"], &["score"]), "acme")],
            &[],
        ),
        bytes(
            "unknown.onnx",
            Refuse("without custom operators"),
            file(&graph(&[in_domain(node("Frob", &["x"], &["score"]), "acme")], &[])).put(8, opset("acme", 1)),
        ),
        of(
            "unknown_op.onnx",
            Refuse("custom operators"),
            &[node("Frob", &["x"], &["score"])],
            &[],
        ),
        bytes(
            "contrib.onnx",
            Boxed,
            file(&graph(
                &[
                    in_domain(node("QuickGelu", &["x"], &["g"]), "com.microsoft"),
                    mean("g", "score"),
                ],
                &[],
            ))
            .put(8, opset("com.microsoft", 1)),
        ),
        of(
            "random.onnx",
            Refuse("answers by chance"),
            &[random, mean("r", "score")],
            &[],
        ),
        of(
            "dropout.onnx",
            Refuse("different answers"),
            &[node("Dropout", &["x", "half", "yes"], &["d"]), mean("d", "score")],
            &[floats("half", &[], &[0.5]), bare("yes", BOOL, &[]).put(9, [1])],
        ),
        of(
            "nan.onnx",
            Refuse("not finite"),
            &[
                node("Abs", &["x"], &["a"]),
                node("Neg", &["a"], &["b"]),
                node("Log", &["b"], &["c"]),
                mean("c", "score"),
            ],
            &[],
        ),
        of(
            "coupled.onnx",
            Refuse("its neighbours"),
            &[coupled, node("Sub", &["x", "all"], &["s"]), mean("s", "score")],
            &[],
        ),
        of(
            "gather.onnx",
            Refuse("out of data bounds"),
            &[gather],
            &[ints("one", &[1], &[7])],
        ),
        of(
            "einsum.onnx",
            Refuse("subscript labels"),
            &[with(
                node("Einsum", &["x", "x"], &["score"]),
                &[a_text("equation", "a...b,...ba->->")],
            )],
            &[],
        ),
        bytes("regex.onnx", Refuse("regex pattern"), regex),
        of(
            "tfidf.onnx",
            Refuse("ngram_indexes"),
            &[
                with(node("Cast", &["x"], &["n"]), &[a_int("to", 6)]),
                with(
                    node("TfIdfVectorizer", &["n"], &["t"]),
                    &[
                        a_text("mode", "TF"),
                        a_int("min_gram_length", 2),
                        a_int("max_gram_length", 1 << 40),
                        a_int("max_skip_count", -7),
                        a_ints("ngram_counts", &[0, 1 << 40, -3]),
                        a_ints("ngram_indexes", &[-1, 1 << 40]),
                        a_ints("pool_int64s", &[2, 3]),
                    ],
                ),
                mean("t", "score"),
            ],
            &[],
        ),
        bytes(
            "strings.onnx",
            Refuse("its task is unknown"),
            file(
                &body(
                    &[with(
                        node("Cast", &["x"], &["score"]),
                        &[a_int("to", STRING.cast_signed())],
                    )],
                    &[],
                )
                .put(11, value("x", FLOAT, &[-1, 3]))
                .put(12, value("score", STRING, &[-1, 3])),
            ),
        ),
        bytes(
            "other_input.onnx",
            Refuse("input"),
            file(
                &body(&[mean("y", "score")], &[])
                    .put(11, value("y", FLOAT, &[-1, 3]))
                    .put(12, value("score", FLOAT, &[-1, 1])),
            ),
        ),
    ]
}

fn bombs() -> Vec<Case> {
    let made = |op: Message, sum: &str| {
        let sum = with(node("ReduceMax", &[sum], &["top"]), &[a_int("keepdims", 0)]);
        [op, sum, mean("x", "m"), node("Add", &["m", "top"], &["score"])]
    };
    let large = ints("large", &[1], &[1 << 36]);
    let expand = made(node("Expand", &["one", "large"], &["big"]), "big");
    let fill = made(node("ConstantOfShape", &["large"], &["big"]), "big");
    let tile = made(node("Tile", &["ones", "large"], &["big"]), "big");
    let resize = made(
        with(
            node("Resize", &["ones", "", "", "large"], &["big"]),
            &[a_text("mode", "nearest")],
        ),
        "big",
    );
    // A small file whose tensors are twice as large from node to node.
    let name = |i: usize| if i == 0 { "m".to_owned() } else { format!("d{i}") };
    let double = |i: usize| {
        let (from, to) = (name(i), name(i + 1));
        with(node("Concat", &[&from, &from], &[&to]), &[a_int("axis", 1)])
    };
    let doublings: Vec<Message> = (0..36).map(double).collect();
    let top = [
        with(node("ReduceMax", &[&name(36)], &["top"]), &[a_int("keepdims", 0)]),
        node("Add", &["m", "top"], &["score"]),
    ];
    let doubling = [&[mean("x", "m")], &doublings[..], &top].concat();
    // As large as the request says.
    let shaped = [
        with(node("ReduceMax", &["x"], &["a"]), &[a_int("keepdims", 0)]),
        with(node("Cast", &["a"], &["n"]), &[a_int("to", INT64.cast_signed())]),
        node("Abs", &["n"], &["s"]),
        node("Add", &["s", "step"], &["end"]),
        node("Range", &["start", "end", "step"], &["big"]),
        with(node("Cast", &["big"], &["f"]), &[a_int("to", 1)]),
        with(node("ReduceMin", &["f"], &["low"]), &[a_int("keepdims", 0)]),
        mean("x", "m"),
        node("Add", &["m", "low"], &["score"]),
    ];
    // An endless loop and one that ends.
    let turn = |count: i64| {
        let inner = body(&[node("Identity", &["go"], &["on"]), node("Abs", &["v"], &["w"])], &[])
            .put(11, value("i", INT64, &[]))
            .put(11, value("go", BOOL, &[]))
            .put(11, value("v", FLOAT, &[-1, 1]))
            .put(12, value("on", BOOL, &[]))
            .put(12, value("w", FLOAT, &[-1, 1]));
        let turns = with(
            node("Loop", &["count", "yes", "m"], &["score"]),
            &[a_graph("body", &inner)],
        );
        let tensors = [ints("count", &[], &[count]), bare("yes", BOOL, &[]).put(9, [1])];
        file(&graph(&[mean("x", "m"), turns], &tensors))
    };
    vec![
        of(
            "expand.onnx",
            Refuse("Failed to allocate memory"),
            &expand,
            &[large.clone(), floats("one", &[1], &[1.0])],
        ),
        of(
            "fill.onnx",
            Refuse("Failed to allocate memory"),
            &fill,
            &[ints("large", &[2], &[1 << 20, 1 << 20])],
        ),
        of(
            "tile.onnx",
            Refuse("exceeds the supported maximum"),
            &tile,
            &[large.clone(), floats("ones", &[2], &[1.0, 1.0])],
        ),
        of(
            "resize.onnx",
            Refuse("Failed to allocate memory"),
            &resize,
            &[large, floats("ones", &[2], &[1.0, 1.0])],
        ),
        of(
            "range.onnx",
            Boxed,
            &shaped,
            &[ints("start", &[], &[0]), ints("step", &[], &[1])],
        ),
        // Whichever limit it meets first.
        of(
            "doubling.onnx",
            Refuse("Failed to allocate memory|of CPU time"),
            &doubling,
            &[],
        ),
        bytes("loop_endless.onnx", Refuse("of CPU time"), turn(i64::MAX)),
        bytes("loop_short.onnx", Boxed, turn(3)),
    ]
}

/// One tree of a root and two leaves, with these ids.
fn tree(feature: i64, modes: &[&str], ids: [&[i64]; 3], targets: &[i64]) -> Message {
    let [nodes, trues, falses] = ids;
    let zeros = vec![0; nodes.len()];
    let mut features = zeros.clone();
    features[0] = feature;
    let weights = vec![0.5; targets.len()];
    let attributes = [
        a_ints("nodes_treeids", &zeros),
        a_ints("nodes_nodeids", nodes),
        a_ints("nodes_featureids", &features),
        a_floats("nodes_values", &vec![0.5; nodes.len()]),
        a_texts("nodes_modes", modes),
        a_ints("nodes_truenodeids", trues),
        a_ints("nodes_falsenodeids", falses),
        a_ints("target_treeids", &vec![0; targets.len()]),
        a_ints("target_nodeids", targets),
        a_ints("target_ids", &vec![0; targets.len()]),
        a_floats("target_weights", &weights),
        a_int("n_targets", 1),
    ];
    let tree = in_domain(
        with(node("TreeEnsembleRegressor", &["x"], &["score"]), &attributes),
        "ai.onnx.ml",
    );
    file(&graph(&[tree], &[]))
}

fn trees() -> Vec<Case> {
    const MODES: [&str; 3] = ["BRANCH_LEQ", "LEAF", "LEAF"];
    let svm = |count: i64| {
        let attributes = [
            a_text("kernel_type", "RBF"),
            a_floats("kernel_params", &[0.5, 0.0, 3.0]),
            a_floats("support_vectors", &[1.0, 2.0, 3.0]),
            a_floats("coefficients", &[1.0]),
            a_floats("rho", &[0.1]),
            a_int("n_supports", count),
        ];
        let svm = in_domain(
            with(node("SVMRegressor", &["x"], &["score"]), &attributes),
            "ai.onnx.ml",
        );
        file(&graph(&[svm], &[]))
    };
    vec![
        bytes(
            "tree_fine.onnx",
            Run,
            tree(2, &MODES, [&[0, 1, 2], &[1, 0, 0], &[2, 0, 0]], &[1, 2]),
        ),
        bytes(
            "tree_far.onnx",
            Refuse("node_id"),
            tree(0, &MODES, [&[0, 1, 2], &[99, 0, 0], &[2, 0, 0]], &[1, 2]),
        ),
        bytes(
            "tree_circle.onnx",
            Refuse("A node cannot point to itself"),
            tree(0, &MODES, [&[0, 1, 2], &[0, 0, 0], &[2, 0, 0]], &[1, 2]),
        ),
        bytes(
            "tree_feature.onnx",
            Refuse("requests feature 1073741824"),
            tree(1 << 30, &MODES, [&[0, 1, 2], &[1, 0, 0], &[2, 0, 0]], &[1, 2]),
        ),
        bytes(
            "tree_target.onnx",
            Refuse("Unable to find node"),
            tree(0, &MODES, [&[0, 1, 2], &[1, 0, 0], &[2, 0, 0]], &[1, 77]),
        ),
        bytes(
            "tree_uneven.onnx",
            Refuse("must have the same size"),
            tree(0, &MODES, [&[0, 1, 2], &[1, 0], &[2, 0, 0]], &[1, 2]),
        ),
        bytes("svm_fine.onnx", Run, svm(1)),
        bytes("svm_many.onnx", Refuse("must be >= n_supports"), svm(1 << 40)),
    ]
}

fn texts() -> Vec<Case> {
    let forged = "done\n{\"level\":\"ERROR\",\"message\":\"forged by a file\"}\n\x1b[31m";
    let metadata = |key: &str, value: &str| empty().put(1, key).put(2, value);
    let renamed = |name: &str| {
        file(
            &body(&[mean(name, "score")], &[])
                .put(11, value(name, FLOAT, &[-1, 3]))
                .put(12, value("score", FLOAT, &[-1, 1])),
        )
    };
    vec![
        bytes("text_value.onnx", Run, fine(1.12).put(14, metadata("log", forged))),
        bytes("text_producer.onnx", Run, fine(1.13).put(2, forged).put(3, forged)),
        bytes(
            "text_key.onnx",
            Refuse("metadata key"),
            fine(1.14).put(14, metadata(forged, "log")),
        ),
        bytes(
            "text_feature.onnx",
            Refuse("feature"),
            fine(1.15).put(14, metadata("feature_names", &format!("a,b{forged}c,d"))),
        ),
        bytes("text_input.onnx", Refuse("input"), renamed(forged)),
        bytes("text_turned.onnx", Refuse("input"), renamed("x\u{202e}onnx")),
        of(
            "text_op.onnx",
            Refuse("operator"),
            &[node(forged, &["x"], &["score"])],
            &[],
        ),
        bytes(
            "text_long.onnx",
            Refuse("longer than 1024"),
            renamed(&"x".repeat(2_000)),
        ),
    ]
}
