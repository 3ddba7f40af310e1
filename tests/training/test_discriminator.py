import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from inverters.training.discriminator import Discriminator, adversarial_losses


def images(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def seeded() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator()


def test_one_logit_for_each_image_of_any_size() -> None:
    discriminator = seeded()
    assert discriminator(images(3, 0)).shape == (3,)
    assert discriminator(images(2, 0)[..., :20]).shape == (2,)


def test_the_losses_are_cross_entropies() -> None:
    discriminator, preds, target = seeded(), images(3, 1), images(3, 2)
    generator_loss, discriminator_loss = adversarial_losses(discriminator, preds, target)
    on_preds, on_target = discriminator(preds).sigmoid(), discriminator(target).sigmoid()
    ones = torch.ones(3)
    assert torch.allclose(generator_loss, F.binary_cross_entropy(on_preds, ones))
    expected = F.binary_cross_entropy(on_target, ones) + F.binary_cross_entropy(on_preds, 1 - ones)
    assert torch.allclose(discriminator_loss, expected)


def test_neither_loss_has_a_gradient_for_the_other() -> None:
    discriminator, preds = seeded(), images(2, 1).requires_grad_()
    generator_loss, discriminator_loss = adversarial_losses(discriminator, preds, images(2, 2))
    generator_loss.backward(retain_graph=True)
    assert preds.grad is not None
    assert preds.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    preds.grad = None
    discriminator_loss.backward()
    assert preds.grad is None
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


def test_it_learns_to_tell_smooth_images_from_rough_ones_and_then_waits() -> None:
    discriminator, rough = seeded(), images(8, 1)
    smooth = F.interpolate(rough[..., ::8, ::8], scale_factor=8, mode="bilinear")
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-3)
    first = adversarial_losses(discriminator, smooth, rough)[1].item()
    for _ in range(100):
        generator_loss, discriminator_loss = adversarial_losses(discriminator, smooth, rough)
        if discriminator_loss == 0:
            break
        optimizer.zero_grad()
        discriminator_loss.backward()
        optimizer.step()
    assert first > 1
    assert discriminator_loss == 0
    assert (discriminator(rough) > 0).all()
    assert (discriminator(smooth) < 0).all()
    assert generator_loss > 1
    before = copy.deepcopy(discriminator.state_dict())
    optimizer.zero_grad()
    discriminator_loss.backward()
    assert all(not parameter.grad.any() for parameter in discriminator.parameters() if parameter.grad is not None)
    assert all(torch.equal(value, before[key]) for key, value in discriminator.state_dict().items())
