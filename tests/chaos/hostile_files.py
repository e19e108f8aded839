"""Parquet files and pictures of strangers; see hostile.py."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from chaos.hostile import MIB, Case, noisy, try_all
from chaos.outcome import Outcome
from evofool.base import picture_files
from evofool.base.png import decode_png
from evofool.store import schemas

__all__ = ["trial_parquet", "trial_pictures"]


# ------------------------------------------------------------------------------------------------------------- Parquet


def _parquet(draw: random.Random, folder: Path) -> Iterator[Case]:
    """Bombs, tables with other columns, and good files with noise in them."""
    path = folder / "some.parquet"
    tables = {
        name: getattr(schemas, name)
        for name in ("INDIVIDUALS", "PLACEMENTS", "GENOMES", "SEEDS", "HISTORY", "ELITES")
    }  # fmt: skip

    def read(schema: pa.Schema) -> Callable[[], Any]:
        return lambda: schemas.from_parquet(path, schema)

    for rows, length in ((1, 64 << 20), (100, 4 << 20), (1000, 1 << 20), (20_000, 1 << 16), (2_000_000, 1 << 20)):
        ids = pa.array(range(rows), pa.int64())
        genomes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array([b"\0" * length]))
        for dictionary in (True, False):
            if not dictionary and rows * length > 1 << 28:
                continue
            column = genomes if dictionary else genomes.cast(pa.binary())
            table = pa.table({"individual_id": ids, "genome": column})
            pq.write_table(table, path, compression="zstd", store_schema=False, use_dictionary=dictionary)
            yield f"{rows} times {length} bytes", _mib(path), read(schemas.GENOMES)
    pq.write_table(pa.table({"a": pa.nulls(50_000_000)}), path, compression="zstd")
    yield "fifty million nulls of another schema", _mib(path), read(schemas.GENOMES)
    nested = pa.int64()
    for _ in range(200):
        nested = pa.list_(nested)
    with contextlib.suppress(pa.ArrowException):  # too deep to be written is too deep to be sent
        pq.write_table(pa.table({"a": pa.array([], nested)}), path)
        yield "two hundred lists in one another", _mib(path), read(schemas.GENOMES)
    pq.write_table(pa.table({f"c{i}": [1] for i in range(5000)}), path)
    yield "five thousand columns", _mib(path), read(schemas.GENOMES)
    good = {}
    for name, schema in tables.items():
        rows = [{field.name: _filler(field.type, i) for field in schema} for i in range(50)]
        good[name] = schemas.to_parquet(rows, schema)
    while True:
        name, other = draw.choice(list(tables)), draw.choice(list(tables))
        data = noisy(draw, good[name]) if draw.randrange(8) else good[other]
        if draw.randrange(4) == 0:  # all of the noise in the footer
            tail = data[-2000:]
            data = data[:-2000] + noisy(draw, tail)[:-8] + good[name][-8:]
        path.write_bytes(data)
        yield f"{len(data)} bytes of {name}", 0, read(tables[name])


def _mib(path: Path) -> float:
    return path.stat().st_size / MIB


def _filler(kind: pa.DataType, i: int) -> Any:
    if pa.types.is_list(kind):
        return [_filler(kind.value_type, i)] * (i % 3)
    if pa.types.is_struct(kind):
        return {kind.field(j).name: _filler(kind.field(j).type, i) for j in range(kind.num_fields)}
    if pa.types.is_binary(kind):
        return bytes([i]) * i
    return str(i) if pa.types.is_string(kind) else i


def trial_parquet(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """Tables of a run."""
    return try_all(_parquet, trials, folder, seed)


# ------------------------------------------------------------------------------------------------------------ pictures


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *, bits: int = 8, colour: int = 2, data: bytes = b"", extra: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _pictures(draw: random.Random, folder: Path) -> Iterator[Case]:
    """Headers, texts and profiles that unpack to too much, and good pictures with noise in them."""
    path = folder / "some.png"

    def knock(data: bytes) -> Iterator[Callable[[], Any]]:
        path.write_bytes(data)
        yield lambda: picture_files.read(path, 3)
        yield lambda: picture_files.read(path, 1)
        yield lambda: decode_png(data, "a picture")

    zeros = {size: zlib.compress(bytes(size), 9) for size in (1 << 20, 16 << 20, 100 << 20)}
    sides = [
        (2**31 - 1, 1),
        (1, 2**31 - 1),
        (60000, 60000),
        (10000, 10000),
        (2**32 - 1, 2**32 - 1),
        (0, 0),
        (8192, 8192),
    ]
    special = {f"{width} x {height} of nothing": _png(width, height) for width, height in sides}
    sizes: dict[str, float] = {}  # MiB of what there is to unpack before it can be judged
    for size, packed in zeros.items():
        special[f"a text of {size} bytes"] = _png(8, 8, extra=_chunk(b"zTXt", b"a\0\0" + packed))
        special[f"an international text of {size} bytes"] = _png(8, 8, extra=_chunk(b"iTXt", b"a\0\1\0\0\0" + packed))
        special[f"a profile of {size} bytes"] = _png(8, 8, extra=_chunk(b"iCCP", b"a\0\0" + packed))
        special[f"8 x 8 and {size} bytes"] = _png(8, 8, data=packed)
        side = int((size // 4) ** 0.5) - 1
        clear = f"{side} x {side} transparent"
        special[clear], sizes[clear] = _png(side, side, colour=6, data=packed), size / MIB
    sizes["many texts"] = 64  # after which Pillow gives up
    special["many texts"] = _png(8, 8, extra=_chunk(b"zTXt", b"a\0\0" + zeros[1 << 20]) * 200)
    special["many chunks"] = _png(8, 8, extra=_chunk(b"tEXt", b"a\0b") * 100000)
    special["many frames"] = _png(8, 8, extra=_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)))
    for bits in (0, 1, 2, 4, 8, 16, 255):
        for colour in range(8):
            special[f"{bits} bits, colour {colour}"] = _png(
                8, 8, bits=bits, colour=colour, data=zlib.compress(bytes(800))
            )
    for what, data in special.items():
        for door in knock(data):
            yield what, sizes.get(what, 0) + len(data) / MIB, door
    good = []
    for shape, kind in (((28, 28), "L"), ((28, 28, 3), "RGB"), ((28, 28, 4), "RGBA")):
        sink = io.BytesIO()
        Image.fromarray(np.arange(np.prod(shape), dtype=np.uint64).astype(np.uint8).reshape(shape), kind).save(
            sink, "PNG"
        )
        good.append(sink.getvalue())
    while True:
        for door in knock(noisy(draw, draw.choice(good))):
            yield "noise in a picture", 0, door


def trial_pictures(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """PNG files, at every door that reads some."""
    return try_all(_pictures, trials, folder, seed)
