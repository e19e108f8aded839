"""Who becomes a parent: the ways of `search.selection`, as pure functions of the elites and of their first parents.

None needs to know what became of offspring that took no cell, which nothing stores: so a resumed run, and one whose
`storage.history` has dropped all but its elites, has the same parents as one that was never stopped.

    cells        any filled cell
    individuals  any elite, however many cells it holds
    curiosity    filled cells in proportion to their `curiosity`
    kinship      any filled cell; the second parent is kin of the first, where it has any
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evofool.records import NO_PARENT, address_of

__all__ = ["FLOOR", "curiosity", "pick_by", "pick_kin", "pick_uniformly"]

Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]

FLOOR = 0.1  # the least curiosity, so that no cell is given up


def curiosity(candidates: Ids, parents: Ids, *, generation: int, offspring: int) -> Numbers:
    """How promising it is to breed from each filled cell, (m,), at least FLOOR.

    1, and 1 for each child that holds a cell, less 0.5 for each offspring that its elite would have had by now if all
    cells had been drawn alike: `offspring` / m in every generation since the elite came.

    After the curiosity score of Cully and Demiris 2018, "Quality and Diversity Optimization: A Unifying Modular
    Framework" (IEEE Transactions on Evolutionary Computation 22(2)), which an individual has, and which grows by 1 with
    each offspring that gets into the archive, and shrinks by 0.5 with each that does not. Three things differ. Failures
    are those expected, not those counted. A success counts while the child holds a cell; of several it counts once.
    And the score begins at 1 and has a floor: about one in a hundred offspring takes a cell here, so all elites that
    have had a few are far below 0, and a draw by the distance to the lowest, as in the authors' sferes2, would hardly
    tell them apart.

    Args:
        candidates: (m,) ids of the elites of all filled cells.
        parents: (m,) their first parents, NO_PARENT where there is none.
        generation: the last that the archive has seen.
        offspring: individuals of a generation.
    """
    elites, where, first = np.unique(candidates, return_index=True, return_inverse=True)
    children = (parents[where] == elites[:, None]).sum(axis=1)
    born = np.array([address_of(int(elite))[0] for elite in elites])
    failures = (generation - born) * (offspring / len(candidates))
    return np.maximum(FLOOR, 1.0 + children - 0.5 * failures)[first]


def pick_uniformly(candidates: Ids, uniform: Numbers) -> Ids:
    """One of the candidates for each number in [0, 1)."""
    return candidates[(uniform * len(candidates)).astype(np.int64)]


def pick_by(weights: Numbers, candidates: Ids, uniform: Numbers) -> Ids:
    """One of the candidates for each number in [0, 1), in proportion to their weights (m,), all above 0."""
    until = np.cumsum(weights)
    places = np.searchsorted(until, uniform * until[-1], side="right")
    return candidates[np.minimum(places, len(candidates) - 1)]  # a product may round up to the whole sum


def pick_kin(mates: Ids, candidates: Ids, parents: Ids, uniform: Numbers) -> Ids:
    """For each mate, one of the elites that are its parent, its children, or other children of its first parent.

    Of a mate without such kin in the archive, any candidate. Classes are akin here while their elites descend from one
    another, so it is the archive that says which those are, whatever the network's classes are called. And kin have
    most genes in common, on which crossover aligns them, so that their children are not torn: why NEAT (Stanley and
    Miikkulainen 2002) mates within species. Further ancestors are left out: `storage.history` may have dropped them.

    Args:
        mates: (n,) ids of first parents, each one of the candidates.
        candidates, parents: see `curiosity`.
        uniform: (n,) in [0, 1).
    """
    elites, where = np.unique(candidates, return_index=True)
    own = parents[where]
    rows = np.searchsorted(elites, mates)
    theirs = own[rows, None]
    is_kin = (elites == theirs) | (own == mates[:, None]) | ((own == theirs) & (theirs != NO_PARENT))
    is_kin[np.arange(len(mates)), rows] = False
    count = is_kin.sum(axis=1)
    nth = (uniform * count).astype(np.int64)
    kin = elites[(is_kin.cumsum(axis=1) > nth[:, None]).argmax(axis=1)]
    return np.where(count > 0, kin, pick_uniformly(candidates, uniform))
