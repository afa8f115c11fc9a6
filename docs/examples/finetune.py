"""A few training steps on pictures of your own making: the network is a plain PyTorch module.

python docs/examples/finetune.py weights.safetensors
dpt-deploy export --backbone tiny --weights weights.safetensors -o out/
"""

import sys

import torch
from safetensors.torch import save_file

import dpt_deploy


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Slopes that come nearer from left to right. Put your data here: normalised RGB and inverse depth."""
    slope = torch.linspace(0, 1, 96).expand(2, 96, 96)
    return [(slope[:, None].repeat(1, 3, 1, 1) * 2 - 1, slope) for _ in range(count)]


def main(target: str) -> None:
    model = dpt_deploy.create_model("tiny", weights="pretrained").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    for pixels, wanted in batches(3):
        found = model(pixels)
        loss = (found / found.mean() - wanted / wanted.mean()).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"loss {loss.item():.4f}")
    save_file(model.state_dict(), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
