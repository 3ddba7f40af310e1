"""The schema of a training run's configuration."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from inverters.encoders.names import (
    DEFAULT_ENCODER,
    find_layers,
    input_crop,
    input_multiple,
    input_size,
    list_layers,
    perceptual_layers,
    show_layers,
)
from inverters.errors import InverterError
from inverters.training.sections import (
    DataConfig,
    DecoderConfig,
    EncoderConfig,
    LinearConfig,
    LossConfig,
    Number,
    OptimizerConfig,
    Section,
    TrainerConfig,
    checked,
)

RENAMED = [("decoder", "compress", "log_compress")]  # (section, old key, new key); old keys are still accepted


def _encoder_name(info: ValidationInfo) -> str:
    """The name of the run's encoder, or of the default encoder where that name is wrong."""
    return str(info.data["encoder"].name) if "encoder" in info.data else DEFAULT_ENCODER


def _known_layer(name: str, info: ValidationInfo) -> str:
    checked(find_layers, [name], _encoder_name(info))
    return name


LayerName = Annotated[str, AfterValidator(_known_layer)]


class TrainConfig(Section):
    """A training run.

    `objective` says how decoders are made. `pixel`: by gradient descent on `loss`, which compares pixels only.
    `perceptual`: likewise, but `loss` compares features too or has an adversarial term. Such decoders are sharper, have
    a larger pixel error, and are published beside the others. `linear`: in closed form, on the crops of
    `trainer.steps` steps; `decoder`, `loss` and `optimizer` are ignored.
    """

    objective: Literal["pixel", "linear", "perceptual"] = "pixel"
    encoder: EncoderConfig = EncoderConfig()
    layers: Annotated[list[LayerName], Field(min_length=1)]
    decoder: DecoderConfig = DecoderConfig()
    loss: LossConfig = Field(default=LossConfig(), validate_default=True)
    linear: LinearConfig = LinearConfig()
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    trainer: TrainerConfig
    seed: Annotated[int, Field(ge=0, lt=2**32), Number] = 0

    @model_validator(mode="before")
    @classmethod
    def _accept_old_keys(cls, values: Any) -> Any:
        """Move values from keys that were renamed to their new names."""
        for section, old, new in RENAMED:
            given = values.get(section) if isinstance(values, dict) else None
            if isinstance(given, dict) and old in given and new not in given:
                renamed = {new if key == old else key: value for key, value in given.items()}
                values = values | {section: renamed}
        return values

    @field_validator("decoder")
    @classmethod
    def _strides_exist(cls, decoder: DecoderConfig, info: ValidationInfo) -> DecoderConfig:
        encoder = _encoder_name(info)
        strides = sorted({layer.stride for layer in list_layers(encoder).values() if layer.stride})
        message = f"no layer of {encoder} has this stride. Valid: {', '.join(map(str, strides))}"
        given = [("stages", stride) for stride in decoder.stages]
        given += [("correction_sizes", stride) for stride in decoder.correction_sizes]
        _refuse([((key, stride), message, stride) for key, stride in given if stride not in strides])
        return decoder

    @field_validator("decoder")
    @classmethod
    def _through_a_shallower_layer(cls, decoder: DecoderConfig, info: ValidationInfo) -> DecoderConfig:
        if decoder.through is None or not {"layers", "encoder"} <= info.data.keys():
            return decoder
        try:
            (target,) = find_layers([decoder.through], _encoder_name(info))
        except InverterError as error:
            _refuse([(("through",), str(error), decoder.through)])
        table = list_layers(_encoder_name(info))
        deeper = list(table)[list(table).index(target.name) + 1 :]
        for layer in map(table.__getitem__, info.data["layers"]):
            if layer.name not in deeper or not (layer.stride and target.stride) or layer.stride % target.stride:
                why = f"{layer.name} is not deeper, or its stride {layer.stride} is no multiple of {target.stride}"
                _refuse([(("through",), why, decoder.through)])
        return decoder.model_copy(update={"through": target.name})

    @field_validator("loss")
    @classmethod
    def _fits_the_objective(cls, loss: LossConfig, info: ValidationInfo) -> LossConfig:
        sharpening = {key: getattr(loss, key) for key in ("feature", "perceptual", "adversarial")}
        if info.data.get("objective") == "pixel":
            message = "must be 0 for objective pixel; set objective: perceptual to train with it"
            _refuse([((key,), message, weight) for key, weight in sharpening.items() if weight])
        if info.data.get("objective") == "perceptual" and not any(sharpening.values()):
            raise ValueError("objective is perceptual, but feature, perceptual and adversarial are all 0")
        return loss

    @field_validator("data")
    @classmethod
    def _crops_fit(cls, data: DataConfig, info: ValidationInfo) -> DataConfig:
        multiple = input_multiple(_encoder_name(info))
        if data.crop_size % multiple:
            _refuse([(("crop_size",), f"must be a multiple of {multiple}", data.crop_size)])
        if (size := input_size(_encoder_name(info))) and data.crop_size != size:
            _refuse(
                [(("crop_size",), f"must be {size}, the one size that {_encoder_name(info)} takes", data.crop_size)]
            )
        return data

    @property
    def image_crop(self) -> tuple[int, float] | None:
        """The size of the images that decoders are made for, and the part of the shorter side that it covers.

        None where images may have any size.
        """
        one_size = input_size(self.encoder.name) or any(
            layer.stride is None for layer in find_layers(self.layers, self.encoder.name)
        )
        return (self.data.crop_size, input_crop(self.encoder.name)) if one_size else None

    @property
    def encoder_layers(self) -> list[str]:
        """The layers whose features training needs: those of the decoders, and those that their losses compare."""
        compared = [other for layer in self.layers for other in self.compared_layers(layer)]
        return [layer.name for layer in find_layers([*self.layers, *compared], self.encoder.name)]

    def compared_layers(self, layer: str) -> list[str]:
        """The layers whose features the perceptual loss of `layer`'s decoder compares: none deeper than `layer`."""
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
        """Accept layers as a list, as `relu1_2,relu4_2`, or as `all`."""
        if value == "all":
            return list(show_layers(_encoder_name(info)))
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @field_validator("layers", mode="after")
    @classmethod
    def _sorted(cls, names: list[str], info: ValidationInfo) -> list[str]:
        """Return each layer once, in order of execution."""
        return [layer.name for layer in find_layers(names, _encoder_name(info))]


def _refuse(mistakes: list[tuple[tuple[str | int, ...], str, Any]]) -> None:
    """Raise pydantic's error if there are mistakes: (key within the section, message, value) each."""
    if mistakes:
        details = [
            InitErrorDetails(type=PydanticCustomError("unfit", "{why}", {"why": why}), loc=key, input=value)
            for key, why, value in mistakes
        ]
        raise ValidationError.from_exception_data("TrainConfig", details)
