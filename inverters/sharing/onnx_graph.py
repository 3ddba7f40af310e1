"""Changes of an exported graph: images of any size in, and their reconstructions at this size out."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

SIZE = "image_size"  # the height and width of the images


def finish(model: onnx.ModelProto, part: str, multiple: int, properties: Mapping[str, str]) -> None:
    """Let a graph of images, `encoder` or `both`, take images of any size, and say what the file is.

    Args:
        model: its input is `images` or `features`, its output `features` or `reconstructions`.
        part: of the inverter.
        multiple: pixels that the sides of its images are multiples of.
        properties: metadata.

    Raises:
        onnx.checker.ValidationError: the result is no valid model.
    """
    if part != "decoder":
        _take_any_size(model, multiple)
    if part == "both":
        _crop_to_input(model)
    for value, grid in ((model.graph.input[0], part == "decoder"), (model.graph.output[0], part == "encoder")):
        _name_sides(value, ("rows", "columns") if grid else ("height", "width"))
    helper.set_model_props(model, dict(properties))
    onnx.checker.check_model(model)


def _take_any_size(model: onnx.ModelProto, multiple: int) -> None:
    """Pad the input `images` of a graph to multiples of `multiple` pixels, by repeating the last row and column.

    It is done here and not in what PyTorch exports: there, the sides would be expressions such as ((s + (−s mod 32)) //
    2 + 1) // 2, which its solver simplifies for minutes, while those of 32·rows are simple.
    """
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["images_padded" if name == "images" else name for name in node.input]
    constants = {"image_axes": [2, 3], "image_starts": [0, 0], "image_multiple": [multiple]}
    graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in constants.items())
    before = [
        helper.make_node("Shape", ["images"], [SIZE], start=2, end=4),
        helper.make_node("Neg", [SIZE], ["image_negated"]),
        helper.make_node("Mod", ["image_negated", "image_multiple"], ["image_missing"]),
        helper.make_node("Concat", ["image_starts", "image_missing"], ["image_pads"], axis=0),
        helper.make_node("Pad", ["images", "image_pads", "", "image_axes"], ["images_padded"], mode="edge"),
    ]
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _crop_to_input(model: onnx.ModelProto) -> None:
    """Crop the output `reconstructions` of a graph after `_take_any_size` to the height and width of the images."""
    for node in model.graph.node:
        node.output[:] = ["uncropped" if name == "reconstructions" else name for name in node.output]
    inputs = ["uncropped", "image_starts", SIZE, "image_axes"]
    model.graph.node.append(helper.make_node("Slice", inputs, ["reconstructions"]))


def _name_sides(value: onnx.ValueInfoProto, names: tuple[str, str]) -> None:
    """Give those dimensions of an input or output names that have no fixed size."""
    for dimension, name in zip(value.type.tensor_type.shape.dim, ("batch", "", *names), strict=True):
        if not dimension.HasField("dim_value"):
            dimension.dim_param = name
