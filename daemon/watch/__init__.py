"""Watched folders: a dropped folder, file or zip becomes an arrival in the spool.

The path of a drop, in this order: `folder` (one thread per folder) runs `inbox`, which calls `scan`, `settling`, `ingest` (with
`members`, `content`, `dicomdir` and `recipients`) and then archives the original; a rejected drop becomes a case in `rejection`.
"""

from daemon.watch.folder import WatchFolders
from daemon.watch.rejection import RejectedDrop, RejectionRecorder

__all__ = ["RejectedDrop", "RejectionRecorder", "WatchFolders"]
