"""What an interrupted run goes on from, and whether it may."""

from pathlib import Path
from typing import Any

import torch

from inverters.errors import TrainingError, first_line
from inverters.training.config import TrainConfig

MAY_CHANGE = {  # between the parts of a resumed run, since the result does not depend on it
    *("data.validation", "data.validation_split", "data.validation_limit", "data.workers"),
    *("trainer.validate_every", "trainer.checkpoint_every", "trainer.accelerator", "trainer.checkpoint_minutes"),
    "trainer.loggers",
}


def read_state(path: Path, config: TrainConfig) -> dict[str, Any]:
    """The checkpoint at `path`, of which is checked that it belongs to this run.

    Raises:
        TrainingError: it is damaged, or its run's configuration differs in what decides the result.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        saved = TrainConfig.model_validate(state["config"])
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise TrainingError(f"cannot resume from {path}: {first_line(error)}") from None
    before, now = _flatten(saved.model_dump()), _flatten(config.model_dump())
    decisive = now.keys() - MAY_CHANGE | ({"data.workers"} if config.data.streaming else set())
    if changed := [key for key in now if key in decisive and now[key] != before[key]]:
        changes = ", ".join(f"{key} (was {before[key]!r}, is {now[key]!r})" for key in changed)
        raise TrainingError(f"the run in {path.parents[1]} cannot be resumed with another configuration: {changes}")
    return state


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and key != "stages":
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
