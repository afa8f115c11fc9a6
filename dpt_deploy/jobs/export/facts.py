"""Facts of an exported graph that only the step that made it knows."""

from __future__ import annotations

from dataclasses import dataclass, field

from dpt_deploy.artifact.records import QuantisationRecord, RangeRecord


@dataclass(frozen=True)
class GraphFacts:
    """Part of the sidecar that depends on the precision; the defaults are those of an FP32 graph.

    ``fp32_nodes`` maps the nodes of a 16-bit graph that stay FP32 to the reasons. ``ranges`` are the largest magnitudes
    that they were chosen by.
    """

    fp32_nodes: dict[str, str] = field(default_factory=dict)
    ranges: RangeRecord | None = None
    quantisation: QuantisationRecord | None = None
