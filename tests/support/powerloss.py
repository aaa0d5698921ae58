"""A disk that loses what was not synced: records what a program does to a folder, and makes what a power loss may leave of it.

POSIX promises little: data of a file are safe after fsync(2) of the file, and a name after fsync(2) of its folder. What was not
synced may be there or not. Kept of it is a first part of each folder's changes and of each file's data, since no journalling file
system turns their order round; how much is drawn by lot, folder by folder and file by file.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

Loss = Callable[[int], int]
"""Of this many changes that were not synced, how many survive (the first ones)."""


def lose_everything(_count: int) -> int:
    """Only what was synced survives."""
    return 0


def lose_nothing(count: int) -> int:
    """The program died, the machine did not."""
    return count


def lose_by_lot(seed: int) -> Loss:
    """Some survive."""
    lot = random.Random(seed)
    return lambda count: lot.randint(0, count)


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `what` is make, remove, rename, folder, data, or one of the syncs `file-synced` and `folder-synced`."""

    what: str
    path: str = ""
    to: str = ""
    file: int = 0
    data: bytes = b""


@dataclass
class RecordingDisk:
    """What happened under `root`, in order."""

    root: Path
    changes: list[Change] = field(default_factory=list)
    _files: dict[str, int] = field(default_factory=dict)
    _open: dict[int, int | str] = field(default_factory=dict)

    @contextmanager
    def recording(self) -> Iterator[RecordingDisk]:
        """Record what this process does with the functions of `os` (which pathlib uses too)."""
        names = ("open", "close", "write", "fsync", "fdatasync", "replace", "rename", "mkdir", "unlink", "rmdir")
        with ExitStack() as stack:
            for name in names:
                real = getattr(os, name)
                stack.enter_context(patch.object(os, name, self._wrapped(real, getattr(self, f"_on_{name}"))))
            yield self

    def _wrapped(self, real: Callable[..., Any], after: Callable[..., None]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            after(result, *args, **kwargs)
            return result

        return call

    def _mine(self, path: Any) -> str | None:
        full = Path(os.fspath(path)).absolute()
        return str(full.relative_to(self.root)) if full.is_relative_to(self.root) else None

    def _on_open(self, descriptor: int, path: Any, flags: int, *_: Any, **__: Any) -> None:
        name = None if isinstance(path, int) else self._mine(path)
        if name is None:
            return
        if flags & os.O_DIRECTORY:
            self._open[descriptor] = name
            return
        if flags & os.O_CREAT and name not in self._files:
            self._files[name] = len(self._files) + len(self.changes) + 1
            self.changes.append(Change("make", name, file=self._files[name]))
        if name in self._files:
            self._open[descriptor] = self._files[name]

    def _on_close(self, _: None, descriptor: int) -> None:
        self._open.pop(descriptor, None)

    def _on_write(self, written: int, descriptor: int, data: Any) -> None:
        file = self._open.get(descriptor)
        if isinstance(file, int):
            self.changes.append(Change("data", file=file, data=bytes(memoryview(data)[:written])))

    def _on_fsync(self, _: None, descriptor: int) -> None:
        target = self._open.get(descriptor)
        if isinstance(target, int):
            self.changes.append(Change("file-synced", file=target))
        elif target is not None:
            self.changes.append(Change("folder-synced", target))

    _on_fdatasync = _on_fsync

    def _on_replace(self, _: None, source: Any, target: Any, **__: Any) -> None:
        before, after = self._mine(source), self._mine(target)
        if before is None or after is None:
            return
        assert Path(before).parent == Path(after).parent, "a spool file never changes its folder"
        self._files[after] = self._files.pop(before)
        self.changes.append(Change("rename", before, after))

    _on_rename = _on_replace

    def _on_mkdir(self, _: None, path: Any, *__: Any, **___: Any) -> None:
        if (name := self._mine(path)) is not None:
            self.changes.append(Change("folder", name))

    def _on_unlink(self, _: None, path: Any, **__: Any) -> None:
        if (name := self._mine(path)) is not None:
            self._files.pop(name, None)
            self.changes.append(Change("remove", name))

    _on_rmdir = _on_unlink


def restore(changes: Sequence[Change], target: Path, loss: Loss) -> None:
    """Make in `target`, an empty folder, what a power loss after `changes` leaves."""
    names = _surviving_names(changes, loss)
    contents = _surviving_data(changes, loss)
    for name in sorted(names):
        path = target / name
        if not path.parent.is_dir():
            continue  # the folder's own name is lost, and with it all that is in it
        if names[name] is None:
            path.mkdir()
        else:
            path.write_bytes(contents.get(names[name], b""))


def _surviving_names(changes: Sequence[Change], loss: Loss) -> dict[str, int | None]:
    """Path -> file, or None for a folder."""
    of_folder: dict[str, list[int]] = defaultdict(list)
    synced: dict[str, int] = {}
    for position, change in enumerate(changes):
        if change.what == "folder-synced":
            synced[change.path] = position
        elif change.path:
            of_folder[str(Path(change.path).parent)].append(position)
    kept: set[int] = set()
    for folder, positions in sorted(of_folder.items()):
        safe = [p for p in positions if p < synced.get(folder, -1)]
        rest = positions[len(safe) :]
        kept.update(safe, rest[: loss(len(rest))])
    names: dict[str, int | None] = {}
    for position in sorted(kept):
        change = changes[position]
        if change.what == "remove":
            names.pop(change.path, None)
        elif change.what == "rename":
            names[change.to] = names.pop(change.path)
        else:
            names[change.path] = change.file if change.what == "make" else None
    return names


def _surviving_data(changes: Sequence[Change], loss: Loss) -> dict[int, bytes]:
    data: dict[int, bytes] = defaultdict(bytes)
    safe: dict[int, int] = defaultdict(int)
    for change in changes:
        if change.what == "data":
            data[change.file] += change.data
        elif change.what == "file-synced":
            safe[change.file] = len(data[change.file])
    return {file: whole[: safe[file] + loss(len(whole) - safe[file])] for file, whole in data.items()}
