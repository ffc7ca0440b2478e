"""`mlserver infer`, the command line of MLServer, on a file of requests: rows in, the same rows out."""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import arguments, check, equal, finish

args = arguments()
PROGRAM = next(str(p) for p in (Path(d) / "bin/mlserver" for d in os.environ["PYTHONPATH"].split(os.pathsep)) if p.exists())
ROWS = [[[k, k + 1.5, 3.0]] for k in range(20)]


def infer(model, requests, *options):
    """Sends a file of requests; gives the answers by their place in it, and what the program said."""
    with tempfile.TemporaryDirectory() as directory:
        sent, received = Path(directory, "in.jsonl"), Path(directory, "out.jsonl")
        sent.write_text("".join(json.dumps(request) + "\n" for request in requests))
        command = [sys.executable, "-S", PROGRAM, "infer", "-u", args.http, "-m", model, "-i", sent, "-o", received]
        ran = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        lines = [json.loads(line) for line in received.read_text().splitlines()]
        return {line["parameters"]["batch_index"]: line for line in lines}, ran.stdout + ran.stderr


def request(row, **more):
    return {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": row}], **more}


for name, options in [("json", []), ("binary", ["-b"]), ("batches", ["-s", "7"]), ("batches in binary", ["-s", "7", "-b"])]:
    with check(name):
        answers, said = infer("mean", [request(row, id=f"row-{k}") for k, row in enumerate(ROWS)], *options)
        equal(len(answers), len(ROWS), said)
        for k, row in enumerate(ROWS):
            equal(answers[k]["id"], f"row-{k}")
            [output] = answers[k]["outputs"]
            equal((output["name"], output["shape"], output["datatype"]), ("score", [1, 1], "FP32"))
            assert abs(output["data"][0] - sum(row[0]) / 3) < 1e-5, output
    with check(f"no ids of its own, {name}"):
        answers, said = infer("mean", [request(row) for row in ROWS[:3]], *options)
        equal(len(answers), 3, said)

with check("text"):
    texts = [["a", "žluť"], ["", "\"q\""]]
    sent = [{"inputs": [{"name": "text", "shape": [1, 2], "datatype": "BYTES", "data": t}]} for t in texts]
    answers, said = infer("words", sent)
    equal([answers[k]["outputs"][0]["data"] for k in range(2)], texts, said)

with check("an error is told in the line's place"):
    wrong = {"inputs": [{"name": "nothing", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    answers, said = infer("mean", [request(ROWS[0]), wrong], "-r", "1")
    assert "outputs" in answers[0] and "nothing" in answers[1]["error"]["msg"], (answers, said)

finish()
