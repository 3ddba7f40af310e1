"""The configuration of a training run: its schema, reading it from YAML, and overrides from the command line."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from inverters.errors import ConfigError, UnknownNameError
from inverters.layers import INPUT_MULTIPLE, find_layers, layer_table, network


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sources = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderConfig(Section):
    """The network whose features are inverted."""

    name: str = "vgg19"
    weights: str = "original"

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        _checked(network, name)
        return name


class DecoderConfig(Section):
    """The decoders' sizes: by layer stride, a list of [width, residual blocks]; see `FeatureDecoder`."""

    stages: dict[int, list[tuple[PositiveInt, Annotated[int, Field(ge=0)]]]] = {}


class LossConfig(Section):
    """The weight of each term of the loss; see `losses.py`."""

    pixel: NonNegative = 1.0
    feature: NonNegative = 0.0
    total_variation: NonNegative = 0.0

    @model_validator(mode="after")
    def _something_to_minimise(self) -> "LossConfig":
        if self.pixel == self.feature == 0:
            raise ValueError("pixel and feature are both 0: nothing ties a reconstruction to its image")
        return self


class DataConfig(Section):
    """Where the photographs are, and what a training step sees of them; see `ImageDataModule`."""

    train: Sources
    validation: Sources
    train_split: str = "train"
    validation_split: str = "validation"
    image_column: str = "image"
    streaming: bool = False
    shuffle_buffer: PositiveInt = 1000
    validation_limit: PositiveInt | None = None
    resize: PositiveInt | None = None
    crop_size: PositiveInt = 128
    batch_size: PositiveInt = 16
    workers: Annotated[int, Field(ge=0)] = 2

    @model_validator(mode="after")
    def _crop_fits_the_pooling(self) -> "DataConfig":
        if self.crop_size % INPUT_MULTIPLE:
            raise ValueError(f"crop_size {self.crop_size} is not a multiple of {INPUT_MULTIPLE}")
        return self


class OptimizerConfig(Section):
    """AdamW with linear warm-up and cosine decay to zero."""

    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    gradient_clip: Positive = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999


class TrainerConfig(Section):
    """How long to train, on what, and how often to look and save."""

    steps: PositiveInt
    validate_every: PositiveInt = 500
    checkpoint_every: PositiveInt = 500
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: PositiveInt | None = None


class TrainConfig(Section):
    """A training run."""

    encoder: EncoderConfig = EncoderConfig()
    layers: Annotated[list[str], Field(min_length=1)]
    decoder: DecoderConfig = DecoderConfig()
    loss: LossConfig = LossConfig()
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    trainer: TrainerConfig
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @field_validator("layers", mode="before")
    @classmethod
    def _known_layers(cls, value: Any, info: ValidationInfo) -> Any:
        """Layer names as a list, as `relu1_2,relu4_2`, or as `all`; wrong ones cannot pass."""
        if "encoder" not in info.data:
            return value  # its own mistake is reported
        encoder = info.data["encoder"].name
        if value == "all":
            return list(layer_table(encoder))
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return value  # pydantic says what is wrong with it
        return [layer.name for layer in _checked(find_layers, names, encoder)]

    @field_validator("decoder", mode="after")
    @classmethod
    def _stages_fit_strides(cls, decoder: DecoderConfig) -> DecoderConfig:
        for stride, stages in decoder.stages.items():
            if not 1 <= len(stages) <= stride.bit_length():
                raise ValueError(f"stages of stride {stride}: {len(stages)}; possible are 1 to {stride.bit_length()}")
        return decoder


def _checked(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result; the name that it does not know becomes pydantic's kind of error."""
    try:
        return function(*arguments)
    except UnknownNameError as error:
        raise ValueError(str(error)) from None


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The run described by the YAML file at `path`, with `overrides` such as `data.batch_size=8` applied.

    Raises:
        ConfigError: the file cannot be read or is not YAML, or keys or values are wrong: one line for each mistake,
            with file, key, and the nearest valid name.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no keys; see configs/quickstart.yaml for an example")
    for override in overrides:
        _apply(values, override)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, mistake) for mistake in error.errors())) from None


class _StrictLoader(yaml.SafeLoader):
    """YAML without the silent loss of a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                mark = node.value[number][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", mark)
        return super().construct_mapping(node, deep)


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not key or not equals:
        raise ConfigError(f"--set {override}: not of the form key=value, such as --set data.batch_size=8")
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {section} is not a section")
    try:
        values[name] = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value") from None


def _explain(path: Path, mistake: Any) -> str:
    """One line for one of pydantic's errors: file, key, what is wrong."""
    *parents, name = mistake["loc"] or ("",)
    key = ".".join(str(part) for part in mistake["loc"])
    prefix = f"{path}: {key}: " if key else f"{path}: "
    if mistake["type"] == "extra_forbidden":
        section: Any = TrainConfig
        for parent in parents:
            section = section.model_fields[parent].annotation
        close = get_close_matches(str(name), section.model_fields, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"valid keys: {', '.join(section.model_fields)}"
        return f"{prefix}unknown key; {hint}"
    if mistake["type"] == "missing":
        return f"{prefix}missing"
    message = mistake["msg"].removeprefix("Value error, ")
    return f"{prefix}{message}" + ("" if isinstance(mistake["input"], dict) else f" (got {mistake['input']!r})")
