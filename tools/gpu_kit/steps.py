"""Run the kit on a GPU machine, step by step. ``run.sh`` calls this; each step can be repeated alone.

    python steps.py --kit … --work … --results … list | run STEP | report

Exit code of ``run``: 0 done, 77 not possible here (the last line says why), 1 failed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from archives import MANIFEST, KitError, complaints, find, read_manifest, unpack_group
from models import Case, bench, build, compiled, export, frames, native, profiles, verify, verify_onnx
from report import write_report
from work import NotPossibleError, Place, StepError, gpu

NOT_RUN = 77
PROBE_SECONDS = 100
# Models to export, build, verify and time; a quick run takes the first alone. The most important come first: when time
# runs out, the last ones are left.
CASES = (
    Case("tiny", "fp16"),
    Case("da2-base", "fp16", sizes="518,518x686", timed="518", batch=8),
    *(Case(model, "fp16") for model in ("hybrid", "large", "base")),
    *(Case("base", precision) for precision in ("int8", "fp8")),
)
RTX, FRONTS = "tensorrt-rtx-", "rtx-fronts"  # groups: libraries of one version; their small Python modules


@dataclass(frozen=True)
class Step:
    """A named step, and its limit in seconds."""

    name: str
    run: Callable[[Place], None]
    seconds: int = 480


def unpack(place: Place) -> None:
    """Check and unpack every group that was copied here; use the wheels that this machine lacks."""
    manifest = read_manifest(place.kit)
    manifest.check_python()
    here = [group for group in manifest.groups if any(find(part, place.part_folders) for part in group.parts)]
    if not {"source", "wheels"} <= {group.name for group in here}:
        raise KitError("the groups source and wheels are needed in any case: copy their parts again")
    found = [line for group in here for line in complaints(group, place.part_folders)]
    if found:
        raise KitError(f"{'; '.join(found)}: copy it again")
    left = [group.name for group in manifest.groups if group not in here]
    print(f"not copied to this machine: {', '.join(left) or 'nothing'}")
    for group in here:
        target = place.work / group.name
        shutil.rmtree(target, ignore_errors=True)
        unpack_group(group, target, place.part_folders)
        print(f"unpacked {group.name}: {', '.join(group.folders)}", flush=True)
    place.write("packages.json", _take_missing(place))
    place.models.mkdir(exist_ok=True)
    shutil.copy(place.kit / MANIFEST, place.work)  # tells the next run which kit was unpacked


def _take_missing(place: Place) -> dict[str, str]:
    """Merge the wheels that this Python lacks into one folder; return the version used of each, and its origin."""
    shutil.rmtree(place.site, ignore_errors=True)
    place.site.mkdir()
    used = {}
    for folder in sorted((place.work / "wheels").iterdir()):
        name, _, version = folder.name.rpartition("-")
        own = _installed(name)
        used[name] = f"{own} (the machine's)" if own else f"{version} (the kit's)"
        if not own:
            shutil.copytree(folder, place.site, dirs_exist_ok=True)
    print(json.dumps(used, indent=1))
    return used


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def machine(place: Place) -> None:
    """Record the machine, as the product and the driver report it."""
    place.deploy("doctor", "--json", result="machine.json")
    if gpu():
        subprocess.run(["nvidia-smi", "-q", "-d", "CLOCK,POWER,TEMPERATURE,PERFORMANCE,MEMORY,ECC"], check=False)
    ask = "import json, torch; print(json.dumps({'version': torch.__version__, 'cuda': torch.version.cuda}))"
    place.call("-c", ask, result="torch.json")


def probe(place: Place) -> None:
    """Find a library that runs on this GPU: an installed ``tensorrt``, else the kit's versions, in order."""
    tried = [_probe(place, "tensorrt", None), *(_probe(place, "tensorrt_rtx", each) for each in _rtx_folders(place))]
    wanted = "compare" if gpu() else "build"
    chosen = next((entry for entry in tried if entry["reached"] == wanted), {})
    document = {
        "gpu": gpu(),
        "library": chosen.get("library", ""),
        "version": chosen.get("version", ""),
        "folder": chosen.get("folder", ""),
        "runs": bool(chosen) and bool(gpu()),
        "tried": tried,
    }
    place.write("probe.json", document)
    if not gpu():
        found = f"{chosen['library']} {chosen['version']} builds here" if chosen else "no library builds here"
        raise NotPossibleError(f"no NVIDIA GPU: which library runs is not known; {found}")
    if not chosen:
        raise NotPossibleError(f"TensorRT not measured: none of {len(tried)} libraries runs on {gpu()}; see probe.json")


def _rtx_folders(place: Place) -> list[Path]:
    """Make one folder for each version, as pip would have filled it, in the manifest's order."""
    folders = []
    for group in read_manifest(place.kit).groups:
        source = place.work / group.name
        if group.name.startswith(RTX) and source.is_dir():
            fronts = (place.work / FRONTS).glob(f"*-{group.name.removeprefix(RTX)}")
            folders.append(place.work / f"site-{group.name}")
            for part in (*sorted(source.iterdir()), *sorted(fronts)):
                shutil.copytree(part, folders[-1], dirs_exist_ok=True)
    return folders


def _probe(place: Place, library: str, folder: Path | None) -> dict[str, object]:
    """Report of one library; if it gave none, how its process ended."""
    label = folder.name.removeprefix(f"site-{RTX}") if folder else "installed"
    first = (folder,) if folder else (place.site,)
    command = [sys.executable, str(Path(__file__).with_name("probe.py")), library]
    entry: dict[str, object] = {"library": library, "version": label, "reached": "", "messages": []}
    try:
        done = subprocess.run(
            command, env=place.environment(*first), capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
        entry |= json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        entry["error"] = f"no answer within {PROBE_SECONDS} s"
    except (ValueError, IndexError):
        ended = f"signal {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"code {done.returncode}"
        entry["error"] = f"its process ended with {ended}; stderr: {done.stderr[-2000:]}"
    entry["folder"] = str(folder or "")
    print(json.dumps(entry, indent=1), flush=True)
    return entry


def tests(place: Place) -> None:
    """Run the tests of one engine: its runner, its weights, its memory, its gate."""
    _tests(place, "test_engine.py")


def networks(place: Place) -> None:
    """Build and verify an engine of every kind of network; several at a time where pytest-xdist is installed."""
    _tests(place, "test_networks.py", *(("-n", "6") if _installed("pytest-xdist") else ()))


def _tests(place: Place, file: str, *more: str) -> None:
    """Run one file of tests; those that cannot run are skipped, which is not "done" if all are."""
    required = ["--require", "gpu"] if gpu() else []
    source = place.work / "source/source"
    options = ["-v", "-p", "no:cacheprovider", "--rootdir", source, *required, *more]
    options += ["-p", "no:benchmark"]  # with several workers it prints a warning, which our settings make an error
    summary = place.call("-m", "pytest", source / "tests/gpu" / file, *options).strip().splitlines()[-1].strip("= ")
    if " passed" not in summary:
        raise NotPossibleError(f"{'no library runs here' if gpu() else 'no NVIDIA GPU'}: {summary}")


def steps(place: Place) -> list[Step]:
    """List all steps in their order."""
    found = [Step("unpack", unpack, 240), Step("machine", machine, 60), Step("probe", probe)]
    cases = CASES[:1] if place.quick else CASES
    for case in cases:
        found += [_of_model(verb, case) for verb in (export, build, verify, native, bench)]
        if case.model == "tiny":
            found.append(Step(f"verify-onnx-{case.model}", partial(verify_onnx, case=case)))
            found += [Step("tests", tests), Step("networks", networks)]
    more = [case for case in cases if case.precision == "fp16"]  # after the basic figures of every model
    found += [_of_model(frames, case) for case in more if case.timed == "384"]
    return found + [_of_model(verb, case) for verb in (compiled, profiles) for case in more]


def _of_model(verb: Callable[[Place, Case], None], case: Case) -> Step:
    return Step(f"{verb.__name__}-{case.name}", lambda place: verb(place, case))


def run(place: Place, name: str) -> int:
    """Run one step and return its exit code."""
    step = next(step for step in steps(place) if step.name == name)
    try:
        step.run(place)
    except NotPossibleError as exc:
        print(exc)
        return NOT_RUN
    except (StepError, KitError) as exc:
        print(exc)
        return 1
    except Exception as exc:  # noqa: BLE001  a defect of a step ends that step only; its last line names it
        traceback.print_exc()
        print(f"{type(exc).__name__}: {exc}")
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    for folder in ("kit", "work", "results"):
        parser.add_argument(f"--{folder}", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("verb", choices=["list", "run", "report"])
    parser.add_argument("name", nargs="?", default="")
    given = parser.parse_args()
    place = Place(given.kit.resolve(), given.work.resolve(), given.results.resolve(), given.quick)
    if given.verb == "run":
        return run(place, given.name)
    try:
        read_manifest(place.kit).check_python()
    except KitError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    if given.verb == "list":
        print("\n".join(f"{step.name} {step.seconds}" for step in steps(place)))
        return 0
    print(write_report(place, [step.name for step in steps(place)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
