"""Running a design: every run of it over one pool, each gone on with where it stopped, none run again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from evofool.base.places import quoted
from evofool.config.designs import Design, Trial
from evofool.errors import ConfigError, IncompatibleRun
from evofool.evaluate.sharing import SharedPool
from evofool.records import Statistics
from evofool.runs import runner
from evofool.runs.agreement import refuse_changes
from evofool.search.stopping import Stopper
from evofool.store.folders import check_place
from evofool.store.reader import Run, open_run

__all__ = ["run_trials"]


def run_trials(
    design: Design, trials: Sequence[Trial], *, tell: Callable[[str], None], **options: Any
) -> Generator[tuple[Trial, Run, bool]]:
    """Make the runs of a design that are missing, or go on with them; each as soon as it is finished, after its trial
    and before whether that was now.

    Those that need the same evaluators follow each other, and these are opened once (evaluate/sharing.py).

    Args:
        tell: receives a sentence before each run.
        options: of `runner.run`.

    Raises:
        IncompatibleRun: runs that name one target were scored by different ones.
        EvofoolError: as `runner.run`; all runs before are finished, and this one goes on from its last commit.
    """
    networks: dict[str, tuple[str, Path]] = {}  # by target.spec and what else makes a network's view
    with contextlib.closing(SharedPool()) as shared:
        for number, trial in enumerate(_alike_together(trials), 1):
            path = design.folder / trial.run_name
            levels = [f"{factor} {level}" for factor, level in trial.levels.items()]
            said = ", ".join([*levels, f"seed {trial.seed}"])
            finished = _finished(path, trial, options.get("allow_numerics_change", False))
            tell(f"run {number} of {len(trials)}: {said}: {'is there' if finished else path}")
            run = finished or runner.run(design.config, list(trial.overrides), out=path, shared=shared, **options)
            section, network = repr(trial.config.target), run.provenance["target_fingerprint"]
            first, where = networks.setdefault(section, (network, path))
            if first != network:
                raise IncompatibleRun(
                    f"{path}: was scored by another network than {where}, though both name {trial.config.target.spec}; "
                    f"put the old file back, or remove one of the two: rm -r {quoted(path)}."
                )
            yield trial, run, finished is None


def _alike_together(trials: Sequence[Trial]) -> list[Trial]:
    """The trials, those that evaluators tell from others one after the other."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        config = trial.config
        needs = repr((config.target, config.encoding, config.search.objective, config.evaluation))
        groups.setdefault(needs, []).append(trial)
    return [trial for group in groups.values() for trial in group]


def _finished(path: Path, trial: Trial, allow_numerics_change: bool) -> Run | None:
    """The run of a trial, if it is there and has come to its end.

    Raises:
        ConfigError: it has gone beyond.
        IncompatibleRun: it was scored with other numerics than the design has now.
    """
    if not check_place(path):
        return None
    run = open_run(path)
    refuse_changes(run.store, trial.config, allow_numerics_change=allow_numerics_change)
    generation = run.status()["generation"]
    if generation is None:
        return None
    history = run.history()
    ends = [
        Stopper(trial.config)(Statistics(**{name: row[name] for name in Statistics.__dataclass_fields__}))
        for row in history[history["generation"] <= generation].tail(2).to_dict("records")
    ]
    if len(ends) == 2 and ends[0]:
        raise ConfigError(
            f"{path}: has {generation + 1} generations, more than the design asks for; raise its limit, or remove this "
            f"run: rm -r {quoted(path)}."
        )
    return run if ends[-1] else None
