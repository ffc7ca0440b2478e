"""NVIDIA's load generator: that it runs through, and what it reads of the server's own statistics. No time is judged."""
import json
import os
import re
import subprocess
import urllib.request

from checks import arguments, check, finish

args = arguments(program={"required": True}, libraries={"required": True})
# Three short windows, whose times may differ as they like.
ENOUGH = ["-p", "400", "-s", "999", "-r", "10"]
SERVER = re.compile(
    r"Server: *\n\s*Inference count: (\d+)\n\s*Execution count: (\d+)\n\s*Successful request count: (\d+)\n"
    r"\s*Avg request latency: (\d+) usec \(overhead (\d+) usec \+ queue (\d+) usec \+ compute input (\d+) usec \+ "
    r"compute infer (\d+) usec \+ compute output (\d+) usec\)")


def run(protocol, model, *options):
    """The numbers of each `Server` section."""
    address = args.http if protocol == "http" else args.grpc
    command = [args.program, "-m", model, "-u", address, "-i", protocol, "--shared-memory", "none", *ENOUGH, *options]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=180,
                         env={**os.environ, "LD_LIBRARY_PATH": args.libraries})
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, f"ended with {ran.returncode}: {said}"
    assert "Failed" not in said and "error" not in said.lower(), said
    sections = [[int(number) for number in found] for found in SERVER.findall(said)]
    assert sections, said
    for rows, executions, requests, latency, _, _, _, infer, _ in sections:
        # A run counts when it ends, its rows a moment later when they are answered: the look may fall between.
        assert 0 < requests and 0 < executions <= rows + 4 and 0 < infer <= latency, said
    return sections


def number(model, version):
    """The program reads versions as numbers, and the statistics tell them."""
    with urllib.request.urlopen(f"http://{args.http}/v2/models/{model}/versions/{version}/stats", timeout=30) as answer:
        return json.load(answer)["model_stats"][0]["version"]


for protocol in ["http", "grpc"]:
    with check(f"{protocol}, a range of concurrency"):
        assert len(run(protocol, "mean", "--concurrency-range", "1:3:2")) == 2
    with check(f"{protocol}, a range of request rates"):
        assert len(run(protocol, "mean", "--request-rate-range", "100:200:100")) == 2
    with check(f"{protocol}, batches of eight"):
        for rows, _, requests, *_ in run(protocol, "mean", "-b", "8", "--concurrency-range", "2"):
            # Rows and requests are counted one after the other, and the look may fall between for both connections, at
            # the beginning and at the end.
            assert rows % 8 == 0 and abs(rows - 8 * requests) <= 8 * 4, (rows, requests)
    with check(f"{protocol}, named features"):
        run(protocol, "elec2", "-b", "8", "--string-data", "2", "--concurrency-range", "1")
    with check(f"{protocol}, a version and its own tensors"):
        # A challenger answers when nothing else wants the processor: a longer window, for a machine that is busy.
        run(protocol, "elec2", "-x", number("elec2", "e02_tree"), "--concurrency-range", "1", "-p", "3000")
    with check(f"{protocol}, inputs of any length"):
        run(protocol, "tokens", "--shape", "input_ids:16", "--shape", "attention_mask:16", "--concurrency-range", "1")
    with check(f"{protocol}, no batch"):
        run(protocol, "single", "--concurrency-range", "1")

with check("http, json both ways"):
    run("http", "mean", "--input-tensor-format", "json", "--output-tensor-format", "json", "--concurrency-range", "1")
with check("grpc, a stream"):
    run("grpc", "mean", "--streaming", "--concurrency-range", "1")
for how in ["gzip", "deflate"]:
    with check(f"grpc, {how}"):
        run("grpc", "mean", "--grpc-compression-algorithm", how, "--concurrency-range", "1")

finish()
