"""PyTorch eager, the plain Hugging Face export and ours, side by side in one run; writes results/latency-….json.

Usage: python benchmarks/latency.py [BACKBONE] [SIZES] [SECONDS_PER_SIZE]        (default: base 384,768 60)
"""

import datetime
import json
import subprocess
import sys
from pathlib import Path

backbone, sizes, seconds = (*sys.argv[1:], *("base", "384,768", "60")[len(sys.argv) - 1 :])
command = [sys.executable, "-m", "dpt_deploy", "bench", "--backbone", backbone, "--res", sizes]
command += ["--runtime", "torch,hf-ort,ort", "--seconds", seconds, "--json"]
result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

environment = result["environment"]
cpu = "-".join(environment["processor"].lower().split())
tools = environment["tools"]
name = f"latency-{backbone}-{cpu}-{environment['cores']}c-torch{tools['torch']}-ort{tools['onnxruntime']}"
target = Path(__file__).parent / "results" / f"{name}-{datetime.datetime.now(datetime.UTC):%Y%m%d}.json"
target.parent.mkdir(exist_ok=True)
target.write_text(json.dumps(result, indent=2) + "\n")
for row in result["rows"]:
    against = row["times_slower_than_ort"]
    ratio = "" if against is None else f"{against[0]:.2f} ({against[1]:.2f} to {against[2]:.2f}) times slower than ours"
    print(f"{row['size']:>9}  {row['contender']:>7}  {row['median_ms']:8.0f} ms  {row['samples']:3} runs  {ratio}")
print(target)
