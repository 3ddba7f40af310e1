"""The time of a training step of configs/vgg19.yaml, by data, encoder and decoders, and the speed of the data loader.

python benchmarks/training.py --data photographs [--workers 1 2]
"""

import argparse
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from record import record, seconds
from torch import Tensor

from inverters.data.datamodule import ImageDataModule
from inverters.devices import find_device, has_fast_bfloat16
from inverters.encoders.registry import create_encoder
from inverters.training.config import TrainConfig
from inverters.training.config_file import load_config
from inverters.training.module import InversionModule

CONFIG = Path(__file__).parents[1] / "configs" / "vgg19.yaml"
STEPS = 20


def measure(config: TrainConfig, device: torch.device) -> dict[str, object]:
    """A row of the table."""
    data = ImageDataModule(**config.data.model_dump(), steps=config.trainer.steps, seed=config.seed)
    data.setup()
    loader = iter(data.train_dataloader())
    next(loader)
    started = perf_counter()
    batches = list(islice(loader, STEPS))
    loading = (perf_counter() - started) / STEPS

    encoder = create_encoder(config.encoder.name, config.encoder.weights, config.encoder_layers)
    module = InversionModule(config, encoder).to(device)
    module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device))

    def encode(images: Tensor) -> None:
        with torch.no_grad(), autocast:
            module.encoder(images, config.encoder_layers)

    def step(images: Tensor) -> None:
        optimizer.zero_grad()
        with autocast:
            loss = module.training_step(images, 0)
        loss.backward()
        optimizer.step()

    images = batches[0].to(device).contiguous(memory_format=torch.channels_last)
    encoding, whole = seconds(lambda: encode(images)), seconds(lambda: step(images))
    waits, started = [], perf_counter()
    for _ in range(STEPS):
        began = perf_counter()
        images = next(loader).to(device)
        waits.append(perf_counter() - began)
        step(images)
    training = (perf_counter() - started) / STEPS
    batch = config.data.batch_size
    return {
        "workers": config.data.workers,
        "loader alone, images/s": batch / loading,
        "encoder alone, images/s": batch / encoding,
        "training, images/s": batch / training,
        "wait for data, ms": 1000 * median(waits),
        "encoder, ms": 1000 * encoding,
        "decoders, ms": 1000 * (whole - encoding),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    data = [f"data.train={arguments.data}", f"data.validation={arguments.data}", "data.validation_limit=1"]
    configs = [load_config(CONFIG, [*data, f"data.workers={workers}"]) for workers in arguments.workers]
    record("training", [measure(config, find_device("auto")) for config in configs])


if __name__ == "__main__":
    main()
