"""Compare the keys and shapes of a checkpoint with a network, and find the network that it fits instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import load_recipe, zoo_names
from dpt_deploy.core.spec import SCORES_TASK, ModelSpec, TaskChoice
from dpt_deploy.model.build import parameter_shapes
from dpt_deploy.model.families.family import CheckpointDescription, Family, TensorSlot
from dpt_deploy.model.families.registry import foreign

COUNTER = "num_batches_tracked"  # of batch norm: training only, so never required and always zero
_CLASSIFIER = "head.classifier.weight"
_JOINT_CLASSIFIERS = tuple(
    f"{place}.classifier.weight" for place in (f"joint.{SCORES_TASK}", f"branches.{SCORES_TASK}.head")
)
_SHOWN = 3  # keys of each kind in the one-line message; the exception has all

Shapes = Mapping[str, tuple[int, ...]]
Pieces = dict[str, list[tuple[str, TensorSlot]]]  # the model's key to the file's keys that make it up


@dataclass(frozen=True)
class WrongShape:
    """A tensor of the file that does not fit the parameter it is named for."""

    key: str
    found: str
    expected: str


@dataclass(frozen=True)
class KeyMatch:
    """The use of every key. ``used`` pairs the file's key with the model's; ``missing`` has the file's names.

    ``entry`` is the place of the network in a training checkpoint, ``others`` are those of further networks there.
    ``alike`` are further recipes of the zoo that the file fits as well, if they were asked for.
    """

    family: str
    files: tuple[Path, ...]
    used: tuple[tuple[str, str], ...]
    unused: tuple[tuple[str, str], ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[WrongShape, ...] = ()
    entry: str = ""
    others: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.wrong_shape)

    def lines(self) -> tuple[str, ...]:
        """One line for each key; errors come last, where a terminal shows them."""
        return (
            *(f"used        {theirs} -> {ours}" for theirs, ours in self.used),
            *(f"unused      {theirs}: {reason}" for theirs, reason in self.unused),
            *(f"unexpected  {theirs}" for theirs in self.unexpected),
            *(f"missing     {theirs}" for theirs in self.missing),
            *(f"shape       {wrong.key}: {wrong.found}, expected {wrong.expected}" for wrong in self.wrong_shape),
        )

    def __str__(self) -> str:
        place = f", from {self.entry!r}" if self.entry else ""
        choice = f"; not taken: {', '.join(self.others)} (--entry chooses)" if self.others else ""
        return f"{self.family}: {len(self.used)} tensors used{place}, {len(self.unused)} unused on purpose{choice}"


class CheckpointMismatchError(BadFileError):
    """A checkpoint of another network; ``keys`` has the use of every key."""

    def __init__(self, message: str, *, hint: str, keys: KeyMatch) -> None:
        super().__init__(message, hint=hint, details=keys.lines())
        self.keys = keys


def match_keys(spec: ModelSpec, shapes: Shapes, family: Family) -> tuple[KeyMatch, Pieces]:
    """Compare the shapes of a checkpoint with ``spec``; return the match, and the keys that make up each parameter."""
    expected = {key: shape for key, shape in parameter_shapes(spec).items() if COUNTER not in key}
    sources: Pieces = {}
    used, unused, unexpected = [], [], []
    for theirs in shapes:
        slot = family.slot(theirs)
        reason = family.reason_unused(theirs) or (
            slot and (_past_last_tap(spec, slot.key) or _other_output(spec, slot.key))
        )
        if reason:
            unused.append((theirs, reason))
        elif slot is None or slot.key not in expected or any(s.part == slot.part for _, s in sources.get(slot.key, [])):
            unexpected.append(theirs)
        else:
            used.append((theirs, slot.key))
            sources.setdefault(slot.key, []).append((theirs, slot))
    missing, wrong = _check_pieces(sources, expected, shapes, family)
    matched = KeyMatch(family.name, (), tuple(used), tuple(unused), tuple(missing), tuple(unexpected), tuple(wrong))
    return matched, sources


def _check_pieces(
    sources: Pieces, expected: Shapes, shapes: Shapes, family: Family
) -> tuple[list[str], list[WrongShape]]:
    """Find missing keys and wrong shapes; sort the pieces of each parameter."""
    missing: list[str] = []
    wrong: list[WrongShape] = []
    for key, shape in expected.items():
        pieces = sources[key] = sorted(sources.get(key, []), key=lambda piece: piece[1].part)
        names = [theirs for theirs, _ in pieces]
        if not pieces or len(pieces) < pieces[0][1].parts:
            missing += _absent(key, names, family)
        elif (found := _joined_shape([shapes[name] for name in names], pieces[0][1].axis)) != shape:
            wrong.append(WrongShape(" + ".join(names), str(found), str(shape)))
    return missing, wrong


def _absent(ours: str, present: list[str], family: Family) -> list[str]:
    """The file's names of the model's key ``ours`` that are missing; alternatives (ViT's and hybrid's) as one entry."""
    pieces: dict[int, list[str]] = {}
    for theirs, rule in family.sources(ours):
        optional = not rule.parts and rule.part > 0  # a second leading token: the shape tells whether it is wanted
        if theirs not in present and not optional:
            pieces.setdefault(rule.part, []).append(theirs)
    return [" or ".join(names) for names in pieces.values()] or [ours]


def _joined_shape(shapes: list[tuple[int, ...]], axis: int) -> tuple[int, ...]:
    if len(shapes) == 1:
        return shapes[0]
    if any(len(shape) <= axis for shape in shapes):
        return ()
    first = shapes[0]
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def _past_last_tap(spec: ModelSpec, ours: str) -> str | None:
    last = max((tap for tap in spec.taps if isinstance(tap, int)), default=-1)
    prefix, _, rest = ours.partition("encoder.blocks.")
    number = rest.partition(".")[0]
    if prefix or not number.isdecimal() or not last < int(number) < spec.encoder.blocks:
        return None
    return f"block after the last tap ({last})"


def _other_output(spec: ModelSpec, ours: str) -> str | None:
    if ours.startswith("head.sky.") and spec.sky is None:
        return "map of the sky, which was not asked for"
    folder, _, rest = ours.partition(".")
    task = rest.partition(".")[0]
    what = {"branches": "branch", "joint": "head"}.get(folder)
    return f"{what} of {task}, which was not asked for" if what and task not in spec.joint else None


def check_task(spec: ModelSpec, source: Path, shapes: Shapes, family: Family) -> None:
    """Raise :class:`BadFileError` if the checkpoint was made for another task."""
    if spec.task == family.task:
        return
    if _joint_classes(shapes, family):
        raise BadFileError(
            f"{source} holds one model for depth and segmentation; {spec.name!r} was asked for {spec.task} alone",
            hint="use --task both, whose second output is the segmentation",
        )
    raise BadFileError(
        f"{source} holds a {family.task} model; {spec.name!r} was asked for {spec.task}",
        hint=f"use --task {family.task}, or give a checkpoint for {spec.task}",
    )


def mismatch_error(
    spec: ModelSpec, source: Path, shapes: Shapes, family: Family, matched: KeyMatch
) -> CheckpointMismatchError:
    """Make the error for a checkpoint whose keys do not fit; it names the network that they do fit."""
    classes = _joint_classes(shapes, family) if spec.has_joint_scores else _classes(shapes, family)
    counted = spec.with_scores(classes) if spec.has_joint_scores else spec.with_classes(classes)
    if classes and classes != spec.num_classes and match_keys(counted, shapes, family)[0].fits:
        return CheckpointMismatchError(
            f"{source} has {classes} classes; {spec.name!r} was asked for {spec.num_classes}",
            hint=f"use --classes {classes}",
            keys=matched,
        )
    if spec.has_joint_scores and match_keys(replace(spec, joint=()), shapes, family)[0].fits:
        return CheckpointMismatchError(
            f"{source} ({family.name} keys) has {family.task} alone; {spec.name!r} was asked for "
            f"{' and '.join((spec.task, *spec.joint))}",
            hint=f"use --task {family.task}",
            keys=matched,
        )
    parts = (
        _listed("missing", matched.missing),
        _listed("unexpected", matched.unexpected),
        _listed("of wrong shape", [f"{w.key} {w.found}, expected {w.expected}" for w in matched.wrong_shape]),
    )
    problems = "; ".join(filter(None, parts))
    message = f"{source} ({family.name} keys) does not fit {spec.name!r}: {problems}"
    hint = f"{_advice(shapes, family)}; --keys lists every key"
    return CheckpointMismatchError(message, hint=hint, keys=matched)


def _advice(shapes: Shapes, family: Family) -> str:
    classes = _classes(shapes, family)
    names = _recipes_that_fit(shapes, family, classes)
    if names:
        more = f" --task segmentation --classes {classes}" if classes else ""
        return f"it fits {' or '.join(names)}: use --backbone {names[0]}{more}"
    what = foreign(shapes)
    return f"this is {what}, which the zoo does not have" if what else "give the checkpoint of this very network"


def _listed(what: str, keys: tuple[str, ...] | list[str]) -> str:
    if not keys:
        return ""
    more = f", and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} {what} ({', '.join(keys[:_SHOWN])}{more})"


def _classes(shapes: Shapes, family: Family) -> int:
    """Number of classes of a segmentation checkpoint; 0 for depth."""
    if family.task == "depth":
        return 0
    return next((shapes[theirs][0] for theirs, _ in family.sources(_CLASSIFIER) if theirs in shapes), 0)


def _joint_classes(shapes: Shapes, family: Family) -> int:
    """Number of classes of the segmentation next to depth; 0 if there is none."""
    named = [theirs for ours in _JOINT_CLASSIFIERS for theirs, _ in family.sources(ours)]
    return next((shapes[theirs][0] for theirs in named if theirs in shapes), 0)


def _recipes_that_fit(shapes: Shapes, family: Family, classes: int) -> list[str]:
    specs = (load_recipe(name, task=family.task, classes=classes or None).model for name in zoo_names())
    return [spec.name for spec in specs if match_keys(spec, shapes, family)[0].fits]


def recipes_alike(spec: ModelSpec, checkpoint: CheckpointDescription, shapes: Shapes, family: Family) -> list[str]:
    """Name the other recipes of the zoo that a checkpoint of ``spec`` fits as well: nothing in it tells them apart.

    A configuration or a header next to the tensors may tell; then there is none. ``spec`` itself is a recipe of the
    zoo: a network of one's own is chosen knowingly.
    """
    zoo = {name: own for name in zoo_names() if (own := _for_task_of(spec, name))}
    if zoo.get(spec.name) != spec:
        return []
    found = []
    for name, other in zoo.items():
        if replace(other, name=spec.name) == spec or _outline(other) != _outline(spec):
            continue
        try:
            adapted = family.adapt(other, checkpoint)
        except BadFileError:  # the checkpoint says that it is another network
            continue
        if match_keys(adapted, shapes, family)[0].fits:
            found.append(name)
    return found


def _for_task_of(spec: ModelSpec, name: str) -> ModelSpec | None:
    """The network of a recipe with the outputs of ``spec``; None if it has no such."""
    task: TaskChoice = "both" if spec.has_joint_scores else spec.task
    try:
        own = load_recipe(name, task=None if spec.sky else task, classes=spec.num_classes or None)
    except UsageError:
        return None
    return own.model


def _outline(spec: ModelSpec) -> tuple[object, ...]:
    """Values in which two networks agree that one file fits: a quick comparison before that of all shapes."""
    encoder, decoder = spec.encoder, (spec.decoder, spec.readout, spec.reassemble_channels, spec.fusion_channels)
    return (type(encoder), encoder.blocks, *decoder, spec.joint)
