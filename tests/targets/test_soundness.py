"""Networks that are no function of one image, or that nobody could tell from others: each is refused in a sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from handmade import Do
from torch import nn
from torch.nn import functional

import evofool
from evofool.errors import ConfigError, EvofoolError, IncompatibleRun, TargetError
from evofool.evaluate.over_ray import roster
from evofool.evaluate.problem import Problem, Recipe, problem_of
from evofool.records import Numerics
from evofool.targets.families import load_target
from evofool.targets.opening import open_target
from evofool.targets.soundness import refuse_unsound
from evofool.targets.target import Preprocessing, Target, outputs_in_batches

FED = Preprocessing((4, 4), 3, (0.0,) * 3, (255.0,) * 3)
NAMES = ("a", "b", "c", "d")
SMALL: dict[str, Any] = {
    "search": {"offspring": 8, "initial": 8, "generations": 2},
    "evaluation": {"pool": "inline", "chunk": 8, "micro_batch": 4},
    "encoding": {"kind": "direct"},
}


def layer(inputs: int = 48, outputs: int = 4, seed: int = 1) -> nn.Linear:
    made = nn.Linear(inputs, outputs)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made


class Net(nn.Module):
    """A linear network, and something done to its scores, or done before."""

    def __init__(self, after: Callable[[Any, torch.Tensor], Any] = lambda net, scores: scores) -> None:
        super().__init__()
        self.layer, self.after = layer(), after

    def forward(self, x: torch.Tensor) -> Any:
        return self.after(self, self.layer(x.flatten(1)))


class Counting(Net):
    """Counts its batches in a buffer, by which scores do not go."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> Any:
        self.calls += 1
        return super().forward(x)


class Training(nn.Module):
    """Puts itself into training mode when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = layer(), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.train()
        scores: torch.Tensor = self.norm(self.layer(x.flatten(1)))
        return scores


def remembered(net: Any, scores: torch.Tensor) -> torch.Tensor:
    before, net.before = getattr(net, "before", scores), scores
    return scores + 0.1 * before


def seeded_dropout(net: Any, scores: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)  # the same mask each time: by place, not by image
    return functional.dropout(scores, 0.5)


def quantised(seed: int) -> nn.Module:
    """Scaled by the largest number in the batch."""
    if not hasattr(torch.ao, "quantization"):  # the newest torch has it elsewhere
        pytest.skip("no quantisation in this torch")
    net: nn.Module = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), layer(seed=seed)))
    return net


AGAIN, COMPANY, PLACE = "when it is asked again", "the other images of its batch", "its place in the batch"
UNSOUND: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dropout left on": (lambda: Net(lambda net, scores: functional.dropout(scores, 0.5)), AGAIN),
    "memory": (lambda: Net(remembered), AGAIN),
    "dropout of one mask": (lambda: Net(seeded_dropout), PLACE),
    "no running statistics": (
        lambda: nn.Sequential(nn.Flatten(), layer(), nn.BatchNorm1d(4, track_running_stats=False)),
        COMPANY,
    ),
    "the batch's own mean": (lambda: Net(lambda net, scores: scores - 0.01 * scores.mean(dim=0)), COMPANY),
    "ranks": (lambda: Net(lambda net, scores: scores * (1 + 0.01 * torch.arange(len(scores))[:, None])), PLACE),
    "a counter": (Counting, "changes its own calls when it scores"),
    "train() in forward": (Training, "changes its own norm.num_batches_tracked and 2 more when it scores"),
    "quantised by batches": (lambda: quantised(1), COMPANY),
}


def run(module: Any, path: Path, *overrides: str, **options: Any) -> evofool.Run:
    given = {"preprocessing": FED, "class_names": NAMES, **options}
    return evofool.run(SMALL, overrides, target=module, out=path, **given)


@pytest.mark.filterwarnings("ignore")  # torch's own, of what it calls old
@pytest.mark.parametrize("name", UNSOUND)
def test_a_network_that_is_no_function_of_one_image_is_refused_before_the_run(name: str, tmp_path: Path) -> None:
    make, words = UNSOUND[name]
    with pytest.raises(TargetError) as caught:
        run(make(), tmp_path / "run")
    assert caught.value.exit_code == 6 and words in caught.value.message and "\n" not in caught.value.message
    assert not (tmp_path / "run").exists()


def test_alone_in_its_batch_an_image_has_a_score_of_its_own(tmp_path: Path) -> None:
    made = run(UNSOUND["the batch's own mean"][0](), tmp_path / "run", "evaluation.micro_batch=1")
    net = UNSOUND["the batch's own mean"][0]()
    proof = evofool.verify(made.path, target=net, preprocessing=FED, class_names=NAMES)
    assert proof["bit_for_bit"] == 4


def test_where_sums_may_be_taken_in_another_order_only_more_than_that_is_refused() -> None:
    def check(kind: str, step: float, *, exact: bool) -> None:
        def after(net: Any, scores: torch.Tensor) -> torch.Tensor:
            by = torch.arange(len(scores))[:, None] if kind == "place" else scores.mean()
            return scores * (1 + step * by)

        target = Target(Net(after), FED, NAMES)
        refuse_unsound(target, lambda images: outputs_in_batches(target, images, 8), 8, exact=exact)

    for exact in (True, False):
        check("place", 1e-6, exact=exact)
        with pytest.raises(TargetError, match=PLACE):
            check("place", 1e-2, exact=exact)
        with pytest.raises(TargetError, match=COMPANY):
            check("company", 1e-2, exact=exact)
    check("company", 1e-6, exact=False)
    with pytest.raises(TargetError, match=COMPANY):
        check("company", 1e-6, exact=True)


def test_elites_are_verified_at_the_places_at_which_they_were_scored(tmp_path: Path) -> None:
    # Rows of 75 numbers begin at fractions of a vector, by which some processors take sums in another order.
    net, names = nn.Sequential(nn.Flatten(), layer(75, 10)), [f"class {i}" for i in range(10)]
    given = {"preprocessing": Preprocessing((5, 5), 3, (0.0,) * 3, (255.0,) * 3), "class_names": names}
    made = run(net, tmp_path / "run", "search.generations=8", "search.offspring=30", **given)
    assert evofool.verify(made.path, target=net, **given)["bit_for_bit"] == 10


def test_images_that_the_network_has_no_numbers_for_are_no_reason_to_refuse_it() -> None:
    target = Target(Net(lambda net, scores: torch.where(scores[:, :1] > 0, scores, torch.nan)), FED, NAMES)
    for exact in (True, False):
        refuse_unsound(target, lambda images: outputs_in_batches(target, images, 8), 8, exact=exact)


CODE = """
import os
import torch, evofool

WEIGHTS = torch.tensor(list(open("weights.bin", "rb").read()), dtype=torch.float32)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(48, 4)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).sin().view(parameter.shape))

    def forward(self, x):
        if os.environ.get("UNSOUND"):
            x = torch.nn.functional.dropout(x, 0.5)
        return self.layer(x.flatten(1)) * WEIGHTS

def build():
    preprocessing = evofool.Preprocessing((4, 4), 3, (0.0,) * 3, (255.0,) * 3)
    return evofool.Target(Net(), preprocessing, ("a", "b", "c", "d"), files=FILES)
"""


def written(folder: Path, files: str = "()") -> str:
    (folder / "net.py").write_text(CODE.replace("FILES", files))
    (folder / "weights.bin").write_bytes(bytes([1, 2, 3, 4]))
    return f"python:{folder / 'net.py'}:build"


def test_it_is_looked_at_again_on_resume_by_verify_by_check_and_by_whoever_joins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = written(tmp_path)
    evofool.run({**SMALL, "target": {"spec": spec}}, out="run", allow_code=True)
    assert command("targets", "check", spec, "--allow-code")[0] in (0, 1)
    recipes: list[Recipe] = []
    build = Problem.evaluator
    monkeypatch.setattr(Problem, "evaluator", lambda self, n: (recipes.append(self.recipe(n)), build(self, n))[1])
    monkeypatch.setenv("UNSOUND", "1")
    for again in (
        lambda: evofool.resume("run", ["search.generations=3"], allow_code=True),
        lambda: evofool.verify("run", allow_code=True),
        lambda: recipes[0].build().canary(),  # as an evaluator in another process does
    ):
        with pytest.raises(TargetError, match=AGAIN):
            again()
    code, _, said = command("targets", "check", spec, "--allow-code")
    assert code == 6 and AGAIN in said


# ----------------------------------------------------------------------------------------------- what nobody would see


class Holding(Net):
    """Something beside the layer, in an attribute."""

    def __init__(self, hold: Callable[[], Any]) -> None:
        super().__init__()
        self.held = hold()


@pytest.mark.parametrize(
    ("hold", "words"),
    [
        (lambda: [layer(), nn.Dropout()], "held[0] (Linear) is no part of the network to torch"),
        (lambda: {"first": (layer(),)}, "held['first'][0] (Linear)"),
        (lambda: [[None, {3: nn.Dropout()}]], "held[0][1][3] (Dropout)"),
        (lambda: [nn.Parameter(torch.zeros(2))], "held[0] (Parameter)"),
    ],
)
def test_modules_and_parameters_outside_of_the_tree_are_refused_by_name(hold: Any, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        Target(Holding(hold), FED, NAMES)
    assert words in caught.value.message and "torch.nn." in caught.value.message
    with pytest.raises(TargetError, match=r"0\.held\[0\]"):
        Target(nn.Sequential(Holding(lambda: [nn.ReLU()])), FED, NAMES)


def test_a_list_of_what_is_in_the_tree_is_not_refused() -> None:
    net = Holding(list)
    net.held += [net.layer, net, net.held]
    Target(net, FED, NAMES)


def test_files_that_a_python_target_names_are_part_of_its_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = written(tmp_path, '("weights.bin",)')
    before = load_target(spec, allow_code=True).fingerprint()
    made = evofool.run({**SMALL, "target": {"spec": spec}}, out="run", allow_code=True)
    assert made.provenance["target_fingerprint"] == before
    (tmp_path / "weights.bin").write_bytes(bytes([1, 2, 3, 5]))
    with pytest.raises(IncompatibleRun, match="put the old weights back"):
        evofool.resume("run", ["search.generations=3"], allow_code=True, allow_numerics_change=True)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ConfigError, match=r"no file weights.bin; Target\(files=...\) names it"):
        load_target(spec, allow_code=True)
    (tmp_path / "weights.bin").write_bytes(bytes([1, 2, 3, 4]))
    assert load_target(spec, allow_code=True).fingerprint() == before


def test_weights_exchanged_where_the_fingerprint_is_blind_are_said_to_be_and_no_change_of_numerics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = written(tmp_path)
    evofool.run({**SMALL, "target": {"spec": spec}}, out="run", allow_code=True)
    (tmp_path / "weights.bin").write_bytes(bytes([1, 2, 3, 5]))
    for name in [name for name in sys.modules if name.startswith("evofool_user_")]:
        monkeypatch.delitem(sys.modules, name)  # as in another process
    for again in (
        lambda: evofool.resume("run", ["search.generations=3"], allow_code=True),
        lambda: evofool.resume("run", ["search.generations=3"], allow_code=True, allow_numerics_change=True),
        lambda: evofool.verify("run", allow_code=True),
    ):
        with pytest.raises(IncompatibleRun, match="weights or code have changed") as caught:
            again()
        assert caught.value.exit_code == 3 and "--allow-numerics-change" not in caught.value.message


# --------------------------------------------------------------------------------------------- what torch has many of


class Extra(Net):
    """A network with a state that is no tensor."""

    def __init__(self, state: Any) -> None:
        super().__init__()
        self.state = state

    def get_extra_state(self) -> Any:
        return self.state

    def set_extra_state(self, state: Any) -> None:
        self.state = state


class Deep(nn.Module):
    """A convolution in three dimensions, of one frame."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Conv3d(3, 4, (1, 3, 3)), layer(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.last(self.layer(x[:, :, None]).flatten(1))
        return scores


def plain() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), layer(16)).eval()


PICTURES = (torch.rand(4, 3, 4, 4),)
WORKING: dict[str, Callable[[], nn.Module]] = {
    "jit.script": lambda: torch.jit.script(plain()),
    "jit.trace": lambda: torch.jit.trace(plain(), PICTURES),
    "jit.freeze": lambda: torch.jit.freeze(torch.jit.script(plain())),
    "export": lambda: torch.export.export(plain(), PICTURES).module(),
    "extra state": lambda: Extra({"scale": torch.ones(2), "names": ["a", None, 1.5]}),
    "five dimensions": Deep,
    "sparse": lambda: Net(lambda net, scores: scores.to_sparse()),
    "sparse rows": lambda: Net(lambda net, scores: scores.to_sparse_csr()),
    "whole numbers": lambda: Net(lambda net, scores: (scores * 100).long()),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WORKING)
def test_what_can_work_works(name: str, tmp_path: Path) -> None:
    net, given = WORKING[name](), {"preprocessing": FED, "class_names": NAMES}
    run(net, tmp_path / "run")
    evofool.resume(tmp_path / "run", ["search.generations=3"], target=net, **given)
    assert evofool.verify(tmp_path / "run", target=net, **given)["bit_for_bit"] == 4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.export.export(plain(), PICTURES), "give what its module() returns"),
        (lambda: lambda x: x, "is a function, not a torch.nn.Module"),
        (lambda: Extra(object()), "let get_extra_state() return tensors"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), "1.weight has no shape yet"),
        (lambda: plain().to("meta"), "0.weight is on the device meta"),
        (lambda: Net(lambda net, scores: torch.complex(scores, scores)), "complex numbers"),
        (lambda: Net(lambda net, scores: scores.to("meta")), "has no plain numbers"),
        (lambda: Net(lambda net, scores: torch.nested.nested_tensor(list(scores))), "not scores of shape"),
        (lambda: Net(lambda net, scores: scores.max(dim=1)), "not scores of shape"),
    ],
)
def test_what_cannot_is_refused_in_a_sentence(make: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError) as caught:
        run(make(), tmp_path / "run")
    assert words in caught.value.message and "\n" not in caught.value.message
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore")
def test_the_fingerprint_sees_code_constants_and_whatever_states_hold() -> None:
    def scripted(function: Callable[[torch.Tensor], torch.Tensor], seed: int = 1) -> Target:
        net = nn.Sequential(nn.Flatten(), layer(seed=seed), Do(function)).eval()
        return Target(torch.jit.freeze(torch.jit.trace(net, PICTURES)), FED, NAMES)

    targets: list[Callable[[], Target]] = [
        lambda: scripted(torch.sin),
        lambda: scripted(torch.cos),
        lambda: scripted(torch.sin, seed=2),
        lambda: Target(quantised(1), FED, NAMES),
        lambda: Target(quantised(2), FED, NAMES),
        *(
            lambda state=state: Target(Extra(state), FED, NAMES)  # type: ignore[misc]
            for state in (None, 1, 1.0, "1", [1], {"a": 1}, {"b": 1}, {"a": torch.ones(1)}, np.ones(1), b"1")
        ),
        lambda: Target(Extra(torch.eye(2).to_sparse()), FED, NAMES),
        lambda: Target(Extra(torch.eye(3).to_sparse()), FED, NAMES),
        lambda: Target(Extra(torch.eye(2).to_sparse_csr()), FED, NAMES),
    ]
    prints = [make().fingerprint() for make in targets]
    assert len(set(prints)) == len(prints)
    assert [make().fingerprint() for make in targets] == prints


def test_a_live_network_that_cannot_travel_to_evaluators_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def put(recipe: Recipe) -> Any:
        raise TypeError("Could not serialize the put value\n" + "=" * 80)

    monkeypatch.setattr(roster.ray, "put", put)
    config = evofool.load_config({**SMALL, "target": {"spec": "live"}})
    opened = open_target(config.target, live=plain(), preprocessing=FED, class_names=NAMES)
    recipe = problem_of(config, opened, allow_code=False).recipe(Numerics("cpu", 8, 4, 1, "contiguous"))
    with pytest.raises(ConfigError, match=r"a live Sequential .* say evaluation\.pool=inline") as caught:
        roster._sent(recipe)
    assert "\n" not in caught.value.message


# --------------------------------------------------------------------------------------------- numbers and names given


def test_preprocessing_takes_numbers_of_numpy_and_torch_and_single_ones() -> None:
    plain = Preprocessing((8, 6), 3, (127.5, 127.5, 127.5), (51.0, 51.0, 51.0), 9, 4)
    taken = Preprocessing(
        np.array([8, 6]), np.int64(3), 255 * np.full(3, 0.5), torch.full((3, 1, 1), 51.0), np.int32(9), 4
    )
    assert taken.sha256() == Preprocessing([8, 6], 3, 127.5, [51.0] * 3, torch.tensor(9), 4).sha256()  # type: ignore
    assert np.allclose(taken.std, plain.std) and taken.mean == plain.mean and taken.image_size == plain.image_size
    assert Preprocessing(8, 1, 0, 255) == Preprocessing((8, 8), 1, (0,), (255,))  # type: ignore[arg-type]
    assert Preprocessing(8, 1, 0, 255).sha256() == Preprocessing((8, 8), 1, (0,), (255,)).sha256()  # type: ignore
    for mean in ("0", None, 1j, [[0, "1", 2]]):
        with pytest.raises(ConfigError, match="mean is a number for each channel"):
            Preprocessing((8, 6), 3, mean, 1.0)  # type: ignore[arg-type]


def test_numbers_in_units_of_one_are_doubted_and_have_a_way_in(tmp_path: Path) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    right = Preprocessing.of_unit(mean, std, image_size=(4, 4), resize=5)
    assert right.resize == 5 and np.allclose((right.mean, right.std), np.multiply(255, (mean, std)))
    assert Preprocessing.of_unit(0.5, np.array([0.5] * 3), image_size=4) == Preprocessing(4, 3, 127.5, 127.5)  # type: ignore
    assert Preprocessing.of_unit(0.5, 0.5, image_size=4, channels=3).mean == (127.5,) * 3
    told: list[str] = []

    class Listener(evofool.Observer):
        def on_warning(self, event: Any) -> None:
            told.append(event.text)

    for number, (fed, doubted) in enumerate(
        [
            (Preprocessing((4, 4), 3, mean, std), True),
            (Preprocessing((4, 4), 3, mean, 1.0), True),  # type: ignore[arg-type]
            (right, False),
            (FED, False),
            (Preprocessing((4, 4), 3, 0.0, 1.0), False),  # type: ignore[arg-type]
        ]
    ):
        assert bool(fed.doubt) == doubted
        if number in (0, 2):
            run(plain(), tmp_path / str(number), preprocessing=fed, observers=[Listener()])
    assert len(told) == 1 and "multiply both by 255" in told[0] and "of_unit" in told[0]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([None, "b", "c", "d"], "class 0 is called None"),
        (["a", "b", 1.5, "d"], "class 2 is called 1.5"),
        (["a", "b", b"c", "d"], "class 2 is called b'c'"),
        ({"a": 0, "b": 1, "c": 2, "d": 3}, "is a dict; give a list"),
        ({"a", "b", "c", "d"}, "is a set; give a list"),
        (4, "is a int; give a list"),
        (["a", "\ud800", "c", "d"], "class 1 is called '\\ud800', which holds half a character"),
    ],
    ids=["none", "float", "bytes", "dict", "set", "number", "half a character"],
)
def test_class_names_that_cannot_be_stored_are_refused_at_the_door(names: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Target(plain(), FED, names)
    assert words in caught.value.message
    with pytest.raises(EvofoolError) as caught:
        run(plain(), tmp_path / "run", class_names=names)
    assert words in caught.value.message and caught.value.exit_code == 2


def test_numbers_as_class_names_become_texts(tmp_path: Path) -> None:
    assert Target(plain(), FED, np.array(NAMES)).class_names == NAMES  # type: ignore[arg-type]
    made = run(plain(), tmp_path / "run", class_names=range(4))
    assert sorted(made.elites()["class_name"]) == ["0", "1", "2", "3"]
    evofool.resume(made.path, ["search.generations=3"], target=plain(), preprocessing=FED, class_names=range(4))


def test_a_name_of_several_classes_is_refused_with_their_numbers(tmp_path: Path, command: Any) -> None:
    made = run(plain(), tmp_path / "run", class_names=["crane", "dog", "crane", "eel"])
    code, _, said = command("show", made.path, "crane")
    assert code == 2 and "'crane' is the name of classes 0 and 2; give the number of one" in said
    assert made.elite("2")["class_index"] == made.elite(2)["class_index"] == 2
    assert made.elite("dog")["class_index"] == 1
