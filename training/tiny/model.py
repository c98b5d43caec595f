"""The backbone with what it needs only while it is trained."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Dinov2Config, Dinov2Model

from cytosae.backbones import BUILT_IN
from training.tiny.data import SIZE, Pixels
from training.tiny.targets import GLOBAL, KINDS, WIDTH

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
PATCH = 14


def new_backbone(blocks: int = 6) -> Dinov2Model:
    """A DINOv2 of width 192; 2.8 million weights with 6 blocks."""
    config = Dinov2Config(
        hidden_size=192,
        num_hidden_layers=blocks,
        num_attention_heads=3,
        mlp_ratio=4,
        image_size=SIZE,
        patch_size=PATCH,
        layerscale_value=1.0,
        drop_path_rate=0.0,
        use_mask_token=False,
    )
    # For so few tokens attention written out is four times faster on a CPU than the fused one, backwards.
    config._attn_implementation = "eager"
    backbone = Dinov2Model(config)
    for module in backbone.encoder.modules():
        if isinstance(
            module, nn.Linear
        ):  # wider than transformers' 0.02, with which so narrow a net hardly does anything at first
            nn.init.normal_(module.weight, std=0.7 * module.in_features**-0.5)
    with torch.no_grad():
        backbone.embeddings.position_embeddings[0, 1:] = waves(SIZE // PATCH, config.hidden_size)
    return backbone


def waves(grid: int, d: int) -> Tensor:
    """Sines and cosines of row and column, ``(grid * grid, d)``, a start for the positions as in MAE."""
    frequency = torch.exp(-torch.linspace(0, 1, d // 4) * np.log(grid)) * np.pi / 2
    angle = torch.arange(grid)[:, None] * frequency
    line = torch.cat([angle.sin(), angle.cos()], dim=1)
    both = torch.cat([line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)], dim=2)
    return 0.5 * both.reshape(grid * grid, d)


def patches_of(views: Tensor) -> Tensor:
    """uint8 ``(n, 224, 224, 3)`` to ``(n, 256, 588)``; in a patch colours come first, as in a convolution's kernel."""
    grid = SIZE // PATCH
    found = views.view(len(views), grid, PATCH, grid, PATCH, 3).permute(0, 1, 3, 5, 2, 4)
    return found.reshape(len(views), grid * grid, 3 * PATCH * PATCH)


def normalised(patches: Tensor) -> Tensor:
    """uint8 ``(..., 588)`` to float32 with ImageNet's mean and standard deviation."""
    pixels = patches.view(*patches.shape[:-1], 3, PATCH * PATCH).float().div_(255)
    return pixels.sub_(MEAN[:, None]).div_(STD[:, None]).flatten(-2)


def start_from_patches(backbone: Dinov2Model, images: Pixels, seed: int) -> None:
    """Let the patch embedding begin as the principal components of patches, partly whitened.

    From random numbers a short training hardly gets to see granules, which have little variance beside the edge of a
    nucleus (on filters that begin from data: Coates and Ng, 2012).
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(images), min(600, len(images)), replace=False))
    sample = patches_of(torch.from_numpy(images[rows])).flatten(0, 1)
    sample = normalised(sample[torch.from_numpy(rng.choice(len(sample), min(40_000, len(sample)), replace=False))])
    mean = sample.mean(0)
    centred = sample - mean
    variance, axes = torch.linalg.eigh(centred.T @ centred / len(sample))
    variance, axes = variance.flip(0), axes.flip(1)
    layer = backbone.embeddings.patch_embeddings.projection
    width = layer.out_channels
    scale = 1 / (variance[:width] + variance[width // 4]).sqrt()
    # A random rotation, or few of the channels would tell nearly everything.
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed)))[0]
    weight = turn @ (axes[:, :width] * scale).T
    with torch.no_grad():
        layer.weight.copy_(weight.view_as(layer.weight))
        layer.bias.copy_(-weight @ mean)


def start_from(backbone: Dinov2Model, source: str) -> None:
    """Let the weights begin as those of a trained backbone: ``tiny``, ``tiny-stains``, or a folder.

    Raises
    ------
    SystemExit
        It has another shape.
    """
    trained = Dinov2Model.from_pretrained(BUILT_IN.get(source, source), dtype=torch.float32)
    shapes = [{name: tuple(w.shape) for name, w in one.state_dict().items()} for one in (backbone, trained)]
    if shapes[0] != shapes[1]:
        raise SystemExit(f"--start {source}: has another shape; give tiny, or `backbone` of a training.")
    backbone.load_state_dict(trained.state_dict())


class Decoder(nn.Module):
    """Features of hidden patches, each on its own by a look at the visible tokens (CrossMAE, Fu et al., TMLR 2025)."""

    def __init__(self, d: int, width: int, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(0.02 * torch.randn(256, d))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(3))
        self.query, self.key_value, self.out = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.predict = nn.Linear(d, width)

    def forward(self, hidden: Tensor, kept: Tensor, wanted: Tensor) -> Tensor:
        """Features of the wanted patches, ``(n, m, width)``.

        Parameters
        ----------
        hidden
            Visible tokens with CLS, ``(n, 1 + k, d)``.
        kept, wanted
            Indices of the visible patches ``(n, k)`` and of the wanted ones ``(n, m)``.
        """
        n, _, d = hidden.shape
        hidden = torch.cat(
            [hidden[:, :1], hidden[:, 1:] + self.positions[kept]], dim=1
        )  # tokens need not tell their place
        x = self.positions[wanted]

        def by_head(y: Tensor) -> Tensor:
            return y.view(n, -1, self.heads, d // self.heads).transpose(1, 2)

        key, value = self.key_value(self.norms[0](hidden)).chunk(2, dim=-1)
        query = self.query(self.norms[1](x))
        weights = by_head(query) @ by_head(key).transpose(2, 3) * (d // self.heads) ** -0.5
        found = (weights.softmax(-1) @ by_head(value)).transpose(1, 2).reshape(n, -1, d)
        x = x + self.out(found)
        return self.predict(x + self.mlp(self.norms[2](x)))


class PreTraining(nn.Module):
    """The backbone, and the heads of the tasks that it is trained on.

    Masked prediction of patch features (MaskFeat, Wei et al., CVPR 2022) with an encoder that sees only some of the
    patches (MAE, He et al., CVPR 2022); prediction of what the visible patches themselves show, as numbers and as kinds;
    prediction of the whole picture's visual words (BoWNet, Gidaris et al., CVPR 2020); and agreement of two views of a
    cell (SimCLR, Chen et al., ICML 2020).

    All but the first are asked of the output of the second last block, since that is what is used later; the last block
    serves the masked prediction alone.
    """

    def __init__(self, blocks: int = 6) -> None:
        super().__init__()
        self.backbone = new_backbone(blocks)
        d = self.backbone.config.hidden_size
        self.norm = nn.LayerNorm(d)
        self.projector = nn.Sequential(nn.Linear(d, 768), nn.GELU(), nn.Linear(768, 128))
        self.words = nn.Linear(d, GLOBAL)
        self.cls_words = nn.Linear(d, GLOBAL)
        self.itself = nn.Linear(d, 4 * WIDTH)
        self.prototypes = nn.Parameter(torch.randn(sum(KINDS), d) * d**-0.5)
        self.decoder = Decoder(d, 4 * WIDTH)

    def encode(self, patches: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the second last and the last block for CLS and the kept patches.

        Parameters
        ----------
        patches
            uint8 ``(n, 256, 588)``.
        kept
            Indices of the patches that are seen, ``(n, k)``.
        """
        embeddings = self.backbone.embeddings
        layer, positions = embeddings.patch_embeddings.projection, embeddings.position_embeddings
        seen = normalised(patches.gather(1, kept[:, :, None].expand(-1, -1, patches.shape[2])))
        hidden = F.linear(seen, layer.weight.flatten(1), layer.bias) + positions[0, 1:][kept]
        cls = (embeddings.cls_token + positions[:, :1]).expand(len(patches), -1, -1)
        hidden = torch.cat([cls, hidden], dim=1)
        *blocks, last = self.backbone.encoder.layer
        for block in blocks:
            hidden = block(hidden)
        return hidden, last(hidden)

    def embed(self, hidden: Tensor) -> Tensor:
        """Unit vector of a view, ``(n, 128)``, from CLS; from the patches, it would be in all of them."""
        return F.normalize(self.projector(hidden[:, 0]).float(), dim=1)

    def kinds_loss(self, hidden: Tensor, kinds: Tensor) -> Tensor:
        """Cross entropy of the kinds of the kept patches, by the cosine of the token itself to one prototype of each.

        With nothing in between, the kind has to be the largest part of a token: larger than the place and the image,
        which without this take two thirds of the variance.

        Parameters
        ----------
        hidden
            Tokens with CLS, ``(n, 1 + k, d)``.
        kinds
            ``(n, k, len(KINDS))``.
        """
        cosine = F.normalize(hidden[:, 1:].float(), dim=-1) @ F.normalize(self.prototypes, dim=-1).T
        parts = (cosine / 0.06).split(KINDS, dim=-1)
        losses = [F.cross_entropy(part.flatten(0, 1), kinds[..., i].flatten()) for i, part in enumerate(parts)]
        return torch.stack(losses).mean()


@torch.no_grad()
def scaled(model: PreTraining, images: Pixels) -> Dinov2Model:
    """A copy of the backbone whose tokens have about unit variance after the second last block.

    Layer norms do not see the scale of the residual stream, so that it can be brought to that of other models by
    everything that writes into it: embeddings and layer scales. A power of two changes no bit of what is computed.
    """
    every = torch.arange(256).expand(len(images), -1)
    inner, _ = model.encode(patches_of(torch.from_numpy(np.array(images))), every)
    factor = 2.0 ** -round(float(inner.square().mean().sqrt().log2()))
    backbone = copy.deepcopy(model.backbone)
    embeddings = backbone.embeddings
    projection = embeddings.patch_embeddings.projection
    for weight in (embeddings.cls_token, embeddings.position_embeddings, projection.weight, projection.bias):
        weight.mul_(factor)
    for block in backbone.encoder.layer:
        block.layer_scale1.lambda1.mul_(factor)
        block.layer_scale2.lambda1.mul_(factor)
    return backbone


def agreement_loss(own: Tensor, others: Tensor, first: int, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy (SimCLR, Eq. 1).

    Parameters
    ----------
    own
        Unit vectors of both views of some cells, ``(2, n, d)``.
    others
        Those of all cells of the batch, ``(2, N, d)``, `own` among them.
    first
        Place of `own`'s first cell among them.
    temperature
        The lower, the more the nearest other cells count.
    """
    n, total = own.shape[1], others.shape[1]
    similarity = own.flatten(0, 1) @ others.flatten(0, 1).T / temperature
    place = torch.arange(first, first + n)
    itself, partner = torch.cat([place, total + place]), torch.cat([total + place, place])
    similarity = similarity.scatter(1, itself[:, None], -torch.inf)
    return F.cross_entropy(similarity, partner)
