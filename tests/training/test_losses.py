import numpy as np
import pytest
import torch
from torch import Tensor

from inverters.training.losses import feature_loss, pixel_loss, total_variation


def pair(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(*shape, generator=generator).to(dtype), torch.rand(*shape, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixel_loss_is_the_mean_squared_error(dtype: torch.dtype) -> None:
    preds, target = pair(2, 3, 5, 7, dtype=dtype)
    expected = np.mean((preds.double().numpy() - target.double().numpy()) ** 2)
    loss = pixel_loss(preds, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert pixel_loss(preds, preds) == 0


def test_feature_loss_is_in_units_of_each_channels_deviation() -> None:
    preds, target = pair(2, 4, 3, 5)
    std = torch.tensor([0.1, 1.0, 10.0, 300.0]).view(1, 4, 1, 1)
    total = sum(
        ((preds[:, channel].double().numpy() - target[:, channel].double().numpy()) / std[0, channel].item()) ** 2
        for channel in range(4)
    )
    assert feature_loss(preds, target, std).item() == pytest.approx(np.mean(total) / 4, rel=1e-5)
    assert feature_loss(preds, target, std).item() == pytest.approx(
        feature_loss(preds * 50, target * 50, std * 50).item(), rel=1e-5
    )


def test_total_variation_is_rows_plus_columns() -> None:
    images, _ = pair(2, 3, 4, 6)
    values = images.double().numpy()
    across = np.abs(values[:, :, :, 1:] - values[:, :, :, :-1]).mean()
    down = np.abs(values[:, :, 1:, :] - values[:, :, :-1, :]).mean()
    assert total_variation(images).item() == pytest.approx(across + down, rel=1e-5)
    assert total_variation(torch.ones(1, 3, 8, 8)) == 0
    ramp = torch.arange(8.0).expand(1, 3, 4, 8)
    assert total_variation(ramp) == 1  # a step of one to the right, none downwards
    assert total_variation(ramp.mT) == 1


@pytest.mark.parametrize("number", [0, 1, 2])
def test_gradients_flow_to_the_reconstruction(number: int) -> None:
    preds, target = pair(1, 3, 4, 4)
    preds.requires_grad_()
    loss = (pixel_loss(preds, target), feature_loss(preds, target, torch.ones(1, 3, 1, 1)), total_variation(preds))
    loss[number].backward()
    assert preds.grad is not None
    assert (preds.grad != 0).float().mean() > 0.5
