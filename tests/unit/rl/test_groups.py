from typing import get_args

import pytest

import star_edge.contracts as c
from star_edge.rl.groups import Group, fill, fresh_rows, teaches


def group(*rewards, text="ok"):
    ids = [[1, 2]] * len(rewards)
    return Group({"prompt": "p"}, [7], ids, None, [text] * len(rewards), list(rewards))


@pytest.mark.parametrize(
    ("rewards", "counts"),
    [
        ((0.0, 1.0), True),
        ((0.0, 0.02), False),  # mean 0.01 is not inside (0.01, 0.99)
        ((0.0, 0.03), True),
        ((1.0, 0.98), False),
        ((1.0, 0.9), True),
        ((0.5, 0.5), False),
        ((-1.0, 0.0), False),
        ((-1.0, 1.0, 1.0), True),
    ],
)
def test_a_group_counts_when_its_mean_is_inside_and_its_rewards_differ(rewards, counts):
    assert teaches(group(*rewards), 0.01, 0.99) is counts


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, (0.01, 0.99)),
        ({"reward": "binary"}, (0.01, 0.99)),
        ({"reward": "typed"}, (-0.99, 0.99)),
        ({"reward": "typed", "group_reward_min": 0.01}, (0.01, 0.99)),
        ({"reward": "typed", "group_reward_max": 0.0}, (-0.99, 0.0)),
        ({"group_reward_min": 0.0}, (0.0, 0.99)),
    ],
)
def test_the_reward_sets_the_limits_that_a_recipe_leaves_open(given, limits):
    assert c.SimRlConfig(**given).group_limits() == limits


def test_a_group_of_mostly_wrong_decisions_teaches_typed():
    wrong_but_one = group(-1.0, -1.0, -1.0, 0.4)
    assert teaches(wrong_but_one, *c.SimRlConfig(reward="typed").group_limits())
    assert not teaches(group(-1.0, -1.0), *c.SimRlConfig(reward="typed").group_limits())


def test_every_reward_has_limits():
    for kind in get_args(c.RewardKind):
        assert c.SimRlConfig(reward=kind).group_limits()[1] == 0.99


def scripted(*rounds):
    """Draw functions that hand out groups of given rewards, and a log of what was asked for."""
    asked = []

    def draw(rows, number):
        asked.append((number, len(rows)))
        return [group(*rewards) for rewards in rounds[number][: len(rows)]]

    return draw, asked


GOOD, FLAT = (0.0, 1.0), (1.0, 1.0)


def run(draw, *, prompts=3, max_resamples=4, most=lambda number: number):
    return fill(
        [{}] * prompts, draw, lambda count, _: [{}] * count, low=0.01, high=0.99, max_resamples=max_resamples, most=most
    )


def test_a_full_batch_needs_one_round():
    draw, asked = scripted([GOOD, GOOD, GOOD])
    filled = run(draw)
    assert asked == [(0, 3)]
    assert (len(filled.kept), filled.rounds, filled.groups_kept) == (3, 1, 1.0)


def test_further_rounds_ask_for_what_is_missing():
    draw, asked = scripted([GOOD, FLAT, FLAT], [FLAT, GOOD], [GOOD])
    filled = run(draw)
    assert asked == [(0, 3), (1, 2), (2, 1)]
    assert (len(filled.kept), filled.rounds, filled.groups_kept) == (3, 3, 0.5)
    assert filled.mean_reward == pytest.approx((3 * 0.5 + 3 * 1.0) / 6)


def test_rounds_end_at_their_limit():
    draw, asked = scripted([FLAT, GOOD, FLAT], [FLAT, FLAT], [FLAT, FLAT])
    filled = run(draw, max_resamples=2)
    assert [number for number, _ in asked] == [0, 1, 2]
    assert len(filled.kept) == 1


def test_all_processes_make_the_rounds_of_the_neediest():
    draw, asked = scripted([GOOD, GOOD, GOOD], [GOOD, FLAT])
    needs = iter([2, 0])
    filled = run(draw, most=lambda number: next(needs))
    assert asked == [(0, 3), (1, 2)]
    assert len(filled.kept) == 3


def test_malformed_share_and_length_count_every_completion():
    def draw(rows, number):
        return [group(0.0, 1.0), group(-1.0, -1.0, text="<tool_call>oops")]

    filled = run(draw, prompts=2, max_resamples=0)
    assert filled.malformed == 0.5
    assert filled.mean_length == 2.0
    assert filled.mean_reward == pytest.approx(-0.25)


def test_fresh_rows_do_not_repeat_while_they_last():
    first = fresh_rows(10, 6, key="1 2")
    assert len(set(first)) == 6
    assert fresh_rows(10, 6, key="1 2") == first
    assert fresh_rows(10, 6, key="1 3") != first
    assert sorted(set(fresh_rows(4, 9, key="a"))) == [0, 1, 2, 3]
    assert len(fresh_rows(4, 9, key="a")) == 9
