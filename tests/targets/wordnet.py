"""Writes the two tables of evofool/targets/zoo about WordNet: `python tests/targets/wordnet.py [data.noun]`.

imagenet_classes.csv: from WordNet 3.0's nouns, ImageNet's ids in timm, and torchvision's names. A class belongs to the
first group below that is, or is above, it in WordNet.

imagenet_hypernyms.csv: of each synset that is a class, or is above one, a word for it, and the synsets directly above
it, in WordNet's order; from the nouns and the ids of the first table.

data.noun is a file of Debian's package wordnet-base; without installing it: `apt-get download wordnet-base`, then
`dpkg -x wordnet-base_*.deb FOLDER` puts it into FOLDER/usr/share/wordnet. An id such as n02085620 is a place in it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from evofool.targets.zoo.imagenet import class_names, ids_of

NOUNS = Path("/usr/share/wordnet/data.noun")
ZOO = Path(__file__).parents[2] / "evofool" / "targets" / "zoo"
# Super-class -> synsets, the special before the general ones.
GROUPS = {
    "dog": "02084071",
    "cat": "02120997",  # Felidae
    "other carnivore": "02075296",
    "ungulate": "02370806",
    "primate": "02469914",
    "other mammal": "01861778",
    "bird": "01503061",
    "snake": "01726692",
    "other reptile": "01661091",
    "amphibian": "01627424",
    "fish": "02512053",
    "insect": "02159955",
    "other invertebrate": "01905661",
    "fungus": "12992868",
    "fruit": "13134947",
    "vegetable": "07707451",
    "food": "00021265 07555863",
    "plant": "00017222",
    "musical instrument": "03800933",
    "watercraft": "04530566",
    "aircraft": "02686568",
    "wheeled vehicle": "04576211",
    "other vehicle": "04524313",
    "building": "02913152",
    "furniture": "03405725",
    "clothing": "03051540",
    "weapon": "04565375",
    "measuring instrument": "03733925",
    "machine": "03699975",
    "electronic equipment": "03278248",
    "tool": "04451818",
    "container": "03094503",
    "covering": "03122748",
    "structure": "04341686",
    "device": "03183080",
    "implement": "03563967",
    "equipment": "03294048",
    "commodity": "03076708",
    "geological formation": "09287968",
    "other": "00001740",  # entity, which is above all
}


@dataclass(frozen=True)
class Synset:
    """A synset of nouns: its first word, and the numbers (of eight digits) of those directly above it."""

    word: str
    above: list[str]


def read_nouns(file: Path = NOUNS) -> dict[str, Synset]:
    """The synsets by their number of eight digits."""
    synsets = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue  # the licence
        fields = line.partition("|")[0].split()
        start = 4 + 2 * int(fields[3], 16)
        pointers = fields[start + 1 :]
        above = [pointers[i + 1] for i in range(0, 4 * int(fields[start]), 4) if pointers[i] in ("@", "@i")]
        synsets[fields[0]] = Synset(fields[4].replace("_", " "), above)
    return synsets


def classes(synsets: dict[str, Synset]) -> list[str]:
    """The lines of imagenet_classes.csv: id, name, super-class."""
    from torchvision.models import AlexNet_Weights

    names = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    place = Path(find_spec("timm").submodule_search_locations[0], "data", "_info", "imagenet_synsets.txt")  # type: ignore
    lines = ["wordnet_id,name,super_class"]
    for identity, name in zip(place.read_text().split(), names, strict=True):
        all_above = _all_above([identity[1:]], synsets)
        group = next(group for group, tops in GROUPS.items() if all_above.intersection(tops.split()))
        lines.append(f"{identity},{name},{group}")
    return lines


def hypernyms(ids: list[str], synsets: dict[str, Synset]) -> list[str]:
    """The lines of imagenet_hypernyms.csv: id, word, the ids directly above, with spaces between."""
    rows = ((number, synsets[number]) for number in sorted(_all_above([i[1:] for i in ids], synsets)))
    return ["synset,word,above", *(f"n{n},{s.word},{' '.join(f'n{each}' for each in s.above)}" for n, s in rows)]


def _all_above(numbers: list[str], synsets: dict[str, Synset]) -> set[str]:
    """These synsets, and all that are above them."""
    found, todo = set[str](), list(numbers)
    while todo:
        number = todo.pop()
        if number not in found:
            found.add(number)
            todo += synsets[number].above
    return found


def write(name: str, lines: list[str]) -> None:
    """Write a table, in which nothing needs quotes."""
    assert not any('"' in line or line.count(",") != 2 for line in lines)
    (ZOO / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    nouns = read_nouns(*map(Path, sys.argv[1:]))
    write("imagenet_classes.csv", classes(nouns))
    write("imagenet_hypernyms.csv", hypernyms(list(ids_of(class_names())), nouns))
