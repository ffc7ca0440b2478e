"""Writes one small file per habit of the exporters that people use, and what each must give.

    pip install -r requirements.txt && python make.py

`expected.json` names every file: the settings it needs, rows to feed (as tensors in input order), and either the
scores that the library itself gives (Python ONNX Runtime on the same file for the raw numbers, reduced to scores
here), or a piece of the refusal. The PyTorch-like files are made by hand: the exporter's output, without PyTorch.
"""

import json
import math
import os
import tempfile
import warnings
from pathlib import Path

import catboost
import lightgbm
import numpy as np
import onnx
import onnxmltools
import onnxruntime
import pandas as pd
import skl2onnx
import xgboost
from onnx import TensorProto, helper, numpy_helper
from onnxmltools.convert.common.data_types import FloatTensorType as MlFloat
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

warnings.filterwarnings("ignore")
HERE = Path(__file__).parent
OPSET = {"": 18, "ai.onnx.ml": 3}
expected = {}

draw = np.random.default_rng(7)
X = draw.normal(size=(160, 3)).astype(np.float32)
Y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(np.int64)
THREE = np.digitize(X[:, 0], [-0.5, 0.5])
VALUE = X @ np.array([1.0, -2.0, 0.5]) + 3.0
ROWS = X[:4]
NAN_ROWS = ROWS.copy()
NAN_ROWS[1, 0] = np.nan
NAN_ROWS[3, 2] = np.nan


def tensor(array):
    array = np.asarray(array)
    kinds = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "bool": "BOOL", "float16": "FP16"}
    kind = "BYTES" if array.dtype.kind in "OU" else kinds[array.dtype.name]
    data = [None if kind != "BYTES" and math.isnan(x) else x for x in array.reshape(-1).tolist()]
    return {"datatype": kind, "shape": list(array.shape), "data": data}


def save(name, model, feeds, how, **case):
    """`how` turns Python ONNX Runtime's outputs by name into a list of scores, or is a piece of the refusal, or
    `unread` and a piece of what makes scores of its raw outputs."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    assert len(data) < 10_240, (name, len(data))
    (HERE / f"{name}.onnx").write_bytes(data)
    entry = dict(case)
    entry["inputs"] = [tensor(f) for f in feeds]
    if isinstance(how, str):
        entry["refused"] = how
    elif isinstance(how, dict):
        entry |= how
    else:
        session = onnxruntime.InferenceSession(str(HERE / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        # A file of fixed batch 1 is run row by row, as the gateway does.
        batch = session.get_inputs()[0].shape[0]
        parts = [[f[i : i + 1] for f in feeds] for i in range(len(feeds[0]))] if batch == 1 else [feeds]
        scores = []
        for part in parts:
            got = session.run(None, dict(zip(names, part)))
            outputs = dict(zip([o.name for o in session.get_outputs()], got))
            scores += np.asarray(how(outputs), dtype=np.float64).tolist()
        entry["scores"] = scores
    expected[f"{name}.onnx"] = entry


def positive(column):
    return lambda out: np.asarray(out[column])[:, 1]


def all_classes(column):
    return lambda out: np.asarray(out[column])


def from_maps(column, classes):
    """A ZipMap's list of dictionaries: the last class for two, all for more."""

    def reduce(out):
        rows = [[row[c] for c in classes] for row in out[column]]
        return [r[1] for r in rows] if len(classes) == 2 else rows

    return reduce


def squeeze(column):
    return lambda out: np.asarray(out[column]).reshape(-1)


def scikit():
    logreg = LogisticRegression().fit(X, Y)
    words = np.where(Y == 1, "UP", "DOWN")
    make = lambda m, **more: skl2onnx.to_onnx(m, X[:1], target_opset=OPSET, **more)
    options = lambda m, **more: {"options": {id(m): more}}

    save("sklearn_zipmap_int", make(logreg), [ROWS], from_maps("output_probability", [0, 1]), classes=[0, 1])
    named = LogisticRegression().fit(X, words)
    save("sklearn_zipmap_text", make(named), [ROWS], from_maps("output_probability", ["DOWN", "UP"]),
         classes=["DOWN", "UP"])
    three = LogisticRegression().fit(X, THREE)
    save("sklearn_zipmap_three", make(three), [ROWS], from_maps("output_probability", [0, 1, 2]), classes=[0, 1, 2])
    save("sklearn_plain", make(logreg, **options(logreg, zipmap=False)), [ROWS], positive("probabilities"),
         classes=[0, 1])
    save("sklearn_columns", make(three, **options(three, zipmap="columns")), [ROWS],
         lambda out: np.stack([out["i0"], out["i1"], out["i2"]], axis=1), classes=[0, 1, 2])
    save("sklearn_class_labels", make(named, **options(named, zipmap=False, output_class_labels=True)), [ROWS],
         positive("probabilities"), classes=["DOWN", "UP"])

    # The converter itself is content; ONNX Runtime is not.
    double = X.astype(np.float64)
    wide = LogisticRegression().fit(double, Y)
    save("sklearn_double_logreg",
         skl2onnx.to_onnx(wide, double[:1], target_opset=OPSET, options={id(wide): {"zipmap": True}}),
         [ROWS.astype(np.float64)], "zipmap=False")
    forest = RandomForestClassifier(n_estimators=3, max_depth=3, random_state=1).fit(double, Y)
    save("sklearn_double_forest", skl2onnx.to_onnx(forest, double[:1], target_opset=OPSET), [ROWS.astype(np.float64)],
         from_maps("output_probability", [0, 1]), classes=[0, 1])

    frame = pd.DataFrame({"age": X[:, 0], "income": X[:, 1], "city": np.where(X[:, 2] > 0, "Bern", "Oslo")})
    columns = ColumnTransformer([("numbers", StandardScaler(), ["age", "income"]),
                                 ("words", OneHotEncoder(handle_unknown="ignore"), ["city"])])
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, Y)
    types = [("age", FloatTensorType([None, 1])), ("income", FloatTensorType([None, 1])),
             ("city", StringTensorType([None, 1]))]
    model = skl2onnx.convert_sklearn(pipeline, initial_types=types, target_opset=OPSET)
    feeds = [ROWS[:, :1], ROWS[:, 1:2], frame["city"].to_numpy()[:4].reshape(-1, 1).astype(object)]
    save("sklearn_frame", model, feeds, from_maps("output_probability", [0, 1]), classes=[0, 1],
         features=["age", "income", "city"])

    margin = LinearSVC().fit(X, Y)
    model = make(margin)
    save("sklearn_linear_svc", model, [ROWS], 'link = "logit"')
    save("sklearn_linear_svc_logit", model, [ROWS],
         lambda out: 1 / (1 + np.exp(-np.asarray(out["probabilities"], dtype=np.float64).reshape(-1))),
         settings={"link": "logit"}, classes=[0, 1])
    isolation = IsolationForest(n_estimators=2, max_samples=8, random_state=1).fit(X)
    save("sklearn_isolation_forest", skl2onnx.to_onnx(isolation, X[:1], target_opset=OPSET), [ROWS], squeeze("scores"),
         task="regression")
    line = LinearRegression().fit(X, VALUE)
    save("sklearn_regressor", make(line), [ROWS], squeeze("variable"), task="regression")
    two = LinearRegression().fit(X, np.stack([VALUE, -VALUE], axis=1))
    save("sklearn_regressor_two", make(two), [ROWS], "score_output")


def boosting():
    kind = [("input", MlFloat([None, 3]))]
    xgb = xgboost.XGBClassifier(n_estimators=3, max_depth=2).fit(X, Y)
    model = onnxmltools.convert_xgboost(xgb, initial_types=kind, target_opset=15)
    save("xgboost", model, [NAN_ROWS], positive("probabilities"), classes=[0, 1])
    xgb = xgboost.XGBClassifier(n_estimators=2, max_depth=2).fit(X, THREE)
    model = onnxmltools.convert_xgboost(xgb, initial_types=kind, target_opset=15)
    save("xgboost_three", model, [ROWS], all_classes("probabilities"), classes=[0, 1, 2])

    lgbm = lightgbm.LGBMClassifier(n_estimators=3, num_leaves=4, verbose=-1).fit(X, Y)
    model = onnxmltools.convert_lightgbm(lgbm, initial_types=kind, target_opset=15)
    save("lightgbm_zipmap", model, [NAN_ROWS], from_maps("probabilities", [0, 1]), classes=[0, 1])
    model = onnxmltools.convert_lightgbm(lgbm, initial_types=kind, target_opset=15, zipmap=False)
    save("lightgbm", model, [NAN_ROWS], positive("probabilities"), classes=[0, 1])

    def cat(model):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "m.onnx")
            model.save_model(path, format="onnx")
            return Path(path).read_bytes()

    quiet = dict(iterations=3, depth=2, verbose=False, allow_writing_files=False, thread_count=1)
    binary = catboost.CatBoostClassifier(**quiet).fit(X, Y)
    save("catboost", cat(binary), [NAN_ROWS], from_maps("probabilities", [0, 1]), classes=[0, 1])
    words = catboost.CatBoostClassifier(**quiet).fit(X, np.where(Y == 1, "UP", "DOWN"))
    save("catboost_text", cat(words), [ROWS], from_maps("probabilities", ["DOWN", "UP"]), classes=["DOWN", "UP"])
    value = catboost.CatBoostRegressor(**quiet).fit(X, VALUE)
    save("catboost_regressor", cat(value), [ROWS], squeeze("predictions"), task="regression")


def graph(name, nodes, inputs, outputs, weights, producer="pytorch"):
    model = helper.make_model(helper.make_graph(nodes, name, inputs, outputs, weights), producer_name=producer,
                              producer_version="2.9.0", opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def torch_like():
    weight = draw.normal(size=(3, 3)).astype(np.float32)
    bias = np.array([0.1, -0.2, 0.3], dtype=np.float32)
    info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    weights = lambda w, b: [numpy_helper.from_array(w, "fc.weight"), numpy_helper.from_array(b, "fc.bias")]
    gemm = [helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["logits"])]

    def softmax(out):
        z = np.exp(np.asarray(out["logits"], dtype=np.float64))
        return z / z.sum(axis=1, keepdims=True)

    fixed = graph("fixed", gemm, [info("x", [1, 3])], [info("logits", [1, 3])], weights(weight, bias))
    save("torch_logits_fixed_batch", fixed, [ROWS], {"unread": 'link = "softmax"'})
    save("torch_logits_fixed_batch_softmax", fixed, [ROWS], softmax, settings={"task": "multiclass", "link": "softmax"})
    moving = graph("moving", gemm, [info("x", ["batch", 3])], [info("logits", ["batch", 3])], weights(weight, bias))
    save("torch_logits_softmax", moving, [ROWS], softmax, settings={"link": "softmax"})

    one = graph("one", gemm + [helper.make_node("Sigmoid", ["logits"], ["p"])], [info("x", ["batch", 3])],
                [info("p", ["batch", 1])], weights(weight[:, :1], bias[:1]))
    save("torch_sigmoid", one, [ROWS], squeeze("p"), settings={"task": "binary"})
    single = graph("single", gemm, [info("x", ["batch", 3])], [info("logits", ["batch", 1])],
                   weights(weight[:, :1], bias[:1]))
    save("torch_logit", single, [ROWS], 'link = "logit"', settings={"task": "binary"})

    # Weights in a file beside it, as the exporter does by default.
    data = "torch_external.onnx.data"
    path = HERE / "torch_external.onnx"
    (HERE / data).unlink(missing_ok=True)  # saving appends
    outside = graph("outside", gemm, [info("x", ["batch", 3])], [info("logits", ["batch", 3])], weights(weight, bias))
    onnx.save_model(outside, path, save_as_external_data=True, location=data, size_threshold=0)
    os.chmod(HERE / data, 0o644)
    save("torch_external", path.read_bytes(), [ROWS], softmax, settings={"link": "softmax"}, external=[data])


def debris():
    """What lies in model directories and is no model."""
    whole = (HERE / "sklearn_plain.onnx").read_bytes()
    files = {
        "empty": (b"", "is empty"),
        "html": (b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n", "web page"),
        "lfs_pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
                        "git lfs pull"),
        "zip": (b"PK\x03\x04" + b"\0" * 60, "zip archive"),
        "ort_flatbuffer": (b"\x18\0\0\0ORTM" + b"\0" * 60, ".ort"),
        "elf": (b"\x7fELF\x02\x01\x01" + b"\0" * 60, "program"),
        "truncated": (whole[: len(whole) // 2], "truncated"),
        "text": (b"feature,weight\nage,0.3\nincome,0.1\n" * 4, "not an onnx model"),
    }
    for name, (data, why) in files.items():
        (HERE / f"debris_{name}.onnx").write_bytes(data)
        expected[f"debris_{name}.onnx"] = {"inputs": [], "refused": why}


for part in (scikit, boosting, torch_like, debris):
    part()
(HERE / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
print(len(expected), "files")
