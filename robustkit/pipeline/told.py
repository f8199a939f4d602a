"""A model trained or loaded while a listener is told."""

from __future__ import annotations

from pathlib import Path

from robustkit.host import Host
from robustkit.pipeline.events import Listener, TrainingStep, Waiting
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.store import ModelCache
from robustkit.pipeline.subjects import Built, build_subject


def build_told(
    subject: Subject, plan: Plan, host: Host, cache: ModelCache, directory: Path | None, listen: Listener
) -> Built:
    """`build_subject`, with trainings and waits told to a listener."""
    return build_subject(
        subject,
        plan,
        host,
        cache,
        directory,
        report=lambda progress: listen(TrainingStep(subject, progress)),
        waiting=lambda: listen(Waiting(subject)),
    )
