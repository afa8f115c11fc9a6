"""The parts of a network that the rest of the program refers to, by the names of their modules.

An exported graph names its nodes after the same modules, so these names hold there as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Landmarks:
    """Names of modules that matter.

    ``comparable`` are those, in order of execution, whose output is the same before and after
    :mod:`dpt_deploy.model.rewrites.exact`. ``fp32`` maps each module from whose output on numbers need FP32, to the end
    of the graph, to the reason; ``fp32_alone`` those of which only the nodes inside need it. ``penultimate`` is the
    last fusion block but one, which an auxiliary head reads in training. ``last`` is the last convolution, before the
    final activation or upsampling; ``joint`` are those of the joint heads.
    """

    comparable: tuple[str, ...]
    fp32: Mapping[str, str]
    penultimate: str
    last: str
    joint: tuple[str, ...] = ()
    fp32_alone: Mapping[str, str] = field(default_factory=dict)
