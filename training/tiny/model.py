"""The backbone with what it needs only while it is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Dinov2Config, Dinov2Model

from training.tiny.targets import WIDTH

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def new_backbone() -> Dinov2Model:
    """A DINOv2 of 3.7 million weights."""
    config = Dinov2Config(
        hidden_size=192,
        num_hidden_layers=8,
        num_attention_heads=3,
        mlp_ratio=4,
        image_size=224,
        patch_size=14,
        layerscale_value=1.0,
        drop_path_rate=0.0,
        use_mask_token=False,
    )
    return Dinov2Model(config)


class PreTraining(nn.Module):
    """Masked prediction of patch features (MaskFeat) with an encoder of visible patches only (MAE, He et al. 2022),
    and agreement of two views of a cell (SimCLR, Chen et al. 2020).

    The agreement is asked of the output of the second last block, mean patch and CLS, since that is what is used later.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = new_backbone()
        d, narrow = 192, 128
        self.projector = nn.Sequential(nn.Linear(2 * d, 512), nn.GELU(), nn.Linear(512, 128))
        self.to_decoder = nn.Linear(d, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_positions = nn.Parameter(0.02 * torch.randn(1, 256, narrow))
        self.decoder = nn.TransformerEncoderLayer(narrow, 4, 4 * narrow, 0.0, "gelu", batch_first=True, norm_first=True)
        self.predict = nn.Linear(narrow, WIDTH)

    def encode(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the second last and the last block for CLS and the kept patches.

        Parameters
        ----------
        x
            ``(n, 3, 224, 224)`` from 0 to 1.
        kept
            Indices of the patches that are seen, ``(n, k)``.
        """
        embeddings = self.backbone.embeddings
        pixels = (x - MEAN.view(1, 3, 1, 1)) / STD.view(1, 3, 1, 1)
        patches = embeddings.patch_embeddings(pixels) + embeddings.position_embeddings[:, 1:]
        patches = patches.gather(1, kept[:, :, None].expand(-1, -1, patches.shape[2]))
        cls = (embeddings.cls_token + embeddings.position_embeddings[:, :1]).expand(len(x), -1, -1)
        hidden = torch.cat([cls, patches], dim=1)
        *blocks, last = self.backbone.encoder.layer
        for block in blocks:
            hidden = block(hidden)
        return hidden, last(hidden)

    def embed(self, hidden: Tensor) -> Tensor:
        """Unit vector of a view, ``(n, 128)``, from its tokens."""
        pooled = torch.cat([hidden[:, 0], hidden[:, 1:].mean(dim=1)], dim=1)
        return F.normalize(self.projector(pooled).float(), dim=1)

    def predicted(self, hidden: Tensor, kept: Tensor) -> Tensor:
        """Features of all patches, ``(n, 256, WIDTH)``, from the kept ones."""
        hidden = self.to_decoder(self.backbone.layernorm(hidden[:, 1:]))
        canvas = self.mask_token.to(hidden.dtype).expand(len(hidden), 256, -1)
        canvas = canvas.scatter(1, kept[:, :, None].expand_as(hidden), hidden)
        return self.predict(self.decoder(canvas + self.decoder_positions)).float()


def agreement_loss(a: Tensor, b: Tensor, temperature: float = 0.15) -> Tensor:
    """Normalised temperature-scaled cross entropy (SimCLR, Eq. 1) between two views, both ``(n, d)`` of unit norm."""
    both = torch.cat([a, b])
    similarity = both @ both.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    partner = torch.arange(len(both)).roll(len(a))
    return F.cross_entropy(similarity, partner)
