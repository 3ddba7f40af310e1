"""Reading the state of an interrupted run, and checking that it may be resumed."""

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from inverters.encoders.weight_files import reading_reason
from inverters.errors import TrainingError
from inverters.training.config import TrainConfig
from inverters.training.config_file import explain

MAY_CHANGE = {  # between the parts of a resumed run, whose decoders do not depend on it
    *("data.workers", "trainer.accelerator", "trainer.loggers"),
    *("trainer.validate_every", "trainer.checkpoint_every", "trainer.checkpoint_minutes"),
}


def read_state(path: Path, config: TrainConfig) -> dict[str, Any]:
    """Read the checkpoint at `path` and check that it belongs to a run of this configuration.

    `trainer.steps` may have grown: the run then goes on, on the learning rate schedule of the longer run.

    Raises:
        TrainingError: it is damaged, or its run's configuration differs in what decides the result.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        saved = TrainConfig.model_validate(state["config"])
    except ValidationError as error:
        raise TrainingError(f"cannot resume from {path}: its configuration: {explain(error)[0]}") from None
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise TrainingError(f"cannot resume from {path}: {reading_reason(error)}") from None
    before, now = _flatten(saved), _flatten(config)
    may_change = MAY_CHANGE - ({"data.workers"} if config.data.streaming else set())
    if now["trainer.steps"] > before["trainer.steps"]:
        may_change = may_change | {"trainer.steps"}
    if changed := [key for key in now if key not in may_change and now[key] != before[key]]:
        changes = ", ".join(f"{key} (was {before[key]!r}, is {now[key]!r})" for key in changed)
        raise TrainingError(f"the run in {path.parents[1]} cannot be resumed with another configuration: {changes}")
    return state


def _flatten(config: TrainConfig) -> dict[str, Any]:
    """The values by dotted key; the weights of the encoder by name even where they are the default."""
    flat: dict[str, Any] = {}
    for key, value in config.model_dump().items():
        flat |= {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
    return flat | {"encoder.weights": config.encoder.chosen_weights}
