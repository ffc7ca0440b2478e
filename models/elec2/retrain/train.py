"""Trains on what the gateway has exported, and drops the result beside the champion, where it has to win.

The gateway calls it as the command of [retrain]: where the rows are and where the file goes stand in the environment.
"""

import json
import os
import pathlib

import pandas as pd
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, brier_score_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

NUMBERS = ["period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"]


def told(name):
    return os.environ["DETHRONE_RETRAIN_" + name]


def model():
    columns = ColumnTransformer([
        ("numbers", "passthrough", NUMBERS),
        ("day", OneHotEncoder(handle_unknown="ignore"), ["day"]),
    ])
    return make_pipeline(columns, RandomForestClassifier(60, min_samples_leaf=10, random_state=1, n_jobs=1))


rows = pd.read_parquet(told("PATH")).sort_values("row")
# `day` is the directory's name in an export; the feature of that name stands in a column of its own.
x = rows[NUMBERS].astype("float32").assign(day=rows["feature_day"].astype(str))
y = rows["label"].astype(int)

# How it does on rows that it has not seen: the last fifth.
cut = len(rows) * 4 // 5
trial = model().fit(x[:cut], y[:cut])
score = trial.predict_proba(x[cut:])[:, 1]
metrics = {
    "brier": brier_score_loss(y[cut:], score),
    "accuracy": accuracy_score(y[cut:], score > 0.5),
    "held_out_rows": len(rows) - cut,
}
print("held out:", json.dumps(metrics))

inputs = [(name, FloatTensorType([None, 1])) for name in NUMBERS] + [("day", StringTensorType([None, 1]))]
fitted = model().fit(x, y)
onnx = convert_sklearn(fitted, initial_types=inputs, options={id(fitted): {"zipmap": False}}).SerializeToString()

directory, version = pathlib.Path(told("DIRECTORY")), f"retrained_{int(told('N')):03d}"
lines = {
    "data": f"rows {rows['row'].min()} to {rows['row'].max()} of {told('PATH')}",
    "pipeline": "models/elec2/retrain/train.py",
    "parent": told("CHAMPION"),
    "reason": told("REASON"),
}
# Before the model, under its name: it is recorded with it.
with open(directory / f"{version}.toml", "w") as file:
    file.write("[lineage]\n")
    for key, value in lines.items():
        file.write(f"{key} = {json.dumps(value)}\n")
    file.write("[lineage.metrics]\n")
    for key, value in metrics.items():
        file.write(f"{key} = {value}\n")
# Whole at once: under a name that is never a version first.
part = directory / f".{version}.part"
part.write_bytes(onnx)
part.rename(directory / f"{version}.onnx")
print(f"{version}.onnx: {len(onnx)} bytes, from {len(rows)} rows")
