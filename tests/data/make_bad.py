"""Writes the small models that the tests run, most of which misbehave on purpose, beside this file. Needs the `onnx` package.

Run it again only to change a model; the files are committed, so that the tests need no Python.
"""
from pathlib import Path

import numpy as np
from onnx import TensorProto as T, checker, helper as h, numpy_helper, save_model

HERE = Path(__file__).parent


def write(name, nodes, inputs, outputs, constants=()):
    graph = h.make_graph(nodes, name, inputs, outputs, [numpy_helper.from_array(np.array(v), k) for k, v in constants])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8, producer_name="make_bad")
    checker.check_model(model)
    save_model(model, HERE / f"{name}.onnx")


def f32(name, shape):
    return h.make_tensor_value_info(name, T.FLOAT, shape)


def i64(name, shape):
    return h.make_tensor_value_info(name, T.INT64, shape)


X, SCORE = f32("x", ["n", 3]), f32("score", ["n", 1])

# A well-behaved one: the mean of three features.
write("mean", [h.make_node("ReduceMean", ["x"], ["score"], axes=[1], keepdims=1)], [X], [SCORE])

# The names of the classes among the outputs, which have no row.
write(
    "class_names",
    [
        h.make_node("ReduceMean", ["x"], ["score"], axes=[1], keepdims=1),
        h.make_node("Identity", ["names"], ["class_labels"]),
    ],
    [X],
    [SCORE, i64("class_labels", [2])],
    [("names", np.array([0, 1], np.int64))],
)

# An output for the batch as a whole, which cannot be cut into rows.
write(
    "whole",
    [
        h.make_node("ReduceMean", ["x"], ["score"], axes=[1], keepdims=1),
        h.make_node("ReduceMean", ["x"], ["level"], axes=[0], keepdims=1),
    ],
    [X],
    [SCORE, f32("level", [1, 3])],
)

# INT64_MIN / -1 in the request raises SIGFPE on x86; everything else is a ratio.
write(
    "div",
    [h.make_node("Div", ["a", "b"], ["q"]), h.make_node("Cast", ["q"], ["score"], to=T.FLOAT)],
    [i64("a", ["n", 1]), i64("b", ["n", 1])],
    [SCORE],
)

# Raises SIGFPE as soon as a run has more than one row.
write(
    "crowd",
    [
        h.make_node("Shape", ["x"], ["shape"], start=0, end=1),
        h.make_node("Greater", ["shape", "one"], ["many"]),
        h.make_node("Cast", ["many"], ["flag"], to=T.INT64),
        h.make_node("Mul", ["flag", "lowest"], ["dividend"]),
        h.make_node("Div", ["dividend", "minus"], ["quotient"]),
        h.make_node("Cast", ["quotient"], ["trap"], to=T.FLOAT),
        h.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1),
        h.make_node("Add", ["mean", "trap"], ["score"]),
    ],
    [X],
    [SCORE],
    [("one", np.int64([1])), ("lowest", np.int64([-(2**63)])), ("minus", np.int64([-1]))],
)

# Counts to the largest feature: 9e18 turns when it is that large, none when it is small.
body = h.make_graph(
    [
        h.make_node("Identity", ["go"], ["go_out"]),
        h.make_node("Add", ["sum", "one"], ["sum_out"]),
    ],
    "body",
    [i64("turn", []), h.make_tensor_value_info("go", T.BOOL, []), f32("sum", [])],
    [h.make_tensor_value_info("go_out", T.BOOL, []), f32("sum_out", [])],
)
write(
    "endless",
    [
        h.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        h.make_node("Cast", ["largest"], ["turns"], to=T.INT64),
        h.make_node("Loop", ["turns", "yes", "zero"], ["count"], body=body),
        h.make_node("Mul", ["count", "zero"], ["nothing"]),
        h.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1),
        h.make_node("Add", ["mean", "nothing"], ["score"]),
    ],
    [X],
    [SCORE],
    [("yes", np.array(True)), ("zero", np.float32(0)), ("one", np.float32(1))],
)

# Never ends, whatever the input.
write(
    "hang",
    [
        h.make_node("Loop", ["turns", "yes", "zero"], ["count"], body=body),
        h.make_node("Add", ["x", "count"], ["moved"]),
        h.make_node("ReduceMean", ["moved"], ["score"], axes=[1], keepdims=1),
    ],
    [X],
    [SCORE],
    [("turns", np.int64(2**62)), ("yes", np.array(True)), ("zero", np.float32(0)), ("one", np.float32(1))],
)

# The logarithm of what is never positive.
write(
    "nan",
    [
        h.make_node("Abs", ["x"], ["size"]),
        h.make_node("Neg", ["size"], ["below"]),
        h.make_node("Sub", ["below", "one"], ["far"]),
        h.make_node("Log", ["far"], ["log"]),
        h.make_node("ReduceMean", ["log"], ["score"], axes=[1], keepdims=1),
    ],
    [X],
    [SCORE],
    [("one", np.float32(1))],
)

# Another answer each time.
write(
    "random",
    [
        h.make_node("RandomUniformLike", ["x"], ["noise"]),
        h.make_node("ReduceMean", ["noise"], ["score"], axes=[1], keepdims=1),
    ],
    [X],
    [SCORE],
)

# A row's answer depends on the others in its batch.
write(
    "coupled",
    [
        h.make_node("ReduceMean", ["x"], ["centre"], axes=[0], keepdims=1),
        h.make_node("Sub", ["x", "centre"], ["apart"]),
        h.make_node("ReduceMean", ["apart"], ["score"], axes=[1], keepdims=1),
    ],
    [X],
    [SCORE],
)

# One row at a time.
write(
    "single",
    [h.make_node("ReduceMean", ["x"], ["score"], axes=[1], keepdims=1)],
    [f32("x", [1, 3])],
    [f32("score", [1, 1])],
)

# Fails on every input: a shape that no input of three columns fits.
write(
    "misfit",
    [h.make_node("Reshape", ["x", "shape"], ["score"])],
    [X],
    [SCORE],
    [("shape", np.array([7, 11], np.int64))],
)

# Not a number where a feature is negative, the mean of the roots elsewhere.
write(
    "root",
    [h.make_node("Sqrt", ["x"], ["roots"]), h.make_node("ReduceMean", ["roots"], ["score"], axes=[1], keepdims=1)],
    [X],
    [SCORE],
)

# What an encoder gives: a matrix per row, in which no score can be told.
write(
    "hidden",
    [h.make_node("Unsqueeze", ["x", "last"], ["hidden"])],
    [X],
    [f32("hidden", ["n", 3, 1])],
    [("last", np.int64([2]))],
)

# The mean of three features by a long way round: about a tenth of a second on one core.
write(
    "slow",
    [
        h.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1),
        h.make_node("Expand", ["mean", "square"], ["m0"]),
        h.make_node("ConstantOfShape", ["square"], ["w"], value=h.make_tensor("v", T.FLOAT, [1], [1 / 512])),
        *[h.make_node("MatMul", [f"m{i}", "w"], [f"m{i + 1}"]) for i in range(12)],
        h.make_node("ReduceMean", ["m12"], ["score"], axes=[0, 1], keepdims=1),
    ],
    [f32("x", [1, 3])],
    [f32("score", [1, 1])],
    [("square", np.array([512, 512], np.int64))],
)
