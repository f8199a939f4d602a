"""Images in tar shards as WebDataset writes them, read by place."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.contracts import Data, Split
from robustkit.data.images import HASHED_WHOLE, Pixels, decoded, in_threads, photographs, stacked
from robustkit.data.shards import Index, Shard, find_shards, indices
from robustkit.data.splits import holdout, validation_size
from robustkit.params import check, param

_GAP = 2**16
"""Bytes between two images that are rather read than skipped: headers and a label lie there."""
_RUN = 2**24
"""Bytes that are read at once, about."""


@dataclass(frozen=True, kw_only=True)
class WebDataset:
    """Images in the tar shards of WebDataset (https://github.com/webdataset/webdataset), any of them read by itself.

    A sample is an image, `KEY.jpg` or another format, and its class as a number, in `KEY.cls` or as `label` in
    `KEY.json`. Shards are plain tar files. Without `test` a random fifth of the samples is for testing. The headers of
    each shard are read once; a process then reads the images it needs and nothing else. An image is brought to its
    size as `imagefolder` does it. Pickles are refused.

    Fields:
        path: of the shards, e.g. train-{000..146}.tar, train-*.tar or a folder of them; also below a URL that fsspec
            understands.
        test: of the shards for testing, in the same way; empty: a random fifth of the others.
        size: side of the square images.
        seed: of the random split where no shards are for testing.
    """

    path: str = param(help="of the shards: train-{000..146}.tar, train-*.tar or a folder; or a URL")
    test: str = param("", "shards for testing")
    size: int = param(224, "side of the images", unit="pixels", low=8)
    seed: int = param(0, "of the random split")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, data_dir: Path | None = None) -> Data:
        where = f"webdataset:{self.path}"
        parts = [find_shards(text, where) for text in (self.path, self.test) if text]
        found = [indices(shards, where) for shards in parts]
        splits = [ShardSplit.of(shards, index, self.size) for shards, index in zip(parts, found, strict=True)]
        train: Split
        test: Split
        if self.test:
            train, test = splits
        else:
            train, test = holdout(splits[0], max(1, len(splits[0]) // 5), self.seed, where=where)
        train, val = holdout(train, validation_size(len(train)), self.seed, where=where)
        count = 1 + max(int(split.labels.max()) for split in splits)
        classes = tuple(str(number) for number in range(count))
        fingerprint = _fingerprint(parts, found, f"{self.size} {self.seed}")
        return photographs(where, classes, self.size, train, val, test, fingerprint)


@dataclass(frozen=True)
class ShardSplit:
    """Samples in shards; where they lie is in memory, 40 bytes and a name each.

    Args:
        shards: they are in.
        shard: (N,) number of each sample's shard.
        offset, size: (N,) int64 bytes of its image there.
        keys: (N,) bytes.
        labels: (N,) int64.
        side: of the images.

    Cost: neighbours in a shard are read in one go, others with one read each, on a few threads; then decoding.
    """

    shards: Sequence[Shard]
    shard: np.ndarray[Any, np.dtype[np.int64]]
    offset: np.ndarray[Any, np.dtype[np.int64]]
    size: np.ndarray[Any, np.dtype[np.int64]]
    keys: np.ndarray[Any, Any]
    labels: Tensor
    side: int

    @classmethod
    def of(cls, shards: Sequence[Shard], found: Sequence[Index], side: int) -> ShardSplit:
        """All samples of some shards."""
        counts = [len(index.offset) for index in found]
        return cls(
            shards,
            np.repeat(np.arange(len(shards)), counts),
            np.concatenate([index.offset for index in found]),
            np.concatenate([index.size for index in found]),
            np.concatenate([index.keys for index in found]),
            torch.from_numpy(np.concatenate([index.label for index in found])),
            side,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = index.numpy()
        wanted = np.unique(rows)
        images: dict[int, Pixels] = {}
        for group in in_threads(self._read, self._runs(wanted)):
            images |= dict(zip(group, in_threads(self._decode, group.items()), strict=True))
        return stacked([images[row] for row in rows.tolist()], self.side), self.labels[index]

    def _runs(self, rows: np.ndarray[Any, Any]) -> list[list[int]]:
        """Samples (n,) as groups that lie close to each other in one shard."""
        rows = rows[np.lexsort((self.offset[rows], self.shard[rows]))]
        runs: list[list[int]] = []
        for row in rows.tolist():
            last = runs[-1] if runs else None
            if (
                last is not None
                and self.shard[last[-1]] == self.shard[row]
                and self.offset[row] - self.offset[last[-1]] - self.size[last[-1]] <= _GAP
                and self.offset[row] - self.offset[last[0]] <= _RUN
            ):
                last.append(row)
            else:
                runs.append([row])
        return runs

    def _read(self, run: list[int]) -> dict[int, bytes]:
        start, end = int(self.offset[run[0]]), int((self.offset[run] + self.size[run]).max())
        content = self.shards[self.shard[run[0]]].read(start, end)
        places = {row: int(self.offset[row]) - start for row in run}
        return {row: content[place : place + int(self.size[row])] for row, place in places.items()}

    def _decode(self, given: tuple[int, bytes]) -> Pixels:
        row, content = given
        name = f"{self.keys[row].decode()} in {self.shards[self.shard[row]].name}"
        return decoded(io.BytesIO(content), name, self.side)


def _fingerprint(parts: Sequence[Sequence[Shard]], found: Sequence[Sequence[Index]], settings: str) -> str:
    """SHA-256 over what the shards' headers say and over labels; of small sets, over all their bytes too."""
    digest = hashlib.sha256(settings.encode())
    shards = [shard for part in parts for shard in part]
    for part in found:
        digest.update(f"{len(part)};".encode())
        for index in part:
            digest.update(index.digest.encode())
    if sum(shard.size for shard in shards) <= HASHED_WHOLE:
        for shard in shards:
            digest.update(shard.read(0, shard.size))
    return digest.hexdigest()
