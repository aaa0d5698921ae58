"""Renew the portal's vendored browser files with `npm pack`: `python scripts/vendor.py [NAME]`.

Each folder `NAME-VERSION` holds the files, the licence, and `vendor.json`: npm package, version, SHA-256 of each file.
To move to another version, change `PACKAGES` and run the script; the folder of the earlier version is removed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "portal" / "static" / "vendor"
TESTS = ROOT / "tests" / "support" / "vendor"


@dataclass(frozen=True, slots=True)
class Package:
    """One package: `files` are paths in it; a `licence` that the package lacks is kept from the earlier folder."""

    name: str
    npm: str
    version: str
    licence: str
    files: tuple[str, ...]
    folder: Path = STATIC


PACKAGES = (
    Package("htmx", "htmx.org", "4.0.1", "0BSD", ("dist/htmx.min.js", "dist/ext/hx-sse.min.js")),
    Package("niivue", "@niivue/niivue", "0.69.0", "BSD-2-Clause", ("dist/niivue.umd.js",)),
    Package("axe-core", "axe-core", "4.14.1", "MPL-2.0", ("axe.min.js",), TESTS),
)


def renew(package: Package) -> None:
    """Fetch one package and write its folder."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        packed = subprocess.run(
            ["npm", "pack", "--silent", f"{package.npm}@{package.version}"], cwd=scratch, check=True, capture_output=True, text=True
        ).stdout.split()[-1]
        with tarfile.open(scratch / packed) as archive:
            archive.extractall(scratch, filter="data")
        source, target = scratch / "package", package.folder / f"{package.name}-{package.version}"
        earlier = [folder for folder in package.folder.glob(f"{package.name}-*") if folder.is_dir()]
        licences = [source / "LICENSE", *(folder / "LICENSE" for folder in earlier)]
        licence = next((path.read_bytes() for path in licences if path.is_file()), None)
        if licence is None:
            raise SystemExit(f"{package.npm} {package.version} has no LICENSE: put it into {target} and run this again")
        for folder in earlier:
            shutil.rmtree(folder)
        target.mkdir(parents=True)
        (target / "LICENSE").write_bytes(licence)
        digests = {}
        for path in package.files:
            content = (source / path).read_bytes()
            (target / Path(path).name).write_bytes(content)
            digests[Path(path).name] = hashlib.sha256(content).hexdigest()
    facts = {"npm": package.npm, "version": package.version, "licence": package.licence, "sha256": digests}
    (target / "vendor.json").write_text(json.dumps(facts, indent=2) + "\n")


def main() -> None:
    """Renew all packages, or the one that is named."""
    for package in PACKAGES:
        if len(sys.argv) < 2 or package.name == sys.argv[1]:
            renew(package)


if __name__ == "__main__":
    main()
