"""KServe's gRPC client, with typed contents and with raw ones."""
import asyncio

import numpy as np

from checks import VALUES, arguments, check, equal, finish, label, probes, refused, same

args = arguments()
from kserve import InferenceGRPCClient, InferInput, InferRequest  # noqa: E402

X = np.arange(192, dtype=np.float32).reshape(64, 3) / 7


def tensor(name, kind, array, binary):
    made = InferInput(name, list(array.shape), kind)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


async def main():
    client = InferenceGRPCClient(args.grpc, retries=0, timeout=60)
    with check("live, ready, model ready"):
        equal(await client.is_server_live(), True)
        equal(await client.is_server_ready(), True)
        equal(await client.is_model_ready("mean"), True)
    for binary in [False, True]:
        how = "raw" if binary else "typed"
        with check(f"infer, {how}"):
            answer = await client.infer(InferRequest("mean", [tensor("x", "FP32", X, binary)], request_id="kserve-1"))
            equal((answer.id, answer.model_name, answer.model_version), ("kserve-1", "mean", "mean"))
            same(answer.outputs[0].as_numpy(), X.mean(axis=1, keepdims=True))
        with check(f"a version, {how}"):
            ask = InferRequest("mean", [tensor("x", "FP32", X, binary)], model_version="mean")
            equal((await client.infer(ask)).model_version, "mean")
        with check(f"text, {how}"):
            text = VALUES["bytes"]
            answer = await client.infer(InferRequest("words", [tensor("text", "BYTES", text, binary)]))
            same(answer.outputs[0].as_numpy(), text)
        with check(f"named features, {how}"):
            columns, scores = probes("e01_logreg")
            inputs = [tensor(n, "BYTES" if n == "day" else "FP32", c, binary) for n, c in columns.items()]
            answer = await client.infer(InferRequest("elec2", inputs))
            by_name = {output.name: output for output in answer.outputs}
            same(by_name["score"].as_numpy(), scores)
            one = answer.parameters["prediction_id"].string_param
            label(args.http, [f"{one}.{k}" for k in range(len(scores))])
    with check("all datatypes, raw"):
        inputs = [tensor(n, n.upper(), a, True) for n, a in VALUES.items()]
        answer = await client.infer(InferRequest("echo", inputs))
        for output in answer.outputs:
            same(output.as_numpy(), VALUES[output.name.removesuffix("_out")], output.name)
        equal(len(answer.outputs), len(VALUES))
    with check("errors are read"):
        await refused(lambda: client.infer(InferRequest("nobody", [tensor("x", "FP32", X, False)])), "nobody", "NOT_FOUND")
        await refused(lambda: client.infer(InferRequest("mean", [tensor("y", "FP32", X, False)])), "INVALID_ARGUMENT")
    await client.close()


asyncio.run(main())
finish()
