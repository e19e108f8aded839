"""Which output of one network is which of another: by WordNet id where both have one, else by name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

__all__ = ["match"]


def match(
    source: Mapping[int, str],
    names: Sequence[str],
    source_ids: Mapping[int, str | None] | None = None,
    ids: Sequence[str | None] = (),
) -> dict[int, int]:
    """Which output of a target is which class of the source: {source index: target index}.

    Two classes that both have an id in WordNet are the same where these are equal; others where their names are. Where
    several outputs of either could be meant, a class is matched with the output at its own index if that is one of
    them, else with none.

    Args:
        source: {index: name}.
        names: of the target's outputs.
        source_ids: {index: id}, None where a class has none.
        ids: of the target's outputs, or () where nobody knows them.
    """
    here = {index: (name, (source_ids or {}).get(index)) for index, name in source.items()}
    there = dict(enumerate(zip(names, ids or [None] * len(names))))
    forth, back = _alike(here, there), _alike(there, here)
    matches = {}
    for index, outputs in forth.items():
        if len(outputs) == 1 and back[outputs[0]] == [index]:
            matches[index] = outputs[0]
        elif index in outputs:
            matches[index] = index
    return matches


def _alike(
    classes: Mapping[int, tuple[str, str | None]], others: Mapping[int, tuple[str, str | None]]
) -> dict[int, list[int]]:
    """The others that each class, a name and an id, could be."""
    places: dict[Hashable, list[int]] = {}
    for index, (name, number) in others.items():
        places.setdefault(("name", name), []).append(index)
        if number is not None:
            places.setdefault(("id", number), []).append(index)
    result = {}
    for index, (name, number) in classes.items():
        by_id = places.get(("id", number), []) if number is not None else []
        by_name = places.get(("name", name), [])
        result[index] = by_id or [i for i in by_name if number is None or others[i][1] is None]
    return result
