"""Fetch every published checkpoint, check it from end to end, and write one results file.

Usage: python tools/online_kit/check_published.py [--photograph 000000039769.jpg] [--only NAME,…] [-o RESULT.json]

It needs the network, about 12 GB of disk and hours on a small machine. The results file is written after every step. A
second run with the same file goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from checks import STEPS, Task

from dpt_deploy.core.environment import fingerprint, tool_versions
from dpt_deploy.core.errors import DptError
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model.checkpoints.published import published

RESULT = Path("benchmarks/results/published-weights.json")


def main(argv: Sequence[str] | None = None) -> int:
    """Run every step that has no result yet; return 1 if a step failed."""
    options = _options(argv)
    results = _former(options.output)
    results |= {"kind": "published-weights", "machine": fingerprint(), "tools": tool_versions()}
    for entry in published():
        if options.only and entry.file not in options.only:
            continue
        found = results.setdefault("files", {}).setdefault(entry.file, {})
        with tempfile.TemporaryDirectory() as folder:
            _run(Task(entry, load_recipe(entry.recipe, task=entry.task), Path(folder), options.photograph), found)
        atomic_write_bytes(options.output, json.dumps(results, indent=1).encode() + b"\n")
    failed = [
        name for name, found in results.get("files", {}).items() if any("error" in step for step in found.values())
    ]
    print(f"{options.output}: {len(results.get('files', {}))} files, {len(failed)} with a failed step {failed or ''}")
    return 1 if failed else 0


def _run(task: Task, found: dict[str, Any]) -> None:
    """Run the steps of one file that have not succeeded before; a failed step ends them."""
    if not task.entry.address:
        found["fetch"] = {"skipped": "its authors link a web drive: no program can fetch it"}
        return
    for name, step in STEPS.items():
        if name in found and "error" not in found[name] and name != "export":
            continue
        print(f"{task.entry.file}: {name}", flush=True)
        try:
            found[name] = step(task)
        except LookupError as exc:
            found[name] = {"skipped": str(exc)}
        except (DptError, ValueError) as exc:
            found[name] = {"error": str(exc)}
            return


def _former(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check every published checkpoint from end to end.")
    parser.add_argument("--photograph", type=Path, help="the COCO photograph 000000039769.jpg")
    parser.add_argument("--only", type=lambda text: text.split(","), help="file names, separated by commas")
    parser.add_argument("-o", "--output", type=Path, default=RESULT, help=f"results file (default: {RESULT})")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
