"""The networks of the paper that Figure 1 needs, and a small MLP.

Batch normalisation always uses the statistics of the batch at hand (the
transductive setting of MAML), so a network has no running statistics that could
carry information from one task to the next.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """3x3 convolution, batch normalisation, ReLU, 2x2 max-pooling.

    The maximum is taken before the ReLU; both orders are equal, and this one
    touches a quarter of the pixels.

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H//2, W//2]."""
        return F.relu(F.max_pool2d(self.norm(self.conv(x)), 2))


class ConvNet4(nn.Module):
    """ConvNet-4: four convolution blocks and a linear layer.

    Parameters
    ----------
    ways : int
        Number of classes.
    channels : int, default 3
        Channels of the images.
    image_size : int, default 84
        Height and width of the images in pixels, at least 16.
    width : int, default 64
        Channels of each block.

    Raises
    ------
    ValueError
        If the images are too small for four poolings.
    """

    def __init__(self, ways: int, channels: int = 3, image_size: int = 84, width: int = 64) -> None:
        super().__init__()
        side = image_size // 16
        if side < 1:
            raise ValueError(f"ConvNet-4 halves images four times: {image_size} pixels are too few")
        self.layer1 = ConvBlock(channels, width)
        self.layer2 = ConvBlock(width, width)
        self.layer3 = ConvBlock(width, width)
        self.layer4 = ConvBlock(width, width)
        self.output = nn.Linear(width * side * side, ways)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, C, S, S] to logits [B, ways]."""
        x = images.contiguous(memory_format=torch.channels_last)
        x = self.layer1(x)  # [B, width, S/2, S/2]
        x = self.layer2(x)  # [B, width, S/4, S/4]
        x = self.layer3(x)  # [B, width, S/8, S/8]
        x = self.layer4(x)  # [B, width, S/16, S/16]
        return self.output(x.flatten(1))  # [B, ways]


class MLP(nn.Module):
    """Fully connected network with ReLU.

    Parameters
    ----------
    sizes : sequence of int
        Sizes of input, hidden layers and output.
    dropout : float, default 0.0
        Probability of dropping a hidden unit in training.
    """

    def __init__(self, *sizes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs [B, ...] to outputs [B, sizes[-1]]."""
        x = x.flatten(1)  # [B, sizes[0]]
        *hidden, last = self.layers
        for layer in hidden:
            x = F.dropout(F.relu(layer(x)), self.dropout, self.training)
        return last(x)


NetworkName = Literal["convnet4", "mlp"]


def make_network(
    name: NetworkName, *, ways: int, channels: int, image_size: int, width: int
) -> nn.Module:
    """Build a network by name.

    Parameters
    ----------
    name : {"convnet4", "mlp"}
        Which network.  ``mlp`` has two hidden layers of `width` units.
    ways : int
        Number of classes.
    channels, image_size : int
        Shape of the images.
    width : int
        Channels of each convolution block, or units of each hidden layer.

    Returns
    -------
    nn.Module
        Initialised from torch's global random state.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if name == "convnet4":
        return ConvNet4(ways, channels, image_size, width)
    if name == "mlp":
        return MLP(channels * image_size**2, width, width, ways)
    raise ValueError(f"unknown network {name!r}; known are 'convnet4', 'mlp'")
