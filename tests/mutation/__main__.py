"""The command: samples mutants, runs their tests, prints the survivors and a table."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

from tests.mutation.operators import Mutant, mutants
from tests.mutation.running import ROOT, Verdict, copied_tree, prepare, run_tests, write_source
from tests.mutation.targets import EQUIVALENTS, TARGETS

LEAST_LIMIT_S = 30.0
BASELINE_LIMIT_S = 1200.0


def files_of(target: str) -> list[str]:
    """The source files of a target, relative to the root."""
    path = ROOT / target
    return [target] if path.is_file() else sorted(str(one.relative_to(ROOT)) for one in path.rglob("*.py"))


def tests_of(file: str) -> tuple[str, ...]:
    """The tests that answer for a file: those of the longest target that fits."""
    fitting = [target for target in TARGETS if file == target or file.startswith(target.rstrip("/") + "/")]
    return TARGETS[max(fitting, key=len)]


def equivalent(mutant: Mutant, source: bytes) -> bool:
    """Whether the mutant is listed as one that behaves as the original."""
    _, after = mutant.diff(source)
    return any(Path(mutant.path).name == one.file and after == one.line for one in EQUIVALENTS)


def main() -> int:
    """Run the command; 0 unless the unchanged tree fails its tests."""
    arguments = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--sample", type=int, default=100, help="mutants to try; 0 tries all")
    arguments.add_argument("--only", default="*", metavar="GLOB", help="files to mutate, for example 'ledger/*'")
    options = arguments.parse_args()

    files = sorted({file for target in TARGETS for file in files_of(target) if fnmatch(file, options.only)})
    sources = {file: (ROOT / file).read_bytes() for file in files}
    everything = [one for file in files for one in mutants(file, sources[file]) if not equivalent(one, sources[file])]
    chosen = everything
    if options.sample and options.sample < len(everything):
        chosen = sorted(random.Random(options.seed).sample(everything, options.sample), key=lambda one: (one.path, one.start))
    print(f"{len(chosen)} of {len(everything)} mutants in {len(files)} files, seed {options.seed}")

    prepare()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder, copied_tree(Path(folder)) as tree:
        limits = {}
        for tests in sorted({tests_of(one.path) for one in chosen}):
            verdict, seconds = run_tests(tree, tests, BASELINE_LIMIT_S)
            if verdict is not Verdict.SURVIVED:
                print(f"the unchanged tree fails: {' '.join(tests)}", file=sys.stderr)
                return 1
            limits[tests] = max(LEAST_LIMIT_S, 5 * seconds)
        verdicts: dict[Mutant, Verdict] = {}
        for mutant in chosen:
            source, tests = sources[mutant.path], tests_of(mutant.path)
            write_source(tree / mutant.path, mutant.apply(source))
            verdicts[mutant], _ = run_tests(tree, tests, limits[tests])
            write_source(tree / mutant.path, source)
            if verdicts[mutant] is Verdict.SURVIVED:
                before, after = mutant.diff(source)
                print(f"SURVIVED {mutant.path}:{mutant.line} {mutant.kind}\n  - {before}\n  + {after}", flush=True)
    _print_table(verdicts)
    return 0


def _print_table(verdicts: dict[Mutant, Verdict]) -> None:
    total = Counter(mutant.path for mutant in verdicts)
    killed = Counter(mutant.path for mutant, verdict in verdicts.items() if verdict is not Verdict.SURVIVED)
    hung = sum(verdict is Verdict.TIMEOUT for verdict in verdicts.values())
    print(f"\n{'file':45} {'killed':>6} {'of':>5} {'%':>4}")
    for path, count in sorted(total.items()):
        print(f"{path:45} {killed[path]:6} {count:5} {100 * killed[path] // count:4}")
    whole = sum(total.values())
    if whole:
        print(f"{'all':45} {sum(killed.values()):6} {whole:5} {100 * sum(killed.values()) // whole:4}")
        print(f"{hung} of the killed ones by the time limit")


if __name__ == "__main__":
    raise SystemExit(main())
