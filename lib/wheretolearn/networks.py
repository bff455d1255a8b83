"""The networks of the paper, ConvNet-4 and ResNet-12, and a small MLP.

Batch normalisation always uses the statistics of the batch at hand (the
transductive setting of MAML), so a network has no running statistics that could
carry information from one task to the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import seam
from .suggestions import closest
from .unmodified import runs, unmodified


class Staged(nn.Module):
    """A network as a chain of stages: its children, in the order of their registration.

    The inner loop asks for parts of the chain, so that the stages before the first
    weight that moves are computed once for a task and not at every step.  It does so only
    where that is certainly the same: see :meth:`first_stage`.
    """

    def forward(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Map through the stages from `start` up to `stop` (by default, the end)."""
        for stage in list(self.children())[start:stop]:
            x = stage(x)
        return x

    def first_stage(self, names: Iterable[str]) -> int:
        """Return how many stages are the same at every step while the parameters `names` move.

        They end before the first that owns one of the parameters, or that may draw random
        numbers, count its calls, or do anything else: all but those of this file and a few of
        torch, without hooks and buffers.  There are none where the network is more than the
        chain, for it has a hook or its class another ``forward``.
        """
        if not self.is_chain():
            return 0
        owners = {name.partition(".")[0] for name in names}
        stages = list(self.named_children())
        for i, (name, stage) in enumerate(stages):
            if (
                name in owners
                or not unmodified(stage, *_STEADY)
                or any(True for _ in stage.buffers())
            ):
                return i
        return len(stages)

    def is_chain(self) -> bool:
        """Return whether to call the network is to call its stages, and nothing else."""
        return runs(self, Staged.forward)


class Patches(nn.Module):
    """The 3x3 surroundings of every pixel, as channels; the border is filled with zeros.

    The inputs of an inner loop stay the same, so their patches are made once for a
    task.  This pays for images of one channel, where a product with the nine pixels
    of a patch is several times faster than a convolution.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 1, H, W] to [B, 9, H, W], channels last."""
        h, w = images.shape[-2:]
        x = F.pad(images, (1, 1, 1, 1)).squeeze(1)  # [B, H+2, W+2]
        shifted = [x[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
        return torch.stack(shifted, -1).permute(0, 3, 1, 2)  # [B, 9, H, W]


class ChannelsLast(nn.Module):
    """Puts the channels of images side by side in memory, as all that follows wants them."""

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] to the same images."""
        if not seam.kernels_wanted():  # vmap knows no memory formats
            return images
        return images.contiguous(memory_format=torch.channels_last)


class ConvBlock(nn.Module):
    """3x3 convolution, batch normalisation, ReLU, 2x2 max-pooling.

    The convolution's bias is a parameter, as in the paper's network, but does nothing:
    the normalisation would take it away again.  So it is not added to the pixels, and
    its gradient is exactly zero.

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of channels.
    on_patches : bool, default False
        Whether the inputs are :class:`Patches` of images.
    """

    def __init__(self, in_channels: int, out_channels: int, on_patches: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels, track_running_stats=False)
        self.on_patches = on_patches

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H//2, W//2]."""
        if not self.as_built():
            pixels = x[:, 4:5] if self.on_patches else x  # in the middle of each patch
            return F.max_pool2d(F.relu(self.norm(self.conv(pixels))), 2)
        if self.on_patches:
            b, _, h, w = x.shape
            rows = x.permute(0, 2, 3, 1).flatten(0, 2)  # [B*H*W, 9]
            # contiguous decides how autograd multiplies on its way back: 8 times faster
            z = rows @ self.conv.weight.flatten(1).t().contiguous()  # [B*H*W, C']
            z = z.view(b, h, w, -1).permute(0, 3, 1, 2)  # [B, C', H, W]
        else:
            z = F.conv2d(x, self.conv.weight, padding=1)
        bias = torch.add(self.norm.bias, cast(Tensor, self.conv.bias), alpha=0)
        return norm_act(z, self.norm.weight, bias, pool=2, eps=self.norm.eps)

    def as_built(self) -> bool:
        """Return whether convolution and normalisation are still what the block made of them.

        Only then are they computed together, and not called; epsilon may be any.
        """
        conv = self.conv
        return (
            unmodified(conv, nn.Conv2d)
            and conv.kernel_size == (3, 3)
            and conv.stride == conv.padding == conv.dilation == (1, 1)
            and conv.groups == 1
            and conv.padding_mode == "zeros"
            and conv.bias is not None
            and _by_batch(self.norm)
        )


class Head(nn.Linear):
    """A linear layer on flattened features."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, ...] to [B, classes]."""
        return super().forward(x.flatten(1))


class ConvNet4(Staged):
    """ConvNet-4: four convolution blocks and a linear layer.

    Maps images [B, C, S, S] to logits [B, ways].

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
        self.inputs = Patches() if channels == 1 else ChannelsLast()
        self.layer1 = ConvBlock(channels, width, on_patches=channels == 1)  # [B, width, S/2, S/2]
        self.layer2 = ConvBlock(width, width)  # [B, width, S/4, S/4]
        self.layer3 = ConvBlock(width, width)  # [B, width, S/8, S/8]
        self.layer4 = ConvBlock(width, width)  # [B, width, S/16, S/16]
        self.output = Head(width * side * side, ways)  # [B, ways]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def as_built(self) -> bool:
        """Return whether it computes what its class says: no hook, no other layer or forward."""
        if type(self) is not ConvNet4 or not unmodified(self, ConvNet4, *_STEADY):
            return False
        names = ["inputs", "layer1", "layer2", "layer3", "layer4", "output"]
        stages = dict(self.named_children())
        first, *blocks, last = stages.values()
        on_patches = [type(first) is Patches, False, False, False]
        return (
            list(stages) == names
            and type(last) is Head
            and all(type(b) is ConvBlock and b.as_built() for b in blocks)
            and [cast(ConvBlock, b).on_patches for b in blocks] == on_patches
        )


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions beside a 1x1 one, each normalised; then 2x2 max-pooling.

    Activations are leaky ReLUs of slope 0.01: after the first two normalisations and after
    the sum (the maximum is taken before the last one, which changes nothing).

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels, track_running_stats=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels, track_running_stats=False)
        self.conv3 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(out_channels, track_running_stats=False)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm_shortcut = nn.BatchNorm2d(out_channels, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H//2, W//2]."""
        y = _normed(self.norm1, self.conv1(x), slope=0.01)  # [B, C', H, W]
        y = _normed(self.norm2, self.conv2(y), slope=0.01)
        y = _normed(self.norm3, self.conv3(y), slope=1.0)
        y = y + _normed(self.norm_shortcut, self.shortcut(x), slope=1.0)
        return F.leaky_relu(F.max_pool2d(y, 2), 0.01)


def norm_act(
    z: Tensor, weight: Tensor, bias: Tensor, *, slope: float = 0.0, pool: int = 1, eps: float = 1e-5
) -> Tensor:
    """Normalise by the batch, pool, and apply a (leaky) ReLU: [B, C, H, W] to [B, C, H/p, W/p].

    What bfloat16 made of a convolution is normalised in the precision of its `weight`.
    """
    if z.dtype == torch.bfloat16:
        z = z.to(weight.dtype)
    plain = z.device.type == "cpu" and z.dtype in (torch.float32, torch.float64)
    plain = plain and z.dtype == weight.dtype == bias.dtype
    if plain and seam.kernels_wanted() and (kernel := seam.fast("norm_act")):
        return kernel(z, weight, bias, slope=slope, pool=pool, eps=eps)
    y = F.batch_norm(z, None, None, weight, bias, training=True, eps=eps)
    if pool > 1:
        y = F.max_pool2d(y, pool)
    return F.leaky_relu(y, slope) if slope else F.relu(y)


def _normed(norm: nn.BatchNorm2d, z: Tensor, slope: float) -> Tensor:
    if not _by_batch(norm):
        return F.leaky_relu(norm(z), slope)
    return norm_act(z, norm.weight, norm.bias, slope=slope, eps=norm.eps)


def _by_batch(norm: nn.Module) -> bool:
    """Return whether a layer normalises by the batch at hand, scales, shifts, and no more."""
    return (
        unmodified(norm, nn.BatchNorm2d)
        and norm.running_mean is None
        and norm.weight is not None
        and norm.bias is not None
    )


_STEADY = (
    *(Patches, ChannelsLast, ConvBlock, ResidualBlock, Head),
    *(nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d, nn.Linear, nn.ReLU, nn.Flatten),
)
"""What a stage may be made of that is computed once while later ones move."""


class ResNet12(Staged):
    """ResNet-12: four residual blocks, the mean over pixels, and a linear layer.

    Maps images [B, C, S, S] to logits [B, ways].  Weights start from Xavier's uniform
    distribution (Glorot and Bengio, 2010), as in the paper's code, and the last bias from zero.

    Parameters
    ----------
    ways : int
        Number of classes.
    channels : int, default 3
        Channels of the images.
    width : int, default 64
        Channels of the first block; each further block has twice as many.
    """

    def __init__(self, ways: int, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.inputs = ChannelsLast()
        self.layer1 = ResidualBlock(channels, width)  # [B, width, S/2, S/2]
        self.layer2 = ResidualBlock(width, 2 * width)  # [B, 2 width, S/4, S/4]
        self.layer3 = ResidualBlock(2 * width, 4 * width)  # [B, 4 width, S/8, S/8]
        self.layer4 = ResidualBlock(4 * width, 8 * width)  # [B, 8 width, S/16, S/16]
        self.mean = nn.AdaptiveAvgPool2d(1)  # [B, 8 width, 1, 1]
        self.output = Head(8 * width, ways)  # [B, ways]
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.xavier_uniform_(p)
        nn.init.zeros_(self.output.bias)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


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


class Network(NamedTuple):
    """A kind of network: what makes it, and what to call it."""

    make: Callable[[int, int, int, int], nn.Module]
    """``make(ways, channels, image_size, width)``."""
    title: str


NETWORKS: dict[str, Network] = {
    "convnet4": Network(ConvNet4, "ConvNet-4"),
    "resnet12": Network(
        lambda ways, channels, _, width: ResNet12(ways, channels, width), "ResNet-12"
    ),
    "mlp": Network(
        lambda ways, channels, size, width: MLP(channels * size**2, width, width, ways), "MLP"
    ),
}
"""All networks by name; a network of your own is one line more."""


def make_network(name: str, *, ways: int, channels: int, image_size: int, width: int) -> nn.Module:
    """Build a network by name, initialised from torch's global random state.

    Parameters
    ----------
    name : str
        A key of :data:`NETWORKS`.
    ways : int
        Number of classes.
    channels, image_size : int
        Shape of the images.
    width : int
        Channels of each convolution block (of the first one of ResNet-12), or units of each of the
        two hidden layers of ``mlp``.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}{closest(name, NETWORKS)}")
    return NETWORKS[name].make(ways, channels, image_size, width)
