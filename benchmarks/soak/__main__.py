"""``python -m benchmarks.soak [--seconds N]``: the soak; writes its table into docs/explanation/reliability.md."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.soak.lives import ROOT, Lives
from benchmarks.soak.verdict import NEVER, Verdict, come_to_rest, judge
from benchmarks.soak.world import World
from trtd.engines.cpu import cpu_facts

DEFAULT_S = 600.0
REPORT_FROM_S = 300.0  # shorter runs prove too little to be written down
DOCUMENT = ROOT / "docs" / "explanation" / "reliability.md"
BEGIN, END = "<!-- written by make soak -->\n", "<!-- end -->\n"


def soak(folder: Path, seconds: float, seed: int) -> Verdict:
    """Run it in a folder of its own."""
    chance = random.Random(seed)
    world = World(folder, chance)
    lives = Lives(world.registry, chance)
    command = [sys.executable, "-m", "benchmarks.soak.reader", str(world.registry.root)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as reader:
        try:
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s:
                lives.live(world.disturb)
            come_to_rest(world, lives)
            reader.terminate()
            seen, _ = reader.communicate(timeout=60)
        finally:
            lives.kill()
            reader.kill()
    return judge(world, lives, json.loads(seen))


def table(verdict: Verdict, seconds: float) -> str:
    """As Markdown: first what was done, then what must be 0."""
    today = datetime.now(timezone.utc).date().isoformat()
    lines = [f"{seconds:.0f} s on {cpu_facts().model}, {cpu_facts().cores} cores, {today}.", ""]
    lines += ["| what was done | times |", "|---|---|"]
    lines += [f"| {what} | {number:,} |" for what, number in verdict.rows.items() if what not in NEVER]
    lines += ["", "| what must not be | found |", "|---|---|"]
    lines += [f"| {what} | {verdict.rows[what]} |" for what in NEVER]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=DEFAULT_S, help=f"default: {DEFAULT_S:.0f}")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of what happens when")
    options = parser.parse_args()
    folder = Path(mkdtemp(prefix="trtd-soak-"))
    sys.stdout.write(f"== soak: {options.seconds:.0f} s in {folder}, --seed {options.seed}\n")
    verdict = soak(folder / "soak", options.seconds, options.seed)
    text = table(verdict, options.seconds)
    sys.stdout.write(text)
    for word in verdict.words:
        sys.stdout.write(f"!! {word}\n")
    if options.seconds >= REPORT_FROM_S and verdict.holds:
        head, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(head + BEGIN + "\n" + text + "\n" + END + rest.partition(END)[2])
        sys.stdout.write(f"written: {DOCUMENT}\n")
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
