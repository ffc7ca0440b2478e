"""What the scripts of the clients share: arguments, one JSON line per check, and what the served models must answer."""
import argparse
import contextlib
import inspect
import json
import sys
import traceback
import urllib.request
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
FAILED = []


def arguments(**more):
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", required=True, help="host:port of the data listener")
    parser.add_argument("--grpc", required=True, help="host:port of the gRPC listener")
    for name, settings in more.items():
        parser.add_argument(f"--{name}", **settings)
    parsed = parser.parse_args()
    del sys.argv[1:]  # the package of one client reads them again, as its own
    return parsed


@contextlib.contextmanager
def check(name):
    """One line of JSON for what happens inside; a failure is told and the script goes on."""
    try:
        yield
    except Exception as error:  # whatever a client throws is a failed check
        FAILED.append(name)
        where = traceback.extract_tb(error.__traceback__)[-1]
        last = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(ROOT))][-1]
        text = f"{type(error).__name__}: {error}"[:2000]
        line = {"check": name, "ok": False, "error": text, "line": f"{Path(last.filename).name}:{last.lineno}: {last.line}",
                "thrown": f"{Path(where.filename).name}:{where.lineno}"}
    else:
        line = {"check": name, "ok": True}
    print(json.dumps(line), flush=True)


def finish():
    sys.exit(1 if FAILED else 0)


async def got(result):
    """The result of a synchronous or an asynchronous client."""
    return await result if inspect.isawaitable(result) else result


def equal(got, expected, what=""):
    assert got == expected, f"{what} {got!r} instead of {expected!r}"


def same(array, expected, what=""):
    """Shape and every element; floats within a millionth."""
    expected = np.asarray(expected)
    assert array is not None, f"{what}: no such output"
    if expected.dtype.kind == "O":  # from JSON, clients make text of it, from raw tensors bytes
        array = np.array([v.encode() if isinstance(v, str) else v for v in array.flat], object).reshape(array.shape)
    assert tuple(array.shape) == tuple(expected.shape), f"{what} shape {array.shape} instead of {expected.shape}"
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(array.astype(np.float64), expected.astype(np.float64), rtol=1e-6, atol=1e-6)
    else:
        assert (array == expected).all(), f"{what} {array!r} instead of {expected!r}"


def has(text, *pieces):
    """A message names these."""
    for piece in pieces:
        assert piece.lower() in str(text).lower(), f"'{text}' does not say {piece!r}"


async def refused(call, *pieces):
    """The call fails, and its message names these; gives the error."""
    try:
        answer = await got(call())
    except AssertionError:
        raise
    except Exception as error:
        has(error, *pieces)
        return error
    raise AssertionError(f"answered instead of refused: {answer}")


def probes(version):
    """The shipped rows as columns `[rows, 1]`, and the score that the version must give."""
    rows = json.loads((ROOT / "models/elec2/stream/probes.json").read_text())
    columns = {}
    for name in ["period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer", "day"]:
        values = [row["inputs"][name] for row in rows]
        kind = object if name == "day" else np.float32
        columns[name] = np.array([v.encode() if kind is object else v for v in values], kind).reshape(-1, 1)
    return columns, np.array([row["probability_of_class_1"][version] for row in rows], np.float32)


def label(http, ids, status="accepted"):
    """Reports an outcome for each id; each must have this status."""
    body = {"model": "elec2", "labels": [{"id": id, "label": 1} for id in ids]}
    request = urllib.request.Request(f"http://{http}/feedback", json.dumps(body).encode(),
                                     {"content-type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=30))
    equal([result["status"] for result in answer["results"]], [status] * len(ids), f"{answer}")


# Two rows of every datatype, with the values at its ends.
VALUES = {
    "bool": np.array([[True, False], [False, True]]),
    "uint8": np.array([[0, 255], [1, 2]], np.uint8),
    "uint16": np.array([[0, 2**16 - 1], [1, 2]], np.uint16),
    "uint32": np.array([[0, 2**32 - 1], [1, 2]], np.uint32),
    "uint64": np.array([[0, 2**64 - 1], [2**53 + 1, 2]], np.uint64),
    "int8": np.array([[-(2**7), 2**7 - 1], [0, -1]], np.int8),
    "int16": np.array([[-(2**15), 2**15 - 1], [0, -1]], np.int16),
    "int32": np.array([[-(2**31), 2**31 - 1], [0, -1]], np.int32),
    "int64": np.array([[-(2**63), 2**63 - 1], [2**53 + 1, -1]], np.int64),
    "fp16": np.array([[0.5, -65504], [2.0**-14, 1]], np.float16),
    "fp32": np.array([[0.1, -3.4e38], [1e-30, 1]], np.float32),
    "fp64": np.array([[0.1, -1.7e308], [1e-300, 1]], np.float64),
    "bytes": np.array([["plain".encode(), "žluťoučký kůň, 馬".encode()], [b"", b'"quoted" \\ \n\t']], object),
}

EXTENSIONS = {"binary_tensor_data", "model_configuration", "model_repository", "statistics", "parameters"}
DURATIONS = ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"]
