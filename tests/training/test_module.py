import copy
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio as skimage_psnr
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

from inverters.encoders.vgg import VGGEncoder
from inverters.errors import TrainingError
from inverters.training.config import TrainConfig
from inverters.training.initial import new_decoders
from inverters.training.module import CHECK_STEPS, InversionModule
from inverters.training.optimizers import peak_learning_rates, schedule

pytestmark = [pytest.mark.filterwarnings("ignore:.*self.log.*"), pytest.mark.usefixtures("one_thread")]
LAYERS = ("relu1_1", "relu2_1")


def built(*layers: str, steps: int = 100, seed: int = 0, width: int = 4, **sections: Any) -> InversionModule:
    layers = layers or LAYERS
    values = {
        "encoder": {"weights": "random"},
        "layers": list(layers),
        "decoder": {"stages": {1: [[width, 1]], 2: [[2 * width, 1]], 4: [[width, 1]]}},
        "data": {"train": "a", "validation": "b", "crop_size": 32},
        "trainer": {"steps": steps},
        "seed": seed,
    }
    config = TrainConfig.model_validate(values | sections)
    encoder = VGGEncoder(config.encoder_layers, weights="random")
    return InversionModule(config, encoder, new_decoders(config, encoder))


def images(count: int = 2, height: int = 32, width: int = 32) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_the_encoder_is_nowhere_but_in_use() -> None:
    module = built()
    names = [name for name, _ in module.named_parameters()]
    assert names
    assert all(name.startswith("decoders.") for name in (*names, *module.state_dict()))
    assert all(isinstance(child, nn.ModuleDict) for child in module.children())
    optimizer = module.configure_optimizers()
    trained = {id(value) for group in optimizer.param_groups for value in group["params"]}
    assert trained == {id(value) for value in module.parameters()}
    assert not any(value.requires_grad for value in module.encoder.parameters())


def test_the_moving_average_copies_the_decoders_but_not_the_encoder() -> None:
    module = built()
    average = AveragedModel(module).module
    assert average.encoder is module.encoder
    assert set(average.state_dict()) == set(module.state_dict())
    pairs = zip(average.parameters(), module.parameters(), strict=True)
    assert all(torch.equal(one, other) and one is not other for one, other in pairs)
    assert copy.deepcopy(module).encoder is module.encoder


def test_initial_weights_belong_to_layer_and_seed() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    together = built("relu1_1", "relu2_1")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    alone = built("relu2_1")
    assert same(together.decoders["relu2_1"], alone.decoders["relu2_1"])
    assert not same(alone.decoders["relu2_1"], built("relu2_1", seed=1).decoders["relu2_1"])
    one, other = built("relu1_1", "conv1_1").decoders.values()
    assert not same(one, other)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.parameters(), other.parameters()))


def test_statistics_are_those_of_all_pixels_of_all_batches() -> None:
    module = built()
    batches = [images(3), images(1, 64, 32) / 2]
    module.fit_statistics(batches)
    for layer, decoder in module.decoders.items():
        features = [module.encoder(batch, [layer])[layer].transpose(0, 1).flatten(1) for batch in batches]
        values = torch.cat(features, dim=1).double()
        assert torch.allclose(decoder.mean.flatten().double(), values.mean(1), rtol=1e-4)
        std = values.std(1, correction=0)
        alive = std > 1e-5 * std.max()
        assert alive.sum() > len(std) / 2
        assert torch.allclose(decoder.std.flatten()[alive].double(), std[alive], rtol=1e-3)


class LargestFloat64(TorchDispatchMode):
    """Finds the size of the largest float64 tensor that is computed."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor) and value.dtype == torch.float64:
                self.size = max(self.size, value.numel())
        return result


def test_statistics_need_no_float64_on_the_device() -> None:
    """Which Apple's MPS does not have: only the moments of each batch's channels are taken to the CPU."""
    module = built("relu1_1")
    with LargestFloat64() as mode:
        module.fit_statistics([images(3), images(1, 64, 32)])
    assert 0 < mode.size <= 2 * 3 * 64  # batches, moments, channels


def test_the_loss_is_the_weighted_sum_of_its_terms_and_of_the_layers() -> None:
    x = images()

    def loss(**weights: float) -> float:
        objective = "perceptual" if "feature" in weights else "pixel"
        return built(objective=objective, loss=weights).training_step(x, 0).item()

    module = built()
    features = module.encoder(x, LAYERS)
    expected = dict.fromkeys(("pixel", "feature", "total_variation"), 0.0)
    for layer, decoder in module.decoders.items():
        preds = decoder(features[layer]).detach()
        expected["pixel"] += float(((preds - x) ** 2).mean())
        difference = (module.encoder(preds, [layer])[layer] - features[layer]) / decoder.std
        expected["feature"] += float((difference**2).mean())
        rows, columns = preds[:, :, 1:] - preds[:, :, :-1], preds[..., 1:] - preds[..., :-1]
        expected["total_variation"] += float(rows.abs().mean() + columns.abs().mean())
    assert min(expected.values()) > 1e-3
    assert loss(pixel=1) == pytest.approx(expected["pixel"], rel=1e-4)
    assert loss(pixel=0, feature=2) == pytest.approx(2 * expected["feature"], rel=1e-4)
    both = 3 * expected["pixel"] + 0.5 * expected["total_variation"]
    assert loss(pixel=3, total_variation=0.5) == pytest.approx(both, rel=1e-4)


def test_the_perceptual_loss_compares_this_and_the_shallower_layers() -> None:
    x = images()
    module = built("relu1_1", "conv3_1", objective="perceptual", loss={"pixel": 0, "perceptual": 3})
    module.fit_statistics([images(3)])
    layers = module.config.encoder_layers
    assert layers == ["relu1_1", "relu1_2", "relu2_2", "conv3_1"]
    features = module.encoder(x, layers)
    expected = 0.0
    for layer, compared in (("relu1_1", ["relu1_1"]), ("conv3_1", ["relu1_2", "relu2_2", "conv3_1"])):
        preds = module.decoders[layer](features[layer]).detach()
        found = module.encoder(preds, compared)
        for other in compared:
            std = module.encoder(images(3), [other])[other].std(dim=(0, 2, 3), correction=0, keepdim=True)
            std = std.clamp_min(1e-6 * float(std.max()))
            expected += 3 / len(compared) * float((((found[other] - features[other]) / std) ** 2).mean())
    assert module.training_step(x, 0).item() == pytest.approx(expected, rel=1e-3)


def test_the_feature_loss_reaches_the_decoder_and_not_the_encoder() -> None:
    module = built(objective="perceptual", loss={"pixel": 0, "feature": 1})
    module.training_step(images(), 0).backward()
    assert all(float(value.grad.abs().max()) > 0 for value in module.parameters())
    assert all(value.grad is None for value in module.encoder.parameters())


def test_each_decoder_is_clipped_by_itself() -> None:
    module = built(optimizer={"gradient_clip": 0.5})
    for layer, scale in (("relu1_1", 1e4), ("relu2_1", 1e-3)):
        for value in module.decoders[layer].parameters():
            value.grad = torch.full_like(value, scale)
    small = [value.grad.clone() for value in module.decoders["relu2_1"].parameters()]
    assert nn.utils.get_total_norm(small) < 0.5
    module.configure_gradient_clipping(None)
    large = [value.grad for value in module.decoders["relu1_1"].parameters()]
    assert float(nn.utils.get_total_norm(large)) == pytest.approx(0.5, rel=1e-3)
    assert all(map(torch.equal, small, (value.grad for value in module.decoders["relu2_1"].parameters())))


def test_the_learning_rate_warms_up_and_decays() -> None:
    steps, warmup = 40, 10
    rates = np.array([schedule(step, steps, warmup) for step in range(steps + 1)])
    assert np.allclose(rates[: warmup + 1], np.linspace(1 / warmup, 1, warmup + 1))
    progress = np.arange(steps + 1 - warmup) / (steps - warmup)
    assert np.allclose(rates[warmup:], (1 + np.cos(np.pi * progress)) / 2)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (2, 0), (2, 100)])
def test_a_very_short_run_has_a_schedule(steps: int, warmup: int) -> None:
    assert schedule(0, steps, warmup) == 1


def test_the_learning_rate_falls_with_the_width_of_a_decoder() -> None:
    module = built(width=32, optimizer={"learning_rate": 0.01, "warmup_steps": 4})
    assert peak_learning_rates(module.config.optimizer, module.decoders) == {"relu1_1": 0.02, "relu2_1": 0.01}
    optimizer = module.configure_optimizers()
    module.set_learning_rates(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02 / 4, 0.01 / 4]


def test_muon_orthogonalises_what_it_adds_to_a_convolution_and_scales_it_as_adamw_would() -> None:
    """An orthogonal a×b matrix times 0.2·√max(a, b) has entries of root mean square 0.2, as AdamW's steps have."""
    rate = 0.01
    module = built("relu2_1", width=32, optimizer={"algorithm": "muon", "learning_rate": rate, "warmup_steps": 0})
    optimizer = module.configure_optimizers()
    module.set_learning_rates(optimizer)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    module.training_step(images(), 0).backward()
    optimizer.step()
    steps = {name: value.detach() - before[name] for name, value in module.named_parameters()}
    convolutions = [step.flatten(1) for step in steps.values() if step.ndim == 4]
    assert len(convolutions) == 4
    for step in convolutions:
        strengths = np.linalg.svd(step.numpy(), compute_uv=False) / (0.2 * max(step.shape) ** 0.5 * rate)
        assert np.percentile(strengths, 75) > 0.5  # the weakest quarters vanish in bfloat16
        assert 0.9 < strengths.max() < 1.3
    for step in (step for step in steps.values() if step.ndim == 1):
        assert float(step.abs().max()) == pytest.approx(1.9 * rate, rel=0.01)  # AdamW's first with Nesterov momentum


def test_a_loss_that_is_not_finite_is_noticed_after_some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    module = built()
    with torch.no_grad():
        next(module.decoders["relu2_1"].parameters()).fill_(torch.inf)
    monkeypatch.setattr(InversionModule, "global_step", CHECK_STEPS - 2)
    module.training_step(images(), 0)
    monkeypatch.setattr(InversionModule, "global_step", CHECK_STEPS - 1)
    with pytest.raises(TrainingError, match=rf"^the losses of relu2_1 are no longer finite at step {CHECK_STEPS}\b"):
        module.training_step(images(), 0)


def test_reconstructions_that_are_not_finite_are_no_validation() -> None:
    """The weights are finite, but their products are not."""
    module = built()
    with torch.no_grad():
        for parameter in module.decoders["relu2_1"].parameters():
            parameter.fill_(6e4 if parameter.ndim == 4 else 0)
        list(module.decoders["relu2_1"].parameters())[2][:, ::2].neg_()
        module.decoders["relu2_1"].std.fill_(1e-30)
        module.on_validation_epoch_start()
        module.validation_step(images(1), 99)
        module.validation_step(torch.zeros(1, 3, 32, 32), 99)
    assert module.psnr["relu2_1"].compute().isnan()
    with pytest.raises(TrainingError, match=r"^the reconstructions of relu2_1 are no longer finite at step 0\b"):
        module.on_validation_epoch_end()


class CountReads(TorchDispatchMode):
    """Counts how often a value is read from a tensor, for which the host waits for the device."""

    reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.reads += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("adversarial", [0.0, 0.1])
def test_a_training_step_reads_no_value_from_the_device(adversarial: float) -> None:
    objective = "perceptual" if adversarial else "pixel"
    module = built(objective=objective, loss={"adversarial": adversarial})
    with CountReads() as mode:
        torch.zeros(1).item()
        assert mode.reads == 1
        module.training_step(images(), 0).backward()
        module.configure_gradient_clipping(None)
    assert mode.reads == 1


def test_weights_that_are_not_finite_are_not_validated() -> None:
    module = built()
    with torch.no_grad():
        next(module.decoders["relu1_1"].parameters())[0, 0, 0, 0] = 1e5  # beyond half precision
    with pytest.raises(TrainingError, match=r"^the weights of relu1_1 are no longer finite at step 0\b"):
        module.on_validation_epoch_start()


def test_weights_that_are_not_finite_replace_no_checkpoint() -> None:
    module = built()
    checkpoint: dict[str, object] = {}
    module.on_save_checkpoint(checkpoint)
    assert TrainConfig.model_validate(checkpoint["config"]) == module.config
    assert checkpoint["decoders"]["relu2_1"] == module.decoders["relu2_1"].description
    with torch.no_grad():
        next(module.decoders["relu1_1"].parameters())[0, 0, 0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"^the weights of relu1_1 are no longer finite "):
        module.on_save_checkpoint({})


def test_a_discriminator_that_is_not_finite_replaces_no_checkpoint() -> None:
    module = built(objective="perceptual", loss={"adversarial": 1})
    with torch.no_grad():
        next(module.discriminators["relu2_1"].parameters())[0, 0, 0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"^the weights of relu2_1 are no longer finite "):
        module.on_save_checkpoint({})


def test_validation_measures_8_bit_images_of_any_size() -> None:
    module = built()
    expected: dict[str, list[float]] = {layer: [] for layer in LAYERS}
    for height, width in ((33, 50), (32, 64), (7, 9)):
        x = (images(1, height, width) * 255).round() / 255
        with torch.no_grad():
            module.on_validation_epoch_start()
            module.validation_step(x, 99)
            padding = (0, -width % 32, 0, -height % 32)
            features = module.encoder(nn.functional.pad(x, padding, mode="replicate"), LAYERS)
            for layer, decoder in module.candidates.items():
                preds = decoder(features[layer])[0, :, :height, :width].clamp(0, 1)
                rounded = (preds * 255).round().byte().numpy()
                expected[layer].append(skimage_psnr((x[0] * 255).round().byte().numpy(), rounded))
    module.validation_step(torch.empty(0, 3, 1, 1), 99)  # an unreadable image counts for nothing
    for layer, metric in module.psnr.items():
        assert float(metric.compute()) == pytest.approx(np.mean(expected[layer]), abs=1e-3)


def test_a_decoder_for_each_layer_of_the_configuration() -> None:
    module = built("relu3_2", "relu1_2")
    assert set(module.decoders) == {"relu1_2", "relu3_2"}


def test_a_discriminator_opposes_each_decoder_of_an_adversarial_loss() -> None:
    x, weight = images(), 0.5
    module, without = built(objective="perceptual", loss={"adversarial": weight}), built()
    assert set(module.discriminators) == set(LAYERS)
    assert not without.discriminators
    assert all(same(module.decoders[layer], without.decoders[layer]) for layer in LAYERS)

    features = module.encoder(x, LAYERS)
    generator_loss = [
        -module.discriminators[layer](module.decoders[layer](features[layer])).sigmoid().log().mean()
        for layer in LAYERS
    ]
    loss = module.training_step(x, 0)
    assert loss.item() == pytest.approx(
        without.training_step(x, 0).item() + weight * sum(generator_loss).item(), rel=1e-4
    )
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())

    optimizer = module.configure_optimizers()
    trained = {id(value) for group in optimizer.param_groups for value in group["params"]}
    assert trained == {id(value) for value in module.parameters()}
