"""The configuration of a training run: its schema."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from inverters.encoders.names import (
    DEFAULT_ENCODER,
    default_weights,
    find_layers,
    input_multiple,
    list_layers,
    perceptual_layers,
    require_encoder,
)
from inverters.errors import UnknownNameError


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sources = Annotated[list[str], Field(min_length=1), BeforeValidator(_listed)]


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _encoder_name(info: ValidationInfo) -> str:
    """The encoder of the run, or the default one where that is misspelled."""
    return str(info.data["encoder"].name) if "encoder" in info.data else DEFAULT_ENCODER


def _known_layer(name: str, info: ValidationInfo) -> str:
    _checked(find_layers, [name], _encoder_name(info))
    return name


LayerName = Annotated[str, AfterValidator(_known_layer)]


class EncoderConfig(Section):
    """The network whose features are inverted."""

    name: str = DEFAULT_ENCODER
    weights: str | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        _checked(require_encoder, name)
        return name

    @property
    def chosen_weights(self) -> str:
        """The weights, or the default ones of this encoder."""
        return self.weights or default_weights(self.name)


class DecoderConfig(Section):
    """The decoders' sizes (by layer stride a list of [width, residual blocks]) and input; see `ConvDecoder`.

    `initial` is a folder of published decoders of these sizes, whose weights training starts from.
    """

    stages: dict[PositiveInt, list[tuple[PositiveInt, Annotated[int, Field(ge=0)]]]] = {}
    log_compress: bool = Field(default=False, validation_alias=AliasChoices("log_compress", "compress"))
    initial: str | None = None

    @field_validator("stages", mode="after")
    @classmethod
    def _fit_strides(cls, stages: dict[int, Any]) -> dict[int, Any]:
        mistakes = [
            f"stride {stride} has {len(listed)} stages; possible are 1 to {stride.bit_length()}"
            for stride, listed in stages.items()
            if not 1 <= len(listed) <= stride.bit_length()
        ]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return stages


class LossConfig(Section):
    """The weight of each term of the loss; see `training.losses` and `training.discriminator`."""

    pixel: NonNegative = 1.0
    feature: NonNegative = 0.0
    perceptual: NonNegative = 0.0
    total_variation: NonNegative = 0.0
    adversarial: NonNegative = 0.0

    @model_validator(mode="after")
    def _something_to_minimise(self) -> "LossConfig":
        if self.pixel == self.feature == self.perceptual == 0:
            raise ValueError("pixel, feature and perceptual are all 0: nothing ties a reconstruction to its image")
        return self


class LinearConfig(Section):
    """The fit of linear decoders; see `fit_linear_decoders`."""

    kernel_size: Literal[1, 3, 5, 7] = 3
    ridge: Positive = 1e-3


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


class OptimizerConfig(Section):
    """AdamW, or Muon at the same rate, with linear warm-up and cosine decay to zero; see `InversionModule`."""

    algorithm: Literal["adamw", "muon"] = "adamw"
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
    checkpoint_minutes: Positive = 15.0
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: PositiveInt | None = None
    num_nodes: PositiveInt = 1
    strategy: Literal["auto", "ddp"] = "auto"
    loggers: Annotated[list[Literal["tensorboard", "csv", "wandb", "mlflow"]], BeforeValidator(_listed)] = [
        "tensorboard",
        "csv",
    ]


class TrainConfig(Section):
    """A training run.

    `objective` says how decoders are made. `pixel`: by gradient descent on `loss`. `perceptual`: likewise, with a
    weight on features, which makes for sharper images and larger errors of pixels; such decoders are published beside
    the others. `linear`: in closed form, on as many crops as `trainer.steps` of descent would see; of `decoder`, `loss`
    and `optimizer` it takes no notice.
    """

    objective: Literal["pixel", "linear", "perceptual"] = "pixel"
    encoder: EncoderConfig = EncoderConfig()
    layers: Annotated[list[LayerName], Field(min_length=1)]
    decoder: DecoderConfig = Field(default_factory=DecoderConfig)
    loss: LossConfig = LossConfig()
    linear: LinearConfig = LinearConfig()
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    trainer: TrainerConfig
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _perceives(self) -> "TrainConfig":
        if self.objective == "perceptual" and self.loss.feature == self.loss.perceptual == 0:
            raise ValueError("objective is perceptual, but loss.feature and loss.perceptual are both 0")
        return self

    @model_validator(mode="after")
    def _fits_the_encoder(self) -> "TrainConfig":
        multiple = input_multiple(self.encoder.name)
        if self.data.crop_size % multiple:
            raise ValueError(f"data.crop_size: must be a multiple of {multiple} (got {self.data.crop_size})")
        strides = sorted({layer.spatial_stride for layer in list_layers(self.encoder.name).values()})
        for stride in self.decoder.stages:
            if stride not in strides:
                valid = ", ".join(map(str, strides))
                raise ValueError(f"decoder.stages: no layer of {self.encoder.name} has stride {stride}. Valid: {valid}")
        return self

    @property
    def encoder_layers(self) -> list[str]:
        """The layers whose features training needs: those of the decoders, and what their loss compares."""
        compared = [other for layer in self.layers for other in self.compared_layers(layer)]
        return [layer.name for layer in find_layers([*self.layers, *compared], self.encoder.name)]

    def compared_layers(self, layer: str) -> list[str]:
        """The layers whose features the loss of `layer`'s decoder compares: the perceptual ones up to this one."""
        if not self.loss.perceptual:
            return []
        names = list(list_layers(self.encoder.name))
        return [
            other
            for other in names[: names.index(layer) + 1]
            if other in (*perceptual_layers(self.encoder.name), layer)
        ]

    @field_validator("layers", mode="before")
    @classmethod
    def _split(cls, value: Any, info: ValidationInfo) -> Any:
        """Layer names may come as a list, as `relu1_2,relu4_2`, or as `all`."""
        if value == "all":
            return list(list_layers(_encoder_name(info)))
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @field_validator("layers", mode="after")
    @classmethod
    def _sorted(cls, names: list[str], info: ValidationInfo) -> list[str]:
        """Shallowest first, each once."""
        return [layer.name for layer in find_layers(names, _encoder_name(info))]


def _checked(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result; the name that it does not know becomes pydantic's kind of error."""
    try:
        return function(*arguments)
    except UnknownNameError as error:
        raise ValueError(str(error)) from None
