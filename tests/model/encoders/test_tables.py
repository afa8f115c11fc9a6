"""Tables of positions on other grids, against PyTorch; on their own grid they stay what they are."""

import pytest
import torch
import torch.nn.functional as F

from dpt_deploy.model.encoders.tables import resized_table

TABLE = torch.randn((1, 3, 6, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(6, 7), (7, 6), (3, 12), (1, 1)])
def test_another_grid_is_pytorch_s(size):
    wanted = F.interpolate(TABLE, size=size, mode="bilinear", align_corners=False)
    assert torch.equal(resized_table(TABLE, *size), wanted)


def test_its_own_grid_is_the_table_itself_and_equals_the_resize():
    assert resized_table(TABLE, 6, 6) is TABLE
    assert torch.equal(F.interpolate(TABLE, size=(6, 6), mode="bilinear", align_corners=False), TABLE)
