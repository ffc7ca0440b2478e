"""What people write today: `serve.py fastapi|asgi MODELS_DIR`, on a free port, which is printed.

Both parse the bodies of the benchmark and answer with the scores. `fastapi` is the tutorial's way: a typed body, one
plain function, the thread pool. `asgi` is the tuned one: no framework, orjson where it is there, the run in place.
One process each, as in front of one core; uvloop and httptools are used where they are installed.
"""

import json
import os
import socket
import sys

import numpy
import onnxruntime
import uvicorn

try:
    from orjson import dumps, loads
except ImportError:
    loads = json.loads

    def dumps(value):
        return json.dumps(value).encode()


FEATURES = [f"feature_{k:02}" for k in range(30)]


def sessions(models):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return {
        name: onnxruntime.InferenceSession(os.path.join(models, name, "v1.onnx"), options)
        for name in os.listdir(models)
    }


def scores(session, instances):
    if isinstance(instances[0], dict):
        instances = [[row[name] for name in FEATURES] for row in instances]
    rows = numpy.asarray(instances, dtype=numpy.float32)
    return session.run(["probabilities"], {"x": rows})[0][:, 1].tolist()


def asgi(loaded):
    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        session = loaded[scope["path"].split("/")[2]]
        found = scores(session, loads(body)["instances"])
        reply = dumps({"predictions": [{"score": score} for score in found]})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(reply)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    return app


def fastapi(loaded):
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Body(BaseModel):
        instances: list[list[float] | dict[str, float]]

    app = FastAPI()

    @app.post("/models/{model}/predict")
    def predict(model: str, body: Body):
        return {"predictions": [{"score": score} for score in scores(loaded[model], body.instances)]}

    return app


def main():
    kind, models = sys.argv[1:3]
    app = {"asgi": asgi, "fastapi": fastapi}[kind](sessions(models))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    address = "%s:%d" % listener.getsockname()
    print(json.dumps({"listener": "data", "address": address}), flush=True)
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


main()
