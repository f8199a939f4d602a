"""ART's detectors of poisoned training data. Each gives a score and a flag for every training sample.

They read what the last linear layer of the network gets, as their papers do, without hooks left behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from robustkit.contracts import Verdict
from robustkit.params import UsageError, check, param, suggest
from robustkit_art.bridge import PyTorchClassifier, classifier, one_hot
from robustkit_art.library import activation_defence, clustering_analyzer
from robustkit_art.library import poison as art
from robustkit_art.local import NumPy, numpy_for
from robustkit_art.roni import impact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robustkit.contracts import Data, Split

_LAYER = "submodule whose input is read, by its name in the network; last is the last linear layer"
_AT_ONCE = 500


class _Lists(NumPy):
    """ART asks whether a number is in what `np.where` found, which NumPy refuses to say of an empty array."""

    def where(self, *given: Any) -> Any:
        found = np.where(*given)
        return tuple(part.tolist() for part in found) if len(given) == 1 else found


class _Layered(PyTorchClassifier):  # type: ignore[misc]
    """A classifier that reads one layer's input, whichever ART asks for."""

    def watch(self, model: nn.Module, name: str) -> None:
        known = dict(model.named_modules())
        if name == "last":
            linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
            if not linear:
                raise UsageError("the network has no linear layer; name a layer, e.g. layer=features")
            self._watched = linear[-1]
        elif name in known:
            self._watched = known[name]
        else:
            raise UsageError(f"the network has no submodule {name!r}{suggest(name, known)}")

    def get_activations(self, x: Any, layer: Any = None, batch_size: int = 128, framework: bool = False) -> Any:
        rows: list[NDArray[np.float32]] = []
        hook = self._watched.register_forward_pre_hook(
            lambda module, given: rows.append(given[0].detach().float().flatten(1).cpu().numpy())
        )
        try:
            with torch.no_grad():
                for part in np.array_split(x, max(1, -(-len(x) // _AT_ONCE))):
                    self.model(torch.from_numpy(np.ascontiguousarray(part)).to(self.device))
        finally:
            hook.remove()
        return np.concatenate(rows)


@dataclass(frozen=True, kw_only=True)
class ActivationDefence:
    """Two clusters of activations in every class; the smaller or tighter one is poison (`ActivationDefence`; Chen et
    al. 2018, https://arxiv.org/abs/1811.03728).

    Its score is 1 for what it flags and 0 else. By `smaller` it flags something in every class, poisoned or not.
    Cost: one forward pass a training sample, and clustering.
    """

    layer: str = param("last", _LAYER)
    nb_clusters: int = param(2, "clusters in a class", low=2)
    nb_dims: int = param(10, "dimensions after reduction", low=1)
    reduce: Literal["PCA", "FastICA", "TSNE"] = param("PCA", "how dimensions are reduced")
    cluster_analysis: Literal["smaller", "relative-size", "distance"] = param(
        "relative-size", "what makes a cluster suspicious"
    )

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        x, y = _whole(data.train)
        with classifier(model, x[:1], kind=_Layered) as estimator:
            estimator.watch(model, self.layer)
            defence = art.ActivationDefence(estimator, x.numpy(), one_hot(y, estimator.nb_classes))
            defence.clusterer = activation_defence.MiniBatchKMeans(
                n_clusters=self.nb_clusters, n_init=3, random_state=_seed()
            )
            defence.nb_clusters = self.nb_clusters
            with numpy_for(clustering_analyzer, instead=_Lists()):
                _, clean = defence.detect_poison(
                    nb_clusters=self.nb_clusters,
                    nb_dims=self.nb_dims,
                    reduce=self.reduce,
                    cluster_analysis=self.cluster_analysis,
                )
        flagged = torch.tensor(clean) == 0
        return Verdict(score=flagged.double(), flagged=flagged, table=_by_class(flagged, y, data))


@dataclass(frozen=True, kw_only=True)
class SpectralSignatures:
    """Outliers along the first singular vector of a class's activations (`SpectralSignatureDefense`; Tran et al. 2018,
    https://arxiv.org/abs/1811.00636).

    It flags the share `eps_multiplier` x `expected_pp_poison` of every class, poisoned or not; the score tells more.
    Cost: one forward pass a training sample, and a singular value decomposition a class.
    """

    layer: str = param("last", _LAYER)
    expected_pp_poison: float = param(0.05, "share of poison expected", low=0.0, high=1.0)
    eps_multiplier: float = param(1.5, "factor on it", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        x, y = _whole(data.train)
        with classifier(model, x[:1], kind=_Layered) as estimator:
            estimator.watch(model, self.layer)
            defence = art.SpectralSignatureDefense(
                estimator,
                x.numpy(),
                one_hot(y, estimator.nb_classes),
                expected_pp_poison=self.expected_pp_poison,
                eps_multiplier=self.eps_multiplier,
            )
            _, clean = defence.detect_poison()
            features = estimator.get_activations(x.numpy())
        score = torch.zeros(len(y), dtype=torch.float64)
        for label in range(len(data.classes)):  # ART tells the scores of what it flags alone
            members = (y == label).nonzero().flatten()
            if len(members):
                scores = art.SpectralSignatureDefense.spectral_signature_scores(features[members.numpy()])
                score[members] = torch.from_numpy(np.asarray(scores, np.float64).reshape(-1))
        flagged = torch.tensor(clean) == 0
        return Verdict(score=score, flagged=flagged, table=_by_class(flagged, y, data))


@dataclass(frozen=True, kw_only=True)
class RONI:
    """Reject on negative impact (`RONIDefense`; Nelson et al. 2008): does training on this sample cost accuracy?

    ART fits a copy of the network for each suspect, on all of the validation images and the suspects it has
    accepted; only `suspects` samples, evenly spread, are judged, and the others score 0. ART stacks images with
    a function for rows, so it gets them flattened, and copies classifiers through files, so they are copied in
    memory. Uncalibrated: ART's calibration fits another network for every calibration sample.
    Cost: `suspects` x `epochs` passes over the validation images and back.
    """

    suspects: int = param(20, "training samples that are judged", low=1)
    epochs: int = param(1, "passes over the trusted images for each suspect", low=1)
    lr: float = param(0.01, "learning rate of these fits (SGD)", low=0.0)
    quiz_share: float = param(
        0.5, "share of the suspects that the accuracy is measured on (pp_quiz)", low=0.01, high=1.0
    )
    threshold: float = param(0.1, "loss of accuracy that is suspicious (eps)", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        x, y = _whole(data.train)
        chosen = torch.linspace(0, len(y) - 1, min(self.suspects, len(y))).round().long().unique()
        trusted = _whole(data.val)
        flags, shifts = impact(model, (x[chosen], y[chosen]), trusted, len(data.classes), self)
        score, flagged = torch.zeros(len(y), dtype=torch.float64), torch.zeros(len(y), dtype=torch.bool)
        score[chosen], flagged[chosen] = shifts, flags
        return Verdict(
            score=score,
            flagged=flagged,
            table=tuple(
                {"index": int(i), "class": data.classes[int(y[i])], "loss_of_accuracy": float(score[i])} for i in chosen
            ),
        )


def _whole(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """x (N, C, H, W) float32 and y (N,), on the CPU."""
    return split.batch(torch.arange(len(split)))


def _seed() -> int:
    return int(np.random.randint(2**31 - 1))  # noqa: NPY002 - the host's seed


def _by_class(flagged: torch.Tensor, y: torch.Tensor, data: Data) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"class": name, "samples": int((y == k).sum()), "flagged": int((flagged & (y == k)).sum())}
        for k, name in enumerate(data.classes)
    )
