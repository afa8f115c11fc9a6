"""MiDaS v2.1 (isl-org/MiDaS): a convolutional encoder under the decoder that DPT inherits; and the small one."""

from __future__ import annotations

from dpt_deploy.core.encoders.efficientnet import LEVELS
from dpt_deploy.model.families.family import Family, ImageRule, Rule
from dpt_deploy.model.families.shared import ORIGINAL_UNUSED, original_decoder

IMAGE = ImageRule("upper_bound", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_AHEAD = 3  # entries of the first layer in front of its stages: convolution, batch norm, activation


def _small_stages() -> list[Rule]:
    """The seven stages of EfficientNet-Lite, which the file keeps in four layers."""
    rules = []
    for stage in range(LEVELS[-1] + 1):
        layer = next(index for index, last in enumerate(LEVELS) if stage <= last)
        place = stage + _AHEAD if layer == 0 else stage - LEVELS[layer - 1] - 1
        rules.append(Rule(f"pretrained.layer{layer + 1}.{place}.{{n}}.{{x}}", f"encoder.stages.{stage}.{{n}}.{{x}}"))
    return rules


SMALL = Family(
    "isl-org/MiDaS 2.1 small",
    "depth",
    marks=("pretrained.layer1.3.{n}.conv_dw.{x}", "scratch.refinenet{n}.out_conv.{x}"),
    rules=(
        Rule("pretrained.layer1.0.{x}", "encoder.conv_stem.{x}"),
        Rule("pretrained.layer1.1.{x}", "encoder.bn1.{x}"),
        *_small_stages(),
        *original_decoder("depth"),
    ),
    unused=ORIGINAL_UNUSED,
    licence="MIT",
    image=IMAGE,
)
LARGE = Family(
    "isl-org/MiDaS 2.1",
    "depth",
    marks=("pretrained.layer{n}.{x}", "scratch.refinenet{n}.{x}"),
    rules=(
        Rule("pretrained.layer1.0.{x}", "encoder.stem.conv1.{x}"),
        Rule("pretrained.layer1.1.{x}", "encoder.stem.bn1.{x}"),
        Rule("pretrained.layer1.4.{x}", "encoder.stages.0.{x}"),
        *(Rule(f"pretrained.layer{stage + 1}.{{x}}", f"encoder.stages.{stage}.{{x}}") for stage in (1, 2, 3)),
        *original_decoder("depth"),
    ),
    unused=ORIGINAL_UNUSED,
    licence="MIT",
    image=IMAGE,
)
FAMILIES = (SMALL, LARGE)  # each mark of the large one is in small files too
