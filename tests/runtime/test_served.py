"""Addresses, and a fake server of the protocol over HTTP: what it answers decides, not what its health says."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from support.faults.calling import complaint, fine
from support.paths import ROOT
from support.tiny import exported

pytest.importorskip("tritonclient", reason="the extra serve is not installed (nox -s serve installs it)")

from dpt_deploy.core.errors import BadFileError, IncompatibleError, ParityError, ResourceError, UsageError
from dpt_deploy.imaging.files import read_pfm
from dpt_deploy.jobs.bench.served import bench_served
from dpt_deploy.jobs.verify.result import raise_on_failure
from dpt_deploy.jobs.verify.served import verify_served
from dpt_deploy.runtime.registry import find_runtime
from dpt_deploy.runtime.request import RunnerRequest
from dpt_deploy.runtime.served import Address, HttpRunner

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")


@pytest.mark.parametrize(
    "text",
    [
        *("grpc://x/y", "grpc://x:1", "grpc://x:1/", "ftp://x:1/y", "grpc://:1/y", "grpc://x:1/a/b", "http://u@x:1/y"),
        *("http://x:99999/y", "http://x:1/y?z=1", "grpc://[x:1/y"),
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match="no address"):
        Address.parse(text)


def test_an_address_has_three_parts():
    address = Address.parse("grpc://localhost:8001/hybrid-fp32")
    assert (address.scheme, address.host, address.model) == ("grpc", "localhost:8001", "hybrid-fp32")
    assert str(address) == "grpc://localhost:8001/hybrid-fp32"


class FakeServer(BaseHTTPRequestHandler):
    """Answers in JSON as a server that has no binary tensors; ``how`` is the fault it has."""

    how = ""
    answered = 0

    def log_message(self, *_):
        pass

    def do_GET(self):
        name = "other" if self.how == "other" else "pixel_values"
        if self.how == "unknown":
            return self._send(400, {"error": "Request for unknown model: 'x' is not found"})
        if self.path.endswith("/config"):
            digest = {"dpt_deploy_sha256": {"string_value": "0" * 64}} if self.how == "hash" else {}
            return self._send(200, {"parameters": digest})
        inputs = [{"name": name, "datatype": "FP32", "shape": [-1, 3, -1, -1]}]
        outputs = [{"name": "predicted_depth", "datatype": "FP32", "shape": [-1, -1, -1]}]
        return self._send(200, {"name": "x", "inputs": inputs, "outputs": outputs})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.how in ("dead", "refuse"):
            text = {"dead": "Stub process 'x_0_0' is not healthy.", "refuse": "batch 9 is more than 8"}[self.how]
            return self._send(500 if self.how == "dead" else 400, {"error": text})
        cut = int(self.headers["Inference-Header-Content-Length"])
        header = json.loads(body[:cut])
        values = np.frombuffer(body[cut:], np.float32).reshape(header["inputs"][0]["shape"])
        type(self).answered += 1
        if self.how == "drifting" and self.answered % 5 == 0:
            return self._send(500, {"error": "planted"})
        found = self.compute(values) * (1 + (self.how == "drifting" and self.answered > 1))
        output = {"name": "predicted_depth", "datatype": "FP32", "shape": list(found.shape)}
        return self._send(200, {"model_name": "x", "outputs": [{**output, "data": found.ravel().tolist()}]})

    def _send(self, status, document):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def serve():
    servers = []
    with find_runtime("ort").open(RunnerRequest(exported("tiny-vit").path)) as runner:

        def compute(values, add=0.0):
            found = runner.infer({"pixel_values": np.array(values)})["predicted_depth"]
            return found + np.float32(add) * np.arange(found.shape[-1], dtype=np.float32)

        def start(how=""):
            wrong = 0.1 if how == "wrong" else 0.0
            made = {"how": how, "compute": lambda _self, values: compute(values, wrong)}
            server = ThreadingHTTPServer(("127.0.0.1", 0), type("Server", (FakeServer,), made))
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            servers.append(server)
            return f"http://127.0.0.1:{server.server_port}/x"

        yield start
        for server in servers:
            server.shutdown()
            server.server_close()


def verified(address):
    return verify_served(address, against=exported("tiny-vit").path)


def test_the_answers_are_compared_with_the_golden_tensors(serve):
    found = verified(serve())
    assert found.passed
    assert found.runtime.startswith("http://127.0.0.1:")


def test_wrong_answers_fail(serve):
    with pytest.raises(ParityError, match="disagree"):
        raise_on_failure(verified(serve("wrong")))


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("dead", ResourceError, "cannot compute, whatever its health says: .*not healthy"),
        ("other", IncompatibleError, "has other float32"),
        ("hash", IncompatibleError, "another export"),
        ("unknown", UsageError, "has no model 'x'"),
    ],
)
def test_a_fault_of_the_server_is_named(serve, how, error, message):
    with pytest.raises(error, match=message):
        verified(serve(how))


def test_inputs_that_the_model_does_not_take_are_a_failed_case(serve):
    with pytest.raises(ParityError, match="batch 9 is more than 8"):
        raise_on_failure(verified(serve("refuse")))


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_no_server_is_an_error(scheme):
    with pytest.raises(ResourceError, match=r"no model server answers at 127\.0\.0\.1:9"):
        verified(f"{scheme}://127.0.0.1:9/x")


def test_the_artefact_must_be_known(tmp_path):
    with pytest.raises(UsageError, match="is not given"):
        verify_served("grpc://localhost:1/x", against=None)
    with pytest.raises(BadFileError, match="does not exist"):
        verify_served("grpc://localhost:1/x", against=tmp_path / "missing.onnx")
    with pytest.raises(UsageError, match="computed by its server"):
        verify_served("grpc://localhost:1/x", against=None, runtime="ort")
    with pytest.raises(UsageError, match="needs the address"):
        HttpRunner.open(RunnerRequest(exported("tiny-vit").path))


def test_a_closed_loop_counts_every_answer(serve):
    found = bench_served(exported("tiny-vit"), serve(), sizes=("64",), levels=(1, 2), seconds=2)
    document = found.to_dict()
    for level in document["levels"]:
        assert level["requests"] > 0
        assert (level["wrong"], level["failed"]) == (0, 0)
        assert 0 < level["p50_ms"] <= level["p99_ms"]
    assert document["scheme"] == "http"


def test_a_closed_loop_notices_wrong_and_missing_answers(serve, tmp_path):
    found = bench_served(exported("tiny-vit"), serve("drifting"), sizes=("64",), levels=(2,), seconds=1)
    (level,) = found.levels
    assert level.wrong > 0
    assert level.failed > 0
    path = found.write(tmp_path)
    assert json.loads(path.read_text())["levels"][0]["wrong"] == level.wrong
    with pytest.raises(UsageError, match="numbers of clients"):
        bench_served(exported("tiny-vit"), "http://localhost:1/x", levels=(0,))


def test_the_commands(serve, capsys, tmp_path):
    path = exported("tiny-vit").path
    assert json.loads(fine(capsys, "verify", serve(), "--against", path, "--json"))["verified"]
    assert "another export" in complaint(capsys, 6, "verify", serve("hash"), "--against", path)
    assert "is not given" in complaint(capsys, 2, "verify", serve())
    options = ("--runtime", serve(), "--res", "64", "--seconds", "1")
    found = json.loads(fine(capsys, "bench", path, *options, "--json", "-o", tmp_path))
    assert [level["concurrency"] for level in found["levels"]] == [1, 2, 4, 8]
    assert "requests/s" in fine(capsys, "bench", path, *options)
    assert "is not given" in complaint(capsys, 2, "bench", *options)
    assert len(list(tmp_path.glob("serving-*.json"))) == 1
    photograph = ROOT / "dpt_deploy/data/photographs/coffee.jpg"
    for runtime in (serve(), "ort"):
        name = "served" if "://" in runtime else runtime
        fine(capsys, "run", path, photograph, "--runtime", runtime, "--size", "64", "-o", tmp_path / f"{name}.pfm")
    found, expected = (read_pfm(tmp_path / f"{name}.pfm") for name in ("served", "ort"))
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)
