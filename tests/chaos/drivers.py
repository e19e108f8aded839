"""The whole driver: killed, killed while it resumes, told to stop. Resumed, it is the run that nothing happened to."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import evofool
from chaos.forks import Child, Shared, wait_for
from chaos.outcome import Outcome
from chaos.toy import SCORED, SCORING, SUBMITTED, Toy, command, promised_commits_are_there
from evofool.base.png import decode_png
from evofool.base.streams import mend_streams
from evofool.store.view import generation_of, read_view

__all__ = [
    "trial_driver_kills",
    "trial_first_second",
    "trial_resume_kills",
    "trial_sigint_twice",
    "trial_sigterm",
    "trial_terminals",
]

GRACE = 12.0  # seconds that a driver has to end in
IN_FLIGHT = 0.8  # share of the kills that must meet a generation in flight
FEW = 50  # trials that are too few to say so
CTRL_S = b"\x13"
MARGIN = 2.0  # seconds beyond --grace that SIGTERM may take


def trial_driver_kills(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """kill -9 at a random instant of a run, one in ten while it starts; then it is resumed to its end."""
    draw, outcome, toy = random.Random(seed), Outcome(), Toy(folder)
    whole = toy.undisturbed()
    starting, searching = toy.seconds()
    for trial in range(trials):
        run, shared = folder / f"run-{trial}", Shared()
        with outcome.trial(f"kill {trial}"):
            child = toy.start(run, shared)
            if trial % 10 == 9:
                child.kill_after(draw.uniform(0, starting))
            else:
                # By progress, since another run of it may take another time.
                done = draw.randrange(toy.generations)
                wait_for(lambda: shared[SUBMITTED] > shared[SCORED] >= done, child)  # noqa: B023 - called at once
                if child.kill_after(draw.uniform(0, searching / toy.generations)) != -signal.SIGKILL:
                    outcome.counts["ended before its kill"] += 1
            outcome.counts["with a generation in flight"] += shared[SUBMITTED] > shared[SCORED]
            outcome.counts["in the middle of scoring"] += bool(shared[SCORING])
            promised_commits_are_there(run, shared)
            assert toy.finish(run) == whole, "another archive"
            if trial % 10 == 0:
                evofool.verify(run, allow_code=True)
        shutil.rmtree(run, ignore_errors=True)
    in_flight = outcome.counts["with a generation in flight"]
    if trials >= FEW and in_flight < IN_FLIGHT * trials:
        outcome.violations.append(f"only {in_flight} of {trials} kills met a generation in flight")
    return outcome


def trial_first_second(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """kill -9 in the first second of a run that writes no view after its first; readers see what was committed."""
    draw, outcome = random.Random(seed), Outcome()
    toy = Toy(folder, storage={"snapshot_every": 1000.0, "commit_every": 1})
    whole = toy.undisturbed()
    for trial in range(trials):
        run, shared = folder / f"run-{trial}", Shared()
        with outcome.trial(f"kill {trial}"):
            toy.start(run, shared, pause=0.02).kill_after(draw.uniform(0, 1))
            if (run / "_evofool" / "run.json").exists():
                promised_commits_are_there(run, shared)
                _committed_is_seen(run, outcome)
            else:
                outcome.counts["before there was a run"] += 1
            assert toy.finish(run) == whole, "another archive"
        shutil.rmtree(run, ignore_errors=True)
    return outcome


def _committed_is_seen(path: Path, outcome: Outcome) -> None:
    """Readers give the elites of the last commit, no more and no less, with the pictures that were scored."""
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    run = evofool.open_run(path)
    elites, last = run.elites(), run.store.log.last
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before, "a reader has written"
    holders = {row["cell"]: row["individual_id"] for row in run.store.table("placements").to_pylist()}
    assert elites["individual_id"].tolist() == [holders[cell] for cell in sorted(holders)], "other elites"
    for row in elites.to_dict("records"):
        assert last and row["as_of_generation"] == last.generation, "not those of the last commit"
        image = decode_png(row["image"]["bytes"], "here")
        assert hashlib.sha256(image.tobytes()).hexdigest() == row["image_sha256"], "another picture"
    shown = generation_of(read_view(run.store))
    assert shown in {-1, *(commit.generation for commit in run.store.log.commits)}, "a view of no commit"
    if last is None:
        outcome.counts["before the first commit"] += 1
    elif shown < 0:
        outcome.counts["with a commit and no view"] += 1
    else:
        outcome.counts["with a view older than the last commit" if shown < last.generation else "with its view"] += 1


def trial_resume_kills(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """A driver is killed, and so are the next two to five that resume, half of them before they search again."""
    draw, outcome, toy = random.Random(seed), Outcome(), Toy(folder)
    whole = toy.undisturbed()
    starting, searching = toy.seconds()
    for trial in range(trials):
        run = folder / f"run-{trial}"
        with outcome.trial(f"kills {trial}"):
            for kill in range(1 + draw.randint(2, 5)):
                shared = Shared()
                # Short pieces, so that several fit into one run.
                longest = starting if kill and draw.random() < 0.5 else starting + searching / 4
                toy.start(run, shared).kill_after(draw.uniform(0, longest))
                outcome.counts["kills of a resume"] += bool(kill)
                promised_commits_are_there(run, shared)
            assert toy.finish(run) == whole, "another archive"
        shutil.rmtree(run, ignore_errors=True)
    return outcome


def trial_sigterm(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """SIGTERM at a random instant, with a target that takes its time; then it is resumed to its end."""
    draw, outcome, toy = random.Random(seed), Outcome(), Toy(folder)
    whole = toy.undisturbed()
    slowest = 0.0
    for trial in range(trials):
        run, shared = folder / f"run-{trial}", Shared()
        with outcome.trial(f"SIGTERM {trial}"):
            child = toy.start(run, shared, pause=0.02)
            wait_for(lambda: shared[SCORED] + shared[SCORING] > 0, child)  # noqa: B023
            time.sleep(draw.uniform(0, 0.8))
            sent = time.monotonic()
            child.signal(signal.SIGTERM)
            code = child.wait(GRACE)
            slowest = max(slowest, time.monotonic() - sent)
            assert code == 143, f"ended with {code}: {child.said()}"
            promised_commits_are_there(run, shared)
            assert toy.finish(run) == whole, "another archive"
        shutil.rmtree(run, ignore_errors=True)
    outcome.counts["ms at most until it had ended"] = round(slowest * 1000)
    return outcome


def trial_sigint_twice(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """SIGINT while a forward pass takes ten seconds, and again a tenth of a second later: it has to end at once."""
    draw, outcome, toy = random.Random(seed), Outcome(), Toy(folder)
    whole = toy.undisturbed()
    slowest = 0.0
    for trial in range(trials):
        run, shared = folder / f"run-{trial}", Shared()
        with outcome.trial(f"SIGINT {trial}"):
            quick = toy.start(run, shared)
            wait_for(lambda: shared[SCORED] > 4, quick)  # noqa: B023
            quick.signal()
            quick.wait()
            # The canary is one slow pass of its own; from then on the handlers are there.
            child = toy.start(run, shared := Shared(), pause=1.0)
            wait_for(lambda: bool(shared[SCORING]), child)  # noqa: B023
            time.sleep(draw.uniform(0, 0.5))
            child.signal(signal.SIGINT)
            time.sleep(0.1)
            assert not child.ended(0), f"the first one ended it: {child.said()}"
            sent = time.monotonic()
            child.signal(signal.SIGINT)
            code = child.wait(GRACE)
            slowest = max(slowest, time.monotonic() - sent)
            assert code == 130, f"ended with {code}: {child.said()}"
            assert time.monotonic() - sent < 0.7, "it went on scoring"
            assert "Traceback" not in child.said(), child.said()
            assert toy.finish(run) == whole, "another archive"
        shutil.rmtree(run, ignore_errors=True)
    outcome.counts["ms at most until it had ended"] = round(slowest * 1000)
    return outcome


def trial_terminals(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """stderr takes no more from a random instant on. One run in five goes on to its end, others get SIGTERM.

    In turn its terminal is stopped (Ctrl-S), or nobody reads what comes out of it (a frozen ssh), or it is a pipe whose
    reader is gone, or it is closed; in turn it shows the live table and lines.
    """
    draw, outcome, toy = random.Random(seed), Outcome(), Toy(folder)
    whole = toy.undisturbed()
    slowest, grace = 0.0, 1.0
    for trial in range(trials):
        run, shared, how = folder / f"run-{trial}", Shared(), ("stopped", "frozen", "no reader", "closed")[trial % 4]
        progress = f"observers.progress={('live', 'lines')[trial // 4 % 2]}"
        arguments = [*toy.arguments(run), progress, "--grace", str(grace)]
        with outcome.trial(f"{how} {trial}"), Stream(how) as stream:
            early = draw.random() < 0.2  # before the first word
            if early:
                stream.take_no_more()
            child = Child(folder / "output", _with_stderr, stream, arguments, shared, 0.02)
            wait_for(lambda: shared[SCORED] + shared[SCORING] > 0, child)  # noqa: B023 - called at once
            if not early:
                time.sleep(draw.uniform(0, 0.5))
                stream.take_no_more()
            if trial % 5 == 4:
                outcome.counts["went on to their end"] += 1
                code = child.wait(60.0)
                assert code == 0, f"ended with {code}: {child.said()}"
            else:
                time.sleep(draw.uniform(0, 0.5))
                sent = time.monotonic()
                child.signal(signal.SIGTERM)
                code = child.wait(GRACE)
                slowest = max(slowest, time.monotonic() - sent)
                assert code in (143, 0), f"ended with {code}: {child.said()}"
                outcome.counts["stopped by SIGTERM"] += code == 143
                outcome.counts["ended before it"] += code == 0
                assert slowest <= grace + MARGIN, f"it took {slowest:.1f} s"
            assert "Traceback" not in child.said(), child.said()
            promised_commits_are_there(run, shared)
            assert toy.finish(run) == whole, "another archive"
        shutil.rmtree(run, ignore_errors=True)
    outcome.counts["ms at most until SIGTERM had ended it"] = round(slowest * 1000)
    return outcome


class Stream:
    """What a child's stderr is, and the end that it comes out of."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.out, self.into = os.pipe() if how == "no reader" else os.openpty()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        for handle in (self.out, self.into):
            with contextlib.suppress(OSError):
                os.close(handle)

    def take_no_more(self) -> None:
        """Do to it what its name says; "closed" is so from the start."""
        if self.how == "stopped":
            os.write(self.out, CTRL_S)
        elif self.how == "no reader":
            os.close(self.out)
        elif self.how == "frozen":
            # By a description of its own, since the child's must block.
            full = os.open(os.ttyname(self.into), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            for _ in range(10):  # the kernel moves some of it on, which makes room again
                with contextlib.suppress(BlockingIOError):
                    while os.write(full, b"."):
                        pass
                time.sleep(0.01)
            os.close(full)


def _with_stderr(stream: Stream, arguments: list[str], shared: Shared, pause: float) -> int:
    """The command line in this process, with another stderr."""
    os.close(stream.out)
    if stream.how == "closed":
        os.close(2)
        sys.stderr = sys.__stderr__ = None  # type: ignore[misc, assignment]
        mend_streams()
    else:
        os.dup2(stream.into, 2)
    return command(arguments, shared, pause)
