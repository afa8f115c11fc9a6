"""Token merging against an oracle of loops; what is planted wrong is found; no merge changes nothing; the graph."""

import numpy as np
import pytest
import torch
from support.merging import merged
from support.tiny import tiny_model, tiny_spec

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.model.rewrites import merging
from dpt_deploy.model.rewrites.merging import MergeTokens, check_merge, merge_tokens
from dpt_deploy.model.rewrites.tokens import NearestCentre

PREFIX, WIDTH = 2, 6


def tokens_of(count, batch=2, seed=0):
    values = np.random.default_rng(seed).normal(size=(batch, PREFIX + count, WIDTH))
    return torch.from_numpy(values.astype(np.float32))


def largest_error(tokens, size, percent=30, module_prefix=PREFIX, restore=None):
    """Largest difference of the restored tokens from the oracle's."""
    wanted = np.stack([merged(each, percent, prefix=PREFIX)[0] for each in tokens])
    rows = (size[0], size[1]) if module_prefix == PREFIX else (1, size[0] * size[1] + PREFIX - module_prefix)
    reduced, memory = MergeTokens(percent, module_prefix)(tokens, *rows)
    restored = (restore or NearestCentre(module_prefix))(reduced, memory)
    return float(np.abs(restored.numpy() - wanted).max())


@pytest.mark.parametrize("size", [(6, 7), (5, 5), (1, 2), (1, 1), (3, 11)])
@pytest.mark.parametrize("percent", [1, 17, 30, 50])
def test_it_is_the_oracle_s(size, percent):
    count = size[0] * size[1]
    tokens = tokens_of(count, batch=3)
    reduced, memory = MergeTokens(percent, PREFIX)(tokens, *size)
    left = PREFIX + count - merged(tokens[0], percent, prefix=PREFIX)[1]
    assert (reduced.shape, memory.shape) == ((3, left, WIDTH), (3, count))
    assert torch.equal(reduced[:, :PREFIX], tokens[:, :PREFIX])
    assert largest_error(tokens, size, percent) < 1e-6


def test_equal_tokens_are_merged_in_order():
    tokens = torch.ones(1, PREFIX + 12, WIDTH)
    reduced, memory = MergeTokens(25, PREFIX)(tokens, 3, 4)
    assert torch.equal(reduced, tokens[:, :-3])
    assert [int(memory[0, index]) for index in (1, 3, 5)] == [0, 0, 0]
    assert len({int(memory[0, index]) for index in (7, 9, 11)} | set(range(6))) == 9


@pytest.mark.parametrize("prefix", [0, 1])
def test_a_merged_leading_token_is_found(prefix):
    assert largest_error(tokens_of(42), (6, 7), 50, prefix) > 1e-2


def plain_ranks(values):
    return torch.arange(values.shape[1]).expand_as(values)


@pytest.mark.parametrize(("name", "fault"), [("_directions", lambda tokens: tokens), ("_ranks", plain_ranks)])
def test_a_planted_fault_is_found(name, fault, monkeypatch):
    assert largest_error(tokens_of(42), (6, 7)) < 1e-6
    monkeypatch.setattr(merging, name, fault)  # no normalisation; the first are merged, not the most similar
    assert largest_error(tokens_of(42), (6, 7)) > 1e-2


def test_a_wrong_restoration_is_found():
    def wrong(reduced, memory):
        return NearestCentre(PREFIX)(reduced, memory.clamp(max=reduced.shape[1] - PREFIX - 2))

    assert largest_error(tokens_of(42), (6, 7), restore=wrong) > 1e-2


def test_16_bits_are_computed_in_32():
    tokens = (1000 * tokens_of(42)).half()
    reduced, memory = MergeTokens(30, PREFIX)(tokens, 6, 7)
    assert reduced.dtype == torch.float16
    assert torch.isfinite(reduced).all()
    assert torch.equal(memory, MergeTokens(30, PREFIX)(tokens.float(), 6, 7)[1])


def pixels(height, width):
    return torch.linspace(-1, 1, 3 * height * width).reshape(1, 3, height, width).sin()


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [("tiny-vit", 1, (96, 64)), ("tiny-dinov2", 0, (56, 70)), ("tiny-distilled", 0, (64, 64))],
)
def test_no_merge_changes_nothing_and_a_merge_keeps_earlier_taps(name, layer, size):
    model, image = tiny_model(name), pixels(*size)
    fewer = merge_tokens(model, layer, 40)
    with torch.inference_mode():
        before, after = model.encoder(image), fewer.encoder(image)
        same = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
        assert same == sorted(same, reverse=True)
        assert [each.shape for each in before] == [each.shape for each in after]
        assert not torch.allclose(fewer(image), model(image), atol=1e-3)
        fewer.encoder.fewer.reduce = MergeTokens(0, model.spec.encoder.tokens.prefix)
        torch.testing.assert_close(fewer(image), model(image), rtol=2e-6, atol=1e-5)  # the order of tokens
    assert model.encoder.fewer is None


@pytest.mark.parametrize("opset", [20, 23])
def test_one_graph_takes_every_size_and_batch(opset, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="runs a graph")
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.reduce, self.restore = MergeTokens(30, PREFIX), NearestCentre(PREFIX)

        def forward(self, tokens):
            return self.restore(*self.reduce(tokens, 1, tokens.shape[1] - PREFIX))

    example, path = (tokens_of(42),), tmp_path / "merge.onnx"
    torch.onnx.export(
        Both().eval(), example, path, dynamo=True, opset_version=opset, dynamic_shapes=(dims,), verbose=False
    )
    session = runtime.InferenceSession(path)
    for batch, count in ((1, 42), (2, 1), (3, 77)):
        tokens = tokens_of(count, batch)
        found = session.run(None, {session.get_inputs()[0].name: tokens.numpy()})[0]
        np.testing.assert_allclose(found, Both()(tokens), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("tiny-conv", (0, 30), r"tiny-conv' \(cnn\) has no tokens"),
        ("tiny-beit", (0, 30), r"\(beit\) has no tokens"),
        ("tiny-vit", (3, 30), "behind block 3; expected 0 to 2"),
        ("tiny-vit", (-1, 30), "behind block -1"),
        ("tiny-vit", (1, 0), "0 percent of the tokens to merge; expected a whole number from 1 to 50"),
        ("tiny-vit", (1, 51), "51 percent"),
        ("tiny-vit", (1, 2.5), r"2\.5 percent"),
    ],
)
def test_what_cannot_be_merged_is_refused(name, numbers, message):
    with pytest.raises(UsageError, match=message):
        check_merge(tiny_spec(name), Size(96, 96), layer=numbers[0], percent=numbers[1])
