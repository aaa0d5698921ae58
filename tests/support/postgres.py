"""A real PostgreSQL with an empty cluster on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from tests.support.net import answers, free_port, wait_for


def find_binaries() -> Path | None:
    """Folder of initdb and postgres: Debian keeps them away from the search path."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb")
    return candidates[-1].parent if candidates else Path(found).resolve().parent if found else None


class Postgres:
    """The server refuses to run as root, so it runs as the package's own user then."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "cluster"
        if os.getuid() == 0:
            shutil.chown(folder, self._user)
            for parent in folder.parents:
                if parent.stat().st_uid == 0 and parent != Path(parent.anchor) and not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o011)
        self._run([str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "corewatch", "--no-sync", "-E", "UTF8"], folder)
        self._log = (folder / "postgres.log").open("wb")
        self._process = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(data), "-p", str(self.port), "-k", str(folder), "-c", "fsync=off"],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            **self._as_user(),
        )
        wait_for("PostgreSQL", lambda: answers(self.port), 60)

    def _as_user(self) -> dict[str, str]:
        return {"user": self._user} if os.getuid() == 0 else {}

    def _run(self, command: list[str], folder: Path) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=120, **self._as_user())

    def new_database(self, name: str) -> str:
        """Make a database; returns its SQLAlchemy URL."""
        import pg8000.native

        connection = pg8000.native.Connection("corewatch", host="127.0.0.1", port=self.port, database="postgres")
        connection.run(f"CREATE DATABASE {name}")
        connection.close()
        return f"postgresql+pg8000://corewatch@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        """Fast shutdown."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
