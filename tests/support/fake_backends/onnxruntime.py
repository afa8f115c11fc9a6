"""A back end of Triton that answers to the name of another: it runs the ONNX file of a model in ONNX Runtime.

The server that runs without a GPU has no such back ends. DPT_TEST_ONNX names the file to run instead of a plan.
"""

import json
import os
import site
import sys
from pathlib import Path

sys.path[:] = [entry for entry in sys.path if entry]
_before = list(sys.path)
for _folder in os.environ["DPT_DEPLOY_SITE"].split(os.pathsep):
    site.addsitedir(_folder)
sys.path[:] = [entry for entry in sys.path if entry not in _before] + _before

import onnxruntime  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"], args["model_version"], config["default_model_filename"])
        if path.suffix == ".plan":
            path = os.environ["DPT_TEST_ONNX"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self._one(request) for request in requests]

    def _one(self, request):
        names = [each.name for each in self._session.get_inputs()]
        inputs = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names}
        try:
            found = self._session.run(None, inputs)
        except Exception as exc:  # noqa: BLE001  whatever ONNX Runtime raises is the answer
            error = pb_utils.TritonError(str(exc)[:300], pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=error)
        outputs = [each.name for each in self._session.get_outputs()]
        return pb_utils.InferenceResponse([pb_utils.Tensor(*pair) for pair in zip(outputs, found, strict=True)])
