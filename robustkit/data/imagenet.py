"""ImageNet, or a part of it, in folders named by WordNet ids."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import torch

from robustkit.contracts import Data
from robustkit.data.imagefolder import FolderSplit, folder_data, parts_of, read_files
from robustkit.data.splits import Subset
from robustkit.data.trees import Tree, tree_of
from robustkit.imagenet import RESTRICTED, group_of, wordnet_ids
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class ImageNet:
    """ImageNet (Russakovsky et al. 2015, https://arxiv.org/abs/1409.0575), whole or any part of it, in folders named
    by WordNet ids such as n01440764.

    The data have all 1,000 classes, in the order that published networks have them, whichever folders are there; so a
    network that brings its weights can be judged on a handful of images. With `restricted` they have the nine
    classes of Restricted ImageNet (Tsipras et al. 2019, https://arxiv.org/abs/1805.12152), made of 203 of the 1,000,
    and folders of other classes are left out. A network of 1,000 classes then answers for a group with the sum of
    its classes' probabilities.

    PATH/train with PATH/val as published, where val is the test set; or PATH itself holds the folders, and a random
    share of the images is for testing. Test images come in a random order. Images are decoded, scaled and cut out as by
    `imagefolder`.

    Fields:
        path: of the folder, or a URL that fsspec understands.
        restricted: nine groups of classes instead of 1,000.
        size: side of the square images.
        tested: share of the images that is for testing, where there are no folders train and val.
        seed: of the random split where the folders do not say.

    Raises:
        UsageError: a folder that is no class of ImageNet, or no folder that is.
    """

    path: str = param(help="of the folder, or a URL")
    restricted: bool = param(False, "the nine classes of Restricted ImageNet")
    size: int = param(224, "side of the images", unit="pixels", low=8)
    tested: float = param(0.2, "share that is for testing, without folders train and val", low=0.0, high=1.0)
    seed: int = param(0, "of the random split")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, data_dir: Path | None = None) -> Data:
        where = f"imagenet:{self.path}" + (":restricted=true" if self.restricted else "")
        tree = tree_of(self.path, where)
        data = folder_data(
            where,
            tree,
            parts_of(tree, where),
            functools.partial(self._read, tree, where),
            tuple(RESTRICTED) if self.restricted else class_names(),
            size=self.size,
            tested=self.tested,
            seed=self.seed,
            labelled=f" {'restricted' if self.restricted else 'ImageNet'}",
        )
        # the folders are sorted, and the first images of a test set stand for all of it
        order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(self.seed))
        return dataclasses.replace(data, test=Subset(data.test, order))

    def _read(self, tree: Tree, where: str, below: str) -> FolderSplit:
        ids = wordnet_ids()
        found = tree.folders(below) or []
        unknown = [name for name in found if name not in ids]
        if unknown:
            folder = tree.shown(f"{below}/{unknown[0]}".lstrip("/"))
            raise UsageError(
                f"{folder} is no class of ImageNet; folders are named by WordNet ids such as n01440764. "
                f"For other names take imagefolder:{self.path}"
            )
        labels = {name: group_of(ids[name]) if self.restricted else ids[name] for name in found}
        wanted = {name: label for name, label in labels.items() if label is not None}
        if not wanted:
            what = "none of Restricted ImageNet's classes" if found else "no folders of classes"
            raise UsageError(f"{where}: {tree.shown(below)} has {what}")
        return read_files(tree, below, wanted, self.size)


@functools.cache
def class_names() -> tuple[str, ...]:
    """The 1,000 classes as torchvision calls them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
