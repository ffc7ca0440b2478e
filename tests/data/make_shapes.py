"""Writes small well-behaved models of every shape and type that clients send, beside this file. Needs the `onnx` package.

Run it again only to change a model; the files are committed, so that the tests need no Python.
"""
from pathlib import Path

import numpy as np
from onnx import TensorProto as T, checker, helper as h, numpy_helper, save_model

HERE = Path(__file__).parent


def write(name, nodes, inputs, outputs, constants=()):
    graph = h.make_graph(nodes, name, inputs, outputs, [numpy_helper.from_array(np.array(v), k) for k, v in constants])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8, producer_name="make_shapes")
    checker.check_model(model)
    save_model(model, HERE / f"{name}.onnx")


def info(name, kind, shape):
    return h.make_tensor_value_info(name, kind, shape)


# Every datatype of the protocol, given back as it came.
TYPES = {
    "bool": T.BOOL, "uint8": T.UINT8, "uint16": T.UINT16, "uint32": T.UINT32, "uint64": T.UINT64, "int8": T.INT8,
    "int16": T.INT16, "int32": T.INT32, "int64": T.INT64, "fp16": T.FLOAT16, "fp32": T.FLOAT, "fp64": T.DOUBLE,
    "bytes": T.STRING,
}
write(
    "echo",
    [h.make_node("Identity", [name], [f"{name}_out"]) for name in TYPES],
    [info(name, kind, ["n", "k"]) for name, kind in TYPES.items()],
    [info(f"{name}_out", kind, ["n", "k"]) for name, kind in TYPES.items()],
)

# Text in, text out.
write("words", [h.make_node("Identity", ["text"], ["same"])], [info("text", T.STRING, ["n", 2])],
      [info("same", T.STRING, ["n", 2])])

# A small picture with three channels: the mean of each.
write("image", [h.make_node("ReduceMean", ["pixels"], ["means"], axes=[2, 3], keepdims=0)],
      [info("pixels", T.FLOAT, ["n", 3, 4, 4])], [info("means", T.FLOAT, ["n", 3])])

# A picture of any size, if it is not smaller than the sixteen by sixteen that are added up.
write(
    "photo",
    [h.make_node("AveragePool", ["pixels"], ["pooled"], kernel_shape=[16, 16]),
     h.make_node("GlobalAveragePool", ["pooled"], ["mean"])],
    [info("pixels", T.FLOAT, ["n", 1, "height", "width"])],
    [info("mean", T.FLOAT, ["n", 1, 1, 1])],
)

# What a language model takes: ids and a mask, both of any length.
write(
    "tokens",
    [
        h.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
        h.make_node("ReduceSum", ["kept", "last"], ["sum"], keepdims=0),
        h.make_node("ReduceSum", ["attention_mask", "last"], ["length"], keepdims=0),
    ],
    [info("input_ids", T.INT64, ["n", "length"]), info("attention_mask", T.INT64, ["n", "length"])],
    [info("sum", T.INT64, ["n"]), info("length", T.INT64, ["n"])],
    [("last", np.array([1], np.int64))],
)

# One number without any dimension, and one vector beside it.
write(
    "scalar",
    [h.make_node("Mul", ["x", "factor"], ["scaled"]), h.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)],
    [info("x", T.FLOAT, [3]), info("factor", T.FLOAT, [])],
    [info("scaled", T.FLOAT, [3]), info("sum", T.FLOAT, [])],
)

# Two lists of vectors, of different lengths, each with each: the first axis is no batch.
write(
    "cross",
    [h.make_node("Transpose", ["b"], ["turned"], perm=[1, 0]), h.make_node("MatMul", ["a", "turned"], ["products"])],
    [info("a", T.FLOAT, ["n", 2]), info("b", T.FLOAT, ["m", 2])],
    [info("products", T.FLOAT, ["n", "m"])],
)

# Outputs that are no tensors, which no client could read.
write(
    "sequence",
    [h.make_node("SequenceConstruct", ["x", "x"], ["pair"])],
    [info("x", T.FLOAT, ["n", 3])],
    [h.make_tensor_sequence_value_info("pair", T.FLOAT, ["n", 3])],
)
write(
    "optional",
    [h.make_node("Optional", ["x"], ["perhaps"])],
    [info("x", T.FLOAT, ["n", 3])],
    [h.make_value_info("perhaps", h.make_optional_type_proto(h.make_tensor_type_proto(T.FLOAT, ["n", 3])))],
)
