"""KServe's REST client, protocol v2."""
import asyncio
import uuid

import numpy as np

from checks import VALUES, arguments, check, equal, finish, label, probes, refused, same

args = arguments()
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: E402
from kserve.protocol.infer_type import RequestedOutput  # noqa: E402

URL = f"http://{args.http}"
KINDS = {"bool": "BOOL", "bytes": "BYTES"}


def tensor(name, array, binary):
    made = InferInput(name, list(array.shape), KINDS.get(name, name.upper()))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def named(name, kind, array, binary):
    made = InferInput(name, list(array.shape), kind)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


X = np.arange(192, dtype=np.float32).reshape(64, 3) / 7


async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=60))
    with check("live, ready, model ready"):
        equal(await client.is_server_live(URL), True)
        equal(await client.is_server_ready(URL), True)
        equal(await client.is_model_ready(URL, "mean"), True)
        equal(await client.is_model_ready(URL, "nobody"), False)
    for binary in [False, True]:
        how = "binary" if binary else "json"
        with check(f"infer, {how}"):
            ask = InferRequest("mean", [named("x", "FP32", X, binary)], request_id="kserve-1")
            answer = await client.infer(URL, ask, model_name="mean")
            # This client reads no version but the one among the parameters.
            equal((answer.id, answer.model_name, answer.parameters["version"]), ("kserve-1", "mean", "mean"))
            same(answer.outputs[0].as_numpy(), X.mean(axis=1, keepdims=True))
            assert answer.parameters["prediction_id"], answer
        with check(f"an id of its own comes back, {how}"):
            # Which it makes while it writes the request, and keeps to itself.
            ask = InferRequest("mean", [named("x", "FP32", X, binary)])
            uuid.UUID((await client.infer(URL, ask, model_name="mean")).id)
        with check(f"binary answer wanted, {how} sent"):
            ask = InferRequest("mean", [named("x", "FP32", X, binary)],
                               request_outputs=[RequestedOutput("score", {"binary_data": True})])
            answer = await client.infer(URL, ask, model_name="mean")
            same(answer.outputs[0].as_numpy(), X.mean(axis=1, keepdims=True))
        with check(f"all datatypes, {how}"):
            inputs = [tensor(n, a, binary or n == "fp16") for n, a in VALUES.items()]
            outputs = [RequestedOutput(f"{n}_out", {"binary_data": binary or n == "fp16"}) for n in VALUES]
            answer = await client.infer(URL, InferRequest("echo", inputs, request_outputs=outputs), model_name="echo")
            by_name = {output.name: output for output in answer.outputs}
            for name, array in VALUES.items():
                same(by_name[f"{name}_out"].as_numpy(), array, name)
        with check(f"named features, {how}"):
            columns, scores = probes("e01_logreg")
            inputs = [named(n, "BYTES" if n == "day" else "FP32", c, binary) for n, c in columns.items()]
            answer = await client.infer(URL, InferRequest("elec2", inputs), model_name="elec2")
            by_name = {output.name: output for output in answer.outputs}
            same(by_name["score"].as_numpy(), scores)
            label(args.http, [f"{answer.parameters['prediction_id']}.{k}" for k in range(len(scores))])
    with check("a plain dict"):
        body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [[1, 2, 3]]}]}
        same((await client.infer(URL, body, model_name="mean")).outputs[0].as_numpy(), np.array([[2]], np.float32))
    with check("errors are read"):
        ask = InferRequest("nobody", [named("x", "FP32", X, False)])
        await refused(lambda: client.infer(URL, ask, model_name="nobody"), "nobody", "404")
        wrong = InferRequest("mean", [named("y", "FP32", X, True)])
        await refused(lambda: client.infer(URL, wrong, model_name="mean"), "y", "400")
    await client.close()


asyncio.run(main())
finish()
