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
import importlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # where the package `chaos` lies

from chaos.outcome import Outcome


@dataclass(frozen=True)
class Fault:
    """A row of the table."""

    title: str
    trial: str  # "module.function", imported when it is run: some need torch, some only the store
    trials: int | None  # of the whole programme; None for all there are
    needs: tuple[str, ...] = ()  # as the markers of tests: needs_X


FAULTS = {
    "kills": Fault("kill -9 of a writer of commits, at random", "commits.trial_kills", 2000),
    "syscalls": Fault(
        "kill, EIO and ENOSPC at every call of two commits and a compaction",
        "commits.trial_syscalls",
        None,
        ("strace",),
    ),
    "power": Fault("power loss (ext4 shut down, journal's tail lost)", "commits.trial_power_loss", 100, ("mounts",)),
    "driver": Fault("kill -9 of the whole driver, then resume", "drivers.trial_driver_kills", 200),
    "first": Fault("kill -9 in the first second, then read, then resume", "drivers.trial_first_second", 50),
    "resume": Fault("kill -9 while resuming, several times in a row", "drivers.trial_resume_kills", 50),
    "damage": Fault("a bit flipped or a file cut short, in any file", "damage.trial_damage", 1200),
    "rivals": Fault("two to eight drivers at once", "rivals.trial_rivals", 50),
    "lockless": Fault("the same on a file system without locks", "rivals.trial_rivals_without_lock", 50),
    "objects": Fault(
        "object stores: lost answers, 409, 412, 503, late puts, stale lists, kills, rivals",
        "objects.trial_objects",
        10000,
    ),
    "sigterm": Fault("SIGTERM at random, then resume", "drivers.trial_sigterm", 50),
    "sigint": Fault("SIGINT twice, then resume", "drivers.trial_sigint_twice", 20),
    "terminals": Fault("stderr closed, or its terminal stopped or frozen", "drivers.trial_terminals", 20),
    "targets": Fault("NaN, +Inf, -Inf, exceptions, wrong shapes", "targets.trial_targets", 50),
    "functions": Fault(
        "networks that draw random numbers, or look at other images of the batch", "impostors.trial_functions", 20
    ),
    "exchanged": Fault("weights exchanged where no fingerprint sees it, or does", "impostors.trial_exchanged", 20),
    "changing": Fault("networks that change their own weights or buffers", "impostors.trial_changing", 20),
    "evaluators": Fault("kill -9 of an evaluator that scores", "evaluators.trial_kills", 50),
    "segfaults": Fault("an evaluator that scores has a segmentation fault", "evaluators.trial_segfaults", 10),
    "hangs": Fault("an evaluator that scores hangs", "evaluators.trial_hangs", 10),
    "memory": Fault("a network without memory", "evaluators.trial_memory", 10),
    "counts": Fault("1, 2, 3, 5 evaluators, with and without kills, begun by 3", "evaluators.trial_counts", 8),
    "ray-driver": Fault("kill -9 of the driver over Ray, then resume", "evaluators.trial_driver_kills", 20),
    "nodes": Fault("a node lost while its evaluator scores", "evaluators.trial_node_losses", 5),
    "heads": Fault("the head lost, then resume on a new cluster", "evaluators.trial_head_losses", 5),
    "cables": Fault("the cable between two hosts cut and mended", "hosts.trial_cut_cables", 4, ("hosts",)),
    "hosts": Fault("the head's host lost, then resume on a new one", "hosts.trial_lost_hosts", 3, ("hosts",)),
    "strangers": Fault("others on the network try every port of two hosts", "hosts.trial_strangers", 3, ("hosts",)),
    "tls": Fault("two hosts with Ray's TLS, and a listener at the cable", "hosts.trial_tls", 1, ("hosts",)),
    "configs": Fault("hostile configurations", "hostile.trial_configs", 10_000),
    "genomes": Fault("hostile genomes", "hostile.trial_genomes", 10_000),
    "parquet": Fault("hostile Parquet files", "hostile_files.trial_parquet", 10_000),
    "pictures": Fault("hostile PNG files", "hostile_files.trial_pictures", 1_000),
    "settings": Fault("every configuration key changed on resume", "settings.trial_settings", None),
}

# What is taken away from evofool -> the row whose trials must then fail, and how many of them are enough.
SABOTAGE: dict[str, tuple[str, int]] = {
    "commits-in-place": ("kills", 150),
    "no-recovery": ("kills", 30),
    "no-table-sync": ("power", 10),
    "no-commit-sync": ("power", 10),
    "no-folder-sync": ("power", 30),
    "no-checksums": ("damage", 100),
    "commits-replace": ("lockless", 8),
    "objects-replace": ("objects", 500),
    "objects-believed": ("objects", 500),
    "objects-commit-first": ("objects", 500),
    "no-soundness": ("functions", 14),
    "no-platforms": ("exchanged", 4),
    "no-token": ("strangers", 1),
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
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that folders do not stay behind
    if not given.inside and os.geteuid() == 0 and shutil.which("unshare"):
        # Mounts end with the process, however it ends.
        inside = ["unshare", "-m", sys.executable, __file__, "--inside", *sys.argv[1:]]
        if _works("unshare", "-m", "true"):
            os.execvp(inside[0], inside)
    if given.sabotage:
        row, trials = SABOTAGE[given.sabotage]
        if missing := _missing(row):
            print(f"{row} left out: this machine has no {', '.join(missing)}")
            return int(_is_required(missing))
        outcome = _run(row, given.trials or trials, given.seed, given.sabotage)
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
        if missing := _missing(name):
            print(f"| {fault.title} | 0 | left out: this machine has no {', '.join(missing)} | |", flush=True)
            failed += _is_required(missing)
            continue
        outcome = _run(name, fault.trials if given.trials is None else given.trials, given.seed)
        print(f"| {fault.title} | {outcome.trials:,} | {outcome.text()} | {outcome.seconds:.0f} |", flush=True)
        for violation in outcome.violations[:20]:
            print(f"  {violation[:1000]}", file=sys.stderr)
        failed += bool(outcome.violations)
        results[name] = {"fault": fault.title, **outcome.facts()}
        _keep(results, given.out)
    proofs = [name for name, (row, _) in SABOTAGE.items() if row in results]
    if proofs and not given.no_proofs and given.trials is None:
        failed += _proofs(proofs, given.seed, results)
        _keep(results, given.out)
    return 1 if failed else 0


def _keep(results: dict[str, Any], out: Path | None) -> None:
    """Write what is known so far: all rows take hours."""
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(out.read_text()) if out.exists() else {}
        out.write_text(json.dumps({**known, **results}, indent=1) + "\n")


def _proofs(names: list[str], seed: int, results: dict[str, Any]) -> int:
    """One row that says whether every sabotage made trials fail; how many did not."""
    began, found = time.monotonic(), {}
    for name in names:
        row, trials = SABOTAGE[name]
        outcome = _run(row, trials, seed, name)
        found[name] = f"{len(outcome.violations)} of {outcome.trials}"
        results[f"proof {name}"] = {"row": row, **outcome.facts(), "violations": len(outcome.violations)}
    missed = [name for name in names if not results[f"proof {name}"]["violations"]]
    told = ", ".join(f"{name} {count}" for name, count in found.items())
    says = f"**not noticed: {', '.join(missed)}**; {told}" if missed else f"all noticed; trials that failed: {told}"
    print(f"| evofool broken on purpose | {len(names)} | {says} | {time.monotonic() - began:.0f} |", flush=True)
    return len(missed)


def _run(name: str, trials: int | None, seed: int, sabotage: str | None = None) -> Outcome:
    module_name, _, function = FAULTS[name].trial.partition(".")
    module = importlib.import_module(f"chaos.{module_name}")
    with contextlib.ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="evofool-chaos-", ignore_cleanup_errors=True)
        place = Path(stack.enter_context(folder))
        if sabotage:
            stack.enter_context(module.SABOTAGE[sabotage]())
        outcome: Outcome = getattr(module, function)(trials, place, seed)
    return outcome


def _is_required(missing: list[str]) -> bool:
    return bool({"all", *missing} & set(os.environ.get("EVOFOOL_REQUIRE", "").split(",")))


def _missing(name: str) -> list[str]:
    """What this machine lacks for a row's trials. It is tried, since a container may forbid what is installed."""
    return [need for need in FAULTS[name].needs if not _CAPABILITIES[need]()]


def _can_trace() -> bool:
    return bool(shutil.which("strace")) and _works("strace", "-o", os.devnull, "true")


def _can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        shell = f"truncate -s 16M {folder}/disk && mkfs.ext4 -q -F {folder}/disk && mount -o loop {folder}/disk /mnt"
        return os.geteuid() == 0 and bool(shutil.which("unshare")) and _works("unshare", "-m", "sh", "-c", shell)


def _can_make_hosts() -> bool:
    cable = "mount -t tmpfs none /mnt && ip link add cable type veth peer name other && ss -Hltn"
    return os.geteuid() == 0 and _works("unshare", "--net", "--mount", "--pid", "--uts", "--fork", "sh", "-c", cable)


_CAPABILITIES = {"strace": _can_trace, "mounts": _can_mount, "hosts": _can_make_hosts}


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
