"""The whole loop on the shipped stream: decay, export, retraining in Python, a file, shadow, promotion by evidence.

    python3 models/elec2/retrain/loop.py          or    dethrone demo --retrain

Starts a gateway with the first champion, sends it the stream, and stands by: the gateway notices the decay by itself,
exports what it has recorded, and runs train.py in a virtual environment that is made here (pip, pinned versions). While a
model is trained the stream stands still, for it is replayed much faster than it happened. Ends with 0 when a model that the
loop has made is champion, and with 1 when the stream ends before that.
"""

import argparse
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ELEC2 = HERE.parent
ROOT = ELEC2.parent.parent
LABEL_DELAY = 48
BATCH = 24
SERVE_FROM = 4_032
MONITOR = """
[monitor]
baseline_rows = 2016
window = "672 rows"              # two weeks
cycle = "48 rows"
decay = 0.03

[retrain]
when = { decay = true }
cooldown = "1344 rows"           # four weeks
max_labels = 8000
timeout = "10m"
"""


def say(row, text):
    print(f"row {row:>6}  {text}", flush=True)


def fail(text):
    print(f"the loop has not closed: {text}", file=sys.stderr, flush=True)
    sys.exit(1)


class Api:
    def __init__(self, address):
        self.base = f"http://{address}"

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def until(says, what, seconds=600):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    fail(f"{says} has not come in {seconds} seconds")


def environment(directory):
    python = directory / "bin" / "python"
    wanted = (HERE / "requirements.txt").read_text()
    stamp = directory / "requirements.txt"
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"making a virtual environment in {directory}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", HERE / "requirements.txt"]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted)
    return python


def rows():
    with open(ELEC2 / "stream" / "stream.csv", newline="") as file:
        for at, row in enumerate(csv.DictReader(file)):
            if at < SERVE_FROM:
                continue
            label = int(row.pop("label"))
            row.pop("date")
            yield {name: value if name == "day" else float(value) for name, value in row.items()}, label


def start(program, work, python):
    model = work / "models" / "elec2"
    model.mkdir(parents=True)
    shutil.copy(ELEC2 / "e01_logreg.onnx", model)
    command = json.dumps([str(python), str(HERE / "train.py")])
    (model / "model.toml").write_text((ELEC2 / "model.toml").read_text() + MONITOR + f"command = {command}\n")
    arguments = ["serve", "--models", work / "models", "--state", work / "state", "--retrain-commands", "true",
                 "--settle-ms", "100", "--poll", "200ms", "--recorder-percent", "100"]
    for listener in ["--listen", "--grpc-listen", "--admin-listen"]:
        arguments += [listener, "127.0.0.1:0"]
    log = open(work / "gateway.log", "w")
    gateway = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, stderr=log, cwd=work, text=True)
    addresses = {}
    for line in gateway.stdout:
        told = json.loads(line)
        addresses[told["listener"]] = told["address"]
        if {"data", "admin"} <= addresses.keys():
            break
    else:
        fail(f"the gateway did not start: see {work / 'gateway.log'}")
    return gateway, Api(addresses["data"]), Api(addresses["admin"])


class Loop:
    def __init__(self, data, admin):
        self.data, self.admin = data, admin
        self.row = 0
        self.seen = 0
        self.made = set()
        self.champion = "e01_logreg"

    def send(self, batch):
        """Answers of a batch: their ids, in order."""
        answer = self.data.ask("/predict", {"model": "elec2", "instances": [row for row, _ in batch]})
        self.row += len(batch)
        return [(p["id"], label) for p, (_, label) in zip(answer["predictions"], batch)]

    def label(self, due):
        labels = [{"id": id, "label": label} for id, label in due]
        told = self.data.ask("/feedback", {"model": "elec2", "labels": labels})
        if told["accepted"] != len(labels):
            fail(f"labels were not accepted: {told}")

    def look(self):
        """Retrainings that are new, and a change of champion; true when the loop has closed."""
        told = self.admin.ask("/api/models/elec2/retrainings")["retrainings"]
        for one in sorted(told, key=lambda one: one["n"]):
            if one["n"] > self.seen:
                self.seen = one["n"]
                self.retraining(one)
        champion = self.admin.ask("/api/models/elec2")["champion"]["version"]
        if champion == self.champion:
            return False
        decision = [d for d in self.admin.ask("/api/models/elec2/decisions")["decisions"] if d["to"] == champion][-1]
        say(self.row, f"{decision['kind']} by the {decision['author']}: {decision['from']} -> {champion}: {decision['why']}")
        self.champion = champion
        return champion in self.made

    def retraining(self, one):
        say(self.row, f"time to retrain (retraining {one['n']}, noticed at row {one['row']}): {one['reason']}")

        def ended():
            told = self.admin.ask("/api/models/elec2/retrainings")["retrainings"]
            return next(o for o in told if o["n"] == one["n"] and o["ended"]) if any(
                o["n"] == one["n"] and o["ended"] for o in told) else None

        done = until("the end of the retraining", ended)
        say(self.row, f"exported {done['rows']} labelled rows to {done['path']}")
        said = pathlib.Path(done["log"]).read_text().strip() if done["log"] else ""
        if done["state"] != "succeeded":
            fail(f"{done['state']}: {done['outcome']}\n{said}")
        for line in said.splitlines():
            say(self.row, f"train.py: {line}")
        version = f"retrained_{one['n']:03d}"

        def taken():
            versions = self.admin.ask("/api/models/elec2")["versions"]
            return next((v for v in versions if v["version"] == version and v["role"] != "candidate"), None)

        found = until(f"{version} in the directory", taken)
        if found["role"] != "challenger":
            fail(f"{version} is {found['role']}: {found['reason']}")
        self.made.add(version)
        say(self.row, f"{version} is shadowed; its parent is {found['lineage']['parent']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built = [ROOT / "target" / kind / "dethrone" for kind in ("release", "debug")]
    parser.add_argument("--dethrone", type=pathlib.Path, help="the program (default: the one that was built here)")
    parser.add_argument("--dir", type=pathlib.Path, help="work here, in a new or empty directory")
    parser.add_argument("--venv", type=pathlib.Path, help="the virtual environment, made if it is not there")
    parser.add_argument("--rows", type=int, default=41_280, help="send at most so many rows")
    args = parser.parse_args()
    program = args.dethrone or next((path for path in built if path.exists()), None)
    if program is None:
        fail("there is no program: cargo build --release, or say --dethrone FILE")
    work = (args.dir or pathlib.Path(tempfile.mkdtemp(prefix="dethrone-loop-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    python = environment((args.venv or work / "venv").resolve())
    gateway, data, admin = start(program.resolve(), work, python)
    try:
        def is_ready():
            try:
                return data.ask("/v2/health/ready")
            except (urllib.error.URLError, OSError):
                return None

        until("readiness", is_ready, 60)
        loop = Loop(data, admin)
        say(0, f"e01_logreg answers; the gateway works in {work}")
        waiting, batch = [], []
        for pair in rows():
            batch.append(pair)
            if len(batch) < BATCH:
                continue
            waiting += loop.send(batch)
            batch = []
            due, waiting = waiting[:-LABEL_DELAY], waiting[-LABEL_DELAY:]
            if due:
                loop.label(due)
            if loop.look():
                say(loop.row, "the loop has closed")
                return
            if loop.row >= args.rows:
                break
        fail(f"no model that was retrained has won in {loop.row} rows")
    finally:
        gateway.terminate()
        gateway.wait(30)


if __name__ == "__main__":
    main()
