"""NVIDIA's HTTP client, synchronous or (`--aio`) asynchronous."""
import asyncio
import sys

import numpy as np

from checks import (DURATIONS, EXTENSIONS, VALUES, arguments, check, equal, finish, got, has, label, probes, refused,
                    same)

args = arguments(aio={"action": "store_true"})
if args.aio:
    import tritonclient.http.aio as triton
else:
    import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype  # noqa: E402


def tensor(name, array, binary=True):
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def wanted(*names, binary=True):
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def number(rows):
    """`[rows, 3]`, and the mean of each row."""
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3) / 7
    return x, x.mean(axis=1, keepdims=True)


async def health(client):
    with check("live"):
        equal(await got(client.is_server_live()), True)
    with check("ready"):
        equal(await got(client.is_server_ready()), True)
    with check("model ready"):
        equal(await got(client.is_model_ready("mean")), True)
        equal(await got(client.is_model_ready("elec2", "e01_logreg")), True)
    with check("unknown model not ready"):
        equal(await got(client.is_model_ready("nobody")), False)
        equal(await got(client.is_model_ready("mean", "nobody")), False)


async def metadata(client):
    with check("server metadata"):
        said = await got(client.get_server_metadata())
        equal(said["name"], "dethrone")
        assert said["version"] and EXTENSIONS <= set(said["extensions"]), said
    with check("model metadata"):
        said = await got(client.get_model_metadata("mean"))
        equal((said["name"], said["versions"], said["platform"]), ("mean", ["mean"], "onnxruntime_onnx"))
        equal(said["inputs"], [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}])
        equal(said["outputs"], [{"name": "score", "datatype": "FP32", "shape": [-1, 1]}])
    with check("metadata of named features"):
        said = await got(client.get_model_metadata("elec2"))
        columns, _ = probes("e01_logreg")
        kinds = {"day": "BYTES"}
        equal(said["inputs"], [{"name": n, "datatype": kinds.get(n, "FP32"), "shape": [-1, 1]} for n in columns])
        equal(said["outputs"], [{"name": "score", "datatype": "FP32", "shape": [-1]},
                                {"name": "label", "datatype": "INT64", "shape": [-1]},
                                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}])
    with check("metadata of a version is its own"):
        said = await got(client.get_model_metadata("elec2", "e02_tree"))
        equal(said["inputs"], [{"name": "features", "datatype": "FP32", "shape": [-1, 3]}])
        equal({o["name"] for o in said["outputs"]}, {"label", "probabilities"})
    with check("model config"):
        said = await got(client.get_model_config("mean"))
        equal((said["name"], said["platform"]), ("mean", "onnxruntime_onnx"))
        assert said["max_batch_size"] >= 64, said
        equal([(i["name"], i["data_type"], i["dims"]) for i in said["input"]], [("x", "TYPE_FP32", [3])])
        equal([(o["name"], o["data_type"], o["dims"]) for o in said["output"]], [("score", "TYPE_FP32", [1])])
    with check("config without a batch"):
        said = await got(client.get_model_config("scalar"))
        equal(said["max_batch_size"], 0)
        equal([(i["name"], i["dims"]) for i in said["input"]], [("x", [3]), ("factor", [])])
    with check("repository index"):
        index = {m["name"]: m for m in await got(client.get_model_repository_index())}
        equal(index["mean"]["state"], "READY")
        assert {"elec2", "echo", "mean", "single"} <= set(index), index
    with check("unknown model in metadata, config and statistics"):
        await refused(lambda: client.get_model_metadata("nobody"), "nobody")
        await refused(lambda: client.get_model_config("nobody"), "nobody")
        await refused(lambda: client.get_inference_statistics("nobody"), "nobody")
    with check("what is not there is said, not dropped"):
        for call in [client.get_trace_settings, client.get_system_shared_memory_status, client.get_log_settings]:
            error = await refused(call)
            assert isinstance(error, InferenceServerException) and error.message(), error


async def values(client):
    with check("binary by default"):
        x, mean = number(2)
        answer = await got(client.infer("mean", [tensor("x", x)]))
        same(answer.as_numpy("score"), mean)
        output = answer.get_output("score")
        assert output["parameters"]["binary_data_size"] == 8 and "data" not in output, output
        equal(answer.get_response()["model_name"], "mean")
    with check("json both ways"):
        x, mean = number(2)
        answer = await got(client.infer("mean", [tensor("x", x, False)], outputs=wanted("score", binary=False)))
        same(answer.as_numpy("score"), mean)
        assert "data" in answer.get_output("score"), answer.get_response()
    with check("binary in, json out"):
        x, mean = number(2)
        answer = await got(client.infer("mean", [tensor("x", x)], outputs=wanted("score", binary=False)))
        same(answer.as_numpy("score"), mean)
    with check("json in, binary out"):
        x, mean = number(2)
        answer = await got(client.infer("mean", [tensor("x", x, False)]))
        same(answer.as_numpy("score"), mean)
    with check("not a number and infinity in json"):
        x = np.array([[np.nan, np.inf, -np.inf], [0, 1, 2]], np.float32)
        told = await got(client.infer("tree", [tensor("input", x, False)]))
        raw = await got(client.infer("tree", [tensor("input", x)]))
        same(told.as_numpy("probabilities"), raw.as_numpy("probabilities"))
    with check("batch of 64"):
        x, mean = number(64)
        same((await got(client.infer("mean", [tensor("x", x)]))).as_numpy("score"), mean)
        same((await got(client.infer("mean", [tensor("x", x, False)], outputs=wanted("score", binary=False)))
              ).as_numpy("score"), mean)
    with check("all thirteen datatypes, binary"):
        answer = await got(client.infer("echo", [tensor(n, a) for n, a in VALUES.items()]))
        for name, array in VALUES.items():
            same(answer.as_numpy(f"{name}_out"), array, name)
            equal(answer.get_output(f"{name}_out")["datatype"], np_to_triton_dtype(array.dtype))
    with check("datatypes in json beside one in binary"):
        inputs = [tensor(n, a, binary=n == "fp16") for n, a in VALUES.items()]
        outputs = [triton.InferRequestedOutput(f"{n}_out", binary_data=n == "fp16") for n in VALUES]
        answer = await got(client.infer("echo", inputs, outputs=outputs))
        for name, array in VALUES.items():
            same(answer.as_numpy(f"{name}_out"), array, name)
    with check("empty tensors"):
        for shape in [(2, 0), (0, 2)]:
            answer = await got(client.infer("echo", [tensor(n, a[:shape[0], :shape[1]]) for n, a in VALUES.items()]))
            for name, array in VALUES.items():
                same(answer.as_numpy(f"{name}_out"), array[:shape[0], :shape[1]], name)
    with check("text"):
        text = VALUES["bytes"]
        for binary in [True, False]:
            answer = await got(client.infer("words", [tensor("text", text, binary)],
                                            outputs=wanted("same", binary=binary)))
            same(answer.as_numpy("same"), text)


async def shapes(client):
    with check("pictures"):
        pixels = np.random.default_rng(1).random((5, 3, 4, 4), np.float32)
        answer = await got(client.infer("image", [tensor("pixels", pixels)]))
        same(answer.as_numpy("means"), pixels.mean(axis=(2, 3)))
    with check("pictures of any size"):
        for height, width in [(16, 16), (40, 17)]:
            pixels = np.ones((2, 1, height, width), np.float32)
            same((await got(client.infer("photo", [tensor("pixels", pixels)]))).as_numpy("mean"),
                 np.ones((2, 1, 1, 1), np.float32))
    with check("several inputs of any length"):
        for rows, length in [(1, 7), (3, 1), (2, 300)]:
            ids = np.arange(rows * length, dtype=np.int64).reshape(rows, length)
            mask = (ids % 3 != 0).astype(np.int64)
            answer = await got(client.infer("tokens", [tensor("attention_mask", mask), tensor("input_ids", ids)]))
            same(answer.as_numpy("sum"), (ids * mask).sum(axis=1))
            same(answer.as_numpy("length"), mask.sum(axis=1))
    with check("a scalar"):
        x, factor = np.array([1, 2, 3], np.float32), np.array(2, np.float32)
        for binary in [True, False]:
            answer = await got(client.infer("scalar", [tensor("x", x, binary), tensor("factor", factor, binary)]))
            same(answer.as_numpy("scaled"), x * 2)
            same(answer.as_numpy("sum"), np.float32(6))
    with check("each with each"):
        a, b = np.ones((2, 2), np.float32), np.arange(10, dtype=np.float32).reshape(5, 2)
        same((await got(client.infer("cross", [tensor("a", a), tensor("b", b)]))).as_numpy("products"), a @ b.T)
    with check("a batch fixed to one"):
        x, mean = number(1)
        same((await got(client.infer("single", [tensor("x", x)]))).as_numpy("score"), mean)


async def envelope(client):
    with check("id"):
        x, _ = number(1)
        answer = await got(client.infer("mean", [tensor("x", x)], request_id="rid-1 ž"))
        equal(answer.get_response()["id"], "rid-1 ž")
    with check("only the outputs that were asked for"):
        x = np.zeros((2, 3), np.float32)
        answer = await got(client.infer("tree", [tensor("input", x)], outputs=wanted("probabilities")))
        equal([o["name"] for o in answer.get_response()["outputs"]], ["probabilities"])
        same(answer.as_numpy("probabilities").sum(axis=1), np.ones(2, np.float32))
    with check("each output as it was asked for"):
        x = np.zeros((2, 3), np.float32)
        outputs = wanted("probabilities", binary=False) + wanted("label")
        answer = await got(client.infer("tree", [tensor("input", x)], outputs=outputs))
        assert "data" in answer.get_output("probabilities") and "data" not in answer.get_output("label")
        same(answer.as_numpy("probabilities").argmax(axis=1), answer.as_numpy("label"))
    with check("parameters are taken or ignored"):
        x, mean = number(1)
        answer = await got(client.infer("mean", [tensor("x", x)], priority=1, timeout=5_000_000, sequence_id=3,
                                        sequence_start=True, sequence_end=True,
                                        parameters={"k": "v", "n": 1, "b": True, "f": 0.5}))
        same(answer.as_numpy("score"), mean)
    with check("a version in the path"):
        columns, scores = probes("e02_tree")
        answer = await got(client.infer("elec2", [tensor(n, c) for n, c in columns.items()], model_version="e02_tree"))
        equal(answer.get_response()["model_version"], "e02_tree")
        same(answer.as_numpy("probabilities")[:, 1], scores)
        native = np.concatenate([columns[n] for n in ["period", "nswprice", "nswdemand"]], axis=1)
        answer = await got(client.infer("elec2", [tensor("features", native)], model_version="e02_tree"))
        same(answer.as_numpy("probabilities")[:, 1], scores)
    for how in ["gzip", "deflate"]:
        with check(f"{how} both ways"):
            x, mean = number(64)
            for binary in [True, False]:
                answer = await got(client.infer("mean", [tensor("x", x, binary)], outputs=wanted("score", binary=binary),
                                                request_compression_algorithm=how, response_compression_algorithm=how))
                same(answer.as_numpy("score"), mean)


async def rows(client):
    columns, scores = probes("e01_logreg")
    inputs = [tensor(n, c) for n, c in columns.items()]
    with check("named features"):
        answer = await got(client.infer("elec2", inputs))
        said = answer.get_response()
        equal((said["model_version"], said["parameters"]["version"]), ("e01_logreg", "e01_logreg"))
        same(answer.as_numpy("score"), scores)
        same(answer.as_numpy("label"), (scores >= 0.5).astype(np.int64))
        same(answer.as_numpy("probabilities"), np.stack([1 - scores, scores], axis=1))
    with check("named features in json and in another order"):
        answer = await got(client.infer("elec2", [tensor(n, c, False) for n, c in reversed(columns.items())],
                                        outputs=wanted("score", binary=False)))
        same(answer.as_numpy("score"), scores)
    with check("labels by prediction id"):
        answer = await got(client.infer("elec2", inputs))
        one = answer.get_response()["parameters"]["prediction_id"]
        label(args.http, [f"{one}.{k}" for k in range(len(scores))])
        answer = await got(client.infer("elec2", [tensor(n, c[:1]) for n, c in columns.items()]))
        label(args.http, [answer.get_response()["parameters"]["prediction_id"]])


async def errors(client):
    x, _ = number(2)
    with check("unknown model"):
        error = await refused(lambda: client.infer("nobody", [tensor("x", x)]), "nobody")
        equal(error.status(), "404" if not args.aio else error.status())
    with check("unknown version"):
        await refused(lambda: client.infer("mean", [tensor("x", x)], model_version="nobody"), "nobody")
    with check("wrong shape"):
        await refused(lambda: client.infer("mean", [tensor("x", x.reshape(3, 2))]), "x", "[3, 2]")
    with check("wrong datatype"):
        await refused(lambda: client.infer("mean", [tensor("x", x.astype(np.int64))]), "x", "INT64", "FP32")
    with check("unknown output"):
        await refused(lambda: client.infer("mean", [tensor("x", x)], outputs=wanted("nothing")), "nothing", "score")
    with check("unknown input"):
        await refused(lambda: client.infer("mean", [tensor("y", x)]), "y", "x")
    with check("a missing input"):
        await refused(lambda: client.infer("tokens", [tensor("input_ids", np.ones((1, 3), np.int64))]), "attention_mask")
    with check("half precision has no json form"):
        outputs = wanted("fp16_out", binary=False)
        await refused(lambda: client.infer("echo", [tensor(n, a) for n, a in VALUES.items()], outputs=outputs),
                      "fp16", "binary")
    with check("a wrong request is counted as failed, and the next one answered"):
        x, mean = number(1)
        same((await got(client.infer("mean", [tensor("x", x)]))).as_numpy("score"), mean)


async def statistics(client):
    with check("statistics move"):
        before = (await got(client.get_inference_statistics("mean")))["model_stats"][0]
        equal((before["name"], before["version_name"]), ("mean", "mean"))
        assert before["version"].isdigit(), before
        equal(await got(client.is_model_ready("mean", before["version"])), True)
        equal(sorted(before["inference_stats"]), sorted(DURATIONS))
        x, _ = number(8)
        for _ in range(3):
            await got(client.infer("mean", [tensor("x", x)]))
        after = (await got(client.get_inference_statistics("mean", "mean")))["model_stats"][0]
        equal(after["inference_count"] - before["inference_count"], 24)
        equal(after["execution_count"] - before["execution_count"], 3)
        assert after["last_inference"] >= before["last_inference"] > 1_600_000_000_000, after
        for name in DURATIONS:
            was, now = before["inference_stats"][name], after["inference_stats"][name]
            equal(sorted(now), ["count", "ns"])
            moved = 0 if name in ["fail", "cache_hit", "cache_miss"] else 3
            equal(now["count"] - was["count"], moved, name)
        assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"], after
    with check("statistics of all"):
        said = (await got(client.get_inference_statistics()))["model_stats"]
        assert {"mean", "elec2", "echo"} <= {m["name"] for m in said}, said
        for model in said:
            equal(sorted(model["inference_stats"]), sorted(DURATIONS))


async def repository(client):
    with check("unload and load"):
        await got(client.unload_model("single"))
        for _ in range(500):
            if not await got(client.is_model_ready("single")):
                break
            await asyncio.sleep(0.01)
        equal(await got(client.is_model_ready("single")), False)
        x, mean = number(1)
        await refused(lambda: client.infer("single", [tensor("x", x)]), "single")
        await got(client.load_model("single"))
        for _ in range(500):
            if await got(client.is_model_ready("single")):
                break
            await asyncio.sleep(0.01)
        same((await got(client.infer("single", [tensor("x", x)]))).as_numpy("score"), mean)
    with check("load with overrides is refused"):
        await refused(lambda: client.load_model("mean", config='{"max_batch_size":1}'), "config")
        await refused(lambda: client.load_model("mean", config="{}", files={"file:1/model.onnx": b"abc"}))
        equal(await got(client.is_model_ready("mean")), True)
    with check("load of an unknown model"):
        await refused(lambda: client.load_model("nobody"), "nobody")


async def together(client):
    with check("many at once"):
        want = [number(1 + k % 5) for k in range(64)]
        if args.aio:
            answers = await asyncio.gather(*[client.infer("mean", [tensor("x", x)]) for x, _ in want])
        else:
            answers = [w.get_result() for w in [client.async_infer("mean", [tensor("x", x)]) for x, _ in want]]
        for answer, (_, mean) in zip(answers, want):
            same(answer.as_numpy("score"), mean)


async def main():
    client = triton.InferenceServerClient(args.http) if args.aio else triton.InferenceServerClient(
        args.http, concurrency=8, network_timeout=60.0)
    for part in [health, metadata, values, shapes, envelope, rows, errors, statistics, together, repository]:
        await part(client)
    await got(client.close())


asyncio.run(main())
finish()
