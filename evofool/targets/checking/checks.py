"""`evofool targets check`: does a network see what it was trained to see?

A target with wrong preprocessing still gives scores, but all results are then about another network. Three things are
looked at, each with the declared normalisation of pixels and with the other usual ones:

1. Sample photographs that anybody can name (photographs.py): the mean log-probability of the accepted classes.
2. A user's own labelled images: the share whose top-1 class is right.
3. The input of the network's first batch normalisation, where it still has one: mean and variance now, against those
   recorded in training.

The limits were set on efficientnet-lite 0, 1 and 2, declared as published and wrongly. The photographs catch raw
pixels, units of 0 .. 1, and a normalisation applied twice. They cannot tell (x - 127) / 128 from x / 255, from
ImageNet's mean and standard deviation or from BGR, which cost these networks next to nothing. Batch normalisation does
tell the first three apart, but not BGR. Labelled images tell what costs accuracy. Nothing here tells (x - 127) / 128
from (x - 127.5) / 127.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.archive.scores import confidence, log_odds
from evofool.records import Facts
from evofool.targets.checking.photographs import LabelledPictures, Photograph, fit, photographs
from evofool.targets.target import Preprocessing, Target, outputs_in_batches

__all__ = ["Normalisation", "check", "expected_calibration_error", "normalisations"]

BATCH = 16
TOP = 5
FEWEST_PHOTOGRAPHS = 4  # of classes that the target has, for a warning that goes by photographs
BETTER_PHOTOGRAPHS = 0.25  # gain in mean log-probability that is a warning; as published <= 0.10, clearly wrong >= 0.38
BETTER_IMAGES = 3.0  # standard errors of the difference in images that are right
# A warning where the declared normalisation diverges by 0.2 or more, and another one by at most 0.1 and by at most
# a quarter of what the declared one does;
# measured: about 0.02 where the normalisation is right, 0.45 where it is wrong.
STRANGE_INPUT, FAMILIAR_INPUT, RATIO = 0.2, 0.1, 4.0
_LEAST = -1000.0  # a log-probability that is not finite counts as this
# In units of 0 .. 255: the means and standard deviations of ImageNet's and of MNIST's training pixels.
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_MNIST = ((33.3184,), (78.5675,))


@dataclass(frozen=True)
class Normalisation:
    """A way to feed pixels: (x - mean) / std, of the image, of its channels in reverse ("bgr"), or of its negative."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    change: str = ""

    def applied(self, target: Target, images: NDArray[np.uint8]) -> tuple[Target, NDArray[np.uint8]]:
        """The target with this mean and std, and images, (n, h, w, channels) uint8, changed as `change` says."""
        changed = {"": images, "bgr": images[..., ::-1], "negative": 255 - images}[self.change]
        return replace(target, preprocessing=replace(target.preprocessing, mean=self.mean, std=self.std)), changed


def normalisations(p: Preprocessing) -> list[Normalisation]:
    """The declared normalisation and the other usual ones that differ from it."""

    def flat(name: str, mean: float, std: float) -> Normalisation:
        return Normalisation(name, (mean,) * p.channels, (std,) * p.channels)

    # Twice: in units of 0 .. 1, (y - mean / 255) / (std / 255) of what the first time gave.
    twice = tuple(m + s * m / 255 for m, s in zip(p.mean, p.std)), tuple(s * s / 255 for s in p.std)
    colour = p.channels == 3
    others = [
        Normalisation("mean, std of ImageNet", *_IMAGENET) if colour else Normalisation("mean, std of MNIST", *_MNIST),
        flat("(x - 127.5) / 127.5", 127.5, 127.5),
        flat("(x - 127) / 128", 127.0, 128.0),
        flat("x / 255", 0.0, 255.0),
        flat("x, raw 0 .. 255", 0.0, 1.0),
        Normalisation("declared, twice", *twice),
    ]
    others = [n for n in others if not np.allclose((n.mean, n.std), (p.mean, p.std), rtol=1e-3, atol=0.05)]
    if colour:
        others += [
            Normalisation("declared, BGR", p.mean[::-1], p.std[::-1], "bgr"),
            Normalisation("BGR minus mean (Caffe)", _IMAGENET[0][::-1], (1.0,) * 3, "bgr"),
        ]
    else:
        others.append(Normalisation("declared, of the negative", p.mean, p.std, "negative"))
    return [Normalisation("as declared", p.mean, p.std), *others]


def check(target: Target, *, data: LabelledPictures | None = None, unfolded: torch.nn.Module | None = None) -> Facts:
    """Feed a target photographs and labelled images and see whether its preprocessing fits.

    Args:
        data: labelled images at target.image_size.
        unfolded: the target's network with its batch normalisations, where the target's own have been folded away.

    Returns:
        `target`, `input` (what the network was fed), `outputs`, `photographs`, `normalisations` (the declared first),
        `data` and `warnings` (sentences); plain values, as JSON has them.

    Raises:
        TargetError: the network raises, or its outputs cannot be what they are said to be.
    """
    samples = photographs() if target.channels == 3 else []
    shots = np.stack([fit(target, photo.image) for photo in samples]) if samples else None
    if data is not None:
        images, kind = data.images[: 4 * BATCH], "data"
    elif shots is not None:
        images, kind = shots, "photographs"
    else:
        shape = (BATCH, *target.image_size, target.channels)
        images, kind = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), "noise"
    arrival, outputs = _arrival(target, images)
    figures, warnings = _outputs(target, outputs)
    right = [photo.right_classes(target.class_names) for photo in samples]
    labelled = [i for i, classes in enumerate(right) if classes]
    rows, hits = [], []
    for normalisation in normalisations(target.preprocessing):
        row: Facts = {"normalisation": normalisation.name}
        if shots is not None and labelled:
            row |= _on_photographs(target, normalisation, shots[labelled], [right[i] for i in labelled])
        if data is not None:
            accuracy, correct = _on_data(target, normalisation, data)
            row |= accuracy
            hits.append(correct)
        divergence = _divergence(target, normalisation, images, unfolded) if kind != "noise" else None
        if divergence is not None:
            row["batch_norm_divergence"] = divergence
        rows.append(row)
    return {
        "target": _facts(target),
        "input": {**arrival, "images": kind},
        "outputs": figures,
        "photographs": [] if shots is None else _answers(target, samples, shots),
        "normalisations": rows,
        "data": None if data is None else _calibration(target, data),
        "warnings": [*warnings, *_better(rows, hits)],
    }


def expected_calibration_error(confidences: NDArray[np.float32], hits: NDArray[np.bool_], bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, weighted by images (Guo et al., 2017).

    Args:
        confidences: (n,) of the top-1 classes.
        hits: (n,) whether they are right.
    """
    place = np.clip(np.ceil(confidences.astype(np.float64) * bins).astype(int) - 1, 0, bins - 1)
    masks = [place == number for number in np.unique(place)]
    gaps = [abs(confidences[mask].mean() - hits[mask].mean()) * mask.sum() for mask in masks]
    return float(sum(gaps) / len(confidences))


def _facts(target: Target) -> Facts:
    p = target.preprocessing
    return {
        "spec": target.spec,
        "image_size": list(target.image_size),
        "channels": target.channels,
        "mean": list(p.mean),
        "std": list(p.std),
        "geometry": target.geometry,
        "crops": target.crops,
        "resize": p.resize,
        "crop": p.crop,
        "interpolation": p.interpolation,
        "output": target.output,
        "classes": len(target.class_names),
        "fingerprint": target.fingerprint(),
    }


def _arrival(target: Target, images: NDArray[np.uint8]) -> tuple[Facts, NDArray[np.float32]]:
    """What arrives at the network, after preprocessing; and the network's outputs for that."""
    inputs: list[torch.Tensor] = []
    hook = target.module.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0]))
    try:
        outputs = outputs_in_batches(target, images, BATCH)
    finally:
        hook.remove()
    values = torch.cat([x.double().flatten() for x in inputs])
    facts = {
        "shape": ["n", *inputs[0].shape[1:]],
        "dtype": str(inputs[0].dtype).removeprefix("torch."),
        "low": float(values.min()),
        "high": float(values.max()),
        "mean": float(values.mean()),
        "std": float(values.std()),
    }
    return facts, outputs


def _outputs(target: Target, outputs: NDArray[np.float32]) -> tuple[Facts, list[str]]:
    """Figures of the outputs, and sentences about what is odd with them or with the units of the preprocessing."""
    target.check_outputs(outputs)
    finite = np.isfinite(outputs).all(axis=1)
    sums = outputs[finite].astype(np.float64).sum(axis=1)
    facts = {
        "kind": target.returns,
        "low": float(outputs[finite].min()),
        "high": float(outputs[finite].max()),
        "not_finite": int((~finite).sum()),
    }
    warnings = []
    if doubt := target.preprocessing.doubt:
        warnings.append(doubt)
    if target.returns == "logits" and outputs[finite].min() >= 0 and np.all(np.abs(sums - 1) < 1e-3):
        warnings.append(
            "every row of outputs sums to 1: they look like probabilities; say target.output=probabilities."
        )
    if not finite.all():
        warnings.append(f"{(~finite).sum()} of {len(outputs)} images give outputs that are NaN or infinite.")
    if finite.sum() > 1 and np.all(np.ptp(outputs[finite], axis=0) == 0):
        warnings.append("the network gives every image the same outputs; are its weights loaded?")
    return facts, warnings


def _answers(target: Target, samples: Sequence[Photograph], shots: NDArray[np.uint8]) -> list[Facts]:
    answers = []
    for photo, row in zip(samples, confidence(_log_odds(target, shots))):
        top = np.argsort(-row, kind="stable")[:TOP]
        right = photo.right_classes(target.class_names)
        answers.append(
            {
                "photograph": photo.name,
                "top": [{"class": target.class_names[i], "confidence": float(row[i])} for i in top],
                "accepted": [target.class_names[i] for i in right],
                "rank": int(min((row > row[i]).sum() for i in right)) + 1 if right else None,
            }
        )
    return answers


def _on_photographs(
    target: Target, normalisation: Normalisation, images: NDArray[np.uint8], right: list[list[int]]
) -> Facts:
    log_p = _log_probabilities(_log_odds(*normalisation.applied(target, images)))
    ranks = [int((row > row[classes].max()).sum()) for row, classes in zip(log_p, right)]
    log_sums = [np.logaddexp.reduce(row[classes]) for row, classes in zip(log_p, right)]
    return {
        "photographs": len(right),
        "photographs_top1": sum(rank < 1 for rank in ranks),
        "photographs_top5": sum(rank < TOP for rank in ranks),
        "photographs_log_probability": float(np.mean(log_sums)),
    }


def _on_data(target: Target, normalisation: Normalisation, data: LabelledPictures) -> tuple[Facts, NDArray[np.bool_]]:
    """Accuracy and mean log-probability of the labels, and which images are right."""
    log_p = _log_probabilities(_log_odds(*normalisation.applied(target, data.images)))
    correct = log_p.argmax(axis=1) == data.labels
    log_probability = float(log_p[np.arange(len(log_p)), data.labels].mean())
    return {"data_accuracy": float(correct.mean()), "data_log_probability": log_probability}, correct


def _calibration(target: Target, data: LabelledPictures) -> Facts:
    confidences = confidence(_log_odds(target, data.images))
    top = np.nan_to_num(confidences, nan=-1.0).argmax(axis=1)
    best = np.nan_to_num(confidences[np.arange(len(top)), top])
    return {
        "name": data.name,
        "images": len(top),
        "unreadable": list(data.unreadable),
        "accuracy": float((top == data.labels).mean()),
        "mean_confidence": float(best.mean()),
        "expected_calibration_error": expected_calibration_error(best, top == data.labels),
    }


def _divergence(
    target: Target, normalisation: Normalisation, images: NDArray[np.uint8], unfolded: torch.nn.Module | None
) -> float | None:
    """Median over channels of the Kullback-Leibler divergence, in nats, of the first batch normalisation's input from
    its input in training, both taken as normal; None where the network has no such layer."""
    target, images = normalisation.applied(target, images)
    if unfolded is not None:
        target = replace(target, module=unfolded)
    layers = [m for m in target.module.modules() if isinstance(m, torch.nn.BatchNorm2d) and m.track_running_stats]
    if not layers:
        return None
    inputs: list[tuple[torch.nn.BatchNorm2d, torch.Tensor]] = []  # of the layer that is reached first

    def keep(layer: torch.nn.BatchNorm2d, arguments: tuple[torch.Tensor, ...]) -> None:
        if not inputs or layer is inputs[0][0]:
            inputs.append((layer, arguments[0].double()))

    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        outputs_in_batches(target, images, BATCH)
    finally:
        for hook in hooks:
            hook.remove()
    if not inputs or inputs[0][0].running_mean is None or inputs[0][0].running_var is None:
        return None
    norm, x = inputs[0][0], torch.cat([x for _, x in inputs])
    mean, variance = norm.running_mean.double(), norm.running_var.double() + norm.eps
    now, spread = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3)) + norm.eps
    value = ((spread + (now - mean) ** 2) / variance - 1 - torch.log(spread / variance)) / 2
    return float(torch.nan_to_num(value, nan=1e9, posinf=1e9).median())


def _better(rows: list[Facts], hits: list[NDArray[np.bool_]]) -> Iterator[str]:
    """A sentence for each of the three kinds of evidence by which another normalisation fits clearly better.

    Args:
        rows: of the normalisations, the declared one first.
        hits: of each, which labelled images are right; empty where there are none.
    """
    declared = rows[0]
    if declared.get("photographs", 0) >= FEWEST_PHOTOGRAPHS:
        best = max(rows, key=lambda row: row["photographs_log_probability"])
        before, after = declared["photographs_log_probability"], best["photographs_log_probability"]
        if after - before > BETTER_PHOTOGRAPHS and best["photographs_top5"] >= declared["photographs_top5"]:
            yield (
                f"on the photographs the normalisation {best['normalisation']} fits clearly better than the declared "
                f"one: {best['photographs_top1']} instead of {declared['photographs_top1']} of {best['photographs']} "
                f"right, mean log-probability {after:.2f} instead of {before:.2f}."
            )
    if hits:
        i = max(range(len(rows)), key=lambda i: rows[i]["data_accuracy"])
        gained, lost = int((hits[i] & ~hits[0]).sum()), int((hits[0] & ~hits[i]).sum())
        # McNemar's test: only images that one of the two has right say anything.
        if gained - lost > BETTER_IMAGES * np.sqrt(gained + lost):
            yield (
                f"on the labelled images the normalisation {rows[i]['normalisation']} fits clearly better than the "
                f"declared one: {rows[i]['data_accuracy']:.1%} instead of {declared['data_accuracy']:.1%} right."
            )
    if "batch_norm_divergence" in declared:
        best = min(rows, key=lambda row: row["batch_norm_divergence"])
        before, after = declared["batch_norm_divergence"], best["batch_norm_divergence"]
        if before >= STRANGE_INPUT and after <= FAMILIAR_INPUT and after * RATIO <= before:
            yield (
                f"the network's first batch normalisation was trained on what {best['normalisation']} gives, not on "
                f"what the declared normalisation gives: divergence {after:.2f} instead of {before:.2f}."
            )


def _log_odds(target: Target, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return log_odds(outputs_in_batches(target, images, BATCH), target.returns)


def _log_probabilities(odds: NDArray[np.float32]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # NaN stays NaN, and is replaced
        values = -np.logaddexp(0, -odds.astype(np.float64))
    return np.maximum(np.nan_to_num(values, nan=_LEAST, neginf=_LEAST), _LEAST)
