"""Runs the steps of steps.py, each in a process of its own with its own limit, and reports whatever becomes of them.

Standard library alone: a report must come also where torch does not load. Started by check.sh.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PRETEND = HERE / "pretend"


@dataclass(frozen=True)
class Step:
    """One question. `held` of its answer says whether what evofool promises is so."""

    name: str
    question: str
    limit: int  # seconds on a GPU; a CPU has three times as many
    needs_gpu: bool = False
    alone: bool = False  # times something, so nothing else may run


STEPS = (
    Step("tests", "do the tests marked needs_gpu pass?", 100, needs_gpu=True),
    Step("lenet-cppn", "LeNet, CPPNs: one archive hash, twice, resumed, by two evaluators? verify?", 90),
    Step("lenet-direct", "LeNet, pixels: the same", 90),
    Step("efficientnet-cppn", "efficientnet-lite0, CPPNs: the same", 120),
    Step("efficientnet-direct", "efficientnet-lite0, pixels: the same", 120),
    Step("ray", "two evaluators of Ray on one GPU: the same hash as without Ray?", 90),
    Step("pictures", "are pictures bit for bit those of the CPU?", 60, needs_gpu=True),
    Step("scores", "are log-odds within 1e-3 of the CPU's?", 60, needs_gpu=True),
    Step("rows", "is a row's score independent of its neighbours and its place?", 60),
    Step("precision", "float32, tf32, bfloat16, float16: how fast, how different?", 60, needs_gpu=True, alone=True),
    Step("memory", "is the memory that `plan` names what an evaluator takes?", 60, needs_gpu=True, alone=True),
    Step("bench-cppn", "efficientnet-lite0, CPPNs: search / bare forward, and where the time goes", 75, alone=True),
    Step("bench-direct", "efficientnet-lite0, pixels: the same", 75, alone=True),
    Step("compile", "torch.compile with CUDA graphs: how fast, how different?", 120, needs_gpu=True, alone=True),
)
SYMBOLS = {"held": "held", "not held": "NOT HELD", "failed": "FAILED", "skipped": "skipped"}


@dataclass
class Answer:
    """What became of a step."""

    step: Step
    state: str  # a key of SYMBOLS
    said: str
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "step": self.step.name,
            "question": self.step.question,
            "state": self.state,
            "said": self.said,
            "seconds": round(self.seconds, 1),
            "facts": self.facts,
        }


class Check:
    """One go through the steps.

    Args:
        out: folder of the report.
        limit: seconds for everything, on a GPU.
        pretend: whether the GPU is one of pretend/.
    """

    def __init__(self, out: Path, limit: float, pretend: bool) -> None:
        self.out, self.pretend = out, pretend
        self.started, self.limit, self.patience = time.monotonic(), limit, 3
        self.answers: list[Answer] = []
        self.lock = threading.Lock()
        self.machine: dict[str, Any] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="evofool-gpu-"))
        self.environment = dict(os.environ, RAY_ADDRESS="local", PYTHONUNBUFFERED="1")
        if pretend:
            self.environment["PYTHONPATH"] = f"{PRETEND}:{os.environ.get('PYTHONPATH', '')}"

    def run(self, steps: list[Step]) -> bool:
        """Everything; whether every step ran, and held."""
        first = self._perform(Step("machine", "what is this machine?", 60))
        self.machine = first.facts
        self.device = "cuda" if self.machine.get("gpu") else "cpu"
        self.patience = 1 if self.device == "cuda" and not self.pretend else 3
        print(f"{'machine':20} {first.said} ({first.seconds:.0f} s)", flush=True)
        at_once = 4 if self.device == "cuda" and (os.cpu_count() or 1) >= 8 else 1
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(self._keep, [step for step in steps if not step.alone]))
        for step in steps:
            if step.alone:
                self._keep(step)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._close()
        held = all(answer.state == "held" for answer in self.answers)
        return held and first.state == "held" and self.device == "cuda" and not self.pretend

    def _keep(self, step: Step) -> None:
        """Perform a step, print its line and write the report so far."""
        if step.needs_gpu and self.device != "cuda":
            answer = Answer(step, "skipped", "no GPU")
        elif self._left() < 5:
            answer = Answer(step, "skipped", "no time was left")
        else:
            answer = self._perform(step)
        with self.lock:
            self.answers.append(answer)
            print(f"{step.name:20} {SYMBOLS[answer.state]:8} {answer.seconds:4.0f} s  {answer.said}", flush=True)
            self._write()

    def _perform(self, step: Step) -> Answer:
        """The answer of a process of its own."""
        command = [sys.executable, str(HERE / "steps.py"), step.name, getattr(self, "device", "cpu")]
        began = time.monotonic()
        limit = max(1.0, min(self.patience * step.limit, self._left()))
        log = self.out / f"{step.name}.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*command, str(self.folder / step.name)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self.environment,
                start_new_session=True,  # so that all its processes can be ended
            )
            try:
                stdout, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                stdout = ""
            with_children_ended(process)
        seconds = time.monotonic() - began
        lines = stdout.strip().splitlines()
        if lines and lines[-1].startswith("{"):
            result = json.loads(lines[-1])
            return Answer(step, "held" if result["held"] else "not held", result["said"], seconds, result["facts"])
        if seconds >= limit:
            return Answer(step, "failed", f"not done after {limit:.0f} s; see {log}", seconds)
        last = (log.read_text().strip() or "no message").splitlines()[-1]
        return Answer(step, "failed", f"{last[:300]}; see {log}", seconds)

    def _left(self) -> float:
        """Seconds that are left for everything."""
        return self.started + self.patience * self.limit - time.monotonic()

    def _write(self) -> None:
        """The report so far, as JSON and as a Markdown table."""
        whole = {
            "machine": self.machine,
            "pretended": self.pretend,
            "seconds": round(time.monotonic() - self.started, 1),
            "steps": [answer.as_dict() for answer in self.answers],
        }
        partial = self.out / "report.json.new"
        partial.write_text(json.dumps(whole, indent=1) + "\n")
        partial.replace(self.out / "report.json")
        rows = [f"| {a.step.name} | {SYMBOLS[a.state]} | {a.seconds:.0f} | {a.said} |" for a in self.answers]
        head = [f"{self.machine.get('line', '')}", "", "| step | | s | |", "|---|---|---|---|"]
        (self.out / "report.md").write_text("\n".join([*head, *rows]) + "\n")

    def _close(self) -> None:
        """The closing line."""
        counts = {state: sum(a.state == state for a in self.answers) for state in SYMBOLS}
        text = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
        why = "no GPU here, so this proves nothing about one; " if self.device != "cuda" else ""
        why = "the GPU is pretended, so this proves nothing about one; " if self.pretend else why
        print(f"\n{why}{text}; {time.monotonic() - self.started:.0f} s; {self.out / 'report.json'}")


def with_children_ended(process: subprocess.Popen[str]) -> None:
    """End whatever a step has left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/gpu/check.sh", description="Is evofool right on this GPU?")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder of the report")
    parser.add_argument(
        "--limit", type=float, default=290.0, help="seconds for everything, three times as many without a GPU"
    )
    names = [step.name for step in STEPS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="STEP", help=f"some of {', '.join(names)}")
    parser.add_argument("--pretend", action="store_true", help="rehearse with a GPU that is not there")
    arguments = parser.parse_args()
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out: {error.filename}: {error.strerror}.")
    wanted = [step for step in STEPS if not arguments.only or step.name in arguments.only]
    sys.exit(0 if Check(arguments.out.absolute(), arguments.limit, arguments.pretend).run(wanted) else 1)


if __name__ == "__main__":
    main()
