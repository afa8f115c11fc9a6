"""Runners over a model server that speaks the Open Inference Protocol, by gRPC or HTTP, through NVIDIA's client.

Triton, KServe, MLServer and OpenVINO Model Server speak it. The address is ``grpc://HOST:PORT/MODEL`` or
``http://HOST:PORT/MODEL``. That a server says it is ready proves nothing: a model may be dead behind it, so only the
answer to a request counts.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import DptError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.runtime.ends import described
from dpt_deploy.runtime.request import RunnerRequest

with extra("serve", purpose="requests to a model server"):
    import tritonclient.grpc
    import tritonclient.http
    from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

TIMEOUT_SECONDS = 120.0
HASH = "dpt_deploy_sha256"  # of the model, in the configuration that `serve-repo` writes
_EXAMPLE = "grpc://localhost:8001/MODEL, or http://localhost:8000/MODEL"
_REFUSED = ("INVALID_ARGUMENT", "400")  # status of a request that the model does not take
_FULL = ("UNAVAILABLE", "503", "RESOURCE_EXHAUSTED", "429")


@dataclass(frozen=True)
class Address:
    """A model of a server: the scheme, ``HOST:PORT`` and the model's name."""

    scheme: str
    host: str
    model: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.model}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``grpc://HOST:PORT/MODEL`` or ``http://HOST:PORT/MODEL``.

        Raises:
            UsageError: it is something else.
        """
        try:
            found = urlsplit(text)
            port = found.port
        except ValueError:
            found, port = urlsplit(""), None
        model = found.path.strip("/")
        plain = not (found.query or found.fragment or "@" in found.netloc or "/" in model)
        if found.scheme not in _SCHEMES or not found.hostname or port is None or not model or not plain:
            raise UsageError(f"{text!r} is no address of a served model", hint=f"expected {_EXAMPLE}")
        return cls(found.scheme, found.netloc, model)


class ServedRunner:
    """Sends inputs to a model of a server. Each thread has a connection of its own, as the HTTP client needs it."""

    name = "grpc"
    _module: ModuleType = tritonclient.grpc

    def __init__(self, address: Address, path: Path, sidecar: Sidecar) -> None:
        self._address, self._path, self._sidecar = address, path, sidecar
        self._clients: dict[int, Any] = {}  # by thread
        self._entered = False
        self._ends: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]] = ((), ())

    @classmethod
    def open(cls, request: RunnerRequest) -> Self:
        """Make a runner of the model at the address of a request.

        Raises:
            UsageError: it has no address.
        """
        if not request.address:
            raise UsageError(f"runtime {cls.name!r} needs the address of a model", hint=f"give {_EXAMPLE}")
        return cls(Address.parse(request.address), request.path, request.described())

    def __enter__(self) -> Self:
        """Ask the server for the model, and hold it to the sidecar.

        Raises:
            ResourceError: no server answers.
            UsageError: the server has no such model.
            IncompatibleError: the model is another one.
        """
        self._entered = True
        try:
            self._ends = self._described()
            self._check()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        return self._ends[0]

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        return self._ends[1]

    @property
    def settings(self) -> Mapping[str, str]:
        """The address."""
        return {"address": str(self._address)}

    def infer(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Send one request and wait for its answer.

        Raises:
            UsageError: the model does not take the inputs.
            ResourceError: the server is not reachable, too busy, or cannot compute the model although it says that it
                is ready.
        """
        tensors = []
        for name, value in inputs.items():
            tensor = self._module.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
            tensor.set_data_from_numpy(np.ascontiguousarray(value))
            tensors.append(tensor)
        wanted = [self._module.InferRequestedOutput(each.name) for each in self._sidecar.outputs]
        client = self._client()
        try:
            answer = client.infer(self._address.model, tensors, outputs=wanted, **self._patience())
            return {each.name: _complete(answer.as_numpy(each.name), each.name) for each in self._sidecar.outputs}
        except (InferenceServerException, ValueError, OSError) as exc:
            raise self._failed(exc) from exc

    def synchronize(self) -> None:
        """``infer`` returns finished arrays: nothing to wait for."""

    def _patience(self) -> dict[str, Any]:
        """Argument of a request that bounds its time."""
        return {"client_timeout": TIMEOUT_SECONDS}

    def _new_client(self) -> Any:
        return tritonclient.grpc.InferenceServerClient(self._address.host)

    def _metadata(self, client: Any) -> Any:
        return client.get_model_metadata(self._address.model, as_json=True, client_timeout=TIMEOUT_SECONDS)

    def _config(self, client: Any) -> Any:
        return client.get_model_config(self._address.model, as_json=True)["config"]

    def _client(self) -> Any:
        if not self._entered:
            raise DptError("the runner was used outside its 'with' block")
        me = threading.get_ident()
        if me not in self._clients:
            self._clients[me] = self._new_client()
        return self._clients[me]

    def _close(self) -> None:
        self._entered = False
        mine = self._clients.pop(threading.get_ident(), None)  # an HTTP client belongs to its thread; others go with it
        if mine is not None:
            mine.close()
        self._clients = {}

    def _described(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        try:
            found = self._metadata(self._client())
        except (InferenceServerException, OSError) as exc:
            status, text = _status(exc), _text(exc)
            if any(word in f"{status} {text}".lower() for word in ("unknown model", "not found", "not_found", "404")):
                raise UsageError(
                    f"the server at {self._address.host} has no model {self._address.model!r}: {text}",
                    hint="models of `serve-repo` are named by the files of their artefacts",
                ) from exc
            if "not ready" in text or "no available versions" in text:
                raise ResourceError(f"{self._address} is not ready: {text}", hint="see the log of the server") from exc
            raise ResourceError(
                f"no model server answers at {self._address.host} by {self.name}: {text}",
                hint=f"check host and port; gRPC and HTTP have different ones ({_EXAMPLE})",
            ) from exc
        return _specs(found.get("inputs", ())), _specs(found.get("outputs", ()))

    def _check(self) -> None:
        """Hold the served model to the artefact: its tensors, and its hash where the server has one."""
        expected: tuple[Sequence[TensorSpec], ...] = (self._sidecar.inputs, self._sidecar.outputs)
        for found, wanted in zip(self._ends, expected, strict=True):
            if _traits(found) != _traits(wanted):
                raise IncompatibleError(
                    f"{self._address} has {', '.join(map(described, found)) or 'no tensors'}; {self._path.name} has "
                    f"{', '.join(map(described, wanted))}",
                    hint="name the model that serves this file",
                )
        try:
            config = self._config(self._client())
        except InferenceServerException:
            return  # servers other than Triton have no configuration to ask for
        served_hash = config.get("parameters", {}).get(HASH, {}).get("string_value", "")
        known = {payload.sha256 for payload in self._sidecar.payloads}
        if served_hash and served_hash not in known:
            raise IncompatibleError(
                f"{self._address} serves another export (sha256 {served_hash[:12]}…) than {self._path}",
                hint="compare it with the artefact of its repository: --against models/",
            )

    def _failed(self, exc: Exception) -> DptError:
        status, text = _status(exc), _text(exc)
        if isinstance(exc, InferenceServerException) and any(word in status for word in _REFUSED):
            return UsageError(f"{self._address} does not take these inputs: {text}", hint="use another size or batch")
        if any(word in status for word in _FULL):
            return ResourceError(f"{self._address} is too busy, or gone: {text}", hint="try again later")
        return ResourceError(
            f"{self._address} cannot compute, whatever its health says: {text}",
            hint="load the model again on the server (unload and load it), or restart the server",
        )


class HttpRunner(ServedRunner):
    """The same by HTTP."""

    name = "http"
    _module = tritonclient.http

    def _patience(self) -> dict[str, Any]:
        return {}

    def _new_client(self) -> Any:
        return tritonclient.http.InferenceServerClient(
            self._address.host, network_timeout=TIMEOUT_SECONDS, connection_timeout=10.0
        )

    def _metadata(self, client: Any) -> Any:
        return client.get_model_metadata(self._address.model)

    def _config(self, client: Any) -> Any:
        return client.get_model_config(self._address.model)


_SCHEMES = {kind.name for kind in (ServedRunner, HttpRunner)}


def _complete(values: np.ndarray | None, name: str) -> np.ndarray:
    if values is None:
        raise ValueError(f"the answer has no output {name!r}")
    return np.array(values)  # the client's array lies in its message, and cannot be written to


def _specs(entries: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    """Tensors of a model's metadata; types that NumPy has not keep the protocol's name."""
    found = []
    for each in entries:
        kind = triton_to_np_dtype(each["datatype"])
        name = each["datatype"].lower() if kind in (None, np.object_) else str(np.dtype(kind))
        shape = tuple("any" if int(dim) < 0 else int(dim) for dim in each["shape"])
        found.append(TensorSpec(each["name"], name, shape))
    return tuple(found)


def _traits(ends: Sequence[TensorSpec]) -> set[tuple[str, str, int]]:
    """Name, type and rank of tensors: dimensions have other names on a server."""
    return {(end.name, end.dtype, len(end.shape)) for end in ends}


def _status(exc: Exception) -> str:
    return str(exc.status() or "") if isinstance(exc, InferenceServerException) else ""


def _text(exc: Exception) -> str:
    text = exc.message() if isinstance(exc, InferenceServerException) else str(exc)
    return " ".join(str(text or type(exc).__name__).split())[:300]
