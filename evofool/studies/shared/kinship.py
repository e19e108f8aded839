"""How near relatives the elites of a run are, and whether those of related classes are nearer than others.

The distance of two individuals is the generations from each back to their last common ancestor, together, along first
parents. Lines that begin with different random individuals meet nowhere; they count as if they had met one generation
before the first. Distances of one run depend on each other, so p-values are of permutations: classes are dealt to the
elites anew, and everything else stays (Mantel, Cancer Research 27, 1967, p. 209).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.records import Facts
from evofool.store.ancestry import line
from evofool.studies.shared.statistics import permutations, permuted
from evofool.targets.zoo.imagenet import class_names, hypernyms, ids_of, super_classes

__all__ = ["closer", "common_ancestor", "distances", "diversity", "mantel", "path_distances", "relatives", "synset_of"]

MOST, FEWEST, ROOM = 9999, 999, 400_000_000  # permutations, and numbers that they may look up together
Tree = Mapping[int, int | None]  # individual -> its first parent


def distances(tree: Tree, owners: Sequence[int], at: Mapping[int, int]) -> NDArray[np.int64]:
    """(n, n) how far the owners of n cells are from each other.

    Args:
        tree: of all of them and their ancestors, each of a greater id than its parent.
        owners: (n,) individuals; the same one may own several cells.
        at: of each of the tree, where it is on the scale of distances, from 0 on: its generation, or how many steps it
            is from the end of its line.
    """
    place = np.array([at[one] for one in owners])
    apart = place[:, None] + place[None, :] + 2
    below: dict[int, NDArray[np.int64]] = {
        one: np.array(cells) for one, cells in pd.Series(owners).groupby(list(owners)).indices.items()
    }
    for cells in below.values():
        apart[np.ix_(cells, cells)] = 0
    for one in sorted(tree, reverse=True):  # all that descend from it have been seen
        parent, mine = tree[one], below.pop(one, None)
        if parent is None or mine is None:
            continue
        theirs = below.get(parent)
        if theirs is None:
            below[parent] = mine
            continue
        across = place[theirs][:, None] + place[mine][None, :] - 2 * at[parent]
        apart[np.ix_(theirs, mine)], apart[np.ix_(mine, theirs)] = across, across.T
        below[parent] = np.concatenate([theirs, mine])
    return apart


def common_ancestor(tree: Tree, owners: Sequence[int]) -> int | None:
    """The last individual from which all owners descend by first parents, or that is all of them; None if none is."""
    shared = set(line(tree, owners[0]))
    for one in owners[1:]:
        shared.intersection_update(line(tree, one))
    return max(shared, default=None)


def diversity(tree: Tree, owners: Sequence[int]) -> int:
    """Faith's phylogenetic diversity of the owners (Biological Conservation 61, 1992, p. 1): how many steps
    from parent to child their lines of first parents have together, each counting once."""
    lines = [line(tree, owner) for owner in set(owners)]
    return len({one for ancestors in lines for one in ancestors}) - len({ancestors[-1] for ancestors in lines})


def closer(apart: NDArray[np.int64], group: Sequence[object], *, others_only: bool) -> Facts | None:
    """The mean distance of pairs of one group, less that of all other pairs: negative where kin are of kind.

    Args:
        apart: (n, n) distances.
        group: of the n elites; None of one that is of no group.
        others_only: leave out pairs that one individual owns, whose distance is 0.

    Returns:
        As `permuted`, of groups permuted over elites, p that they are no closer; n: pairs of one group. None where
        there are no pairs on one of the sides.
    """
    n = len(group)
    first, second = np.triu_indices(n, 1)
    codes, _ = pd.factorize(pd.Series(list(group), dtype=object), use_na_sentinel=True)
    same = (codes[first] == codes[second]) & (codes[first] >= 0)
    counted = apart > 0 if others_only else ~np.eye(n, dtype=bool)
    total, pairs = (apart * counted).sum() / 2, counted.sum() / 2
    if not (same & counted[first, second]).any() or not (~same & counted[first, second]).any():
        return None
    here, there = first[same], second[same]

    def difference(at: NDArray[np.int64], to: NDArray[np.int64]) -> NDArray[np.float64]:
        inside, count = (apart[at, to] * counted[at, to]).sum(axis=-1), counted[at, to].sum(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(inside / count - (total - inside) / (pairs - count))

    value = float(difference(here, there))
    drawn = []
    for order in _orders("kinship", n, len(here)):
        drawn.append(difference(order[:, here], order[:, there]))
    null = np.concatenate(drawn)
    null = null[np.isfinite(null)]
    return {**permuted(value, null, "less"), "n": int(counted[here, there].sum())}


def mantel(apart: NDArray[np.int64], unlike: NDArray[np.float64]) -> Facts | None:
    """Spearman's correlation, over pairs of elites, of how far they are from each other and how unlike their classes.

    Args:
        apart, unlike: (n, n), symmetric.

    Returns:
        As `permuted`, of classes permuted over elites, p that they do not go together; n: pairs. None where one of the
        two is constant.
    """
    n = len(apart)
    first, second = np.triu_indices(n, 1)
    ranks = []
    for matrix in (apart, unlike):
        rank = pd.Series(matrix[first, second]).rank().to_numpy()
        if not np.ptp(rank):
            return None
        scaled = np.zeros((n, n))
        scaled[first, second] = scaled[second, first] = (rank - rank.mean()) / rank.std()
        ranks.append(scaled)
    fixed, moved = ranks[0][first, second], ranks[1]
    value = float(fixed @ moved[first, second]) / len(first)
    null = np.concatenate(
        [moved[order[:, first], order[:, second]] @ fixed / len(first) for order in _orders("mantel", n, len(first))]
    )
    return {**permuted(value, null, "greater"), "n": len(first)}


def _orders(domain: str, n: int, pairs: int) -> Iterator[NDArray[np.int64]]:
    """Permutations of n things, as many as there is room to look up so many pairs of each, some at a time."""
    count = int(np.clip(ROOM // max(1, pairs), FEWEST, MOST))
    step = max(1, min(count, (1 << 23) // max(n, pairs)))
    for number, start in enumerate(range(0, count, step)):
        yield permutations(domain, number, min(step, count - start), n)


def synset_of(names: Sequence[str], ids: Mapping[int, str], indices: Sequence[int]) -> list[str | None]:
    """WordNet's id of each of some classes: the network's own where it says them, else by name; None of others.

    Args:
        names, indices: of the classes.
        ids: of outputs, by index.
    """
    by_name = dict(zip(class_names(), ids_of(class_names())))
    known = hypernyms()
    found = [ids.get(index) or by_name.get(name) for name, index in zip(names, indices)]
    return [one if one in known else None for one in found]


def relatives(synsets: Sequence[str | None]) -> dict[str, list[str | None]]:
    """Ways in which classes are siblings, and of each class, whose sibling it is: "hypernym", the first synset directly
    above it in WordNet; "super_class", one of some forty kinds."""
    above, kinds = hypernyms(), super_classes()
    direct = [above[one][0] if one is not None and above[one] else None for one in synsets]
    by_id = dict(zip(ids_of(class_names()), (kinds[name] for name in class_names())))
    return {"hypernym": direct, "super_class": [by_id.get(one or "") for one in synsets]}


def path_distances(synsets: Sequence[str]) -> NDArray[np.float64]:
    """(n, n) the fewest steps from one synset to another, up to one that is above both and down again."""
    ups = [_steps_up(one) for one in synsets]
    apart = np.zeros((len(ups), len(ups)))
    for i, a in enumerate(ups):
        for j, b in enumerate(ups[:i]):
            apart[i, j] = apart[j, i] = min(a[each] + b[each] for each in a.keys() & b.keys())
    return apart


@cache
def _steps_up(synset: str) -> dict[str, int]:
    """The synset and all above it, with the fewest steps to each."""
    above = hypernyms()
    steps, level = {synset: 0}, [synset]
    while level:
        level = [each for one in level for each in above[one] if each not in steps]
        steps |= dict.fromkeys(level, max(steps.values()) + 1)
    return steps
