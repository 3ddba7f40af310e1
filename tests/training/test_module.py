import copy

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio as skimage_psnr
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from inverters.encoders.vgg import VGGEncoder
from inverters.errors import TrainingError
from inverters.training.config import TrainConfig
from inverters.training.module import InversionModule

pytestmark = pytest.mark.filterwarnings("ignore:.*self.log.*")
LAYERS = ("relu1_1", "relu2_1")


def built(
    *layers: str, steps: int = 100, seed: int = 0, width: int = 4, **sections: dict[str, object]
) -> InversionModule:
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
    return InversionModule(config, VGGEncoder(config.encoder_layers, weights="random"))


def images(count: int = 2, height: int = 32, width: int = 32) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_the_encoder_is_nowhere_but_in_use() -> None:
    module = built()
    names = [name for name, _ in module.named_parameters()]
    assert names
    assert all(name.startswith("decoders.") for name in (*names, *module.state_dict()))
    assert all(isinstance(child, nn.ModuleDict) for child in module.children())
    (optimizer,) = [module.configure_optimizers()["optimizer"]]  # type: ignore[index]
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
        features = [module.encoder(batch)[layer].transpose(0, 1).flatten(1) for batch in batches]
        values = torch.cat(features, dim=1).double()
        assert torch.allclose(decoder.mean.flatten().double(), values.mean(1), rtol=1e-4)
        std = values.std(1, correction=0)
        alive = std > 1e-5 * std.max()
        assert alive.sum() > len(std) / 2
        assert torch.allclose(decoder.std.flatten()[alive].double(), std[alive], rtol=1e-3)


def test_the_loss_is_the_weighted_sum_of_its_terms_and_of_the_layers() -> None:
    x = images()

    def loss(**weights: float) -> float:
        return built(loss=weights).training_step(x, 0).item()

    module = built()
    features = module.encoder(x)
    expected = dict.fromkeys(("pixel", "feature", "total_variation"), 0.0)
    for layer, decoder in module.decoders.items():
        preds = decoder(features[layer]).detach()
        expected["pixel"] += float(((preds - x) ** 2).mean())
        difference = (module.encoder(preds)[layer] - features[layer]) / decoder.std
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
    module = built("relu1_1", "conv3_1", loss={"pixel": 0, "perceptual": 3})
    module.fit_statistics([images(3)])
    features = module.encoder(x)
    assert list(features) == ["relu1_1", "relu1_2", "relu2_2", "conv3_1"]
    expected = 0.0
    for layer, compared in (("relu1_1", ["relu1_1"]), ("conv3_1", ["relu1_2", "relu2_2", "conv3_1"])):
        preds = module.decoders[layer](features[layer]).detach()
        found = module.encoder(preds)
        for other in compared:
            std = module.encoder(images(3))[other].std(dim=(0, 2, 3), correction=0, keepdim=True)
            std = std.clamp_min(1e-6 * float(std.max()))
            expected += 3 / len(compared) * float((((found[other] - features[other]) / std) ** 2).mean())
    assert module.training_step(x, 0).item() == pytest.approx(expected, rel=1e-3)


def test_the_feature_loss_reaches_the_decoder_and_not_the_encoder() -> None:
    module = built(loss={"pixel": 0, "feature": 1})
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
    module.configure_gradient_clipping(None)  # type: ignore[arg-type]
    large = [value.grad for value in module.decoders["relu1_1"].parameters()]
    assert float(nn.utils.get_total_norm(large)) == pytest.approx(0.5, rel=1e-3)
    assert all(map(torch.equal, small, (value.grad for value in module.decoders["relu2_1"].parameters())))


def test_the_learning_rate_warms_up_and_decays_and_falls_with_width() -> None:
    steps, warmup = 40, 10
    module = built(steps=steps, width=32, optimizer={"learning_rate": 0.01, "warmup_steps": warmup})
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]  # type: ignore[index, call-overload]
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    narrow, wide = np.array(rates).T
    assert np.allclose(narrow, 2 * wide)  # widths 32 and 64
    assert np.allclose(wide[: warmup + 1], 0.01 * np.linspace(1 / warmup, 1, warmup + 1))
    progress = np.arange(steps - warmup) / (steps - warmup)
    assert np.allclose(wide[warmup:], 0.01 * (1 + np.cos(np.pi * progress)) / 2)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_muon_orthogonalises_what_it_adds_to_a_convolution_and_scales_it_as_adamw_would() -> None:
    """An orthogonal a×b matrix times 0.2·√max(a, b) has entries of root mean square 0.2, as AdamW's steps have."""
    rate = 0.01
    module = built("relu2_1", width=32, optimizer={"algorithm": "muon", "learning_rate": rate, "warmup_steps": 0})
    optimizer = module.configure_optimizers()["optimizer"]  # type: ignore[index]
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


@pytest.mark.parametrize("steps", [1, 2])
def test_a_very_short_run_has_a_schedule(steps: int) -> None:
    made = built(steps=steps, optimizer={"warmup_steps": 0}).configure_optimizers()
    assert made["optimizer"].param_groups[0]["lr"] > 0  # type: ignore[index]


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights() -> None:
    module = built()
    for value in module.parameters():
        value.grad = torch.zeros_like(value)
    next(module.decoders["relu2_1"].parameters()).grad.fill_(torch.inf)
    with pytest.raises(TrainingError, match=r"gradient of relu2_1 is no longer finite at step 1\b"):
        module.configure_gradient_clipping(None)  # type: ignore[arg-type]


def test_weights_that_are_not_finite_replace_no_checkpoint() -> None:
    module = built()
    checkpoint: dict[str, object] = {}
    module.on_save_checkpoint(checkpoint)
    assert TrainConfig.model_validate(checkpoint["config"]) == module.config
    with torch.no_grad():
        next(module.decoders["relu1_1"].parameters())[0, 0, 0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"weights of relu1_1 "):
        module.on_save_checkpoint({})


def test_validation_measures_8_bit_images_of_any_size() -> None:
    module = built()
    expected: dict[str, list[float]] = {layer: [] for layer in LAYERS}
    for height, width in ((33, 50), (32, 64), (7, 9)):
        x = (images(1, height, width) * 255).round() / 255
        with torch.no_grad():
            module.validation_step(x, 99)
            padding = (0, -width % 32, 0, -height % 32)
            features = module.encoder(nn.functional.pad(x, padding, mode="replicate"))
            for layer, decoder in module.decoders.items():
                preds = decoder(features[layer])[0, :, :height, :width].clamp(0, 1)
                rounded = (preds * 255).round().byte().numpy()
                expected[layer].append(skimage_psnr((x[0] * 255).round().byte().numpy(), rounded))
    module.validation_step(torch.empty(0, 3, 1, 1), 99)  # an unreadable image counts for nothing
    for layer, metric in module.psnr.items():
        assert float(metric.compute()) == pytest.approx(np.mean(expected[layer]), abs=1e-3)


def test_a_decoder_for_each_layer_of_the_configuration() -> None:
    module = built("relu3_2", "relu1_2")
    assert set(module.decoders) == {"relu1_2", "relu3_2"}
    assert set(module.encoder(images())) == {"relu1_2", "relu3_2"}


def test_a_discriminator_opposes_each_decoder_of_an_adversarial_loss() -> None:
    x, weight = images(), 0.5
    module, without = built(loss={"adversarial": weight}), built()
    assert set(module.discriminators) == set(LAYERS)
    assert not without.discriminators
    assert all(same(module.decoders[layer], without.decoders[layer]) for layer in LAYERS)

    features = module.encoder(x)
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

    optimizer = module.configure_optimizers()["optimizer"]  # type: ignore[index]
    trained = {id(value) for group in optimizer.param_groups for value in group["params"]}
    assert trained == {id(value) for value in module.parameters()}
