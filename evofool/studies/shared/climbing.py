"""Ascent: pictures that follow the gradient of a network, many at a time, and what is kept of them.

The network is asked by evaluators (verb `gradients`), one row for each picture; canvas, step and regularisers are
here. It is shown what could be kept, the picture in whole grey levels, and its gradient is taken to be that of the
numbers behind it; so each step scores a picture at no extra cost, and steps of less than a grey level add up. Only
where it sees the picture shifted, turned or scaled, the picture itself is scored by a pass of its own.

One difference from Nguyen et al. 2015, whose code says "best" and gives the last picture: kept is the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.archive.scores import confidence
from evofool.base import rng
from evofool.evaluate.pool import Pool, Question, at_once
from evofool.records import Scores
from evofool.studies.shared.ascent_findings import NO_GRADIENT, STUCK
from evofool.studies.shared.canvases import Canvas, Pixels
from evofool.studies.shared.regularisers import regularise, total_variation, viewed
from evofool.studies.shared.rules import Rules
from evofool.targets.gradients import Gradients

__all__ = ["BACKWARD", "FORWARD", "Track", "climb"]

FORWARD, BACKWARD = 1, 2  # passes that a picture costs in either direction
HOPELESS = -13.8  # log-odds of a probability of 1e-6


@dataclass(frozen=True)
class Track:
    """How n climbs went; row = climb, column = step, the first is the start."""

    log_odds: NDArray[np.float64]  # (n, steps + 1), of the class; NaN for units
    objective: NDArray[np.float64]  # (n, steps + 1)
    is_top1: NDArray[np.bool_]  # (n, steps + 1)
    best: NDArray[np.int64]  # (n,) the step whose picture scored best
    images: NDArray[np.uint8]  # (n, h, w, channels) that picture
    notes: list[str]  # STUCK, NO_GRADIENT or "" for each
    first: int  # passes that had been made when the start was scored
    each: int  # passes of a step
    whole: int  # of a climb


def climb(
    pool: Pool,
    canvas: Canvas,
    rules: Rules,
    addresses: list[tuple[int, int]],
    *,
    readouts: Sequence[Any] = (),
    shuffled: bool = False,
) -> Track:
    """Climb from where a canvas stands.

    Args:
        pool: evaluates pictures for all outputs of the target.
        addresses: (unit, restart) of each climb: the output of its class, or its place among `readouts`.
        shuffled: the control: every step goes by a gradient whose pixels change places, the same in all steps, so it
            has the size, the numbers and the momentum of the true one, but not its direction.
    """
    of = np.array([unit for unit, _ in addresses], dtype=np.int64)
    objective = "readout" if readouts else rules.objective
    optimiser = torch.optim.Adam([canvas.numbers], lr=rules.rate or canvas.rate, maximize=True)
    odds, values, top = [], [], []
    best, images = np.full(len(of), -np.inf), np.zeros(0, dtype=np.uint8)
    best_step = np.zeros(len(of), dtype=np.int64)
    moves, flat, before = np.zeros(len(of), dtype=bool), np.ones(len(of), dtype=bool), None
    scores_apart = rules.is_seen_changed
    orders = torch.from_numpy(_orders(canvas, rules, addresses)) if shuffled else None
    for step in range(rules.steps + 1):
        drawn = canvas.draw()
        shown = drawn.detach().add(0.5).floor_().to(torch.uint8).numpy()
        answer = None
        if scores_apart and not readouts:
            scores: Scores = at_once(pool, "score_images", shown)
            log_odds, is_top1 = (
                scores.log_odds[np.arange(len(of)), of].astype(np.float64),
                scores.top_classes[:, 0] == of,
            )
            value = _objective(scores, of, objective)
        else:
            answer = _asked(pool, shown, of, objective, readouts)
            log_odds, is_top1, value = answer.log_odds, answer.is_top1, answer.objective
        ranks = np.nan_to_num(value if readouts else log_odds, nan=-np.inf)
        better = ranks > best
        images = shown.copy() if step == 0 else np.where(better[:, None, None, None], shown, images)
        best, best_step = np.where(better, ranks, best), np.where(better, step, best_step)
        moves |= False if before is None else (shown != before).any(axis=(1, 2, 3))
        before = shown
        odds.append(log_odds)
        values.append(value)
        top.append(is_top1)
        if step == rules.steps:
            break
        seen = viewed(drawn, rules, addresses, step) if scores_apart else drawn
        if answer is None or scores_apart:
            answer = _asked(pool, seen.detach().numpy(), of, objective, readouts)
        flat &= answer.is_flat
        gradient = torch.from_numpy(answer.gradient)
        if orders is not None:
            gradient = gradient.flatten(1).gather(1, orders).view_as(gradient)
        _backward(canvas, drawn, seen, gradient, rules)
        with torch.no_grad():
            if rules.step == "adam":
                optimiser.step()
            else:
                canvas.numbers += _progress(canvas.numbers, answer.objective, objective, rules)
            if isinstance(canvas, Pixels):
                assert canvas.numbers.grad is not None
                regularise(canvas.numbers, canvas.numbers.grad, canvas.centre, rules, step + 1)
            canvas.confine()
        canvas.numbers.grad = None
    hopeless = ~moves | ((objective == "softmax") & (best < HOPELESS))
    notes = [NO_GRADIENT if is_flat else STUCK if is_hopeless else "" for is_flat, is_hopeless in zip(flat, hopeless)]
    step_costs = FORWARD + BACKWARD
    apart = 0 if not scores_apart else step_costs if readouts else FORWARD  # to score a picture by itself
    each, scored = step_costs + apart, rules.steps + 1
    passes = apart * scored + step_costs * rules.steps if scores_apart else step_costs * scored
    whole, ascent, answers = (np.stack(column, axis=1) for column in (odds, values, top))
    return Track(whole, ascent, answers, best_step, images, notes, FORWARD, each, passes)


def _objective(scores: Scores, of: NDArray[np.int64], objective: str) -> NDArray[np.float64]:
    """What an objective is of pictures that were scored; NaN for the logit, which scores do not have."""
    rows = np.arange(len(of))
    log_odds = scores.log_odds[rows, of].astype(np.float64)
    if objective == "softmax":
        return confidence(scores.log_odds[rows, of]).astype(np.float64)
    if objective == "margin":
        return scores.objective[rows, of].astype(np.float64)
    return log_odds if objective == "log_odds" else np.full(len(of), np.nan)


def _asked(
    pool: Pool, images: NDArray[Any], of: NDArray[np.int64], objective: str, readouts: Sequence[Any]
) -> Gradients:
    answer: Gradients = at_once(pool, "gradients", Question(images, of, objective, tuple(readouts)))
    return answer


def _backward(canvas: Canvas, drawn: torch.Tensor, seen: torch.Tensor, gradient: torch.Tensor, rules: Rules) -> None:
    """Bring a gradient with respect to what the network saw, (n, h, w, channels), back to the canvas' numbers."""
    if seen is canvas.numbers and not rules.tv:
        canvas.numbers.grad = gradient
        return
    tensors, gradients = [seen], [gradient]
    if rules.tv:
        variation = total_variation(drawn)
        tensors.append(variation)
        gradients.append(torch.full_like(variation, -rules.tv))
    torch.autograd.backward(tensors, gradients)


def _progress(numbers: torch.Tensor, value: NDArray[np.float64], objective: str, rules: Rules) -> torch.Tensor:
    """The step after which the objective would have risen as much as is wanted, were it linear; never over `most`.

    The policy progress01 of Nguyen et al. 2015 (find_fooling_image.py): lr = min(most, min(early, late (1 - p)) /
    |gradient|**2), for probabilities; of others the wanted rise is `rise`.
    """
    gradient = numbers.grad
    assert gradient is not None
    wanted = torch.full((len(numbers),), rules.rise, dtype=torch.float64)
    if objective == "softmax":
        wanted = torch.from_numpy(np.minimum(rules.early, rules.late * (1 - np.nan_to_num(value))))
    square = gradient.to(torch.float64).flatten(1).square().sum(dim=1)
    rate = torch.where(square > 0, wanted / square, 0.0).clamp(max=rules.most)
    shape = (-1, *(1 for _ in numbers.shape[1:]))
    return (rate.view(shape) * gradient).to(torch.float32)


def _orders(canvas: Canvas, rules: Rules, addresses: list[tuple[int, int]]) -> NDArray[np.int64]:
    """(n, pixels x channels) for each climb the order of its own in which the control has them."""
    numbers = canvas.draw()[0].numel()
    return np.stack(
        [
            rng.uniforms(rules.seed, f"ascent.order.{unit}.{again}", 0, (numbers,)).argsort(kind="stable")
            for unit, again in addresses
        ]
    )
