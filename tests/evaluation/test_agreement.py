"""Top-1 agreement: whether EfficientNet-Lite0 sees the same in a reconstruction as in its photograph."""

import numpy as np
import skimage.data
import torch
from timm import create_model
from torchvision.transforms import v2

from inverters.data.images import to_image
from inverters.encoders.registry import create_encoder
from inverters.evaluation.scores import top_1_agreement


def test_it_compares_the_likeliest_classes_of_the_network() -> None:
    cup = v2.functional.center_crop(to_image(np.asarray(skimage.data.coffee())), [224, 224])
    cat = v2.functional.center_crop(to_image(np.asarray(skimage.data.chelsea())), [224, 224])
    preds, target = torch.stack([cup, cat, 1 - cat]), torch.stack([cup.flip(-1), cup, cat])
    network = create_model("tf_efficientnet_lite0").eval()  # the same weights, by timm alone
    own = create_encoder("efficientnet-lite0", None, ["logits"]).module.state_dict()
    network.load_state_dict(dict(zip(network.state_dict(), own.values(), strict=True)))
    with torch.no_grad():
        expected = [(network(images * 2 - 1)).argmax(1) for images in (preds, target)]
    assert top_1_agreement(preds, target).tolist() == (expected[0] == expected[1]).float().tolist()
    assert top_1_agreement(preds, target).tolist()[:2] == [1.0, 0.0]
