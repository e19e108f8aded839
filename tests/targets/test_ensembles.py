"""Ensembles: what several networks say together, by their definition and by planted networks; and what makes none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

import evofool
from evofool.archive.scores import COMBINE, combined, log_odds, log_odds_float64
from evofool.config import load_config
from evofool.errors import ConfigError, EvofoolError
from evofool.evaluate.evaluator import Evaluator
from evofool.evaluate.problem import problem_of
from evofool.evaluate.resolving import resolve_numerics
from evofool.machines.launch import named_files
from evofool.records import Cells
from evofool.studies.shared import pictures
from evofool.targets import ensemble as module
from evofool.targets.classes import match
from evofool.targets.ensemble import Ensemble, fitted, make_ensemble
from evofool.targets.families import load_target
from evofool.targets.opening import open_target, section_of
from evofool.targets.specs import section_named
from evofool.targets.target import Preprocessing, Target

METADATA = {"format": "evofool.lenet.1", "class_names": json.dumps(list("0123456789"))}
FED = Preprocessing((8, 8), 1, (0.0,), (255.0,))


class Linear(nn.Module):
    """One layer over some columns of the image, of random or of given weights."""

    def __init__(self, classes: int, inputs: int, seed: int, columns: slice = slice(None)) -> None:
        super().__init__()
        self.columns = columns
        self.layer = nn.Linear(inputs, classes)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x[..., self.columns].flatten(1))


def target(seed: int = 1, names: str = "abcd", size: int = 8, channels: int = 1, **more: Any) -> Target:
    fed = Preprocessing((size, size), channels, (0.0,) * channels, (255.0,) * channels)
    return Target(Linear(len(names), size * size * channels, seed), fed, tuple(names), **more)


def images(size: int = 8, channels: int = 1, rows: int = 6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(0, 256, (rows, size, size, channels), dtype=np.uint8))


# ---------------------------------------------------------------------------------------------------------- arithmetic


def exact(members: list[list[float]], combine: str) -> list[float]:
    """The definition, word for word, of some logits of every member; with 400 digits, so that 1 - p may be taken."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 400, 10**9, -(10**9)
        p = []
        for logits in members:
            powers = [Decimal(z).exp() for z in logits]
            p.append([power / sum(powers) for power in powers])
        classes = range(len(members[0]))
        if combine == "min":
            return [float(min((q[c] / (1 - q[c])).ln() for q in p)) for c in classes]
        if combine == "mean":
            joint = [sum(q[c] for q in p) / len(p) for c in classes]
        else:
            joint = [Decimal(1)] * len(classes)
            for q in p:
                joint = [a * b for a, b in zip(joint, q)]
            joint = [a / sum(joint) for a in joint]
        return [float((a / (1 - a)).ln()) for a in joint]


@pytest.mark.parametrize("combine", COMBINE)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_combined_log_odds_are_exact_however_near_to_one_a_probability_is(combine: str, data: st.DataObject) -> None:
    scale = data.draw(st.sampled_from([0.1, 5.0, 100.0]))  # with p = 1 - e^-100 there are probabilities of 1 in float64
    logit = st.floats(-1, 1).map(lambda z: float(np.float32(z * scale)))
    members = data.draw(st.lists(st.lists(logit, min_size=3, max_size=3), min_size=2, max_size=3))
    found = combined([log_odds_float64(np.array([row]), "logits") for row in members], combine)
    assert found.dtype == np.float32
    expected = np.array([exact(members, combine)])
    np.testing.assert_allclose(found, expected, rtol=2.0**-23, atol=max(1.0, scale) * 1e-13)  # sums of six such


@pytest.mark.parametrize("combine", COMBINE)
def test_a_network_with_itself_says_what_it_says_alone(combine: str) -> None:
    one = target()
    logits = one.outputs(images())
    alone = log_odds(logits, "logits")
    # The renormalised product of p with itself is p^2 / sum of p_j^2, whose logits are twice the network's.
    expected = log_odds(2 * logits.astype(np.float64), "logits") if combine == "product" else alone
    together = make_ensemble([one, one], combine).outputs(images())
    np.testing.assert_array_max_ulp(together, expected, 1)
    if combine == "min":
        assert together.tobytes() == alone.tobytes()


def test_a_row_that_is_not_finite_for_one_member_is_nan_throughout() -> None:
    odds = np.random.default_rng(1).standard_normal((2, 3, 4))
    broken = odds.copy()
    broken[1, 1] = np.nan
    for combine in COMBINE:
        whole, found = combined(list(odds), combine), combined(list(broken), combine)
        assert np.isnan(found[1]).all() and np.array_equal(found[[0, 2]], whole[[0, 2]])


def test_two_networks_that_read_disjoint_halves_need_both() -> None:
    halves = []
    for columns in (slice(0, 4), slice(4, 8)):
        net = Linear(2, 32, 1, columns)
        with torch.no_grad():  # class "lit" as far as its half is lit
            net.layer.weight.copy_(torch.tensor([[1.0], [0.0]]).expand(2, 32))
            net.layer.bias.copy_(torch.tensor([-16.0, 0.0]))
        halves.append(Target(net, FED, ("lit", "dark")))
    shown = torch.zeros(4, 8, 8, 1, dtype=torch.uint8)  # dark, left lit, right lit, both
    shown[1, :, :4] = shown[2, :, 4:] = shown[3] = 255
    lit = {how: make_ensemble(halves, how).outputs(shown)[:, 0] for how in COMBINE}
    np.testing.assert_allclose(lit["min"], [-16, -16, -16, 16], rtol=1e-6)
    np.testing.assert_allclose(lit["product"], [-32, 0, 0, 32], atol=1e-5)  # one for, one against: undecided
    np.testing.assert_allclose(lit["mean"], [-16, 0, 0, 16], atol=1e-5)


# ----------------------------------------------------------------------------------------------------- what members see


@pytest.mark.parametrize("channels, wanted", [(1, 1), (1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("size", [8, 5, 13])
def test_members_see_the_picture_as_pil_would_resize_and_keep_it(channels: int, wanted: int, size: int) -> None:
    given = images(channels=channels)
    found = fitted(given, (size, size), wanted).numpy()
    expected = np.stack([pictures.fitted(image, (size, size), wanted) for image in given.numpy()])
    assert found.dtype == np.uint8 and found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected.astype(int)).max()  # PIL's weights have 22 bits
    assert difference == 0 if size == 8 else difference <= 1


def test_each_member_gets_its_own_size_channels_and_kind_of_output() -> None:
    first, other = target(1), target(2, size=12, channels=3)
    softmax = replace(other, module=nn.Sequential(other.module, nn.Softmax(1)), output="probabilities")
    together = make_ensemble([first, softmax], "min")
    assert together.image_size == (8, 8) and together.channels == 1
    seen = fitted(images(), (12, 12), 3)
    alone = [log_odds(first.outputs(images()), "logits"), log_odds(softmax.outputs(seen), "probabilities")]
    assert np.array_equal(together.outputs(images()), np.minimum(*alone))
    lower = [
        log_odds(t.with_arithmetic("bfloat16", "none").outputs(x), t.returns)
        for t, x in [(first, images()), (softmax, seen)]
    ]
    assert np.array_equal(together.with_arithmetic("bfloat16", "none").outputs(images()), np.minimum(*lower))
    assert not np.array_equal(lower[0], alone[0])
    wrong = make_ensemble([first, replace(other, output="probabilities")])
    with pytest.raises(EvofoolError, match="do not sum to 1"):
        wrong.outputs(images())


# -------------------------------------------------------------------------------------------------------------- classes


def test_classes_are_matched_by_id_where_both_have_one_else_by_name() -> None:
    ids = {0: "n1", 1: "n2", 2: None, 3: "n4"}
    # By id under another name; the same name and another id; by name, as one has no id; by name.
    assert match(dict(enumerate("abcd")), ["c", "x", "b", "d"], ids, ["n3", "n1", "n9", None]) == {0: 1, 2: 0, 3: 3}
    assert match({0: "crane", 1: "crane", 2: "fly"}, ["fly", "crane", "crane"]) == {1: 1, 2: 0}


def test_the_classes_are_those_that_all_have_and_others_still_count() -> None:
    first, other = target(1, "abcde"), target(2, "edcxb")
    together = make_ensemble([first, other], "mean")
    assert together.class_names == ("b", "c", "d", "e")
    odds = [log_odds(t.outputs(images()), "logits").astype(np.float64) for t in (first, other)]
    p = (1 / (1 + np.exp(-odds[0][:, [1, 2, 3, 4]])) + 1 / (1 + np.exp(-odds[1][:, [4, 2, 1, 0]]))) / 2
    assert (p.sum(axis=1) < 1).all()  # the rest is that of a and x
    np.testing.assert_allclose(together.outputs(images()), np.log(p / (1 - p)), rtol=1e-4, atol=1e-6)
    assert together.class_indices(["e", 0]).tolist() == [3, 0]
    with pytest.raises(ConfigError, match=r"not all networks .* have a, x; leave out what is not among the 4 classes"):
        together.class_indices(["b", "a", "x"])


# ---------------------------------------------------------------------------------------------------------- fingerprint


def test_the_fingerprint_knows_order_combine_members_classes_and_how_images_are_resized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = target(1), target(2)
    ids = ("n1", "n2", "n3", "n4")
    others: list[Callable[[], Target]] = [
        lambda: make_ensemble([one, two]),
        lambda: make_ensemble([two, one]),
        lambda: make_ensemble([one, two], "min"),
        lambda: make_ensemble([one, two, two]),
        lambda: make_ensemble([one, target(2, size=12)]),
        lambda: make_ensemble([replace(one, imagenet_ids=ids), replace(two, imagenet_ids=ids[::-1])]),
    ]
    found = [make().fingerprint() for make in others]
    monkeypatch.setattr(module, "FITTED", "some other way")
    found.append(others[0]().fingerprint())
    assert len(set(found)) == len(found)
    assert make_ensemble([one, two]).fingerprint() == found[-1]


# -------------------------------------------------------------------------------------------------------- whole program


@pytest.fixture
def two_lenets(lenet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The list of two LeNets, in the working directory; the second is the first, shaken."""
    monkeypatch.chdir(tmp_path)
    weights = load_file(lenet_file)
    generator = torch.Generator().manual_seed(11)
    save_file(weights, "one.safetensors", METADATA)
    shaken = {name: w + 0.1 * torch.randn(w.shape, generator=generator) for name, w in weights.items()}
    save_file(shaken, "two.safetensors", METADATA)
    return "[lenet:one.safetensors, lenet:two.safetensors]"


def config(spec: str, combine: str) -> list[str]:
    sizes = ["search.offspring=12", "search.initial=12", "search.generations=2", "name=e"]
    return [f"target.spec={spec}", f"target.combine={combine}", "evaluation.pool=inline", *sizes]


@pytest.mark.slow
@pytest.mark.parametrize("combine", ["mean", "min"])  # the product is run below
def test_an_ensemble_is_run_resumed_verified_and_asked_like_any_network(
    two_lenets: str, combine: str, command: Command
) -> None:
    named = f"{combine}(lenet:one.safetensors, lenet:two.safetensors)"
    Path("c.yaml").write_text("target: {spec: lenet:one.safetensors}")
    whole = config(two_lenets, combine)
    assert command("run", "c.yaml", *whole, "search.generations=4", "name=whole")[0] == 0
    assert command("run", "c.yaml", *whole)[0] == 0
    assert command("resume", "runs/e", "search.generations=4")[0] == 0
    assert command("verify", "runs/e", "--replay", "4")[0] == 0
    run = evofool.open_run("runs/e")
    assert run.archive_hash == evofool.open_run("runs/whole").archive_hash
    facts = run.provenance
    assert facts["target"] == named and facts["combine"] == combine and facts["output"] == "log_odds"
    assert run.elites()["target"].unique().tolist() == [named]
    assert [m["target"] for m in facts["members"]] == ["lenet:one.safetensors", "lenet:two.safetensors"]
    alone = [load_target(m["target"]) for m in facts["members"]]
    assert [m["target_fingerprint"] for m in facts["members"]] == [t.fingerprint() for t in alone]
    # What is archived is what the members say of the pictures, whoever asks them.
    rows = evofool.transfer(run, [named, "lenet:one.safetensors", "lenet:two.safetensors"], variants=["same_pixels"])
    odds = {to: part["log_odds"].to_numpy() for to, part in rows.groupby("to")}
    assert odds[named].tobytes() == run.elites()["log_odds"].to_numpy().tobytes()
    if combine == "min":
        assert np.array_equal(odds[named], np.minimum(odds["lenet:one.safetensors"], odds["lenet:two.safetensors"]))
    save_file(load_file("one.safetensors"), "two.safetensors", METADATA)
    code, _, stderr = command("resume", "runs/e", "search.generations=5")
    assert code == 3 and named in stderr and "is not the one the run was made with" in stderr


@pytest.mark.slow
def test_a_live_ensemble_has_the_archive_of_the_one_that_a_list_names(two_lenets: str) -> None:
    base = {"target": {"spec": "live"}}
    members = [load_target("lenet:one.safetensors"), load_target("lenet:two.safetensors")]
    given = evofool.make_ensemble(members, "product")
    opened = open_target(section_of(given), live=given).target
    assert isinstance(opened, Ensemble) and opened.members[1].module is opened.module.get_submodule("1")
    assert opened.members[1].module is not members[1].module and opened.fingerprint() == given.fingerprint()
    with pytest.raises(
        ConfigError, match="is an ensemble of targets that have their geometry, output and crops already"
    ):
        evofool.run(base, [*config("live", "mean"), "target.crops=10"], target=given, out="live")
    live = evofool.run(base, config("live", "mean"), target=given, out="live")
    named = evofool.run(base, config(two_lenets, "product"), out="named")
    hashes = [[row["image_sha256"] for row in run.elites().to_dict("records")] for run in (live, named)]
    assert hashes[0] == hashes[1] and live.elites()["log_odds"].equals(named.elites()["log_odds"])


def test_evaluators_elsewhere_build_it_without_its_files(two_lenets: str) -> None:
    settings = load_config({"target": {"spec": "lenet:one.safetensors"}}, config(two_lenets, "min"))
    problem = problem_of(settings, open_target(settings.target), allow_code=False)
    recipe = problem.recipe(resolve_numerics(settings.evaluation, problem.target.family, False))
    assert problem.target.family == "lenet"
    assert named_files(settings) == [Path("one.safetensors"), Path("two.safetensors")]
    for file in Path.cwd().glob("*.safetensors"):
        file.unlink()
    evaluator = recipe.build()  # which compares the fingerprint
    assert isinstance(evaluator.target, Ensemble)


def test_objectives_read_log_odds_and_logarithms_of_probabilities_and_a_members_layers() -> None:
    seen: dict[str, NDArray[Any]] = {}

    def rank(readings: evofool.Readings) -> NDArray[np.float32]:
        assert readings.logits is not None and readings.layer is not None
        seen.update(log_odds=readings.log_odds, logits=readings.logits, layer=readings.layer)
        return readings.log_odds[:, readings.classes]

    together = make_ensemble([target(1), target(2, names="abcdef")], "min")
    numerics = resolve_numerics(load_config({"target": {"spec": "live"}}).evaluation, "any", False)
    objective = evofool.Objective(rank, logits=True, layer="1.layer")
    Evaluator(together, None, Cells(np.arange(4)), numerics, objective).score_images(images().numpy())
    p = 1 / (1 + np.exp(-seen["log_odds"].astype(np.float64)))
    np.testing.assert_allclose(np.exp(seen["logits"]), p, rtol=1e-5)
    np.testing.assert_allclose(seen["layer"], together.members[1].outputs(images()), rtol=1e-5, atol=1e-5)


def test_a_spec_stands_as_it_is_typed_and_a_list_of_them_is_yaml() -> None:
    for text in ("lenet:run #3: new.safetensors", "python:{x}.py:build"):
        assert load_config({"target": {"spec": "live"}}, f"target.spec={text}").target.spec == text
    typed = "target.spec=[efficientnet-lite:0,'lenet:run #3.safetensors', 007]"
    assert load_config({"target": {"spec": "live"}}, typed).target.specs == [
        "efficientnet-lite:0",
        "lenet:run #3.safetensors",
        "007",
    ]


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "change, sentence",
    [
        ("target.spec=[lenet:one.safetensors]", "target.spec: a list is an ensemble, of two networks at least"),
        ("target.spec=[]", "target.spec: a list is an ensemble, of two networks at least"),
        ("target.spec=[lenet:one.safetensors, 3.5, {a: b}]", "target.spec: should be a text, or a list of texts"),
        ("target.combine=median", "target.combine: should be 'mean', 'product' or 'min'"),
        ("target.spec=lenet:one.safetensors", "target.combine: min combines several networks, and target.spec names"),
        ("target.spec=min(lenet:a, lenet:b)", "is how an ensemble is shown; say target.spec=[lenet:a, lenet:b]"),
        ("target.spec=[lenet:one.safetensors, lenet:three.safetensors]", "no file three.safetensors"),
        ("target.spec=[lenet:one.safetensors, live]", "'live' names no kind of target"),
        ("target.geometry=published", "lenet:one.safetensors has no published geometry"),
        ("target.crops=10", "lenet:one.safetensors takes images no larger than its crop"),
        ("target.classes=['3', ten]", "has no class 'ten'"),
    ],
)
def test_what_is_no_ensemble_is_refused_in_one_sentence(
    change: str, sentence: str, two_lenets: str, command: Command
) -> None:
    Path("c.yaml").write_text("target: {spec: lenet:one.safetensors}")
    code, _, stderr = command("run", "c.yaml", *config(two_lenets, "min"), change)
    assert code == 2 and sentence in stderr and len(stderr.strip().splitlines()) == 1 and not Path("runs").exists()


@pytest.mark.parametrize(
    "members, combine, sentence",
    [
        ([target()], "mean", "an ensemble is of two networks at least, not 1"),
        ([target(), target()], "average", "'average' is unknown: there are mean, product, min"),
        ([target(), target(names="efgh")], "mean", "no class in common .*: live has a, b, c, ...; live has e, f, g"),
        ([target(), target(names="xbyz")], "mean", "only the class 'b' in common, and a search needs two"),
        ([target(), replace(target(), module=nn.Identity(), preprocessing=replace(FED, image_size=(8, 16)))], "min",
         "takes images of 8 x 16 pixels, to which those of live, 8 x 8, cannot be resized without stretching"),
    ],
)  # fmt: skip
def test_networks_that_do_not_go_together_are_refused(members: list[Target], combine: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make_ensemble(members, combine)


@pytest.mark.parametrize("text", ["mean(lenet:a)", "min()", "product(lenet:a,)"])
def test_an_ensemble_on_a_command_line_is_of_two_at_least(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--to: {text!r} is no ensemble; give two networks at least")):
        section_named(text, "--to")
