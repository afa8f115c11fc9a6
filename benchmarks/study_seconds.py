"""Time the studies of robustness on the shipped models as their how-tos show them; writes results/study-seconds.json.

Usage: python benchmarks/study_seconds.py FOLDER [STUDY…]     (default: all of STUDIES)

Commands run one after the other. Each writes to a new folder in FOLDER, without anything that an earlier run has left:
networks are exported, scenes rendered and attacked anew. It needs no network. Seconds are those of the clock and of the
processor.
"""

import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from dpt_deploy.core.environment import fingerprint

TARGET = Path(__file__).parent / "results/study-seconds.json"
STUDIES = {
    "attack on labels": "attack --backbone tiny-both --task segmentation --precision fp32,int8-cpu",
    "attack on depth": "attack --backbone tiny --precision fp32,int8-cpu",
    "attack, fewer tokens": "attack --backbone tiny-vit --precision fp32,int8-cpu --tokens 2:16x16,2:30%",
    "sweep, fewer tokens": "sweep --backbone tiny-vit --res 192,320 --precision fp32,int8-cpu --tokens 2:16x16,2:30%",
    "export of both tasks": "export --backbone tiny-both",
    "corruptions": "study --backbone tiny --corruptions noise,fog-3d --severity 1,3,5 --precision fp32,int8-cpu",
    "all corruptions": "study --backbone tiny --corruptions all --precision fp32,int8-cpu --scenes 16",
}


def timed(command, folder):
    """Exit code, seconds of the clock and of the processor, and peak memory of one command in an empty folder."""
    words = [sys.executable, "-m", "dpt_deploy", *command.split(), "-o", folder / "out"]
    begin = time.perf_counter()
    environment = {**os.environ, "DPT_DEPLOY_CACHE": str(folder / "cache")}
    child = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return {
        "exit_code": child.returncode,
        "seconds": round(time.perf_counter() - begin, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def main(target, *names):
    rows = {row["study"]: row for row in json.loads(TARGET.read_text())["rows"]} if TARGET.is_file() else {}
    for name in names or STUDIES:
        folder = Path(target) / name.replace(" ", "-")
        folder.mkdir(parents=True)
        row = {"study": name, "command": STUDIES[name], "load_average_before": os.getloadavg()[0]}
        rows[name] = row | timed(STUDIES[name], folder)
        print(rows[name], flush=True)
        write(rows)


def write(rows):
    document = {
        "kind": "study-seconds",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": fingerprint(),
        "rows": [rows[name] for name in STUDIES if name in rows],
    }
    TARGET.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
