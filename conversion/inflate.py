"""Deflated files (PS3.5 A.5) as a stream: only the bytes that are read are inflated, and none are kept.

A file of one megabyte can inflate to a gigabyte. Reading its header inflates the header alone.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO, Final

from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason

EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"

LARGEST_HEADER: Final = 1 << 25
"""Most bytes of a header; that of an enhanced object of a thousand frames has some megabytes."""

_CHUNK: Final = 1 << 16


def inflated(file: BinaryIO, begin: int, at_most: int | None) -> io.BufferedIOBase:
    """A file whose data set begins deflated at byte `begin`, as the same file in Explicit VR Little Endian.

    Parameters
    ----------
    file
        Must stay open while the result is read, and must not be read elsewhere.
    at_most
        Most bytes to inflate in all; None where the reader itself is bounded. A read beyond it raises `NotAnalysed(UNREADABLE)`,
        as a damaged stream does.
    """
    uid = EXPLICIT_LITTLE.encode() + b"\0"
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    size = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta))
    return _Bounded(_Stream(file, begin, bytes(128) + b"DICM" + size + meta, at_most), at_most)


def _too_large() -> NotAnalysed:
    return NotAnalysed(Reason.UNREADABLE, "A deflated file is larger than is allowed.")


class _Stream(io.RawIOBase):
    """`prefix`, followed by the data inflated from `begin` of a file. Seeking forward inflates and discards; backward restarts."""

    def __init__(self, file: BinaryIO, begin: int, prefix: bytes, at_most: int | None) -> None:
        self._file, self._begin, self._prefix = file, begin, prefix
        self.name = file.name  # readers of buffered files ask for it
        self._left = at_most
        self._at = 0
        self._restart()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end of a deflated stream is not known")
        self._at = max(0, offset + (self._at if whence == io.SEEK_CUR else 0))
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # a buffer; typeshed's name for it comes with 3.12
        if self._at < self._produced:
            self._restart()
        while (skip := self._at - self._produced) > 0:
            if not self._next(min(skip, _CHUNK)):
                return 0
        data = self._next(min(len(view), _CHUNK))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _restart(self) -> None:
        self._file.seek(self._begin)
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._waiting = b""
        self._produced = 0

    def _next(self, count: int) -> bytes:
        """At most `count` bytes, at least one; empty at the end."""
        data = self._prefix[self._produced : self._produced + count]
        while not data and not self._inflate.eof:
            source = self._waiting or self._file.read(_CHUNK)
            try:
                data = self._inflate.decompress(source, count)
            except zlib.error as error:
                raise NotAnalysed(Reason.UNREADABLE, "A file is damaged: it cannot be inflated.") from error
            self._waiting = self._inflate.unconsumed_tail
            if not source:
                break
            if self._left is not None:
                self._left -= len(data)
                if self._left < 0:
                    raise _too_large()
        self._produced += len(data)
        return data


class _Bounded(io.BufferedReader):
    """Refuses a value longer than may be inflated before memory is allocated for it."""

    def __init__(self, raw: _Stream, at_most: int | None) -> None:
        super().__init__(raw, _CHUNK)
        self._at_most = at_most

    def read(self, size: int | None = -1, /) -> bytes:
        if self._at_most is not None and size is not None and size > self._at_most:
            raise _too_large()
        return super().read(size)
