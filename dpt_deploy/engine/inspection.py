"""Audit a built engine on its GPU: the layers that its inspector lists, and the time of each.

Experimental: run on one GPU so far. Counts alone mislead, because most layers may be small. If the library reports the
time of a layer, it is therefore assigned to the precision that the layer computes in. Layers that compute nothing but
take time (casts, reformats, quantisation) are listed separately. The patterns below match TensorRT's published
listings. They explained every layer of a Depth Anything engine of TensorRT-RTX 1.6.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dpt_deploy.artifact.records import AuditRecord, LayerTimes
from dpt_deploy.core.errors import DptError

CASTS, QDQ, OTHER, UNKNOWN = "casts", "qdq", "other", "unknown"
MOST_NAMED = 5  # casts and reformats recorded by name: enough to find the place in the graph

# Words in a format as the inspector writes it ("Half", "Row major linear FP16 format", "BFloat16"), narrowest first:
# of several types, the first counts.
_TYPES = {
    "fp4": re.compile(r"fp4|e2m1"),
    "int4": re.compile(r"(?<![a-z])int4"),
    "fp8": re.compile(r"fp8|e4m3"),
    "int8": re.compile(r"(?<![a-z])int8"),  # not uint8, which is an image
    "fp16": re.compile(r"(?<![a-z])fp16|half"),
    "bf16": re.compile(r"bf16|bfloat16"),
    "fp32": re.compile(r"fp32|(?<![a-z])float(?!8)"),
}
# Keys of a tensor's type: separate from TensorRT 11 and TensorRT-RTX 1.6 on, together with its format before.
_TYPE_KEYS = ("DataType", "Datatype", "Format/Datatype")
_OTHER_PROFILE = re.compile(r" \[profile [1-9]\d*\]$")  # layers are listed once for each profile
_ORDER = list(_TYPES)
_WIDE = _ORDER[-1]
_ATTENTION = re.compile(r"mha|flash")  # fmha too
_PRODUCT = re.compile(r"gemm|conv(?!ert)|matmul|matrixmultiply|matrix_multiply|fullyconnected|__myl_fc|mha|flash")
_OWN_NAME = (
    "_"  # prefix of layers that the builder makes; others have names of nodes, which may contain "conv" by chance
)
# Kernels that the builder generates are named after the operators fused in them: "__myl_CastMulAdd_myl0_3".
_GENERATED = re.compile(r"^__myl_((?:[A-Z][a-z]+)+)(?:_|$)")
_MOVES = {"Cast", "Move", "Copy", "Resh", "Tran", "Repl", "Slic", "Conc"}


def audit_engine(
    information: str, seconds: Mapping[str, float] | None = None, *, shape: str = "", untimed: str = ""
) -> AuditRecord:
    """Audit the first profile of a built engine from its inspector's output (JSON, detailed verbosity).

    ``seconds`` maps the inspector's layer names to their time in one run of ``shape``. Without times, shares are counts
    of layers, and ``untimed`` gives the reason.

    Raises:
        DptError: the text is not an inspector's output.
    """
    found = _entries(information)
    kinds = [_kind(entry) for entry in found]
    counts = Counter(kinds)
    times = _times(found, seconds, shape) if seconds else None
    return AuditRecord(
        "engine",
        {kind: count for kind, count in counts.items() if kind in _ORDER},
        {},
        {"whole": sum(_is_attention(entry) for entry in found), "decomposable": 0},
        sum(_is(entry, "quantize") for entry in found),
        sum(_is(entry, "dequantize") for entry in found),
        counts[CASTS],
        times,
        untimed if times is None else "",
    )


def _entries(information: str) -> Sequence[Mapping[str, Any]]:
    try:
        entries = json.loads(information)["Layers"]
        found = [entry for entry in entries if isinstance(entry, dict) and not _of_other_profile(entry)]
    except (ValueError, KeyError, TypeError) as exc:
        raise DptError(f"expected a list of layers from the engine's inspector, found {information[:80]!r}") from exc
    if not found:
        raise DptError(
            "the engine has no details of its layers", hint="build it again with this program, which adds them"
        )
    return found


def _times(entries: Iterable[Mapping[str, Any]], seconds: Mapping[str, float], shape: str) -> LayerTimes:
    """Sum the time of each kind of layer."""
    kinds: dict[str, set[str]] = {}
    attention: set[str] = set()
    for entry in entries:
        name = str(entry.get("Name", ""))
        kinds.setdefault(name, set()).add(_kind(entry))
        if _is_attention(entry):
            attention.add(name)
    kinds = {name: kind if len(kind) == 1 else {UNKNOWN} for name, kind in kinds.items()}
    sums: defaultdict[str, float] = defaultdict(float)
    for name, each in seconds.items():
        sums["".join(kinds.get(name, {UNKNOWN}))] += each
    casts = {name: each for name, each in seconds.items() if kinds.get(name) == {CASTS}}
    return LayerTimes(
        shape,
        {kind: sums[kind] for kind in _ORDER if sums[kind]},
        sums[CASTS],
        sums[QDQ],
        sum((each for name, each in seconds.items() if name in attention and kinds[name] <= set(_ORDER)), 0.0),
        sums[OTHER],
        sums[UNKNOWN],
        dict(sorted(casts.items(), key=lambda entry: -entry[1])[:MOST_NAMED]),
    )


def _kind(entry: Mapping[str, Any]) -> str:
    """Precision that a layer computes in, or its kind: cast or reformat, quantisation, no floating-point numbers."""
    if _is(entry, "cast") or _is(entry, "reformat") or _only_casts(str(entry.get("Name", ""))):
        return CASTS
    if _is(entry, "quantize") or _is(entry, "dequantize"):
        return QDQ
    return OTHER if _is(entry, "constant") else _precision(entry) or OTHER


def _of_other_profile(entry: Mapping[str, Any]) -> bool:
    return bool(_OTHER_PROFILE.search(str(entry.get("Name", ""))))


def _only_casts(name: str) -> bool:
    """True if a generated kernel casts, and otherwise only moves numbers."""
    found = _GENERATED.match(name)
    steps = set(re.findall("[A-Z][a-z]+", found[1])) if found else set()
    return "Cast" in steps and steps <= _MOVES


def _precision(entry: Mapping[str, Any]) -> str | None:
    """Type that a layer computes in; None if it handles no floating-point numbers.

    The output type alone misleads. A product of 16-bit operands may return FP32, the type of its sums, and still run on
    16-bit units. A product of 8-bit operands returns 16 bits, and has scales and sums among its inputs. So a product
    computes in the narrowest type of its inputs. Any other layer computes in its output type, unless that is FP32 and
    all inputs are narrower: then only the result is converted.
    """
    takes, gives = _types(entry, "Inputs"), _types(entry, "Outputs")
    if gives and takes and (_is_product(entry) or (gives == {_WIDE} and _WIDE not in takes)):
        return _narrowest(takes)
    return _narrowest(gives)


def _is_product(entry: Mapping[str, Any]) -> bool:
    name = str(entry.get("Name", ""))
    words = (entry.get("LayerType", ""), entry.get("TacticName", ""), name if name.startswith(_OWN_NAME) else "")
    return bool(_PRODUCT.search(" ".join(map(str, words)).lower()))


def _types(entry: Mapping[str, Any], side: str) -> set[str]:
    """Floating-point and quantised types of a layer's inputs or outputs."""
    tensors = [tensor for tensor in entry.get(side) or () if isinstance(tensor, dict)]
    texts = [str(tensor[key]).lower() for tensor in tensors for key in _TYPE_KEYS if key in tensor]
    return {found for text in texts if (found := _type(text))}


def _type(text: str) -> str | None:
    return next((precision for precision, word in _TYPES.items() if word.search(text)), None)


def _narrowest(types: set[str]) -> str | None:
    return min(types, key=_ORDER.index, default=None)


def _is_attention(entry: Mapping[str, Any]) -> bool:
    return bool(_ATTENTION.search(f"{entry.get('Name', '')} {entry.get('TacticName', '')}".lower()))


def _is(entry: Mapping[str, Any], kind: str) -> bool:
    return str(entry.get("LayerType", "")).lower() == kind
