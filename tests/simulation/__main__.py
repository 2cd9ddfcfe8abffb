"""``python -m tests.simulation``: many seeds on every core, with a bar; or one seed, told line by line."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation.history import SETTLE_TICKS, SHOWN, Outcome, brief, run
from tests.simulation.planted import FAULTS, catch, row


def main(words: list[str]) -> int:
    """0 when every history held, 1 when one did not."""
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many histories (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default %(default)s)")
    parser.add_argument("--seed", type=int, help="one history only, with its whole trace")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--planted", action="store_true", help="the table of planted faults, with the seeds that catch")
    options = parser.parse_args(words)
    console = Console(highlight=False)
    if options.planted:
        return _table(options.jobs)
    if options.seed is not None:
        return _tell(run(options.seed), console)
    return _many(range(options.first, options.first + options.seeds), options.jobs, console)


def _tell(outcome: Outcome, console: Console) -> int:
    for line in outcome.trace:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"seed {outcome.seed}, digest {outcome.digest}: {outcome.violation or 'held'}", markup=False)
    return 1 if outcome.violation else 0


def _many(seeds: range, jobs: int, console: Console) -> int:
    counts: Counter[str] = Counter()
    settled: list[int] = []
    failed: list[Outcome] = []
    columns = (TextColumn("histories"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(seeds))
        for outcome in _outcomes(seeds, jobs):
            progress.advance(bar)
            counts.update(outcome.counts)
            if outcome.violation:
                failed.append(outcome)
                progress.print(f"seed {outcome.seed}: {outcome.violation}", markup=False)
            else:
                settled.append(outcome.settled_ticks)
    console.print(_summary(counts, sorted(settled)))
    for outcome in sorted(failed, key=lambda o: o.seed)[:1]:
        console.print(*outcome.trace[-SHOWN:], sep="\n", markup=False, soft_wrap=True)
    if failed:
        seeds_failed = ", ".join(str(s) for s in sorted(o.seed for o in failed)[:20])
        console.print(f"{len(failed)} of {len(seeds)} histories failed. `make sim SEED=n` replays one: {seeds_failed}")
        return 1
    console.print(f"All {len(seeds)} histories held.")
    return 0


def _table(jobs: int) -> int:
    """The table of docs/simulation.md, as it should be; 1 when a fault was not caught."""
    with get_context("spawn").Pool(jobs) as pool:
        rows = []
        for name, seeds, promise in pool.imap(catch, range(len(FAULTS)), chunksize=1):
            print(f"{name}: {seeds or 'not caught'} {promise}", file=sys.stderr, flush=True)
            rows.append(seeds)
    print("\n".join(row(fault, seeds) for fault, seeds in zip(FAULTS, rows, strict=True)))
    return 0 if all(rows) else 1


def _outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(brief, seeds, chunksize=4)


def _summary(counts: Counter[str], settled: list[int]) -> Table:
    table = Table("in all histories", "", box=None, pad_edge=False)
    for what, count in sorted(counts.items()):
        table.add_row(what, f"{count:,}")
    if settled:
        half, most = settled[len(settled) // 2], settled[-1]
        table.add_row("ticks from calm to all as desired", f"median {half}, most {most} of {SETTLE_TICKS} allowed")
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
