"""Does to runs what befalls them, as often as it takes to believe the result, and prints a table: `make chaos`.

    python tests/chaos/run.py [--only NAME,NAME] [--trials N] [--seed N] [--sabotage NAME] [--out FILE]

One row for each fault. Any violation of a promise is printed, and the exit code is 1. With --sabotage something that
evofool does to keep its promises is taken away, and the trials have to find violations: the exit code is 1 if they do.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # children are forked, which threads do not survive

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # where the package `chaos` lies

from chaos import commits, damage, drivers, rivals, settings, targets
from chaos.outcome import Outcome


@dataclass(frozen=True)
class Fault:
    """A row of the table."""

    title: str
    trial: Callable[..., Outcome]
    trials: int | None  # of the whole programme; None for all there are
    needs: tuple[str, ...] = ()  # as the markers of tests: needs_X


FAULTS = {
    "kills": Fault("kill -9 of a writer of commits, at random", commits.trial_kills, 2000),
    "syscalls": Fault(
        "kill, EIO and ENOSPC at every system call of three commits", commits.trial_syscalls, None, ("strace",)
    ),
    "power": Fault("power loss (ext4 shut down, journal's tail lost)", commits.trial_power_loss, 100, ("mounts",)),
    "driver": Fault("kill -9 of the whole driver, then resume", drivers.trial_driver_kills, 200),
    "resume": Fault("kill -9 while resuming, several times in a row", drivers.trial_resume_kills, 50),
    "damage": Fault("a bit flipped or a file cut short, in any file", damage.trial_damage, 1200),
    "rivals": Fault("two to eight drivers at once", rivals.trial_rivals, 50),
    "lockless": Fault("the same on a file system without locks", rivals.trial_rivals_without_lock, 50),
    "sigterm": Fault("SIGTERM at random, then resume", drivers.trial_sigterm, 50),
    "sigint": Fault("SIGINT twice, then resume", drivers.trial_sigint_twice, 20),
    "targets": Fault("NaN, +Inf, -Inf, exceptions, wrong shapes", targets.trial_targets, 50),
    "settings": Fault("every configuration key changed on resume", settings.trial_settings, None),
}

# row -> what is taken away from evofool to see that the row's trials can fail, and how many of them are enough
SABOTAGE: dict[str, tuple[str, Callable[[], Any], int]] = {
    "commits-in-place": ("kills", commits.SABOTAGE["commits-in-place"], 150),
    "no-recovery": ("kills", commits.SABOTAGE["no-recovery"], 30),
    "no-table-sync": ("power", commits.SABOTAGE["no-table-sync"], 10),
    "no-commit-sync": ("power", commits.SABOTAGE["no-commit-sync"], 10),
    "no-folder-sync": ("power", commits.SABOTAGE["no-folder-sync"], 30),
    "no-checksums": ("damage", damage.SABOTAGE["no-checksums"], 100),
    "commits-replace": ("lockless", rivals.SABOTAGE["commits-replace"], 8),
}


def main() -> int:
    """Run the trials asked for; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(FAULTS), help="rows, with commas between them")
    parser.add_argument("--trials", type=int, help="of each row, in place of its usual number")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--sabotage", choices=SABOTAGE, help="take this away from evofool, and see its row fail")
    parser.add_argument("--no-proofs", action="store_true", help="leave out the rows of --sabotage")
    parser.add_argument("--out", type=Path, help="where the results go as JSON; what is known of other rows stays")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.inside and os.geteuid() == 0 and shutil.which("unshare"):
        # Mounts end with the process, however it ends.
        inside = ["unshare", "-m", sys.executable, __file__, "--inside", *sys.argv[1:]]
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0:
            os.execvp(inside[0], inside)
    if given.sabotage:
        row, broken, trials = SABOTAGE[given.sabotage]
        with broken():
            outcome = _run(row, given.trials or trials, given.seed)
        print(f"{row} without what {given.sabotage} takes away: {outcome.text()}")
        for violation in outcome.violations[:5]:
            print(f"  {violation[:400]}", file=sys.stderr)
        return 1 if outcome.violations else 0
    names = given.only.split(",")
    if unknown := set(names) - FAULTS.keys():
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    return _programme(names, given)


def _programme(names: list[str], given: argparse.Namespace) -> int:
    results: dict[str, Any] = {}
    failed = 0
    print("| fault | trials | result | seconds |\n|---|---|---|---|")
    for name in names:
        fault = FAULTS[name]
        if missing := [need for need in fault.needs if not _has(need)]:
            required = os.environ.get("EVOFOOL_REQUIRE", "").split(",")
            print(f"| {fault.title} | 0 | left out: this machine has no {', '.join(missing)} | |", flush=True)
            failed += bool({"all", *missing} & set(required))
            continue
        outcome = _run(name, fault.trials if given.trials is None else given.trials, given.seed)
        print(f"| {fault.title} | {outcome.trials:,} | {outcome.text()} | {outcome.seconds:.0f} |", flush=True)
        for violation in outcome.violations[:20]:
            print(f"  {violation[:1000]}", file=sys.stderr)
        failed += bool(outcome.violations)
        results[name] = {"fault": fault.title, **outcome.facts()}
    if not given.no_proofs and given.trials is None:
        failed += _proofs([name for name, (row, _, _) in SABOTAGE.items() if row in results], given.seed, results)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(given.out.read_text()) if given.out.exists() else {}
        given.out.write_text(json.dumps({**known, **results}, indent=1) + "\n")
    return 1 if failed else 0


def _proofs(names: list[str], seed: int, results: dict[str, Any]) -> int:
    """One row that says whether every sabotage made trials fail; how many did not."""
    began, found = time.monotonic(), {}
    for name in names:
        row, broken, trials = SABOTAGE[name]
        with broken():
            outcome = _run(row, trials, seed)
        found[name] = f"{len(outcome.violations)} of {outcome.trials}"
        results[f"proof {name}"] = {"row": row, **outcome.facts(), "violations": len(outcome.violations)}
    missed = [name for name in names if not results[f"proof {name}"]["violations"]]
    told = ", ".join(f"{name} {count}" for name, count in found.items())
    says = f"**not noticed: {', '.join(missed)}**; {told}" if missed else f"all noticed; trials that failed: {told}"
    print(f"| evofool broken on purpose | {len(names)} | {says} | {time.monotonic() - began:.0f} |", flush=True)
    return len(missed)


def _run(name: str, trials: int | None, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="evofool-chaos-", ignore_cleanup_errors=True) as folder:
        try:
            return FAULTS[name].trial(trials, Path(folder), seed)
        finally:
            with contextlib.suppress(OSError):
                subprocess.run(["umount", "-q", f"{folder}/mounted"], capture_output=True)


def _has(need: str) -> bool:
    if need == "strace":
        return shutil.which("strace") is not None
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
