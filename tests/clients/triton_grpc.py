"""NVIDIA's gRPC client, synchronous or (`--aio`) asynchronous."""
import asyncio
import queue

import numpy as np

from checks import (DURATIONS, EXTENSIONS, VALUES, arguments, check, equal, finish, got, has, label, probes, refused,
                    same)

args = arguments(aio={"action": "store_true"})
if args.aio:
    import tritonclient.grpc.aio as triton
else:
    import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype  # noqa: E402


def tensor(name, array):
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def wanted(*names):
    return [triton.InferRequestedOutput(name) for name in names]


def number(rows):
    """`[rows, 3]`, and the mean of each row."""
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3) / 7
    return x, x.mean(axis=1, keepdims=True)


async def status(call, code, *pieces):
    """Refused with this status."""
    error = await refused(call, *pieces)
    assert isinstance(error, InferenceServerException), error
    equal(error.status(), f"StatusCode.{code}", error.message())


async def health(client):
    with check("live"):
        equal(await got(client.is_server_live()), True)
    with check("ready"):
        equal(await got(client.is_server_ready()), True)
    with check("model ready"):
        equal(await got(client.is_model_ready("mean")), True)
        equal(await got(client.is_model_ready("elec2", "e01_logreg")), True)


async def metadata(client):
    with check("server metadata"):
        said = await got(client.get_server_metadata())
        equal(said.name, "dethrone")
        assert said.version and EXTENSIONS - {"binary_tensor_data"} <= set(said.extensions), said
    with check("model metadata"):
        said = await got(client.get_model_metadata("mean"))
        equal((said.name, list(said.versions), said.platform), ("mean", ["mean"], "onnxruntime_onnx"))
        equal([(i.name, i.datatype, list(i.shape)) for i in said.inputs], [("x", "FP32", [-1, 3])])
        equal([(o.name, o.datatype, list(o.shape)) for o in said.outputs], [("score", "FP32", [-1, 1])])
    with check("metadata of named features"):
        said = await got(client.get_model_metadata("elec2", as_json=True))
        columns, _ = probes("e01_logreg")
        equal([i["name"] for i in said["inputs"]], list(columns))
        equal([(o["name"], o["datatype"]) for o in said["outputs"]],
              [("score", "FP32"), ("label", "INT64"), ("probabilities", "FP32")])
    with check("metadata of a version is its own"):
        said = await got(client.get_model_metadata("elec2", "e02_tree"))
        equal([(i.name, list(i.shape)) for i in said.inputs], [("features", [-1, 3])])
    with check("model config"):
        said = (await got(client.get_model_config("mean"))).config
        equal((said.name, said.platform), ("mean", "onnxruntime_onnx"))
        assert said.max_batch_size >= 64, said
        equal([(i.name, i.data_type, list(i.dims)) for i in said.input], [("x", 11, [3])])
        equal([(o.name, o.data_type, list(o.dims)) for o in said.output], [("score", 11, [1])])
    with check("config without a batch"):
        said = (await got(client.get_model_config("scalar"))).config
        equal((said.max_batch_size, [list(i.dims) for i in said.input]), (0, [[3], []]))
    with check("repository index"):
        index = {m.name: m for m in (await got(client.get_model_repository_index())).models}
        equal(index["mean"].state, "READY")
        assert {"elec2", "echo", "mean", "single"} <= set(index), index
    with check("unknown model in metadata, config and statistics"):
        for call in [client.get_model_metadata, client.get_model_config, client.get_inference_statistics]:
            await status(lambda call=call: call("nobody"), "NOT_FOUND", "nobody")
    with check("what is not there is said to be unimplemented"):
        for call in [client.get_trace_settings, client.get_system_shared_memory_status, client.get_log_settings,
                     client.get_cuda_shared_memory_status]:
            await status(call, "UNIMPLEMENTED")


async def values(client):
    with check("an answer is raw"):
        x, mean = number(2)
        answer = await got(client.infer("mean", [tensor("x", x)]))
        same(answer.as_numpy("score"), mean)
        equal((answer.get_response().model_name, len(answer.get_response().raw_output_contents)), ("mean", 1))
    with check("batch of 64"):
        x, mean = number(64)
        same((await got(client.infer("mean", [tensor("x", x)]))).as_numpy("score"), mean)
    with check("all thirteen datatypes"):
        answer = await got(client.infer("echo", [tensor(n, a) for n, a in VALUES.items()]))
        for name, array in VALUES.items():
            same(answer.as_numpy(f"{name}_out"), array, name)
            equal(answer.get_output(f"{name}_out").datatype, np_to_triton_dtype(array.dtype))
    with check("empty tensors"):
        for shape in [(2, 0), (0, 2)]:
            answer = await got(client.infer("echo", [tensor(n, a[:shape[0], :shape[1]]) for n, a in VALUES.items()]))
            for name, array in VALUES.items():
                same(answer.as_numpy(f"{name}_out"), array[:shape[0], :shape[1]], name)
    with check("not a number and infinity"):
        x = np.array([[np.nan, np.inf, -np.inf], [0, 1, 2]], np.float32)
        answer = await got(client.infer("tree", [tensor("input", x)]))
        same(answer.as_numpy("probabilities").sum(axis=1), np.ones(2, np.float32))
    with check("text"):
        text = VALUES["bytes"]
        same((await got(client.infer("words", [tensor("text", text)]))).as_numpy("same"), text)
    with check("more than four mebibytes"):
        x, mean = number(500_000)
        await refused(lambda: client.infer("mean", [tensor("x", x)]), "rows")
        ids = np.ones((2, 400_000), np.int64)
        answer = await got(client.infer("tokens", [tensor("attention_mask", ids), tensor("input_ids", ids)]))
        same(answer.as_numpy("sum"), np.array([400_000, 400_000]))


async def shapes(client):
    with check("pictures"):
        pixels = np.random.default_rng(1).random((5, 3, 4, 4), np.float32)
        same((await got(client.infer("image", [tensor("pixels", pixels)]))).as_numpy("means"), pixels.mean(axis=(2, 3)))
    with check("pictures of any size"):
        pixels = np.ones((2, 1, 40, 17), np.float32)
        same((await got(client.infer("photo", [tensor("pixels", pixels)]))).as_numpy("mean"),
             np.ones((2, 1, 1, 1), np.float32))
    with check("several inputs of any length"):
        for rows, length in [(1, 7), (3, 1), (2, 300)]:
            ids = np.arange(rows * length, dtype=np.int64).reshape(rows, length)
            mask = (ids % 3 != 0).astype(np.int64)
            answer = await got(client.infer("tokens", [tensor("attention_mask", mask), tensor("input_ids", ids)]))
            same(answer.as_numpy("sum"), (ids * mask).sum(axis=1))
    with check("a scalar"):
        x, factor = np.array([1, 2, 3], np.float32), np.array(2, np.float32)
        answer = await got(client.infer("scalar", [tensor("x", x), tensor("factor", factor)]))
        same(answer.as_numpy("scaled"), x * 2)
        same(answer.as_numpy("sum"), np.float32(6))
    with check("each with each"):
        a, b = np.ones((2, 2), np.float32), np.arange(10, dtype=np.float32).reshape(5, 2)
        same((await got(client.infer("cross", [tensor("a", a), tensor("b", b)]))).as_numpy("products"), a @ b.T)


async def envelope(client):
    x, mean = number(1)
    with check("id"):
        answer = await got(client.infer("mean", [tensor("x", x)], request_id="rid-1 ž"))
        equal(answer.get_response().id, "rid-1 ž")
    with check("only the outputs that were asked for"):
        answer = await got(client.infer("tree", [tensor("input", x)], outputs=wanted("probabilities")))
        equal([o.name for o in answer.get_response().outputs], ["probabilities"])
    with check("parameters are taken or ignored"):
        answer = await got(client.infer("mean", [tensor("x", x)], priority=1, timeout=5_000_000, sequence_id=3,
                                        sequence_start=True, sequence_end=True,
                                        parameters={"k": "v", "n": 1, "b": True}))
        same(answer.as_numpy("score"), mean)
    with check("a version"):
        columns, scores = probes("e02_tree")
        answer = await got(client.infer("elec2", [tensor(n, c) for n, c in columns.items()], model_version="e02_tree"))
        equal(answer.get_response().model_version, "e02_tree")
        same(answer.as_numpy("probabilities")[:, 1], scores)
        native = np.concatenate([columns[n] for n in ["period", "nswprice", "nswdemand"]], axis=1)
        answer = await got(client.infer("elec2", [tensor("features", native)], model_version="e02_tree"))
        same(answer.as_numpy("probabilities")[:, 1], scores)
    for how in ["gzip", "deflate"]:
        with check(f"{how} both ways"):
            many, means = number(64)
            answer = await got(client.infer("mean", [tensor("x", many)], compression_algorithm=how))
            same(answer.as_numpy("score"), means)


async def rows(client):
    columns, scores = probes("e01_logreg")
    inputs = [tensor(n, c) for n, c in columns.items()]
    with check("named features"):
        answer = await got(client.infer("elec2", inputs))
        said = answer.get_response()
        equal((said.model_version, said.parameters["version"].string_param), ("e01_logreg", "e01_logreg"))
        same(answer.as_numpy("score"), scores)
        same(answer.as_numpy("label"), (scores >= 0.5).astype(np.int64))
        same(answer.as_numpy("probabilities"), np.stack([1 - scores, scores], axis=1))
    with check("labels by prediction id"):
        answer = await got(client.infer("elec2", inputs))
        one = answer.get_response().parameters["prediction_id"].string_param
        label(args.http, [f"{one}.{k}" for k in range(len(scores))])


async def errors(client):
    x, mean = number(2)
    infer = client.infer
    with check("unknown model"):
        await status(lambda: infer("nobody", [tensor("x", x)]), "NOT_FOUND", "nobody")
    with check("unknown version"):
        await status(lambda: infer("mean", [tensor("x", x)], model_version="nobody"), "NOT_FOUND", "nobody")
    with check("wrong shape"):
        await status(lambda: infer("mean", [tensor("x", x.reshape(3, 2))]), "INVALID_ARGUMENT", "x", "[3, 2]")
    with check("wrong datatype"):
        await status(lambda: infer("mean", [tensor("x", x.astype(np.int64))]), "INVALID_ARGUMENT", "INT64", "FP32")
    with check("unknown output"):
        await status(lambda: infer("mean", [tensor("x", x)], outputs=wanted("nothing")), "INVALID_ARGUMENT", "nothing")
    with check("unknown input"):
        await status(lambda: infer("mean", [tensor("y", x)]), "INVALID_ARGUMENT", "y")
    with check("a missing input"):
        await status(lambda: infer("tokens", [tensor("input_ids", np.ones((1, 3), np.int64))]), "INVALID_ARGUMENT",
                     "attention_mask")
    with check("the next one is answered"):
        same((await got(infer("mean", [tensor("x", x)]))).as_numpy("score"), mean)
    with check("a deadline in the client's hands"):
        same((await got(infer("mean", [tensor("x", x)], client_timeout=30.0))).as_numpy("score"), mean)


async def statistics(client):
    with check("statistics move"):
        before = (await got(client.get_inference_statistics("mean"))).model_stats[0]
        equal(before.name, "mean")
        assert before.version.isdigit(), before
        x, _ = number(8)
        for _ in range(3):
            await got(client.infer("mean", [tensor("x", x)]))
        after = (await got(client.get_inference_statistics("mean", "mean"))).model_stats[0]
        equal(after.inference_count - before.inference_count, 24)
        equal(after.execution_count - before.execution_count, 3)
        for name in DURATIONS:
            assert after.inference_stats.HasField(name), name
            was, now = getattr(before.inference_stats, name), getattr(after.inference_stats, name)
            moved = 0 if name in ["fail", "cache_hit", "cache_miss"] else 3
            equal(now.count - was.count, moved, name)
        assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns, after
    with check("statistics of all"):
        said = (await got(client.get_inference_statistics())).model_stats
        assert {"mean", "elec2", "echo"} <= {m.name for m in said}, said


async def repository(client):
    x, mean = number(1)
    with check("unload and load"):
        await got(client.unload_model("single"))
        for _ in range(500):
            if not await got(client.is_model_ready("single")):
                break
            await asyncio.sleep(0.01)
        equal(await got(client.is_model_ready("single")), False)
        await refused(lambda: client.infer("single", [tensor("x", x)]), "single")
        await got(client.load_model("single"))
        for _ in range(500):
            if await got(client.is_model_ready("single")):
                break
            await asyncio.sleep(0.01)
        same((await got(client.infer("single", [tensor("x", x)]))).as_numpy("score"), mean)
    with check("load with overrides is refused"):
        await status(lambda: client.load_model("mean", config='{"max_batch_size":1}'), "INVALID_ARGUMENT", "config")
        equal(await got(client.is_model_ready("mean")), True)


async def stream(client):
    want = [number(1 + k % 5) for k in range(16)]
    with check("a stream"):
        if args.aio:
            async def requests():
                for k, (x, _) in enumerate(want):
                    yield {"model_name": "mean", "inputs": [tensor("x", x)], "request_id": str(k)}
            answers = [pair async for pair in client.stream_infer(requests())]
        else:
            arrived = queue.Queue()
            client.start_stream(callback=lambda result, error: arrived.put((result, error)))
            for k, (x, _) in enumerate(want):
                client.async_stream_infer("mean", [tensor("x", x)], request_id=str(k))
            answers = [arrived.get(timeout=60) for _ in want]
            client.stop_stream()
        equal([error for _, error in answers], [None] * len(want))
        by_id = {result.get_response().id: result for result, _ in answers}
        for k, (_, mean) in enumerate(want):
            same(by_id[str(k)].as_numpy("score"), mean)
    with check("a stream goes on after a wrong request"):
        x, mean = number(1)
        if args.aio:
            async def requests():
                yield {"model_name": "nobody", "inputs": [tensor("x", x)]}
                yield {"model_name": "mean", "inputs": [tensor("x", x)]}
            answers = [pair async for pair in client.stream_infer(requests())]
        else:
            arrived = queue.Queue()
            client.start_stream(callback=lambda result, error: arrived.put((result, error)))
            client.async_stream_infer("nobody", [tensor("x", x)])
            client.async_stream_infer("mean", [tensor("x", x)])
            answers = [arrived.get(timeout=60) for _ in range(2)]
            client.stop_stream()
        has(answers[0][1], "nobody")
        same(answers[1][0].as_numpy("score"), mean)


async def together(client):
    with check("many at once"):
        want = [number(1 + k % 5) for k in range(64)]
        if args.aio:
            answers = await asyncio.gather(*[client.infer("mean", [tensor("x", x)]) for x, _ in want])
        else:
            arrived = [queue.Queue() for _ in want]
            for (x, _), place in zip(want, arrived):
                client.async_infer("mean", [tensor("x", x)],
                                   lambda result, error, place=place: place.put((result, error)))
            answers = []
            for place in arrived:
                result, error = place.get(timeout=60)
                equal(error, None)
                answers.append(result)
        for answer, (_, mean) in zip(answers, want):
            same(answer.as_numpy("score"), mean)


async def main():
    client = triton.InferenceServerClient(args.grpc)
    for part in [health, metadata, values, shapes, envelope, rows, errors, statistics, together, stream, repository]:
        await part(client)
    await got(client.close())


asyncio.run(main())
finish()
