import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_edge.distill.batches import ShuffledPrompts, by_rows, by_tokens


def rows_of(*lengths):
    """Rows of (prompt length, completion length, ...): one prompt each, ids 0 for its tokens."""
    return [((number,) * prompt, (0,) * length) for number, (prompt, *rest) in enumerate(lengths) for length in rest]


def tokens(rows, part):
    prompts = {rows[number][0] for number in part}
    return sum(map(len, prompts)) + sum(len(rows[number][1]) for number in part)


def test_the_order_has_every_row_once_and_keeps_prompts_together():
    rows = rows_of(*[(3, 1, 2, 1)] * 40)
    order = list(ShuffledPrompts(rows, rows_per_step=8, seed=0))
    assert sorted(order) == list(range(120)) != order
    assert all(order[place : place + 3] == [order[place] + step for step in range(3)] for place in range(0, 120, 3))


def test_the_order_depends_on_seed_and_epoch_alone():
    rows = [((number,), (1, 2)) for number in range(50)]
    sampler = ShuffledPrompts(rows, rows_per_step=5, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(ShuffledPrompts(rows, rows_per_step=5, seed=1)) != first


@pytest.mark.parametrize(("rows_per_step", "filling"), [(4, []), (8, []), (16, [40] * 8), (48, [40] * 8)])
def test_the_last_step_is_filled_up_with_what_stands_for_no_row(rows_per_step, filling):
    rows = [((number,), (1, 2)) for number in range(40)]
    sampler = ShuffledPrompts(rows, rows_per_step=rows_per_step, seed=0)
    order = list(sampler)
    assert len(order) == len(sampler)
    assert len(order) % rows_per_step == 0
    assert sorted(order[:40]) == list(range(40))
    assert order[40:] == filling


@pytest.mark.parametrize(
    ("count", "most", "sizes"), [(6, 3, [3, 3]), (7, 3, [2, 2, 3]), (4, 8, [4]), (3, 1, [1, 1, 1])]
)
def test_rows_are_cut_evenly_and_in_order(count, most, sizes):
    parts = by_rows(range(count), most)
    assert list(map(len, parts)) == sizes
    assert [number for part in parts for number in part] == list(range(count))


def test_forwards_hold_like_loads_and_whole_prompts():
    rows = rows_of((100, 10, 10), (60, 20), (50, 5, 5), (40, 10), (30, 20))
    parts = by_tokens(rows, range(len(rows)), 200)
    assert [sorted(part) for part in parts] == [[0, 1, 5], [2, 3, 4, 6]]
    assert [tokens(rows, part) for part in parts] == [170, 190]


def test_a_prompt_that_does_not_fit_is_cut_by_rows_and_a_row_that_does_not_goes_alone():
    rows = rows_of((10, 5, 5, 5, 5), (70, 1), (4, 4))
    parts = by_tokens(rows, range(len(rows)), 21)
    assert parts[0] == [4]
    assert sorted(map(sorted, parts[1:])) == [[0, 1], [2, 3], [5]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=5), max_size=12),
    st.integers(1, 120),
)
def test_every_row_goes_once_and_no_forward_exceeds_the_limit_that_its_rows_could_keep(lengths, most):
    rows = rows_of(*lengths)
    parts = by_tokens(rows, range(len(rows)), most)
    assert sorted(number for part in parts for number in part) == list(range(len(rows)))
    assert all(parts)
    assert all(tokens(rows, part) <= most or len(part) == 1 for part in parts)
