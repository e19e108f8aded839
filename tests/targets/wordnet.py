"""Writes evofool/targets/zoo/imagenet_classes.csv: `python tests/targets/wordnet.py [data.noun]`.

From WordNet 3.0's nouns (Debian's package wordnet-base), ImageNet's ids in timm, and torchvision's names. An id such as
n02085620 is a place in data.noun. A class belongs to the first group below that is, or is above, it in WordNet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

NOUNS = Path("/usr/share/wordnet/data.noun")
TABLE = Path(__file__).parents[2] / "evofool" / "targets" / "zoo" / "imagenet_classes.csv"
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


def read_nouns(file: Path = NOUNS) -> dict[str, list[str]]:
    """Of each synset, by its number of eight digits, those directly above it, in WordNet's order."""
    above = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue  # the licence
        fields = line.partition("|")[0].split()
        start = 4 + 2 * int(fields[3], 16)
        pointers = fields[start + 1 :]
        above[fields[0]] = [pointers[i + 1] for i in range(0, 4 * int(fields[start]), 4) if pointers[i] in ("@", "@i")]
    return above


def table(above: dict[str, list[str]]) -> str:
    """The lines of the table: id, name, super-class, the first synset above the class, the first above that."""
    from torchvision.models import AlexNet_Weights

    names = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    place = Path(find_spec("timm").submodule_search_locations[0], "data", "_info", "imagenet_synsets.txt")  # type: ignore
    lines = ["wordnet_id,name,super_class,parent,grandparent"]
    for identity, name in zip(place.read_text().split(), names, strict=True):
        number = identity[1:]
        all_above = set(_above(number, above))
        group = next(group for group, tops in GROUPS.items() if all_above.intersection(tops.split()))
        assert not {",", '"'} & set(name)  # which would need quotes
        parent = above[number][0]
        lines.append(f"{identity},{name},{group},n{parent},n{above[parent][0]}")
    return "\n".join(lines) + "\n"


def _above(number: str, above: dict[str, list[str]]) -> Iterator[str]:
    yield number
    for each in above[number]:
        yield from _above(each, above)


if __name__ == "__main__":
    TABLE.write_text(table(read_nouns(*map(Path, sys.argv[1:]))))
