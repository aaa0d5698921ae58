"""From the last image stored to the pages in the PACS and the mail accepted: a 400-slice series, all programs, CPU only.

    python -m benchmarks.end_to_end [--runs 5] [--slices 400] [--model NAME --models DIR]

Starts Orthanc (must be installed), an SMTP server and `corewatch up` with its default settings on free ports of loopback, sends one
synthetic series per run with `dcmsend`, and prints the median of every part. The first run is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path

from corewatch.findings import Side
from corewatch.states import CaseState
from ledger.audit_trail import AuditLine
from phantom.dicom_series import write_series
from phantom.head import HeadSpec, PhantomHead, make_head
from tests.support.mailbox import Mailbox
from tests.support.orthanc import Orthanc
from tests.support.programs import Corewatch

PATH = "/usr/bin:/usr/sbin:/usr/local/bin"
PARTS = ("quiet time", "prepare", "detect", "render", "deliver", "all")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--model", default="phantom-demo")
    parser.add_argument("--models", type=Path, help="folder of installed models")
    return parser.parse_args()


def parts_of(history: list[AuditLine], last_stored: datetime, last_sent: datetime) -> dict[str, float]:
    """Seconds of each part, from the case's own record."""
    at = {line.event: line.at for line in history}
    marks = [last_stored, *(at[f"case.{s}"] for s in ("queued", "prepared", "detected", "delivering")), last_sent]
    seconds = [(b - a).total_seconds() for a, b in itertools.pairwise(marks)]
    return dict(zip(PARTS, [*seconds, (last_sent - last_stored).total_seconds()], strict=True))


def main() -> None:
    options = arguments()
    orthanc_binary, dcmsend = shutil.which("Orthanc", path=PATH), shutil.which("dcmsend", path=PATH)
    if orthanc_binary is None or dcmsend is None:
        raise SystemExit("this benchmark needs Orthanc and DCMTK: sh scripts/install-test-tools.sh")
    head = make_head(HeadSpec(seed=5, core_ml=60.0, side=Side.LEFT))
    with tempfile.TemporaryDirectory(prefix="corewatch-benchmark-") as scratch:
        root = Path(scratch)
        orthanc, mailbox = Orthanc(orthanc_binary, root / "orthanc"), Mailbox()
        folder = root / "corewatch"
        if options.models:
            shutil.copytree(options.models, folder / "data" / "models")
        deliver = {
            "pacs": [{"name": "orthanc", "ae_title": orthanc.ae_title, "host": "127.0.0.1", "port": orthanc.dicom}],
            "email": {"host": "127.0.0.1", "port": mailbox.port, "security": "none", "from": "a@b.example", "to": ["c@d.example"]},
        }
        running = Corewatch(folder, {"deliver": deliver, "model": {"name": options.model}, "series": {"grace_s": 1, "idle_s": 20}})
        try:
            rows = [one(running, dcmsend, head, root / f"series{k}", k, options.slices) for k in range(options.runs + 1)][1:]
        finally:
            running.stop()
            mailbox.stop()
            orthanc.stop()
    print(f"{options.slices} slices 512 x 512, model {options.model}, {len(rows)} runs; seconds, median (min - max)")
    for part in PARTS:
        values = [row[part] for row in rows]
        print(f"{part:>12}  {statistics.median(values):6.2f}  ({min(values):.2f} - {max(values):.2f})")


def one(running: Corewatch, dcmsend: str, head: PhantomHead, folder: Path, run: int, slices: int) -> dict[str, float]:
    truth = write_series(head, folder, slices=slices, seed=run, uid_salt=f"run {run}")
    command = [dcmsend, "-aec", "COREWATCH", "+sd", "127.0.0.1", str(running.port), str(folder)]
    subprocess.run(command, check=True, capture_output=True, env={"TCP_NODELAY": "1"})
    [case] = running.ended(1, series_uid=truth.series_uid, seconds=300)
    if case.state is not CaseState.DELIVERED or running.ledger is None:
        raise SystemExit(f"run {run} ended {case.state}: {case.detail}\n{running.tail()}")
    sent = [d.sent_at for d in running.ledger.deliveries.of(case.case_id) if d.destination != "folder" and d.sent_at is not None]
    shutil.rmtree(folder)
    return parts_of(running.ledger.cases.history(case.case_id), case.last_stored_at, max(sent))


if __name__ == "__main__":
    main()
