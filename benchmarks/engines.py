"""Write dpt_deploy/data/engines.json, which `dpt-deploy models NAME` shows, from the recorded results.

Usage: python benchmarks/engines.py        (benchmarks/full_sizes.py calls it)
"""

import json
from pathlib import Path

from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.recipe import zoo_names

RESULTS = Path(__file__).parent / "results"
TARGET, PRECISIONS = RESULTS / "full-sizes.json", RESULTS / "precisions.json"
ENGINES = RESULTS.parents[1] / "dpt_deploy/data/engines.json"


def engines():
    """The engines of the FP32 files of all recorded networks, for `dpt-deploy models`."""
    found = {}
    for row in json.loads(PRECISIONS.read_text())["rows"]:
        if row["asked"] == row["precision"] == "fp32" and row["network"] in zoo_names():
            engine = row["engine"]
            found[row["network"]] = entry(engine["built"], engine["library"], row["size"], engine.get("message", ""))
    document = json.loads(TARGET.read_text())
    library = f"tensorrt_rtx {document['environment']['tools']['tensorrt-rtx']}"
    for row in document["rows"]:
        if engine := row.get("engine"):
            found[row["network"]] = entry(engine["done"], library, engine["size"], engine.get("message", ""))
    return dict(sorted(found.items()))


def entry(built, library, size, message):
    return {"built": built, "library": library, "size": str(size), "message": message}


if __name__ == "__main__":
    atomic_write_bytes(ENGINES, (json.dumps(engines(), indent=2) + "\n").encode())
    print(ENGINES)
