"""Number formats of exported graphs: one record each, and the table of all of them."""

from __future__ import annotations

from dataclasses import dataclass

from dpt_deploy.core.errors import UsageError

CLIPPING_METHODS = ("min-max", "percentile", "mse", "entropy")  # ways to choose the range of an 8-bit tensor


@dataclass(frozen=True)
class QuantisedFormat:
    """8-bit numbers as ONNX stores them: ``value = step * (stored - zero)``.

    ``activations`` and ``weights`` are names of ONNX element types. ``largest`` is the number of steps from zero to the
    clipping value. With ``outputs`` the outputs of convolutions are quantised as well as their inputs. With ``offset``
    all stored numbers are spread over the measured range of an activation, so each has a zero of its own; ``zero`` is
    that of a range which is not known. ``signed`` is the type of activations that go below zero, if it is another one:
    then those of ``activations`` begin at zero. With ``image`` the first convolution is quantised, too, and with
    ``scores`` the queries and keys of attention.
    """

    activations: str
    weights: str
    zero: int
    largest: float
    outputs: bool = False
    offset: bool = False
    signed: str = ""
    image: bool = False
    scores: bool = False


@dataclass(frozen=True)
class Precision:
    """Number format of an exported graph.

    ``name`` is used in options, sidecars and file names. ``bits`` is the width of the numbers that convolutions and
    matrix products multiply. ``float_type`` is the ONNX element type of every floating-point tensor between them;
    inputs and outputs of a graph are always FP32.

    ``reference_runtime`` names the runtime whose numbers are evidence on a machine without a GPU. ONNX Runtime's CPU
    computes 16-bit graphs in FP32, so only ``emu``, which rounds every tensor, shows what the types cost.

    ``torch_type`` is PyTorch's type for a speed comparison on a GPU. ``loss_precision`` names the 16-bit precision in
    which PyTorch's own loss is measured; empty if there is none to measure. ``largest_float`` is the largest finite
    number of ``float_type``.

    ``for_engines``: TensorRT can build an engine of the file. ``cpu_runtime`` names the runtime that computes in the
    format on a CPU, so that its speed there is the speed of the format; empty if there is none. ``variants`` names the
    precisions that one export writes, in order; empty if it writes its own only.
    """

    name: str
    bits: int
    float_type: str
    reference_runtime: str
    torch_type: str
    loss_precision: str = ""
    largest_float: float = float("inf")
    for_engines: bool = True
    cpu_runtime: str = ""
    quantised: QuantisedFormat | None = None
    variants: tuple[str, ...] = ()

    @property
    def is_half(self) -> bool:
        """True for 16-bit floating point."""
        return self.bits == 16

    @property
    def has_half_floats(self) -> bool:
        """True if the floating-point tensors of the graph have 16 bits."""
        return self.float_type != "FLOAT"

    @property
    def has_no_integer_kernels(self) -> bool:
        """True for 8 bits among 16-bit floats: the kernels of CPUs for 8 bits want FP32 around them."""
        return self.quantised is not None and self.has_half_floats

    @property
    def is_narrow(self) -> bool:
        """True for every precision below FP32."""
        return self.bits < 32

    @property
    def files(self) -> tuple[str, ...]:
        """Precisions of the files that one export of this precision writes, in order."""
        return self.variants or (self.name,)


_LARGEST_FP16 = 65504.0
_INT8 = QuantisedFormat("INT8", "INT8", 0, 127.0)
# Unsigned: the layout for which the integer kernels of CPUs are fastest, and which has room for an offset. ONNX
# Runtime's integer convolution returns integers, so outputs are quantised too.
_INT8_CPU = QuantisedFormat("UINT8", "INT8", 128, 127.0, outputs=True, offset=True)
# OpenVINO adds up what an offset costs at run time, and fuses what stands behind a convolution before it rounds. It
# multiplies two activations in integers, too.
_INT8_OPENVINO = QuantisedFormat("UINT8", "INT8", 0, 127.0, signed="INT8", image=True, scores=True)
_INT8_FILES = ("int8-cpu", "int8")
_FP8 = QuantisedFormat("FLOAT8E4M3FN", "FLOAT8E4M3FN", 0, 448.0)

_TABLE = (
    Precision("fp32", 32, "FLOAT", "ort", "float32", cpu_runtime="ort"),
    Precision("fp16", 16, "FLOAT16", "emu", "float16", "fp16", _LARGEST_FP16),
    Precision("bf16", 16, "BFLOAT16", "emu", "bfloat16", "bf16", 3.39e38),
    # PyTorch has no 8-bit kernels of its own for these networks: it is timed in the faster of its 16-bit types. Its
    # loss is measured in BF16, which has as many significant bits as 8-bit integers.
    Precision("int8", 8, "FLOAT16", "emu", "float16", "bf16", _LARGEST_FP16, quantised=_INT8, variants=_INT8_FILES),
    Precision(
        "int8-cpu", 8, "FLOAT", "ort", "float32", "bf16", for_engines=False, cpu_runtime="ort", quantised=_INT8_CPU
    ),
    Precision(
        "int8-openvino",
        8,
        "FLOAT",
        "openvino",
        "float32",
        "bf16",
        for_engines=False,
        cpu_runtime="openvino",
        quantised=_INT8_OPENVINO,
    ),
    Precision("fp8", 8, "FLOAT16", "emu", "float16", "bf16", _LARGEST_FP16, quantised=_FP8),
)
PRECISIONS = {precision.name: precision for precision in _TABLE}
FP32, FP16 = "fp32", "fp16"


def find_precision(name: str) -> Precision:
    """Return the precision called ``name``.

    Raises:
        UsageError: there is none.
    """
    if name not in PRECISIONS:
        raise UsageError(
            f"precision {name!r} is not available in this version", hint=f"available: {', '.join(PRECISIONS)}"
        )
    return PRECISIONS[name]
