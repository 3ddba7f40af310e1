"""The sections of a training run's configuration."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    field_validator,
    model_validator,
)

from inverters.decoders.names import MOST_BLOCKS, VECTOR_STRIDE, most_stages
from inverters.encoders.layers import Layer
from inverters.encoders.names import DEFAULT_ENCODER, named_weights, require_encoder
from inverters.errors import InverterError


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("Input should be a number")
    return value


Number = BeforeValidator(_no_boolean)  # in Python, and so in pydantic, True is 1
LARGEST = 1_000_000_000_000  # of any number: what is built or computed from it stays finite
NonNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False), Number]
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False), Number]
NonNegativeInt = Annotated[int, Field(ge=0, le=LARGEST), Number]
PositiveInt = Annotated[int, Field(gt=0, le=LARGEST), Number]
Side = Annotated[int, Field(gt=0, le=65_535), Number]  # pixels, as of the images that are read
BatchSize = Annotated[int, Field(gt=0, le=65_535), Number]
Workers = Annotated[int, Field(ge=0, le=1024), Number]
Width = Annotated[int, Field(gt=0, le=8192), Number]  # channels
Blocks = Annotated[int, Field(ge=0, le=MOST_BLOCKS), Number]
Depth = Annotated[int, Field(gt=0, le=MOST_BLOCKS), Number]
Scale = Annotated[float, Field(gt=0, le=1), Number]
Sources = Annotated[list[str], Field(min_length=1), BeforeValidator(_as_list)]


class Section(BaseModel):
    """A section of the configuration. Unknown keys are errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


def checked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function`, turning its InverterError into an error that pydantic collects."""
    try:
        return function(*arguments)
    except InverterError as error:
        raise ValueError(str(error)) from None


class EncoderConfig(Section):
    """The network whose features are inverted."""

    name: str = DEFAULT_ENCODER
    weights: str | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        checked(require_encoder, name)
        return name

    @property
    def chosen_weights(self) -> str:
        """`weights`, or the default of this encoder."""
        return named_weights(self.name, self.weights)


class DecoderConfig(Section):
    """The architecture of the decoders, by layer stride a list of [width, residual blocks]; see `ConvDecoder`.

    `vector_stages` is such a list for layers that are vectors.

    `initial` names published decoders to start from: a folder, or `shipped`. They bring their architecture along. With
    `corrections`, they are the base of as many new ones (see `CorrectedDecoder`), and are not trained any more.
    `initial_objective` is theirs; None takes that of the run, or else pixel. `correction_sizes` are by layer stride
    [width, depth].

    `through` names a shallower layer whose features the decoders predict first (see `ThroughDecoder`). `initial` then
    names the published decoders of that layer, which become the second half and are trained along. `through_size` is
    the [width, residual blocks] of the first half.
    """

    stages: dict[PositiveInt, list[tuple[Width, Blocks]]] = {}
    vector_stages: list[tuple[Width, Blocks]] | None = None
    log_compress: StrictBool = False
    initial: str | None = None
    initial_objective: Literal["pixel", "perceptual", "linear"] | None = None
    corrections: Blocks = 0
    correction_sizes: dict[PositiveInt, tuple[Width, Depth]] = {}
    through: str | None = None
    through_size: tuple[Width, Blocks] = (320, 4)

    @property
    def base_is_frozen(self) -> bool:
        """Whether corrections leave their base as it is, since it was trained before."""
        return self.initial is not None and self.through is None

    @field_validator("stages", mode="after")
    @classmethod
    def _fit_strides(cls, stages: dict[int, Any]) -> dict[int, Any]:
        mistakes = [
            f"stride {stride} has {len(listed)} stages; possible are 1 to {most_stages(stride)}"
            for stride, listed in stages.items()
            if not 1 <= len(listed) <= most_stages(stride)
        ]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return stages

    @field_validator("vector_stages", mode="after")
    @classmethod
    def _fit_vectors(cls, stages: list[Any] | None) -> list[Any] | None:
        most = most_stages(VECTOR_STRIDE)
        if stages is not None and not 1 <= len(stages) <= most:
            raise ValueError(f"has {len(stages)} stages; possible are 1 to {most}")
        return stages

    def stages_of(self, layer: Layer) -> list[tuple[int, int]] | None:
        """The stages that are asked for at this layer."""
        return self.vector_stages if layer.stride is None else self.stages.get(layer.stride)


class LossConfig(Section):
    """The weights of the loss terms; see `training.losses` and `training.discriminator`."""

    pixel: NonNegative = 1.0
    feature: NonNegative = 0.0
    perceptual: NonNegative = 0.0
    total_variation: NonNegative = 0.0
    adversarial: NonNegative = 0.0
    through: NonNegative = 0.02

    @model_validator(mode="after")
    def _something_to_minimise(self) -> "LossConfig":
        if self.pixel == self.feature == self.perceptual == 0:
            raise ValueError("pixel, feature and perceptual are all 0: nothing ties a reconstruction to its image")
        return self


class LinearConfig(Section):
    """The fit of linear decoders; see `fit_linear_decoders`."""

    kernel_size: Annotated[Literal[1, 3, 5, 7], Number] = 3
    ridge: Positive = 1e-3


class DataConfig(Section):
    """The photographs, and how they are cropped and batched; see `ImageDataModule`."""

    train: Sources
    validation: Sources
    train_split: str = "train"
    validation_split: str = "validation"
    image_column: str = "image"
    streaming: StrictBool = False
    shuffle_buffer: PositiveInt = 1000
    validation_limit: PositiveInt | None = None
    resize: Side | None = None
    scale: tuple[Scale, Scale] | None = None
    crop_size: Side = 128
    batch_size: BatchSize = 16
    workers: Workers = 2

    @field_validator("scale")
    @classmethod
    def _ascending(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale and scale[0] > scale[1]:
            raise ValueError(f"the smaller factor comes first: [{scale[1]}, {scale[0]}]")
        return scale


class OptimizerConfig(Section):
    """AdamW or Muon, with linear warm-up and cosine decay to zero; see `InversionModule`."""

    algorithm: Literal["adamw", "muon"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    warmup_steps: NonNegativeInt = 100
    gradient_clip: Positive = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1), Number] = 0.999


class TrainerConfig(Section):
    """How long and on which devices to train, and how often to validate and save."""

    steps: PositiveInt
    validate_every: PositiveInt = 500
    checkpoint_every: PositiveInt = 500
    checkpoint_minutes: Positive = 15.0
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: PositiveInt | None = None
    num_nodes: PositiveInt = 1
    strategy: Literal["auto", "ddp"] = "auto"
    loggers: Annotated[list[Literal["tensorboard", "csv", "wandb", "mlflow"]], BeforeValidator(_as_list)] = [
        "tensorboard",
        "csv",
    ]
