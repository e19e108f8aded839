"""`evofool study score`: any pictures, by the evaluators that judge a run's; wrong ones are named, others scored."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Command
from PIL import Image

import evofool
from evofool.base import picture_files
from evofool.errors import ConfigError, StorageError
from evofool.studies import score
from evofool.studies.study import conduct
from evofool.targets.target import Preprocessing, Target

pytestmark = pytest.mark.slow  # `make check` leaves them to `make test`


@pytest.fixture
def target() -> Target:
    """Six classes, colour, 8 x 12 pixels; logits are means of channels and halves, so they follow from the picture."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8 * 12 * 3, 6))
    return Target(module, Preprocessing((8, 12), 3, (127.5,) * 3, (60.0,) * 3), tuple("abcdef"))


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def confidences(target: Target, image: np.ndarray) -> np.ndarray:
    """What a plain program finds: normalise, run, softmax."""
    x = (torch.from_numpy(image.astype(np.float32)) - 127.5) / 60
    with torch.no_grad():
        result: np.ndarray = torch.softmax(target.module(x.movedim(-1, 0)[None]).double(), 1)[0].numpy()
    return result


# ------------------------------------------------------------------------------------------------------ what it does


@pytest.mark.slow
def test_exported_elites_score_what_is_archived(
    command: Command, small_run: evofool.Run, lenet_file: Path, tmp_path: Path
) -> None:
    assert command("export", small_run.path, "--out", tmp_path / "p")[0] == 0
    files = sorted((tmp_path / "p").glob("0*.png"))
    out = tmp_path / "scores"
    code, text, err = command("study", "score", *files, "--target", f"lenet:{lenet_file}", "--out", out)
    assert (code, err) == (0, "") and "of 10 pictures" in text and str(files[3]) in text
    frame, elites = pd.read_parquet(out / "score.parquet"), small_run.elites().set_index("class_index")
    for row in frame.itertuples():
        elite = elites.loc[int(Path(row.path).name[:4])]
        own = row.classes[elite.name]
        assert own["class_name"] == elite.class_name and abs(own["confidence"] - elite.confidence) < 1e-4
        assert abs(own["log_odds"] - elite.log_odds) < 1e-3
        assert row.image_sha256 == elite.image_sha256 and row.target_fingerprint == elite.target_fingerprint
        assert row.preprocessing_hash == elite.preprocessing_hash


def test_a_picture_of_the_targets_size_is_fed_as_it_is(target: Target, tmp_path: Path) -> None:
    image = noise(8, 12)
    Image.fromarray(image).save(tmp_path / "x.png")
    row = evofool.score(tmp_path / "x.png", target).iloc[0]
    expected = confidences(target, image)
    found = [entry["confidence"] for entry in row.classes]
    assert np.abs(np.array(found) - expected).max() < 1e-6
    assert row.image_sha256 == hashlib.sha256(image.tobytes()).hexdigest()
    assert row.top1_class_index == expected.argmax() and row.top1_class_name == "abcdef"[expected.argmax()]
    assert abs(row.top1_confidence - expected.max()) < 1e-6
    assert [entry["class_index"] for entry in row.top5] == np.argsort(-expected)[:5].tolist()
    assert abs(row.entropy - -(expected * np.log(expected)).sum()) < 1e-5
    assert np.allclose([e["log_odds"] for e in row.classes], np.log(expected / (1 - expected)), atol=1e-5)
    assert (row.width, row.height, row["mode"]) == (12, 8, "RGB")


def test_another_size_is_resized_and_cropped_as_published_but_the_own_is_not(tmp_path: Path) -> None:
    from evofool.targets.checking.photographs import fit

    own = Preprocessing((8, 8), 3, (127.5,) * 3, (60.0,) * 3, resize=10, crop=8)
    target = Target(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)), own, tuple("abc"))
    for name, image, fed in (
        ("own.png", noise(8, 8), noise(8, 8)),
        ("other.png", noise(9, 30), fit(target, noise(9, 30))),
    ):
        Image.fromarray(image).save(tmp_path / name)
        row = evofool.score(tmp_path / name, target).iloc[0]
        assert row.image_sha256 == hashlib.sha256(fed.tobytes()).hexdigest(), name


def test_folders_are_searched_and_nothing_comes_twice(target: Target, tmp_path: Path) -> None:
    names = ["a.png", "b.JPG", "c.jpeg", "d.bmp", "e.gif", "f.webp", "g.tif", "deep/er/h.png"]
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(30, 40, seed=i)).save(tmp_path / name)
    for name in (".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"nothing")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "deep" / "again.png").symlink_to(tmp_path / "a.png")
    frame = evofool.score([tmp_path, tmp_path / "a.png"], target)
    assert sorted(Path(p).relative_to(tmp_path).as_posix() for p in frame["path"]) == sorted(names)
    assert frame.attrs["evofool"] == {"left_out": []}
    assert (frame["width"] == 40).all() and (frame["height"] == 30).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA", "RGBA"])
def test_modes_without_transparency_are_taken(target: Target, tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(noise(8, 12)).convert(mode)
    picture.save(tmp_path / "x.png")
    row = evofool.score(tmp_path / "x.png", target).iloc[0]
    fed = np.asarray(picture.convert("RGB"))
    assert row.image_sha256 == hashlib.sha256(fed.tobytes()).hexdigest() and row["mode"] == mode


def test_exif_orientation_and_first_frames(target: Target, tmp_path: Path) -> None:
    image = noise(12, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it
    Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    row = evofool.score(tmp_path / "turned.png", target).iloc[0]
    turned = np.ascontiguousarray(np.rot90(image, -1))
    assert (row.height, row.width) == (8, 12) and row.image_sha256 == hashlib.sha256(turned.tobytes()).hexdigest()
    frames = [Image.fromarray(np.full((8, 12), level, dtype=np.uint8)) for level in (40, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    row = evofool.score(tmp_path / "moving.gif", target).iloc[0]
    assert row.image_sha256 == hashlib.sha256(bytes([40]) * 8 * 12 * 3).hexdigest()


def test_only_the_asked_classes_are_kept_but_top5_is_over_all(target: Target, tmp_path: Path) -> None:
    Image.fromarray(noise(8, 12)).save(tmp_path / "x.png")
    row = evofool.score(tmp_path / "x.png", target, classes=["c", "5"]).iloc[0]
    assert [entry["class_name"] for entry in row.classes] == ["c", "f"] and len(row.top5) == 5
    with pytest.raises(ConfigError, match="no class 'zebra'"):
        evofool.score(tmp_path / "x.png", target, classes=["zebra"])


def test_batches_do_not_change_scores(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(45):
        Image.fromarray(noise(8, 12, seed=i)).save(tmp_path / f"{i:02}.png")
    whole = evofool.score(tmp_path, target)
    monkeypatch.setattr(score, "CHUNKS", 1)
    sizes: list[int] = []
    real = score._table
    monkeypatch.setattr(score, "_table", lambda rows, *a: sizes.append(len(rows)) or real(rows, *a))
    parts = evofool.score(tmp_path, target)
    assert sizes == [16, 16, 13]  # no more is held than a few chunks
    assert parts.drop(columns=["top5", "classes"]).equals(whole.drop(columns=["top5", "classes"]))


def test_the_file_has_one_fixed_schema_and_json_says_the_same(
    command: Command, lenet_file: Path, tmp_path: Path
) -> None:
    Image.fromarray(noise(60, 50)).save(tmp_path / "x.png")
    out = tmp_path / "out"
    arguments = [
        "study",
        "score",
        tmp_path / "x.png",
        "--target",
        f"lenet:{lenet_file}",
        "--out",
        out,
        "--classes",
        "7",
    ]
    code, text, err = command(*arguments, "--json")
    data = json.loads(text)
    files = [str(out / f"score.{kind}") for kind in ("parquet", "svg", "json")]
    assert (code, err) == (0, "") and data["left_out"] == [] and data["files"] == files and data["rows"] == 1
    assert pq.read_schema(out / "score.parquet").equals(score.SCORES)
    row = pd.read_parquet(out / "score.parquet").iloc[0]
    figures = {entry["figure"]: entry["value"] for entry in data["summary"]}
    assert figures["median_top1_confidence"] == pytest.approx(row.top1_confidence)
    assert [entry["class_name"] for entry in row.classes] == ["7"]
    assert sorted(str(path) for path in out.iterdir()) == sorted(files)
    # A text cannot hold every file name.
    (tmp_path / "x.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    assert command("study", "score", tmp_path, *arguments[3:])[0] == 0


@pytest.mark.proof
@pytest.mark.ray
@pytest.mark.slow
def test_ray_gives_the_same_bits(target: Target, lenet_file: Path, tmp_path: Path) -> None:
    for i in range(130):
        Image.fromarray(noise(28, 28, 1, seed=i)).save(tmp_path / f"{i:03}.png")
    pools: list[dict[str, str]] = [{"pool": "inline"}, {"pool": "ray", "address": "local"}]
    frames = [evofool.score(tmp_path, f"lenet:{lenet_file}", **how) for how in pools]
    assert frames[0].drop(columns=["top5", "classes"]).equals(frames[1].drop(columns=["top5", "classes"]))


# ------------------------------------------------------------------------------------------------------- wrong input


def png(width: int, height: int, data: bytes, *, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """A PNG put together by hand, so that its header may lie."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def encoded(array: Any, mode: str | None = None, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(sink, kind)
    return sink.getvalue()


def bomb_text() -> bytes:
    """A zTXt chunk that unpacks to 200 MB."""
    body = b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9)
    return struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))


HALF = noise(20, 20, 4)
BROKEN = {
    "transparent.png": (encoded(HALF), "partly transparent"),
    "cmyk.jpg": (encoded(HALF[:, :, :3], "CMYK", "JPEG"), "is CMYK"),
    "deep_grey.png": (encoded(np.full((9, 9), 40000, dtype=np.uint16)), "more than 8 bits"),
    "deep_colour.png": (png(4, 4, zlib.compress(bytes(4 * 25)), depth=16), "more than 8 bits"),
    "float.tif": (encoded(np.zeros((9, 9), dtype=np.float32), kind="TIFF"), "more than 8 bits"),
    "truncated.jpg": (encoded(noise(200, 200), kind="JPEG")[:3000], "damaged or not readable"),
    "truncated.png": (encoded(noise(200, 200))[:3000], "damaged or not readable"),
    "empty.png": (b"", "no picture that can be read"),
    "text.png": (b"hello", "no picture that can be read"),
    "huge.png": (png(60000, 60000, zlib.compress(b"")), "over"),
    "large.png": (png(8200, 8200, zlib.compress(b"")), "over the limit of 67,108,864"),
    "strip.png": (encoded(noise(2, 400)), "64 times as long as wide"),
    "short.png": (png(300, 300, zlib.compress(bytes(50))), "damaged or not readable"),
    "text_bomb.png": (png(4, 4, zlib.compress(bytes(52)), extra=bomb_text()), "damaged or not readable"),
}


def test_what_cannot_be_scored_is_named_and_the_rest_is_written(
    command: Command, lenet_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (data, _) in BROKEN.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.png")
    Image.fromarray(noise(28, 28, 1)).save(folder / "good.png")
    out = tmp_path / "out"
    code, _, err = command("study", "score", folder, "--target", f"lenet:{lenet_file}", "--out", out)
    lines = err.splitlines()
    assert code == 2 and pd.read_parquet(out / "score.parquet")["path"].tolist() == [str(folder / "good.png")]
    for name, (_, words) in BROKEN.items():
        about = [line for line in lines if str(folder / name) in line]
        assert len(about) == 1 and words in about[0] and ";" in about[0], (name, about)
    assert sum("pipe.png: is not a regular file" in line for line in lines) == 1
    assert len(lines) == len(BROKEN) + 2 and lines[-1] == f"{len(BROKEN) + 1} left out"
    assert len(json.loads((out / "score.json").read_text())["left_out"]) == len(BROKEN) + 1


def test_a_hostile_file_takes_no_more_memory_than_its_limit(tmp_path: Path) -> None:
    import resource

    for name in ("huge.png", "large.png", "text_bomb.png"):
        (tmp_path / name).write_bytes(BROKEN[name][0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("huge.png", "large.png", "text_bomb.png"):
        with pytest.raises(ConfigError):
            picture_files.read(tmp_path / name, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_five_bits_a_channel_are_not_sixteen(target: Target, tmp_path: Path) -> None:
    head = struct.pack("<IiiHHIIiiII", 40, 12, 8, 1, 16, 0, 12 * 8 * 2, 0, 0, 0, 0)
    (tmp_path / "x.bmp").write_bytes(struct.pack("<2sIHHI", b"BM", 54 + 192, 0, 0, 54) + head + bytes(192))
    assert len(evofool.score(tmp_path / "x.bmp", target)) == 1


def test_nothing_to_score_writes_nothing(command: Command, lenet_file: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "in"
    folder.mkdir()
    keys = ["--target", f"lenet:{lenet_file}", "--out", out]
    code, _, err = command("study", "score", folder, *keys)
    assert code == 2 and "there is no picture to score" in err
    (folder / "x.png").write_bytes(b"")
    code, _, err = command("study", "score", folder, *keys)
    assert code == 2 and "none of 1 pictures could be scored" in err
    code, _, err = command("study", "score", tmp_path / "nowhere.png", *keys)
    assert code == 2 and "nowhere.png: no such file or folder" in err
    assert list(tmp_path.iterdir()) == [folder]


def test_python_is_told_what_was_left_out(target: Target, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"x")
    Image.fromarray(noise(8, 12)).save(tmp_path / "good.png")
    said: list[str] = []
    frame = evofool.score(tmp_path, target, warn=said.append)
    assert len(frame) == 1 and len(said) == 1 and frame.attrs["evofool"]["left_out"] == said


def test_outputs_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            means = x.mean(dim=(1, 2, 3))
            return torch.stack([means, torch.where(means > 250, torch.nan, 0.0)], dim=1)

    target = Target(Net(), Preprocessing((8, 8), 1, (0.0,), (1.0,)), ("a", "b"))
    for name, level in (("white", 255), ("grey", 100)):
        Image.fromarray(np.full((8, 8), level, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    frame = evofool.score(tmp_path, target)
    assert [Path(p).name for p in frame["path"]] == ["grey.png"] and "not finite" in frame.attrs["evofool"]["left_out"][
        0
    ]
    assert len(frame["top5"].iloc[0]) == 2


def test_a_place_that_cannot_be_written_is_known_before_scoring(
    command: Command, lenet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(noise(28, 28, 1)).save(tmp_path / "x.png")
    monkeypatch.setattr(score, "_problem", lambda *_: pytest.fail("scored"))
    keys = ["study", "score", tmp_path / "x.png", "--target", f"lenet:{lenet_file}", "--out"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "score.parquet").write_text("mine")
    for place, words in (("x.png", "is a file"), ("x.png/below", "is a file"), ("other", "not a table of a study")):
        code, _, err = command(*keys, tmp_path / place)
        assert code == 2 and words in err, err
    code, _, err = command(*keys, "s3://bucket/scores")
    assert code == 2 and "is a URL" in err
    assert (tmp_path / "other" / "score.parquet").read_text() == "mine"


def test_a_failure_leaves_the_old_file_and_no_half_ones(target: Target, tmp_path: Path, monkeypatch: Any) -> None:
    Image.fromarray(noise(8, 12)).save(tmp_path / "x.png")
    Image.fromarray(noise(8, 12, seed=1)).save(tmp_path / "y.png")
    out, options = tmp_path / "out", score.Options(target)  # type: ignore[arg-type]
    conduct("score", [tmp_path / "x.png"], options, out=out)
    old = (out / "score.parquet").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="disk is full"):
            conduct("score", [tmp_path], options, out=out)
    assert (out / "score.parquet").read_bytes() == old and not [p for p in out.rglob("*") if p.name.startswith("_tmp")]
    assert len(conduct("score", [tmp_path], options, out=out).frame) == 2
    assert pd.read_parquet(out / "score.parquet")["path"].tolist() == [str(tmp_path / n) for n in ("x.png", "y.png")]


def test_only_new_and_changed_pictures_are_scored_again(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        Image.fromarray(noise(8, 12, seed=seed)).save(tmp_path / f"{name}.png")
    sizes: list[int] = []
    real = score._table
    monkeypatch.setattr(score, "_table", lambda rows, *a: sizes.append(len(rows)) or real(rows, *a))
    out, options = tmp_path / "out", score.Options(target)  # type: ignore[arg-type]
    first = conduct("score", [tmp_path], options, out=out)
    Image.fromarray(noise(8, 12, seed=3)).save(tmp_path / "b.png")
    Image.fromarray(noise(8, 12, seed=4)).save(tmp_path / "c.png")
    second = conduct("score", [tmp_path], options, out=out)
    assert sizes == [2, 2] and [len(o.frame) for o in (first, second)] == [2, 3]
    other = score.Options(target, classes=("c",))  # type: ignore[arg-type]
    assert len(conduct("score", [tmp_path], other, out=out).frame) == 3 and sizes == [2, 2, 3]
    assert len(pd.read_parquet(out / "score.parquet")) == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--geometry", "round"], "target.geometry"),
        (["--crops", "3"], "target.crops"),
        (["--output", "guesses"], "target.output"),
        (["--pool", "dask"], "evaluation.pool"),
        (["--target", "python:evil.py:build"], "add --allow-code"),
        (["--classes", "eleven"], "no class 'eleven'"),
    ],
)
def test_wrong_options(command: Command, lenet_file: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    Image.fromarray(noise(28, 28, 1)).save(tmp_path / "x.png")
    keys = ["study", "score", tmp_path / "x.png", "--target", f"lenet:{lenet_file}", "--out", tmp_path / "out"]
    code, _, err = command(*keys, *arguments)
    assert code == 2 and words in err and "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
