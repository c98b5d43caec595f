"""DinoBloom's published names, files and shapes; `cytosae.backbones.layout` reads the files.

There are three forms: the ``.pth`` of Zenodo record 10908163 (``{"teacher": {"backbone.…": …, "dino_head.…": …}}``), the
flat ``.bin`` files of the hub's MarrLab/DinoBloom, and safetensors in timm's naming
(``1aurent/vit_*_patch14_224.dinobloom``).
"""

HUB_REPOSITORY = "MarrLab/DinoBloom"
HUB_FILES = {f"dinobloom-{size}": f"pytorch_model_{size}.bin" for size in "sblg"}
ZENODO_RECORD = "10908163"
ZENODO_FILES = {f"dinobloom-{size}": f"DinoBloom-{size.upper()}.pth" for size in "sblg"}
SHAPES = {"dinobloom-s": (384, 12), "dinobloom-b": (768, 12), "dinobloom-l": (1024, 24), "dinobloom-g": (1536, 40)}
"""Width and number of blocks."""
