"""`export`: a layer of an encoder, its decoder, or both as one ONNX file, which runs without PyTorch."""

import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import timm.layers.padding
import torch
from torch import Tensor, nn
from torch.export import Dim

from inverters.data.images import pad_to_multiple
from inverters.decoders.base import Decoder
from inverters.decoders.corrected import CorrectedDecoder
from inverters.encoders.base import Encoder
from inverters.encoders.names import weights_license
from inverters.errors import InverterError, first_line
from inverters.files import make_folder, replacing
from inverters.inversion.inverter import Inverter
from inverters.sharing.onnx_names import require_onnx

Part = Literal["encoder", "decoder", "both"]
OPSET = 20
BATCH = 2  # a dimension of size 1 would not stay dynamic
MAX_SIDE = 100_000  # features or multiples of pixels
TOLERANCE = 1e-3  # of the result of onnxruntime, relative to the largest value of PyTorch's


class EncoderPart(nn.Module):
    """Images, N×3×H×W with sides that are multiples of the encoder's, to the features of one layer."""

    encoder: Encoder
    layer: str

    def __init__(self, inverter: Inverter, layer: str) -> None:
        super().__init__()
        self.encoder, self.layer = inverter.encoder, layer

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.encoder(images, [self.layer])[self.layer]
        return features


class DecoderPart(nn.Module):
    """Features of one layer to images in [0, 1], N×3×(h·stride)×(w·stride)."""

    decoder: Decoder
    encode: EncoderPart

    def __init__(self, inverter: Inverter, layer: str) -> None:
        super().__init__()
        self.decoder, self.encode = inverter.decoders[layer], EncoderPart(inverter, layer)

    def forward(self, features: Tensor) -> Tensor:
        pixels: Tensor = self.decoder(features, self.encode)
        return pixels.clamp(0, 1)


def export(inverter: Inverter, layer: str, path: Path, part: Part = "both", license: str = "mit") -> float:
    """Write a part of an inverter to one ONNX file, and compare what onnxruntime computes with PyTorch.

    Images are RGB in [0, 1], N×3×H×W; normalisation, padding, clamping and corrections are in the file. Batch, height
    and width are dynamic, unless the encoder or the decoder of a vector takes one size only.

    Args:
        inverter: on the CPU.
        layer: one of its layers, or of its encoder's for the part `encoder`.
        path: ends in `.onnx`.
        part: `encoder` maps images to features, `decoder` features to images, and `both` images to reconstructions.
        license: of the decoder, as the Hub names it; metadata of the file.

    Returns:
        The largest difference between onnxruntime and PyTorch, relative to the largest value.

    Raises:
        InverterError: onnx, onnxscript or onnxruntime is missing, the network cannot be exported, or the file computes
            something else.
        OutputError: the name does not end in `.onnx`, or the file cannot be written.
        UnknownNameError: there is no such layer.
    """
    require_onnx(path)
    from inverters.sharing.onnx_graph import finish  # imports onnx, an extra

    inverter.encoder.require_layers([layer])
    parts = [EncoderPart(inverter, layer)] if part != "decoder" else []
    module = nn.Sequential(*parts, *([DecoderPart(inverter, layer)] if part != "encoder" else [])).eval()
    with torch.no_grad():
        model = _exported(module, inverter, layer, part)
        finish(model, part, inverter.encoder.input_multiple, _properties(inverter, layer, part, license))
        make_folder(path.parent)
        with replacing(path) as partial:
            partial.write_bytes(model.SerializeToString())
            return _compare(partial, module, inverter, layer, part)


def _exported(module: nn.Module, inverter: Inverter, layer: str, part: Part) -> Any:
    """The graph of a module for images whose sides are multiples of the encoder's, or for features."""
    example = _example(inverter, layer, part, BATCH)
    unit = 1 if part == "decoder" else inverter.encoder.input_multiple
    dynamic: dict[int, Any] = {0: Dim.DYNAMIC}
    if not _size(inverter, layer):
        dynamic |= {2: unit * Dim("rows", min=1, max=MAX_SIDE), 3: unit * Dim("columns", min=1, max=MAX_SIDE)}
    with warnings.catch_warnings(), patch.object(timm.layers.padding, "get_same_padding", _same_padding):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                (pad_to_multiple(example, unit),),
                input_names=["features" if part == "decoder" else "images"],
                output_names=["features" if part == "encoder" else "reconstructions"],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=(dynamic,),
                custom_translation_table={torch.ops.prims.signbit.default: _signbit},
                verbose=False,
            )
        except Exception as error:  # whatever the network does that the exporter cannot follow
            reason = first_line(error.__cause__ or error)
            raise InverterError(f"{inverter.encoder.name} cannot be exported: {reason}") from error
    assert program is not None
    return program.model_proto


def _same_padding(side: int, kernel_size: int, stride: int, dilation: int) -> int:
    """timm's function in whole numbers: of symbolic sides, PyTorch simplifies these, but not a rounded quotient."""
    return max((-(-side // stride) - 1) * stride + (kernel_size - 1) * dilation + 1 - side, 0)


def _signbit(x: Any) -> Any:
    """For `LogCompression`: whether x is negative, which the exporter cannot translate. −0 is not, and stays 0."""
    from onnxscript import opset20 as op  # an extra

    return op.Less(x, op.CastLike(op.Constant(value_float=0.0), x))  # type: ignore[type-var]


def _size(inverter: Inverter, layer: str) -> int | None:
    """The side of the images if they have one size only."""
    decoder = inverter.decoders[layer].size if layer in inverter.decoders else None
    return inverter.encoder.input_size or decoder


def _example(inverter: Inverter, layer: str, part: Part, batch: int, larger: bool = False) -> Tensor:
    """Images whose sides need padding, or their features: to trace with, and larger ones to compare with."""
    multiple, generator = inverter.encoder.input_multiple, torch.Generator().manual_seed(0)
    height, width = (3 * multiple + 1, 2 * multiple + 3) if larger else (2 * multiple - 1, 3 * multiple - 1)
    if size := _size(inverter, layer):
        height = width = size
    images = torch.rand(batch, 3, height, width, generator=generator)
    return inverter.encode(images, [layer], exact=True)[layer].contiguous() if part == "decoder" else images


def _compare(path: Path, module: nn.Module, inverter: Inverter, layer: str, part: Part) -> float:
    """The largest difference between the results of a file and of the module that it was made from."""
    import onnxruntime  # type: ignore[import-untyped]  # an extra

    example = _example(inverter, layer, part, BATCH + 1, larger=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    result = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: example.numpy()})[0])
    if part == "decoder":
        expected = module(example)
    else:
        expected = module(pad_to_multiple(example, inverter.encoder.input_multiple))
    if part == "both":
        expected = expected[..., : example.shape[2], : example.shape[3]]
    if result.shape != expected.shape:
        raise InverterError(f"the exported file is wrong: it makes {tuple(result.shape)} of {tuple(expected.shape)}")
    difference = float((result - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if not difference <= TOLERANCE:
        raise InverterError(f"the exported file is wrong: its results differ by {difference:.1e} of the largest value")
    return difference


def _properties(inverter: Inverter, layer: str, part: Part, license: str) -> dict[str, str]:
    """What the file says about itself."""
    encoder = inverter.encoder
    found = {
        "layer": layer,
        "part": part,
        "encoder": encoder.name,
        "weights": encoder.weights,
        "fingerprint": encoder.fingerprint(layer),
        "stride": str(encoder.layers[layer].stride or ""),
        "input_multiple": str(encoder.input_multiple),
        "opset": str(OPSET),
        "inverters": version("inverters"),
        "torch": torch.__version__,
    }
    if preprocessing := getattr(encoder, "preprocessing", None):
        found["preprocessing"] = json.dumps({"input": "RGB, 0 to 1", "inside the file": preprocessing._asdict()})
    if part != "encoder":
        found |= {"decoder": json.dumps(inverter.decoders[layer].description), "license": license}
    if part != "decoder" or isinstance(inverter.decoders[layer], CorrectedDecoder):
        found["encoder_license"] = weights_license(encoder.name, encoder.weights) or "that of its authors"
    return found
