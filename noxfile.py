#!/usr/bin/env python
"""The checks. Plain ``nox`` is ``make test``: lint, types, layers and tests, in the Python that runs nox.

With DPT_APT=1 it installs the system packages that the tests need, while the checks before them run.

``partial``, ``oldest`` and ``wheel`` make environments of their own in .nox/, which take gigabytes: an installation
with one extra, the oldest versions that pyproject.toml admits, and the wheel outside the sources. ``clients``,
``serve`` and ``ray`` make their own in build/.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["packages", "lint", "types", "layers", "tests"]

ROOT = Path(__file__).parent
TINY = ROOT / "tests/support/recipes/tiny-vit.toml"
SERVER = ["nvidia-pytriton==0.7.0", "numpy<2", "onnxruntime>=1.30", "click>=8.1", "rich>=13", "pillow>=12.3"]
SERVER_IMAGES = "opencv-python-headless>=4.13.0.90"  # it asks for NumPy 2, and works with NumPy 1
OPTIMUM = ["optimum-onnx==0.1.0", "optimum==2.1.0"]  # without what they ask for: it would bring another PyTorch
TEST_TOOLS = ["pytest>=8", "pytest-xdist>=3.6", "scikit-image>=0.24"]
# One single-threaded process per core: most of the time goes into building small graphs, which threads cannot speed up.
WORKERS = os.environ.get("DPT_TEST_WORKERS", "2")


# What some tests run or build against, after the Debian packages that have it.
SYSTEM = {
    "g++": shutil.which("c++"),
    "libjpeg-dev": Path("/usr/include/jpeglib.h").exists(),
    "libpng-dev": Path("/usr/include/png.h").exists(),
    "chromium": shutil.which("chromium"),
    "gimp libgimp2.0-dev": shutil.which("gimptool-2.0"),
}


def here(session, *arguments, **options):
    """Run a module in the environment that runs nox."""
    session.run(sys.executable, "-m", *arguments, **options)


@nox.session(venv_backend="none")
def packages(session):
    """Begin to install the system packages of the tests, which wait for them; only if DPT_APT=1 allows that."""
    if (installing := _installing()) is not None:
        session.log(installing.args[-1])


@nox.session(venv_backend="none")
def lint(session):
    here(session, "ruff", "check", ".")
    here(session, "ruff", "format", "--check", ".")


@nox.session(venv_backend="none")
def types(session):
    here(session, "mypy")


@nox.session(venv_backend="none")
def layers(session):
    session.run(str(Path(sys.executable).with_name("lint-imports")))


@nox.session(venv_backend="none")
def check(session):
    """The inner loop: lint, types, layers and the tests that need the base install only."""
    lint(session)
    types(session)
    layers(session)
    session.env["OMP_NUM_THREADS"] = "1"
    here(session, "pytest", "-n", WORKERS, "-m", "fast", "-q", *session.posargs)


@nox.session(venv_backend="none")
def docs(session):
    """The documentation site; a warning is an error. ``nox -s docs -- linkcheck`` checks external links instead."""
    if session.posargs == ["linkcheck"]:
        here(session, "sphinx", "-q", "-b", "linkcheck", "docs", "build/linkcheck")
    else:
        here(session, "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "build/docs", *session.posargs)


@nox.session(venv_backend="none")
def tests(session):
    if (installing := _installing()) is not None and installing.wait():
        session.error(f"failed: {installing.args[-1]}")
    session.env["OMP_NUM_THREADS"] = "1"
    # Neighbouring tests share models that are made once, so each process starts with one half of the list.
    here(session, "pytest", "-n", WORKERS, "--dist", "worksteal", *session.posargs)


@nox.session(venv_backend="none")
def cpp(session):
    """Build the C++ runtime; its tests are part of ``tests``."""
    _tool(session, "c++", "g++")
    _cmake(session, "build/cpp")


@nox.session(venv_backend="none")
def fuzz(session):
    """Fuzz the readers: 500 mutations of each one's files in Python, then five minutes each of the C++ readers.

    Crashing inputs of the C++ readers stay in build/cpp-fuzz/.
    """
    cases = os.environ.get("DPT_FUZZ_CASES", "500")
    here(session, "pytest", "-n", WORKERS, "-q", "tests/contracts/test_mutations.py", env={"DPT_FUZZ_CASES": cases})
    _tool(session, "clang++", "clang", "libclang-rt-dev")
    sanitize = "-DDPT_SANITIZE=fuzzer-no-link,address,undefined"
    compilers = ["-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"]
    readers = ("sidecar", "image")
    targets = [f"fuzz_{reader}" for reader in readers]
    _cmake(session, "build/cpp-fuzz", sanitize, *compilers, "-DDPT_FUZZ=ON", targets=targets)
    for reader in readers:
        new, corpus = Path(f"build/cpp-fuzz/corpus-{reader}"), ROOT / "cpp/tests/fuzz/corpus" / reader
        new.mkdir(exist_ok=True)
        limits = ["-max_total_time=300", "-max_len=4096", "-print_final_stats=1", f"-artifact_prefix={new}/crash-"]
        session.run(f"build/cpp-fuzz/tests/fuzz_{reader}", *limits, str(new), str(corpus), external=True)


def _tool(session, command, *packages):
    """Make sure that ``command`` exists; install it only if DPT_APT=1 allows that."""
    if shutil.which(command):
        return
    if os.environ.get("DPT_APT") != "1":
        session.error(f"{command} was not found: install it (Debian: {' '.join(packages)}), or set DPT_APT=1")
    session.run(*_apt(packages), external=True)


@functools.cache
def _installing():
    """Return the process that installs what is missing of SYSTEM; None if nothing is, or if DPT_APT=1 is not set."""
    missing = [name for packages, found in SYSTEM.items() if not found for name in packages.split()]
    if not missing or os.environ.get("DPT_APT") != "1":
        return None
    return subprocess.Popen(_apt(missing))  # noqa: S603  names of this file alone


def _apt(packages):
    return ["sh", "-c", f"apt-get -qq update && apt-get -qq install --yes {' '.join(packages)}"]


def _cmake(session, folder, *options, targets=()):
    bundled = Path(sys.executable).with_name("cmake")
    cmake = str(bundled) if bundled.exists() else "cmake"
    chosen = [f"-DPython3_EXECUTABLE={sys.executable}", *options]
    session.run(cmake, "-S", str(ROOT / "cpp"), "-B", folder, *chosen, external=True, silent=True)
    wanted = ["--target", *targets] if targets else []
    session.run(cmake, "--build", folder, "--parallel", WORKERS, *wanted, external=True)


@nox.session(venv_backend="none")
def online(session):
    here(session, "pytest", "-m", "online", *session.posargs)


@nox.session
@nox.parametrize("extra", ["bare", "ort,images", "export"])
def partial(session, extra):
    """Install one extra only: what must work there works, and everything else names what is missing."""
    pins = ["-c", "constraints.txt"]
    session.install("." if extra == "bare" else f".[{extra}]", *pins)
    folder = session.create_tmp()
    model = f"{folder}/{TINY.stem}-fp32.onnx"
    photograph = str(ROOT / "dpt_deploy/data/photographs/coffee.jpg")
    export = ["export", "--backbone", str(TINY), "--weights", "random", "-o", folder]
    deploy = ["dpt-deploy"]

    session.run(*deploy, "--help", silent=True)
    session.run(*deploy, "doctor")
    if extra == "export":
        session.run(*deploy, *export)
        session.run(*deploy, "inspect", model)
        session.run(*deploy, "verify", model, success_codes=[3])
        session.run(*deploy, "run", model, photograph, success_codes=[3])
        return
    session.run(*deploy, *export, success_codes=[3])
    session.run(sys.executable, "-m", "dpt_deploy", *export, external=True)  # by the environment that can
    if extra == "bare":
        session.run(*deploy, "run", model, photograph, success_codes=[3])
        session.run(*deploy, "verify", model, "--golden", success_codes=[3])
        session.install(*TEST_TOOLS[:2], *pins)
        session.run("pytest", "-n", WORKERS, "-m", "fast", *session.posargs)
    else:
        session.run(*deploy, "verify", model, "--golden")
        session.run(*deploy, "run", model, photograph, "-o", f"{folder}/depth.png")
        session.install(*TEST_TOOLS, *pins)
        session.run("pytest", "-n", WORKERS, "-m", "fast", *session.posargs)
        session.run("pytest", "-n", WORKERS, "tests/imaging/test_files.py", *session.posargs)


@nox.session(python="3.11")
def oldest(session):
    """Export and parity with the lowest version of every requirement in pyproject.toml (torch 2.11)."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["export"], *extras["ort"], *extras["images"], *extras["oracle"]]
    session.install(*(requirement.replace(">=", "==") for requirement in wanted))
    session.install("--no-deps", "-e", ".")
    session.install(*TEST_TOOLS, "-c", _installed(session))
    session.env["OMP_NUM_THREADS"] = "1"
    chosen = session.posargs or ["tests/graph/test_exporter.py", "tests/jobs/export", "tests/jobs/verify"]
    session.run("pytest", "-n", WORKERS, *chosen)


@nox.session(venv_backend="none")
def clients(session):
    """Every precision in software that is not ours. ``nox -s clients -- RESULT.json`` records it (default: build/)."""
    folder, script = ROOT / "build/clients", "benchmarks/clients.py"
    folder.mkdir(parents=True, exist_ok=True)
    result = session.posargs[0] if session.posargs else str(folder / "clients.json")
    photographs = ["--calibration", str(ROOT / "dpt_deploy/data/photographs")]
    for name in ("tiny", "tiny-vit", "tiny-conv"):
        for precision in ("fp32", "fp16", "bf16", "fp8", "int8", "int8-openvino"):
            options = ["--precision", precision, *(photographs if precision != "fp32" else [])]
            here(session, "dpt_deploy", "export", "--backbone", name, *options, "--force", "-o", str(folder))
    for options in (["--input", "uint8"], ["--static", "192"], ["--opset", "20"]):
        here(session, "dpt_deploy", "export", "--backbone", "tiny", *options, "--force", "-o", str(folder))
    for name in ("tiny", "tiny-vit"):
        here(session, "dpt_deploy", "convert", "--backbone", name, "-o", str(folder / f"{name}-hf"))

    installed = ("onnxruntime", "onnxruntime-as-written", "openvino", "opencv", "onnx", "transformers")
    session.run(sys.executable, script, result, str(folder), *installed)
    for version in ("1.30.0", "1.29.0"):  # the lowest that pyproject.toml admits, and one that is known to be wrong
        python = _environment(session, f"ort-{version}", f"onnxruntime=={version}", "numpy", "click", "rich")
        session.run(python, script, result, str(folder), "onnxruntime", external=True)
        codes = [6] if version == "1.29.0" else [0]
        golden = ["verify", str(folder / "tiny-int8.onnx"), "--golden"]
        session.run(python, "-m", "dpt_deploy", *golden, external=True, success_codes=codes)
    python = _environment(session, "tools", "polygraphy", "onnx-graphsurgeon", "tract", "onnx", "onnxruntime", "numpy")
    session.run(python, script, result, str(folder), "polygraphy", "tract", external=True)
    if shutil.which("npm"):
        session.env["CLIENTS_NODE"] = str(folder / "node")
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--prefix", str(folder / "node")]
        session.run(*install, "onnxruntime-node", "onnxruntime-web", external=True)
        session.run(sys.executable, script, result, str(folder), "node")
        _third_party(session, folder, Path(result).with_name("third-party.json"))


def _third_party(session, folder, result):
    """Five files in the tools of others, as their manuals show them."""
    files = folder / "third-party"
    files.mkdir(exist_ok=True)
    for name in ("tiny-fp32", "tiny-fp32-opset20", "tiny-fp32-192x192", "tiny-conv-fp32", "tiny-int8-cpu"):
        for path in folder.glob(f"{name}.onnx*"):
            shutil.copy(path, files)
    tools = ("polygraphy", "onnx-graphsurgeon", "onnxslim", "onnxsim", "onnx2torch", "tract")
    python = _environment(session, "third-party", *tools, "onnx", "onnxruntime", "opencv-python-headless", "numpy")
    session.run(python, "benchmarks/third_party.py", str(result), str(files), external=True)


@nox.session(venv_backend="none")
def serve(session):
    """A real Triton server on repositories as they are written, and the tests that need the extra ``serve``.

    The server comes in a wheel for Linux x86-64 and CPython 3.11; its Python back end needs NumPy 1. The client is
    put on top of the packages of this environment. ``nox -s serve -- SECONDS`` runs ``benchmarks/serving.py`` instead.
    """
    server = _environment(session, "server", *SERVER, kind="serve")
    session.run(server, "-m", "pip", "install", "--quiet", "--no-deps", SERVER_IMAGES, external=True)
    python = _environment(session, "client", "tritonclient[grpc,http]==2.73.0", kind="serve")
    here, there, site = _packages(sys.executable), _packages(python), _packages(server)
    (there / "dpt-deploy-tests.pth").write_text(f"{here}\n")
    session.env["DPT_SERVE_SITE"] = str(site)
    session.env["OMP_NUM_THREADS"] = "1"
    if session.posargs and session.posargs[0].isdigit():
        folders = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
        session.run(python, "benchmarks/serving.py", session.posargs[0], external=True, env=folders)
        return
    chosen = session.posargs or ["tests/serving", "tests/jobs/serve", "tests/runtime/test_served.py"]
    session.run(python, "-m", "pytest", "-q", "-n0", "--require", "tritonclient", *chosen, external=True)


@nox.session(venv_backend="none")
def optimum(session):
    """Folders in the hub's layout in Optimum, which asks for transformers 4, on top of the packages that run nox."""
    python = _environment(session, "optimum", "transformers==4.57.6")
    session.run(python, "-m", "pip", "install", "--quiet", "--no-deps", *OPTIMUM, external=True)
    (_packages(python) / "dpt-deploy-tests.pth").write_text(f"{_packages(sys.executable)}\n")
    tests = ["-n0", "--require", "optimum", "tests/jobs/hub/test_optimum.py"]
    session.run(python, "-m", "pytest", "-q", *tests, external=True)


@nox.session(venv_backend="none")
def ray(session):
    """Archives on Ray: workers, a machine and the driver are killed. ``DPT_TEST_KILLS`` is the number of workers.

    ``nox -s ray -- IMAGES [TURNS]`` runs ``benchmarks/archives.py`` instead.
    """
    folder = ROOT / "build/ray"
    folder.mkdir(parents=True, exist_ok=True)
    recipe = ["--backbone", str(ROOT / "tests/support/recipes/tiny-vit.toml"), "--weights", "random"]
    here(session, "dpt_deploy", "export", *recipe, "--force", "-o", str(folder))
    extras = nox.project.load_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"]
    (wanted,) = extras["ray"]
    tools = ["numpy", "click", "rich", *extras["ort"], *extras["images"], "pytest>=8", "grpcio"]  # Ray asks with it
    python = _environment(session, "ray", wanted.replace(">=", "=="), *tools, kind="ray")
    if session.posargs and session.posargs[0].isdigit():
        for weights in (["tiny"], ["base", "--weights", "random"]):
            here(session, "dpt_deploy", "export", "--backbone", *weights, "--force", "-o", str(folder))
        models = [str(folder / f"{name}-fp32.onnx") for name in ("tiny", "base")]
        session.run(python, "benchmarks/archives.py", *models, *session.posargs, external=True)
        return
    session.env["DPT_TEST_MODEL"] = str(folder / "tiny-vit-fp32.onnx")
    tests = ["-p", "no:cacheprovider", "tests/jobs/batch", "--require", "ray", "--durations", "0", *session.posargs]
    session.run(python, "-m", "pytest", "-q", *tests, external=True)


def _packages(python):
    """The folder of packages of an environment of this noxfile, which has the version of Python that runs nox."""
    home = Path(python).parent.parent
    return home / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def _environment(session, name, *requirements, kind="clients"):
    """Make a virtual environment in build/ and return its Python; this package is imported from the sources."""
    folder = ROOT / "build" / kind / "environments" / name
    session.run(sys.executable, "-m", "venv", str(folder))
    python = str(folder / "bin/python")
    session.run(python, "-m", "pip", "install", "--quiet", *requirements, external=True)
    session.env["PYTHONPATH"] = str(ROOT)
    return python


def _installed(session):
    """Write a constraints file that pins what is installed."""
    frozen = session.run("python", "-m", "pip", "freeze", "--exclude-editable", silent=True)
    path = Path(session.create_tmp(), "installed.txt")
    path.write_text(frozen)
    return str(path)


@nox.session
def wheel(session):
    """Install the wheel alone and use it in an empty folder outside the repository."""
    session.install("build")
    dist = session.create_tmp()
    for old in Path(dist).glob("*.whl"):
        old.unlink()
    session.run("python", "-m", "build", "--wheel", "--outdir", dist, silent=True)
    (built,) = Path(dist).glob("*.whl")
    session.install(f"{built.resolve()}[all]", "-c", "constraints.txt")
    with tempfile.TemporaryDirectory(prefix="dpt-deploy-") as folder, session.chdir(folder):
        session.env["DPT_DEPLOY_CACHE"] = f"{folder}/cache"
        model = f"out/{TINY.stem}-fp32.onnx"
        small = ["--res", "64,64x96"]
        session.run("dpt-deploy", "export", "--backbone", str(TINY), "--weights", "random", "-o", "out")
        session.run("dpt-deploy", "verify", model, *small, "--batch", "1,2")
        session.run("dpt-deploy", "bench", model, *small, "--seconds", "0.2")
        session.run("dpt-deploy", "demo", "--backbone", str(TINY), "--seconds", "0.2")
        session.run("dpt-deploy", "doctor", silent=True)


if __name__ == "__main__":
    nox.main()
