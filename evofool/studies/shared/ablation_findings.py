"""The rows of ablations summed up: of each elite first, then over elites and runs, for each network and encoding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.records import Facts
from evofool.studies.shared.losses import form, resampling, verdict

__all__ = ["CURVES", "ELITE", "HEAD", "REDUNDANT", "curves", "of_elites", "summarise"]

HEAD = ["target", "target_fingerprint", "encoding"]
ELITE = [*HEAD, "run_id", "individual_id", "class_index", "class_name"]
CURVES = ("motif", "random", "tiles")  # changes that take away more and more
GENES = ("connection", "node", "output", "sine")
OF_ALL = GENES[:3]  # a sine is a node as well
REDUNDANT = 0.1  # log-odds, which a gene changes by less


def curves(frame: pd.DataFrame) -> pd.DataFrame:
    """The curves of elites, averaged over draws: columns ELITE, fill, change, copies, share (of what there is to
    remove), loss."""
    rows = frame[frame["change"].isin(CURVES)]
    rows = rows.assign(share=rows["removed"].astype(float) / rows["copies"].astype(float), copies=rows["copies"])
    return (
        rows.groupby([*ELITE, "fill", "change", "copies", "share"], sort=True, observed=True)["loss"]
        .mean()
        .astype(float)
        .reset_index()
    )


def of_elites(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each elite, fill and change that takes away more and more: ELITE, fill, change, copies, one (the loss
    without the first part), whole (when all are gone), mean (over the shares removed), form."""
    rows = []
    for key, part in curves(frame).groupby([*ELITE, "fill", "change"], sort=False):
        shares, losses = part["share"].to_numpy(), part["loss"].to_numpy()
        rows.append(
            {
                **dict(zip([*ELITE, "fill", "change"], key)),
                "copies": int(part["copies"].iloc[0]),
                "one": losses[0],
                "whole": losses[-1],
                "mean": losses.mean(),
                "form": form(shares, losses),
            }
        )
    return pd.DataFrame(rows, columns=[*ELITE, "fill", "change", "copies", "one", "whole", "mean", "form"])


def summarise(frame: pd.DataFrame) -> list[Facts]:
    """Of each network, encoding and filling: repetition and the form of its removal, tiles, genes; the nulls beside."""
    elites = of_elites(frame)
    summary: list[Facts] = []
    for head, part in frame.groupby(HEAD, sort=False):
        facts = dict(zip(HEAD, head))
        mine = elites[(elites[HEAD] == list(head)).all(axis=1)]
        for fill in dict.fromkeys(part.loc[part["part"] != "genes", "fill"]):
            rows, curve = part[part["fill"] == fill], mine[mine["fill"] == fill]
            summary += [{**facts, "fill": fill, **row} for row in _of_motifs(rows, curve)]
            summary += [{**facts, "fill": fill, **row} for row in _of_tiles(rows, curve)]
        summary += [{**facts, "fill": "", **row} for row in _of_genes(part[part["part"] == "genes"])]
    return summary


def _form(elites: pd.DataFrame, change: str) -> Facts:
    rows = elites[elites["change"] == change]
    facts = resampling(rows).facts(rows["form"].to_numpy(dtype=float))
    return {"change": change, "figure": "form", **facts, "verdict": verdict(facts["low"], facts["high"])}


def _of_motifs(rows: pd.DataFrame, elites: pd.DataFrame) -> Iterator[Facts]:
    """Where nothing repeats, there is a share of 0 and no more: not a loss of 0."""
    motifs = rows[rows["part"] == "motifs"]
    whole = motifs[motifs["change"] == "none"]
    if whole.empty:
        return
    repeats = whole["copies"].to_numpy(dtype=int) > 0
    share = resampling(whole).facts(repeats.astype(float), "mean")
    yield {"change": "motif", "figure": "with_repetition", **share}
    copies = whole[repeats]
    if copies.empty:
        return
    yield {"change": "motif", "figure": "copies", **resampling(copies).facts(copies["copies"].to_numpy(dtype=float))}
    motif, random = (elites[elites["change"] == change] for change in CURVES[:2])
    drawn = resampling(motif)
    for figure, column in (("loss_of_one", "one"), ("loss_of_all", "whole")):
        yield {"change": "motif", "figure": figure, **drawn.facts(motif[column].to_numpy(dtype=float))}
    yield _form(elites, "motif")
    yield _form(elites, "random")
    null = "equal area at random; signs of elites"
    for figure, column in (("form_more_than_random", "form"), ("loss_more_than_random", "mean")):
        gap = drawn.difference(*(each[column].to_numpy(dtype=float) for each in (motif, random)))
        yield {"change": "motif", "figure": figure, **gap, "null": null}
    phases = motifs[motifs["change"] == "phases"].groupby(ELITE, sort=False)["loss"].median().reset_index()
    both = phases.merge(motif[[*ELITE, "whole"]], on=ELITE)
    drawn = resampling(both)
    losses, whole_losses = both["loss"].to_numpy(dtype=float), both["whole"].to_numpy(dtype=float)
    yield {"change": "phases", "figure": "loss", **drawn.facts(losses)}
    gap = drawn.difference(losses, whole_losses)
    yield {"change": "phases", "figure": "more_than_loss_of_all", **gap, "null": "all copies erased; signs of elites"}


def _of_tiles(rows: pd.DataFrame, elites: pd.DataFrame) -> Iterator[Facts]:
    tiles = rows[rows["part"] == "occlusion"]
    for grid in sorted(tiles.loc[tiles["change"] == "tile", "grid"].unique()):
        here = tiles[tiles["grid"] == grid]
        single = here[here["change"] == "tile"].assign(
            kept=lambda each: each["class_is_top1"].astype("Float64").astype(float)
        )
        by = single.groupby(ELITE, sort=False).agg(
            mean=("loss", "mean"), largest=("loss", "max"), kept=("kept", "mean")
        )
        scattered = here[here["change"] == "scattered"].groupby(ELITE, sort=False)["loss"].mean()
        by = by.assign(scattered=scattered).reset_index()
        drawn = resampling(by)
        values: dict[str, NDArray[np.float64]] = {name: by[name].to_numpy(dtype=float) for name in by.columns[-4:]}
        facts = {"change": "tile", "grid": int(grid)}
        yield {**facts, "figure": "loss", **drawn.facts(values["mean"])}
        gap = drawn.difference(values["mean"], values["scattered"])
        yield {**facts, "figure": "more_than_scattered", **gap, "null": "as many pixels at random; signs of elites"}
        yield {**facts, "figure": "largest_loss", **drawn.facts(values["largest"])}
        yield {**facts, "figure": "answer_kept", **drawn.facts(values["kept"], "mean")}
    if not tiles.empty:
        yield _form(elites, "tiles")


def _of_genes(rows: pd.DataFrame) -> Iterator[Facts]:
    knocked = rows[rows["change"].isin(GENES)].assign(
        redundant=lambda each: (each["loss"].abs() < REDUNDANT).astype(float),
        silent=lambda each: (each["pixels_changed"] == 0).astype(float),
        scrambled=lambda each: each["scrambled"].astype(bool),
    )
    if knocked.empty:
        return
    for change, names in {"genes": OF_ALL, **{name: (name,) for name in GENES}}.items():
        part = knocked[knocked["change"].isin(names)]
        if part.empty:
            continue
        own, null = (
            part[part["scrambled"] == flag]
            .groupby(ELITE, sort=True)
            .agg(
                redundant=("redundant", "mean"),
                silent=("silent", "mean"),
                loss=("loss", "median"),
                largest=("loss", "max"),
                genes=("loss", "size"),
            )
            .reset_index()
            for flag in (False, True)
        )
        drawn = resampling(own)
        facts = {"change": change}
        redundant = own["redundant"].to_numpy(dtype=float)
        if change == "genes":
            yield {**facts, "figure": "genes", **drawn.facts(own["genes"].to_numpy(dtype=float))}
        yield {**facts, "figure": "redundant", **drawn.facts(redundant, "mean")}
        if change == "genes":
            gap = drawn.difference(redundant, null["redundant"].to_numpy(dtype=float), "mean")
            words = "the same differences at random places; signs of elites"
            yield {**facts, "figure": "redundant_more_than_scrambled", **gap, "null": words}
            yield {**facts, "figure": "silent", **drawn.facts(own["silent"].to_numpy(dtype=float), "mean")}
        yield {**facts, "figure": "loss", **drawn.facts(own["loss"].to_numpy(dtype=float))}
        yield {**facts, "figure": "largest_loss", **drawn.facts(own["largest"].to_numpy(dtype=float))}
    further = rows[rows["change"] == "enlarged"]
    if not further.empty:
        losses = further["loss"].to_numpy(dtype=float)
        yield {"change": "enlarged", "figure": "loss", **resampling(further).facts(losses)}
