"""`evofool targets check`: does a network see what it was trained to see?

A target with wrong preprocessing still gives scores, and everything found with it is about another network. Three
witnesses, each against the other usual normalisations:

1. Sample photographs that anybody can name (photographs.py): the mean log-probability of the accepted classes.
2. A user's own labelled images: how many are right.
3. The network's first batch normalisation, where it still has one: mean and variance it recorded in training against
   those it meets now.

The limits were set on efficientnet-lite 0, 1 and 2, declared as published and wrongly. The photographs catch raw
pixels, units of 0 .. 1, and a normalisation applied twice. They cannot tell (x - 127) / 128 from x / 255, from
ImageNet's mean and standard deviation or from BGR, which cost these networks next to nothing; nor do seven photographs
say more. The third witness does tell the first three apart, but not BGR. Labelled images tell what costs accuracy.
(x - 127) / 128 and (x - 127.5) / 127.5 are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.archive.scores import confidence, log_odds
from evofool.records import Facts
from evofool.targets.checking.photographs import LabelledPictures, Photograph, fit, photographs
from evofool.targets.target import Preprocessing, Target

__all__ = ["Normalisation", "check", "expected_calibration_error", "normalisations"]

BATCH = 16
TOP = 5
FEWEST_PHOTOGRAPHS = 4  # with a known class, below which they are no witness
BETTER_PHOTOGRAPHS = 0.25  # of mean log-probability; seen: at most 0.10 as published, at least 0.38 where it matters
BETTER_IMAGES = 3.0  # standard errors of the difference in images that are right
STRANGE_INPUT, FAMILIAR_INPUT, RATIO = 0.2, 0.1, 4.0  # divergences of batch normalisation; seen: 0.02 right, 0.45 wrong
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
        """The target with this mean and std, and what it is to be given for uint8 images (n, h, w, channels)."""
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
    declared = Normalisation("as declared", p.mean, p.std)
    others = [n for n in others if not np.allclose((n.mean, n.std), (p.mean, p.std), rtol=1e-3, atol=0.05)]
    if colour:
        others += [
            Normalisation("declared, BGR", p.mean[::-1], p.std[::-1], "bgr"),
            Normalisation("BGR minus mean (Caffe)", _IMAGENET[0][::-1], (1.0,) * 3, "bgr"),
        ]
    else:
        others.append(Normalisation("declared, of the negative", p.mean, p.std, "negative"))
    return [declared, *others]


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
    seen = np.stack([fit(target, photo.image) for photo in samples]) if samples else None
    images, fed_by = _to_feed(target, seen, data)
    fed, given = _fed(target, images)
    outputs, remarks = _outputs(target, given)
    warnings = _units(target.preprocessing) + remarks
    known = [photo.right_classes(target.class_names) for photo in samples]
    judged = [i for i, right in enumerate(known) if right]
    rows = []
    for normalisation in normalisations(target.preprocessing):
        row: Facts = {"normalisation": normalisation.name}
        if seen is not None and judged:
            row |= _on_photographs(target, normalisation, seen[judged], [known[i] for i in judged])
        if data is not None:
            row |= _on_data(target, normalisation, data)
        divergence = _divergence(target, normalisation, images, unfolded) if fed_by != "noise" else None
        if divergence is not None:
            row["batch_norm_divergence"] = divergence
        rows.append(row)
    warnings += _better_on_photographs(rows) + _better_on_data(rows) + _better_for_batch_norm(rows)
    return {
        "target": _facts(target),
        "input": {**fed, "images": fed_by},
        "outputs": outputs,
        "photographs": _answers(target, samples, seen),
        "normalisations": [{k: v for k, v in row.items() if not k.startswith("_")} for row in rows],
        "data": None if data is None else _calibration(target, data),
        "warnings": warnings,
    }


def expected_calibration_error(sure: NDArray[Any], right: NDArray[np.bool_], bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, weighted by images (Guo et al., 2017).

    Args:
        sure: (n,) confidences of the top-1 classes.
        right: (n,) whether they are right.
    """
    place = np.clip(np.ceil(np.asarray(sure, dtype=np.float64) * bins).astype(int) - 1, 0, bins - 1)
    gaps = [abs(sure[place == b].mean() - right[place == b].mean()) * (place == b).sum() for b in np.unique(place)]
    return float(sum(gaps) / len(sure))


def _to_feed(
    target: Target, seen: NDArray[np.uint8] | None, data: LabelledPictures | None
) -> tuple[NDArray[np.uint8], str]:
    """Images for whatever needs no label, and what they are."""
    if data is not None:
        return data.images[: 4 * BATCH], "data"
    if seen is not None:
        return seen, "photographs"
    noise = np.random.default_rng(0).integers(0, 256, (BATCH, *target.image_size, target.channels), dtype=np.uint8)
    return noise, "noise"


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


def _fed(target: Target, images: NDArray[np.uint8]) -> tuple[Facts, NDArray[np.float32]]:
    """What arrives at the network, and what it gives for that."""
    arrived: list[torch.Tensor] = []
    hook = target.module.register_forward_pre_hook(lambda module, arguments: arrived.append(arguments[0]))
    try:
        outputs = _run(target, images)
    finally:
        hook.remove()
    values = torch.cat([x.double().flatten() for x in arrived])
    facts = {
        "shape": ["n", *arrived[0].shape[1:]],
        "dtype": str(arrived[0].dtype).removeprefix("torch."),
        "low": float(values.min()),
        "high": float(values.max()),
        "mean": float(values.mean()),
        "std": float(values.std()),
    }
    return facts, outputs


def _outputs(target: Target, outputs: NDArray[np.float32]) -> tuple[Facts, list[str]]:
    """Figures of the outputs, and sentences about what is odd with them."""
    target.check_outputs(outputs)
    finite = np.isfinite(outputs).all(axis=1)
    sums = outputs[finite].astype(np.float64).sum(axis=1)
    facts = {
        "kind": target.returns,
        "low": float(outputs[finite].min()),
        "high": float(outputs[finite].max()),
        "not_finite": int((~finite).sum()),
    }
    remarks = []
    if target.returns == "logits" and outputs[finite].min() >= 0 and np.all(np.abs(sums - 1) < 1e-3):
        remarks.append("every row of outputs sums to 1: they look like probabilities; say target.output=probabilities.")
    if not finite.all():
        remarks.append(f"{(~finite).sum()} of {len(outputs)} images give outputs that are NaN or infinite.")
    if finite.sum() > 1 and np.all(np.ptp(outputs[finite], axis=0) == 0):
        remarks.append("the network gives every image the same outputs; are its weights loaded?")
    return facts, remarks


def _units(p: Preprocessing) -> list[str]:
    if max(p.std) >= 1:
        return []
    return [
        f"std is {max(p.std):g} where pixels go from 0 to 255: mean and std look as if they were in units of 0 .. 1; "
        "multiply both by 255."
    ]


def _answers(target: Target, samples: Sequence[Photograph], seen: NDArray[np.uint8] | None) -> list[Facts]:
    if seen is None:
        return []
    sure = confidence(_log_odds(target, seen))
    answers = []
    for photo, row in zip(samples, sure):
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
    return {
        "photographs": len(right),
        "photographs_top1": sum(rank < 1 for rank in ranks),
        "photographs_top5": sum(rank < TOP for rank in ranks),
        "photographs_log_probability": float(
            np.mean([np.logaddexp.reduce(row[classes]) for row, classes in zip(log_p, right)])
        ),
    }


def _on_data(target: Target, normalisation: Normalisation, data: LabelledPictures) -> Facts:
    log_p = _log_probabilities(_log_odds(*normalisation.applied(target, data.images)))
    hits = log_p.argmax(axis=1) == data.labels
    return {
        "data_accuracy": float(hits.mean()),
        "data_log_probability": float(log_p[np.arange(len(log_p)), data.labels].mean()),
        "_hits": hits,
    }


def _calibration(target: Target, data: LabelledPictures) -> Facts:
    sure = confidence(_log_odds(target, data.images))
    top = np.nan_to_num(sure, nan=-1.0).argmax(axis=1)
    best = np.nan_to_num(sure[np.arange(len(sure)), top])
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
    """Median over channels of the Kullback-Leibler divergence, in nats, of what the first batch normalisation meets
    from what it met in training, both taken as normal; None where the network has none."""
    changed, given = normalisation.applied(target, images)
    if unfolded is not None:
        changed = replace(changed, module=unfolded)
    met: list[tuple[torch.nn.BatchNorm2d, torch.Tensor]] = []
    layers = [m for m in changed.module.modules() if isinstance(m, torch.nn.BatchNorm2d) and m.track_running_stats]
    hooks = [layer.register_forward_pre_hook(lambda m, arguments: met.append((m, arguments[0]))) for layer in layers]
    found: list[torch.Tensor] = []
    try:
        for start in range(0, len(given) if layers else 0, BATCH):
            met.clear()
            _run(changed, given[start : start + BATCH])
            if not met:
                return None
            found += [x.double() for m, x in met if m is met[0][0]]
    finally:
        for hook in hooks:
            hook.remove()
    if not found or met[0][0].running_mean is None or met[0][0].running_var is None:
        return None
    x, norm = torch.cat(found), met[0][0]
    mean, variance = norm.running_mean.double(), norm.running_var.double() + norm.eps
    now, spread = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3)) + norm.eps
    value = ((spread + (now - mean) ** 2) / variance - 1 - torch.log(spread / variance)) / 2
    return float(torch.nan_to_num(value, nan=1e9, posinf=1e9).median())


def _better_on_photographs(rows: list[Facts]) -> list[str]:
    declared = rows[0]
    if declared.get("photographs", 0) < FEWEST_PHOTOGRAPHS:
        return []
    best = max(rows, key=lambda row: row["photographs_log_probability"])
    gain = best["photographs_log_probability"] - declared["photographs_log_probability"]
    if gain <= BETTER_PHOTOGRAPHS or best["photographs_top5"] < declared["photographs_top5"]:
        return []
    return [
        f"on the photographs the normalisation {best['normalisation']} fits clearly better than the declared one: "
        f"{best['photographs_top1']} instead of {declared['photographs_top1']} of {best['photographs']} right, mean "
        f"log-probability {best['photographs_log_probability']:.2f} instead of "
        f"{declared['photographs_log_probability']:.2f}."
    ]


def _better_on_data(rows: list[Facts]) -> list[str]:
    if "_hits" not in rows[0]:
        return []
    hits = rows[0]["_hits"]
    best = max(rows, key=lambda row: row["data_accuracy"])
    gained, lost = int((best["_hits"] & ~hits).sum()), int((hits & ~best["_hits"]).sum())
    # McNemar's test: only images that one of the two has right say anything.
    if gained - lost <= BETTER_IMAGES * np.sqrt(gained + lost):
        return []
    return [
        f"on the labelled images the normalisation {best['normalisation']} fits clearly better than the declared one: "
        f"{best['data_accuracy']:.1%} instead of {rows[0]['data_accuracy']:.1%} right."
    ]


def _better_for_batch_norm(rows: list[Facts]) -> list[str]:
    if "batch_norm_divergence" not in rows[0]:
        return []
    declared = rows[0]["batch_norm_divergence"]
    best = min(rows, key=lambda row: row["batch_norm_divergence"])
    found = best["batch_norm_divergence"]
    if declared < STRANGE_INPUT or found > FAMILIAR_INPUT or found * RATIO > declared:
        return []
    return [
        f"the network's first batch normalisation was trained on what {best['normalisation']} gives, not on what the "
        f"declared normalisation gives: divergence {found:.2f} instead of {declared:.2f}."
    ]


def _run(target: Target, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        parts = [
            target.outputs(torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH])))
            for start in range(0, len(images), BATCH)
        ]
    return np.concatenate(parts)


def _log_odds(target: Target, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return log_odds(_run(target, images), target.returns)


def _log_probabilities(odds: NDArray[np.float32]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # NaN stays NaN, and is replaced
        values = -np.logaddexp(0, -odds.astype(np.float64))
    return np.maximum(np.nan_to_num(values, nan=_LEAST, neginf=_LEAST), _LEAST)
