"""What a training step of configs/vgg19.yaml waits for: data, encoder, decoders; and the loader's own pace.

python benchmarks/training.py --data photographs [--workers 1 2]
"""

import argparse
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from record import record, seconds

from inverters.data.datamodule import ImageDataModule
from inverters.devices import find_device, has_fast_bfloat16
from inverters.encoders.registry import create_encoder
from inverters.training.config_file import load_config
from inverters.training.initial import new_decoders
from inverters.training.losses import pixel_loss
from inverters.training.module import InversionModule

CONFIG = Path(__file__).parents[1] / "configs" / "vgg19.yaml"
STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    device = find_device("auto")
    fast = has_fast_bfloat16(device)
    rows = []
    for workers in arguments.workers:
        sources = [f"data.train={arguments.data}", f"data.validation={arguments.data}", "data.validation_limit=1"]
        config = load_config(CONFIG, [*sources, f"data.workers={workers}"])
        data = ImageDataModule(**config.data.model_dump(), steps=config.trainer.steps, seed=config.seed)
        data.setup()
        encoder = create_encoder(config.encoder.name, config.encoder.weights, config.encoder_layers)
        module = InversionModule(config, encoder, new_decoders(config, encoder)).to(device)
        module.log = lambda *_, **__: None  # type: ignore[method-assign]
        optimizer = module.configure_optimizers()
        batch = config.data.batch_size

        loader = iter(data.train_dataloader())
        next(loader)
        started = perf_counter()
        batches = list(islice(loader, STEPS))
        alone = (perf_counter() - started) / STEPS

        def encode(images: torch.Tensor) -> None:
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=fast):
                module.encoder(images, config.encoder_layers)  # noqa: B023

        def step(images: torch.Tensor) -> None:
            optimizer.zero_grad()  # noqa: B023
            with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                loss = module.training_step(images, 0)  # noqa: B023
            torch.autograd.backward(loss)
            optimizer.step()  # noqa: B023

        def decode(images: torch.Tensor, features: dict[str, torch.Tensor]) -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                losses = [pixel_loss(network(features[layer]), images) for layer, network in module.decoders.items()]  # noqa: B023
            torch.autograd.backward(torch.stack(losses).sum())

        images = batches[0].to(device).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=fast):
            features = module.encoder(images, config.encoder_layers)
        encoding = seconds(lambda: encode(images))  # noqa: B023
        decoding = seconds(lambda: decode(images, features))  # noqa: B023
        waits, paces = [], []
        for _ in range(STEPS):
            began = perf_counter()
            images = next(loader).to(device)
            waits.append(perf_counter() - began)
            step(images)
            paces.append(perf_counter() - began)
        pace = median(paces)
        rows.append(
            {
                "workers": workers,
                "loader alone, images/s": batch / alone,
                "encoder alone, images/s": batch / encoding,
                "training, images/s": batch / pace,
                "wait for data, ms": 1000 * median(waits),
                "encoder, ms": 1000 * encoding,
                "decoders, ms": 1000 * decoding,
                "beyond, %": 100 * (1 - (encoding + decoding) / pace),
            }
        )
    record("training", rows)


if __name__ == "__main__":
    main()
