"""The models of a bench, each made once and kept; for runs that go from one to the other and back."""

from __future__ import annotations

from robustkit.engine.evaluate import Arena
from robustkit.host import Host
from robustkit.pipeline.describe import search_precision
from robustkit.pipeline.events import Listener, SubjectReady
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.run import Builder
from robustkit.pipeline.store import ModelCache, RunStore
from robustkit.pipeline.subjects import Built
from robustkit.pipeline.surrogates import Surrogates
from robustkit.pipeline.told import build_told


class Models:
    """Subjects, each made once and kept."""

    def __init__(
        self, plan: Plan, store: RunStore, host: Host, cache: ModelCache, listen: Listener, build: Builder | None
    ) -> None:
        self._plan, self._store, self._listen = plan, store, listen
        self._host, self._cache, self._build = host, cache, build
        self.surrogates = Surrogates(plan, host, cache, store.directory, listen)
        self._made: dict[str, Built] = {}

    def __call__(self, subject: Subject) -> Built:
        """The model, trained or loaded where it is not at hand."""
        if subject.key not in self._made:
            self._made[subject.key] = self._build(subject) if self._build is not None else self._trained(subject)
        return self._made[subject.key]

    def _trained(self, subject: Subject) -> Built:
        return build_told(subject, self._plan, self._host, self._cache, self._store.directory, self._listen)

    def ready(self, subject: Subject, measured: set[str]) -> bool:
        """Make the model; False where what was `measured` is of other weights, and it was trained again since.

        Raises:
            TrainingFailed: it cannot be trained again.
        """
        fresh = subject.key not in self._made
        built = self(subject)
        if fresh:
            self._listen(SubjectReady(subject, built.cached))
        return measured <= {built.about["weights"]}

    def arena(self, subject: Subject) -> Arena:
        """The model, ready to be attacked."""
        built = self(subject)
        precision, example = search_precision(built, self._plan, self._store)
        return Arena(built.model, precision, self._plan.spec.batch_size, example, eot=self._plan.spec.eot)
