"""Check that no folder of the settings lies inside a watched folder, whose content is ingested and moved away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from config.settings import Settings


def contradictions(settings: Settings) -> Iterator[str]:
    """One sentence per contradiction. Symbolic links are followed; the folders need not exist."""
    watched = [(w.path, real_path(w.path)) for w in settings.watch.folders]
    for (one, real_one), (other, real_other) in combinations(watched, 2):
        if real_one == real_other:
            yield f"watch.folders: {one} is named twice"
        elif real_one.is_relative_to(real_other) or real_other.is_relative_to(real_one):
            inner, outer = (one, other) if real_one.is_relative_to(real_other) else (other, one)
            yield f"watch.folders: {inner} lies in {outer}, which would ingest it as a drop and move it away"
    ours = [("data_dir", settings.data_dir)]
    if settings.deliver.folder is not None:
        ours.append(("deliver.folder", settings.deliver.folder.path))
    for path, real in watched:
        for name, folder in ours:
            if real_path(folder).is_relative_to(real):
                yield f"{name}: {folder} lies in the watched folder {path}, which would ingest it as a drop and move it away"
        for used in (settings.received_dir, settings.cases_dir, settings.models_dir, settings.commitment_dir):
            if real.is_relative_to(real_path(used)):
                yield f"watch.folders: {path} lies in {used}, where corewatch keeps its own files"


def real_path(path: Path) -> Path:
    """The path without symbolic links; it need not exist."""
    return Path(os.path.realpath(path))
