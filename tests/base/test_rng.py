"""Addressed randomness: golden words, a slow restatement of Philox, and what an address does and does not depend on."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest

from evofool.base import rng

MASK = 2**64 - 1


def philox_block(counter: list[int], key: list[int]) -> list[int]:
    """Philox-4x64-10 in plain integers, after Salmon et al. 2011, section 4.3."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (second >> 64) ^ c1 ^ k0, second & MASK, (first >> 64) ^ c3 ^ k1, first & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return [c0, c1, c2, c3]


def slow_words(seed: int, domain: str, generation: int, count: int) -> list[int]:
    """`rng.words`, restated; numpy counts up before it makes a block, so the first block is number 1."""
    digest = hashlib.blake2b(f"{seed}:{domain}".encode(), digest_size=16).digest()
    key = [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")]
    found: list[int] = []
    block = 1
    while len(found) < count:
        found += philox_block([block, generation, 0, 0], key)
        block += 1
    return found[:count]


GOLDEN = {
    (0, "initial.0", 0): [
        0x2818945AC72124DE,
        0x16DC33AC8E7AF02B,
        0xF718B0FBFD7B9609,
        0xD9690FE551CF273A,
        0xB459DDADBBB3760D,
        0x0982B9763AD41F48,
        0xD811B2918900D137,
        0xDD52095AE069A72C,
        0xC94B8530291200F7,
        0xCFF7EF3C602EB6EB,
        0x24414AEC6CD40DE9,
        0xD224B13A512D0BBF,
        0x7497300D05E09A55,
        0xC71AE3483376A2EA,
        0xDDB81765F99582F1,
        0xE04483C62D2C1338,
    ],
    (1, "mutate.weights", 7): [
        0xAA342A966AD90BC5,
        0x98C0C3666570253A,
        0x6D8F16A0B20FA97C,
        0x6D0C06D01DA072B6,
        0x6021A5266A703E05,
        0x502452F7C683093B,
        0x251165B8D4EA1A7A,
        0x8405DB3FA9E02DA3,
        0xF5F5352C24A85339,
        0xEA3E4F89B2E687AD,
        0xD6A9065781B333FA,
        0x4052465E9E029D12,
        0xA7F4AE3F4A3465EF,
        0xBBC57FCB5224C057,
        0xF411A761347BE35A,
        0x1DEE362344CFD5D3,
    ],
    (1, "mutate.weights", 8): [
        0x5F3B4F6817A5CE15,
        0x81015C0A050AEE90,
        0x66A24A757213FE93,
        0xA5B2B6044823F58D,
        0x15DFE597A8382D84,
        0xCCAC0B810B83E3E6,
        0xC000174182A80FE5,
        0x9C401EC0CF885613,
        0x3712F77C28018281,
        0xE62BBCFA5DC49F7F,
        0x9D3C4679F17A3710,
        0x2793A0C7FFD6BD8A,
        0xE6259BB840C9F91B,
        0xF6A0A354BFF8C0AE,
        0x5101E2F0C83D08F9,
        0xADB029F32FFE5C91,
    ],
    (12345678901234567890, "select", 2**40 + 3): [
        0xDD4BC6FB6C9DBFED,
        0x9D827BAF2C6FCBA4,
        0x3FFD7497319C073C,
        0x8FA6DE243CE4E245,
        0x000EEF6F47605F9F,
        0xACB548A0931F1AE6,
        0x7D6ED6F75D5B36E0,
        0xE3F05A1499C5B824,
        0x00D395A1D3D24D33,
        0xEE4D715855D3C35C,
        0x08C5809A9168B7AC,
        0xFFEAAFDFF43162B4,
        0x537F37B94076F6C7,
        0xFD7DAFC487BA90AE,
        0xCC723E1DF321F012,
        0x88E161793140CE3F,
    ],
}


def test_the_slow_restatement_gives_the_published_known_answer() -> None:
    # Random123's kat_vectors: philox4x64, 10 rounds, all zero and all ones.
    assert philox_block([0] * 4, [0] * 2) == [
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B,
    ]  # fmt: skip
    assert philox_block([MASK] * 4, [MASK] * 2) == [
        0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0,
    ]  # fmt: skip


@pytest.mark.parametrize("address", GOLDEN)
def test_words_are_the_golden_ones(address: tuple[int, str, int]) -> None:
    drawn = rng.words(*address, 16)
    assert drawn.dtype == np.uint64
    assert drawn.tolist() == GOLDEN[address]


def test_uniforms_are_the_golden_ones() -> None:
    drawn = rng.uniforms(1, "mutate.weights", 7, (2, 2))
    assert drawn.dtype == np.float64
    assert drawn.tolist() == [
        [0.6648584954481046, 0.5966913342467142],
        [0.4279646055529712, 0.42596476155233787],
    ]


@pytest.mark.parametrize(
    "address", [(0, "", 0), (1, "select", 0), (987654321, "mutate.pixels", 1), (-3, "é", 2**63), (7, "x", 2**64 - 1)]
)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 41])
def test_words_equal_a_slow_restatement_of_philox(address: tuple[int, str, int], count: int) -> None:
    assert rng.words(*address, count).tolist() == slow_words(*address, count)


def test_uniforms_are_the_upper_53_bits_of_words_in_row_major_order() -> None:
    drawn = rng.uniforms(5, "shape", 3, (4, 3, 2))
    expected = [(word >> 11) / 2**53 for word in slow_words(5, "shape", 3, 24)]
    assert drawn.shape == (4, 3, 2)
    assert drawn.ravel().tolist() == expected


def test_uniforms_lie_in_the_half_open_unit_interval_and_fill_it_evenly() -> None:
    drawn = rng.uniforms(3, "even", 0, (100_000,))
    assert drawn.min() >= 0.0
    assert drawn.max() < 1.0
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    assert np.square(counts - 5000).sum() / 5000 < 43.8  # chi-square, 19 degrees of freedom, p = 0.001


def test_the_largest_word_gives_a_number_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rng, "words", lambda *address: np.array([MASK, 0, 2**11 - 1, 2**11], dtype=np.uint64))
    assert rng.uniforms(0, "", 0, (4,)).tolist() == [1 - 2**-53, 0.0, 0.0, 2**-53]


def test_numbers_do_not_depend_on_the_global_state_of_random_and_numpy_and_leave_it_alone() -> None:
    # NPY002 forbids the legacy generator; here it is what must not matter.
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = rng.uniforms(1, "a", 1, (50,))
    after = (random.random(), np.random.random())  # noqa: NPY002
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    second = rng.uniforms(1, "a", 1, (50,))
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert first.tolist() == second.tolist()
    assert (random.random(), np.random.random()) == after  # noqa: NPY002


def test_another_draw_in_between_changes_nothing() -> None:
    alone = rng.words(1, "a", 1, 20).tolist()
    rng.words(1, "b", 1, 1000)
    rng.words(1, "a", 1, 3)
    assert rng.words(1, "a", 1, 20).tolist() == alone
    assert rng.words(1, "a", 1, 9).tolist() == alone[:9]


def test_seed_domain_and_generation_each_give_streams_without_a_common_word() -> None:
    addresses = [(s, d, g) for s in (0, 1, 11) for d in ("a", "b", "1:a", "a.0") for g in (0, 1, 2, 1000)]
    drawn = [word for address in addresses for word in rng.words(*address, 64).tolist()]
    assert len(set(drawn)) == len(addresses) * 64


def test_seed_and_domain_are_not_confused_by_their_separator() -> None:
    assert rng.words(1, "1:a", 0, 4).tolist() != rng.words(11, "a", 0, 4).tolist()
    assert rng.words(1, "2", 3, 4).tolist() != rng.words(12, "", 3, 4).tolist()


@pytest.mark.parametrize("slots", [1, 7, 200])
def test_with_the_slot_last_a_gene_keeps_its_number_however_many_genes_are_drawn(slots: int) -> None:
    few, many = (rng.uniforms(9, "genes", 4, (genes, slots)).T for genes in (5, 60))
    assert few.shape == (slots, 5)
    assert np.array_equal(many[:, :5], few)


def test_with_the_slot_first_a_slot_keeps_its_numbers_however_many_slots_are_drawn() -> None:
    few, many = (rng.uniforms(9, "select", 4, (slots, 3)) for slots in (10, 500))
    assert np.array_equal(many[:10], few)


@pytest.mark.parametrize("start", [0, 1, 3, 4, 5, 17])
def test_words_drawn_from_the_middle_are_those_drawn_from_the_beginning(start: int) -> None:
    assert rng.words(1, "a", 7, 9, start).tolist() == rng.words(1, "a", 7, start + 9).tolist()[start:]
    parts = [rng.uniforms(1, "a", 7, (2, 3), start=start), rng.uniforms(1, "a", 7, (4,), start=start + 6)]
    assert (
        np.concatenate([p.ravel() for p in parts]).tolist() == rng.uniforms(1, "a", 7, (start + 10,)).tolist()[start:]
    )


@pytest.fixture(params=["numba", "numpy"])
def chooser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rng.chosen` compiled by numba, and as it is without it."""
    if request.param == "numpy":
        monkeypatch.setattr(rng, "_compiled", lambda: None)
    else:
        assert rng._compiled() is not None


def assert_chosen(records: int, rate: float, width: int, start: int, generation: int = 6) -> None:
    uniform = rng.uniforms(5, "pixels", generation, (records, width), start)
    rows, numbers = rng.chosen(5, "pixels", generation, records, rate, width=width, start=start)
    assert rows.dtype == np.int64 and numbers.dtype == np.float64
    assert rows.tolist() == np.flatnonzero(uniform[:, 0] < rate).tolist()
    assert numbers.shape == (len(rows), width)
    assert numbers.tobytes() == uniform[rows].tobytes()


@pytest.mark.usefixtures("chooser")
@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("start", [0, 1, 6, 4095, 2**40 + 3])
def test_chosen_are_the_rows_that_begin_with_less(width: int, start: int) -> None:
    for records in (0, 1, 2, 7, 1023, 1024, 1025, 4000):  # around the words that numba draws at a time
        for rate in (0.1, 0.5):
            assert_chosen(records, rate, width, start)
    assert_chosen(100, 0.3, width, start, generation=2**63 + 5)


@pytest.mark.usefixtures("chooser")
@pytest.mark.parametrize("rate", [-0.5, 0.0, 2.0**-60, 2.0**-53, 1 - 2.0**-53, 1.0, 2.0])
def test_chosen_at_the_ends_of_the_rate(rate: float) -> None:
    assert_chosen(2000, rate, 1, 0)


@pytest.mark.usefixtures("chooser")
def test_a_number_is_chosen_just_above_itself() -> None:
    for number in rng.uniforms(5, "pixels", 6, (20,)).tolist():
        for rate in (np.nextafter(number, 0), number, np.nextafter(number, 1)):
            assert_chosen(20, float(rate), 1, 0)
