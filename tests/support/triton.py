"""A real Triton server on this machine: started, looked into, and ended with all that it started."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from support.paths import ROOT, TESTS

SITE = "DPT_SERVE_SITE"  # site-packages that hold nvidia-pytriton; `nox -s serve` sets it
SHARED_MEMORY = Path("/dev/shm")
FAKES = ("onnxruntime", "tensorrt")  # back ends that the wheel lacks
_START_SECONDS = 60.0


class TritonServer:
    """Serves a repository; models are loaded on request by ``load``, or all at the start."""

    def __init__(self, repository, folder, *, onnx=None):
        site = Path(os.environ[SITE])
        self._home = site / "pytriton/tritonserver"
        self._backends = _backends(self._home, folder / "backends")
        self._repository, self._log = repository, folder / "server.log"
        self.http, self.grpc, self.metrics = (_free_port() for _ in range(3))
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
            "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"),
            "DPT_DEPLOY_SITE": os.pathsep.join([str(ROOT), str(site)]),
            "DPT_TEST_ONNX": str(onnx or ""),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = None
        self._regions = f"dpt-{self.grpc}"  # of this server, whatever others run on the machine

    def __enter__(self):
        addresses = [f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")]
        ports = [f"--http-port={self.http}", f"--grpc-port={self.grpc}", f"--metrics-port={self.metrics}"]
        places = [f"--model-repository={self._repository}", f"--backend-directory={self._backends}"]
        names = [f"--backend-config={name},shm-region-prefix-name={self._regions}" for name in ("python", *FAKES)]
        control = ["--model-control-mode=explicit", "--load-model=*", *names]
        command = [str(self._home / "bin/tritonserver"), *places, *addresses, *ports, *control]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for path in self.shared_files():  # a killed stub leaves its own
            path.unlink(missing_ok=True)

    @property
    def log(self):
        return self._log.read_text(errors="replace")

    def address(self, model, scheme="grpc"):
        return f"{scheme}://127.0.0.1:{self.grpc if scheme == 'grpc' else self.http}/{model}"

    def stubs(self, model):
        """Processes that compute a model."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                except OSError:
                    continue
                if parent == str(self._process.pid) and any(f"/{model}/" in word for word in words):
                    found.append(int(entry.name))
        return found

    def memory_bytes(self):
        """Memory of the server and its stubs that is theirs alone."""
        own = [self._process.pid, *[pid for each in self._repository.iterdir() for pid in self.stubs(each.name)]]
        total = 0
        for pid in own:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private")) * 1024
        return total

    def shared_files(self):
        """Regions of shared memory of the Python back ends."""
        return set(SHARED_MEMORY.glob(f"{self._regions}*"))

    def counts(self, model):
        """Images computed, and executions that they took."""
        url = f"http://127.0.0.1:{self.metrics}/metrics"
        lines = urllib.request.urlopen(url, timeout=10).read().decode().splitlines()
        found = {}
        for kind in ("nv_inference_count", "nv_inference_exec_count"):
            ours = [line for line in lines if line.startswith(kind + "{") and f'model="{model}"' in line]
            found[kind] = sum(float(line.split()[-1]) for line in ours)
        return found["nv_inference_count"], found["nv_inference_exec_count"]

    def _wait(self):
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"tritonserver ended with {self._process.returncode}:\n{self.log[-4000:]}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.http}/v2/health/ready", timeout=1)
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"tritonserver is not ready after {_START_SECONDS} s:\n{self.log[-4000:]}")


def _backends(home, folder):
    """The Python back end with its stub, and fakes for the back ends that the wheel lacks."""
    python = folder / "python"
    shutil.copytree(home / "backends/python", python)
    shutil.copy(home / "python_backend_stubs/3.11/triton_python_backend_stub", python)
    for name in FAKES:
        (folder / name).mkdir()
        shutil.copy(TESTS / "support/fake_backends/onnxruntime.py", folder / name / "model.py")
    return folder


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
