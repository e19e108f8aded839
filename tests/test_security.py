"""What others send is not trusted. What is not here is where the table of SECURITY.md says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evofool
from evofool.config import Config
from evofool.errors import CorruptData
from evofool.store import schemas

# ------------------------------------------------------------------------------------------------------------ Parquet


def bomb(path: Path, rows: int, length: int) -> None:
    """A table of genomes in which every row has the same long value, which the file holds once."""
    ids = pa.array(range(rows), pa.int64())
    genomes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array([b"\0" * length]))
    pq.write_table(pa.table({"individual_id": ids, "genome": genomes}), path, compression="zstd", store_schema=False)
    assert pq.ParquetFile(path).schema_arrow.equals(schemas.GENOMES)


def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "genomes.parquet"
    bomb(path, rows=100, length=1000)
    assert schemas.from_parquet(path, schemas.GENOMES).num_rows == 100
    bomb(path, rows=20_000, length=1 << 20)
    with pytest.raises(CorruptData, match="256 MiB of memory"):
        schemas.from_parquet(path, schemas.GENOMES)


REFUSE = """
import resource, sys, pathlib
from evofool.errors import CorruptData
from evofool.store import schemas
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    schemas.from_parquet(pathlib.Path(sys.argv[1]), schemas.GENOMES)
except CorruptData:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_refusing_a_bomb_takes_little_memory(tmp_path: Path) -> None:
    bomb(tmp_path / "bomb", rows=2_000_000, length=1 << 20)  # two terabytes
    command = [sys.executable, "-c", REFUSE, str(tmp_path / "bomb")]
    used = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(used.stdout) < 500 << 10  # KiB


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_sizes_are_counted_as_arrow_counts_them(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.binary(max_size=8), min_size=1))
    indices = data.draw(st.lists(st.integers(0, len(texts) - 1)))
    array = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(texts, pa.binary()))
    expected = sum(len(texts[i]) for i in indices)
    assert schemas._bytes_of(array) == expected
    nested = pa.StructArray.from_arrays([array, array], ["a", "b"])
    assert schemas._bytes_of(nested) == 2 * expected
    assert schemas._bytes_of(pa.ListArray.from_arrays(pa.array([0, len(array)], pa.int32()), nested)) == 2 * expected


# ---------------------------------------------------------------------------------------------------- secrets, modules


END_TO_END = """
import sys, evofool
evofool.run(sys.argv[1], out=sys.argv[2])
evofool.verify(sys.argv[2])
evofool.open_run(sys.argv[2]).elites()
print([name for name in ("ray.data", "ray.tune", "pickle5") if name in sys.modules])
"""


@pytest.mark.slow
def test_no_secret_of_the_environment_is_stored_and_nothing_that_unpickles_is_loaded(
    config: Config, tmp_path: Path
) -> None:
    from evofool.config import to_yaml

    (tmp_path / "config.yaml").write_text(to_yaml(config))
    canaries = {name: f"canary{i}canary" for i, name in enumerate(("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "PASSWORD"))}
    command = [sys.executable, "-c", END_TO_END, str(tmp_path / "config.yaml"), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **canaries})
    assert done.stdout.strip().endswith("[]"), done.stderr
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert not any(secret.encode() in path.read_bytes() for secret in canaries.values()), path


def test_a_class_name_cannot_write_to_the_terminal(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    import torch

    from evofool.cli import output

    names = ["\x1b]0;owned\x07", "two\nlines", "\x9b31m"]
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3, bias=False))
    run = evofool.run(
        config,
        ["search.generations=2"],
        target=module,
        preprocessing=evofool.Preprocessing((4, 4), 1, (0.0,), (255.0,)),
        class_names=names,
        out=tmp_path / "run",
    )
    output.print_elites(run)
    shown = capsys.readouterr().out
    assert "owned" in shown
    assert not any((ord(character) < 32 and character != "\n") or 127 <= ord(character) < 160 for character in shown)
