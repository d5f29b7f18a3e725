"""Stands in for `benchmarks.campaign.train`: what a job does is said by its keywords."""

import json
import os
import pathlib
import sys
import time

from benchmarks.campaign.jobs import Job

job, work = json.loads(sys.argv[1]), pathlib.Path(sys.argv[sys.argv.index("--work") + 1])
parent = int(sys.argv[sys.argv.index("--parent") + 1])
key, does = Job(**job).key, json.loads(job["keywords"])
calls = work / "calls" / key
calls.parent.mkdir(parents=True, exist_ok=True)
with calls.open("a") as stream:
    stream.write("called\n")
if does.get("fails", 0) >= len(calls.read_text().splitlines()):
    sys.exit("it went wrong")
if "bad" in does:
    print("no such thing", file=sys.stderr)
    sys.exit(2)
(work / "running").mkdir(exist_ok=True)
(work / "running" / f"{key}.json").write_text(
    json.dumps({"epoch": 1, "epochs": 4, "done": 0.25, "seconds_left": 7200.0, "pid": os.getpid()})
)
until = time.monotonic() + does.get("sleeps", 0)
while time.monotonic() < until and os.getppid() == parent:
    time.sleep(0.02)
if time.monotonic() < until:
    sys.exit("the campaign has ended")
row = job | {"target": job["targets"], "unit": "K", "task": "regression", "epochs_run": 4, "parameters": 10, "train_rows": 100}
row |= {"validation_MAE": "1.5", "seconds": 36.0, "hardware": "here"}
(work / "finished" / key).mkdir(parents=True)
(work / "finished" / key / "rows.json").write_text(json.dumps([row]))
(work / "running" / f"{key}.json").unlink()
