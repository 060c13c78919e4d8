import pytest
from transformers import TrainerControl, TrainerState

from star_edge.distill.time_budget import TimeBudget, is_spent


def running(minutes, times, *, state=None, **given):
    """A budget in training whose clock shows `times`: when it is made, when training begins, at each step."""
    budget = TimeBudget(minutes, clock=iter([0.0, *times]).__next__, **given)
    budget.on_train_begin(None, state or TrainerState(), TrainerControl())
    return budget


def step(budget):
    control = TrainerControl()
    budget.on_pre_optimizer_step(None, None, control)
    budget.on_step_end(None, None, control)
    return control


def test_time_for_learning_begins_behind_the_first_step():
    budget = running(1.0, [100.0, 140.0, 150.0, 160.0])
    assert budget.share() == 0.0
    shares = []
    for _ in range(3):
        step(budget)
        shares.append(budget.share())
    assert shares == [0.0, 0.5, 1.0]


def test_training_stops_behind_the_step_in_which_time_runs_out():
    budget = running(1.0, [0.0, 30.0, 59.9, 60.0])
    controls = [step(budget) for _ in range(3)]
    assert [control.should_training_stop for control in controls] == [False, False, True]
    assert [control.should_save for control in controls] == [False, False, True]
    assert is_spent({"stateful_callbacks": {"TimeBudget": budget.state()}})


def test_a_first_step_that_takes_all_the_time_is_the_last():
    budget = running(1.0, [0.0, 61.0])
    assert step(budget).should_training_stop
    assert budget.share() in (0.0, 1.0)


def test_a_checkpoint_keeps_what_was_spent():
    first = running(1.0, [0.0, 10.0, 30.0])
    step(first)
    step(first)
    state = TrainerState(stateful_callbacks={"TimeBudget": first.state()})
    second = running(1.0, [500.0, 505.0], state=state)
    assert not is_spent({"stateful_callbacks": state.stateful_callbacks})
    step(second)
    assert second.share() == pytest.approx((35 - 10) / (60 - 10))


def test_devices_agree_on_one_time():
    budget = running(1.0, [0.0, 10.0, 20.0], agree=lambda seconds: 2 * seconds)
    step(budget)
    step(budget)
    assert budget.share() == pytest.approx((40 - 20) / (60 - 20))


@pytest.mark.parametrize("callbacks", [None, {}, {"TrainerControl": {"args": {}, "attributes": {}}}])
def test_a_run_without_a_budget_has_not_spent_it(callbacks):
    assert not is_spent({"stateful_callbacks": callbacks})
