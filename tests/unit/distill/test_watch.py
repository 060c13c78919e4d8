import json
from types import SimpleNamespace

import pytest
import torch

from star_edge.contracts import Checkpoint, Example, Generation, WatchConfig
from star_edge.distill import watch as module
from star_edge.distill.training import run_to_end
from star_edge.distill.watch import LOG, Watch, best_weights, even_slice
from star_edge.errors import TrainingError
from star_edge.models.load import load
from star_edge.progress import or_quiet

RIGHT = '<tool_call>\n{"name": "set_light", "arguments": {"level": 3}}\n</tool_call>'
WRONG = RIGHT.replace("3", "4")
MALFORMED = "<tool_call>{"
TOOL = {"name": "set_light", "description": "", "parameters": {"type": "object", "properties": {"level": {}}}}


def example(number, calls):
    target = {"role": "assistant", "content": "", **({"tool_calls": calls} if calls else {"content": "Done."})}
    return Example(f"row-{number}", "test", ({"role": "user", "content": f"Light {number}"}, target), (TOOL,))


EXAMPLES = [example(number, [{"name": "set_light", "arguments": {"level": 3}}]) for number in range(4)]
NO_CALL_DUE = example(9, [])


@pytest.fixture
def watched(tiny_student, tmp_path, monkeypatch):
    """A watch over a tiny model whose answers the test decides, one list of texts a score."""
    loaded = load(Checkpoint(tiny_student, "base"), device="cpu", trainable=True)
    queue = []

    def answers(_loaded, prompts, **_):
        texts = queue.pop(0)
        return [Generation(id, text, (), 1) for (id, _), text in zip(prompts, texts, strict=True)]

    monkeypatch.setattr(module, "greedy", answers)

    def make(*scores, examples=EXAMPLES, scores_start=True, **settings):
        queue[:] = [list(texts) for texts in scores]
        config = WatchConfig(every_steps=2, rows=len(examples), **settings)
        watch = Watch(config, examples, or_quiet(None), loaded, tmp_path, scores_start=scores_start)
        return watch, loaded.model

    return make


def at(step, history=()):
    return SimpleNamespace(global_step=step, is_world_process_zero=True, log_history=history)


def run(watch, model, *, until, start=0):
    """Steps that each add 1 to every weight; returns the step training ended at."""
    control = SimpleNamespace(should_training_stop=False)
    watch.on_train_begin(None, at(start), control)
    step = start
    while step < until and not control.should_training_stop:
        step += 1
        with torch.no_grad():
            for weight in model.parameters():
                weight += 1
        watch.on_step_end(None, at(step), control)
    watch.on_train_end(None, at(step), control)
    return step


def level(model, before):
    return round((next(model.parameters()) - before).mean().item())


def test_the_best_weights_win(watched):
    watch, model = watched([WRONG] * 4, [RIGHT] * 3 + [WRONG], [RIGHT] * 2 + [WRONG] * 2, max_drop=None)
    before = next(model.parameters()).detach().clone()
    assert run(watch, model, until=4) == 4
    assert (watch.best["step"], watch.best["score"]) == (2, 0.75)
    assert level(model, before) == 2


def test_the_last_weights_stay_when_they_are_the_best(watched):
    watch, model = watched([WRONG] * 4, [RIGHT] * 2 + [WRONG] * 2, [RIGHT] * 4)
    before = next(model.parameters()).detach().clone()
    run(watch, model, until=3)
    assert watch.best["step"] == 3
    assert level(model, before) == 3


@pytest.mark.parametrize("until", [1, 2, 3])
def test_the_model_as_it_came_need_not_be_scored(watched, until):
    watch, model = watched([RIGHT] * 4, [WRONG] * 4, scores_start=False, max_drop=None)
    before = next(model.parameters()).detach().clone()
    run(watch, model, until=until)
    assert watch.best["step"] == level(model, before) == min(until, 2)


@pytest.mark.parametrize(
    ("texts", "settings"),
    [
        ([MALFORMED] * 3 + [RIGHT], {"max_malformed": 0.5, "max_drop": None}),
        ([RIGHT] + [WRONG] * 3, {"max_drop": 0.5}),
    ],
    ids=["malformed", "drop"],
)
def test_a_collapse_ends_training_and_leaves_the_best_weights(watched, texts, settings):
    watch, model = watched([RIGHT] * 4, texts, **settings)
    before = next(model.parameters()).detach().clone()
    assert run(watch, model, until=10) == 2
    assert level(model, before) == 0
    last = json.loads((watch._out / LOG).read_text().splitlines()[-1])
    assert last["stopped_early"].endswith(("max_malformed allows", "below the best, 100.0%"))


def test_a_model_that_never_wrote_calls_that_can_be_read_may_learn_it(watched):
    watch, model = watched([MALFORMED] * 4, [MALFORMED] * 3 + [RIGHT], [RIGHT] * 4, max_malformed=0.5)
    assert run(watch, model, until=4) == 4


def test_of_equal_scores_the_weights_that_learnt_most_are_kept(watched):
    watch, model = watched([RIGHT] * 4, [RIGHT] * 4, [WRONG] + [RIGHT] * 3, max_drop=None)
    before = next(model.parameters()).detach().clone()
    run(watch, model, until=4)
    assert watch.best["step"] == level(model, before) == 2


def test_a_policy_without_entropy_ends_training(watched):
    watch, _ = watched(min_entropy=0.1)
    control = SimpleNamespace(should_training_stop=False)
    watch.on_log(None, at(1), control, {"entropy": 0.2, "loss": 0.0})
    assert not control.should_training_stop
    watch.on_log(None, at(2), control, {"entropy": 0.05, "loss": 0.0})
    assert control.should_training_stop


@pytest.mark.parametrize(
    ("metric", "values", "stops_at"),
    [
        ("reward", [0.5] * 5 + [0.1] * 5, 10),
        ("reward", [0.5] * 5 + [0.1, 0.9] * 5, None),
        ("reward", [0.1] * 5 + [0.9] * 10, None),
        ("malformed", [0.0] * 5 + [1.0] * 5, 8),
        ("malformed", [0.9] * 5 + [0.8] * 5, None),  # it was so from the beginning, and gets better
    ],
)
def test_a_collapse_of_the_samples_ends_training(watched, metric, values, stops_at):
    watch, _ = watched(max_reward_drop=0.35)
    control = SimpleNamespace(should_training_stop=False)
    history = []
    for step, value in enumerate(values, start=1):
        history.append({metric: value, "loss": 0.0})  # as the Trainer does before it calls, and keeps over a resume
        watch.on_log(None, at(step, history), control, history[-1])
        if control.should_training_stop:
            break
    assert (step if control.should_training_stop else None) == stops_at


def test_a_resumed_run_knows_the_best_before_it(watched, tmp_path):
    watch, model = watched([WRONG] * 4, [RIGHT] * 4, [RIGHT] * 3 + [WRONG], max_drop=None)
    before = next(model.parameters()).detach().clone()
    control = SimpleNamespace(should_training_stop=False)
    watch.on_train_begin(None, at(0), control)
    for step in (2, 4):
        with torch.no_grad():
            next(model.parameters()).add_(2)
        watch.on_step_end(None, at(step), control)
    again, model = watched([WRONG] * 4)
    again.on_train_begin(None, at(3), control)  # the checkpoint is of step 3: what step 4 scored is done again
    again.on_train_end(None, at(4), control)
    assert [line["step"] for line in map(json.loads, (tmp_path / LOG).read_text().splitlines())] == [0, 2, 4]
    assert again.best["step"] == 2
    assert level(model, before) == 2
    assert best_weights(tmp_path, 2).exists()


def test_a_resumed_run_restores_the_weights_that_it_names_though_a_later_score_was_better(watched, tmp_path):
    watch, model = watched([WRONG] * 4, [RIGHT] * 2 + [WRONG] * 2, [RIGHT] * 3 + [WRONG], max_drop=None)
    control = SimpleNamespace(should_training_stop=False)
    before = next(model.parameters()).detach().clone()
    watch.on_train_begin(None, at(0), control)
    for step in (2, 4):
        with torch.no_grad():
            next(model.parameters()).add_(2)
        watch.on_step_end(None, at(step), control)
        if step == 2:
            watch.on_save(None, at(3), control)
    again, model = watched([RIGHT] + [WRONG] * 3)
    again.on_train_begin(None, at(3), control)  # and step 4 comes out worse than in the run that was killed
    again.on_step_end(None, at(4), control)
    again.on_train_end(None, at(4), control)
    assert (again.best["step"], level(model, before)) == (2, 2)


def kept_weights(folder):
    return sorted(path.name for path in folder.glob("*.safetensors"))


def test_weights_stay_as_long_as_a_resumed_run_may_go_back_to_them(watched, tmp_path):
    watch, _ = watched([WRONG] * 4, *([RIGHT] * n + [WRONG] * (4 - n) for n in (1, 2, 3)), [WRONG] * 4)
    control = SimpleNamespace(should_training_stop=False)
    watch.on_train_begin(None, at(0), control)
    watch.on_step_end(None, at(2), control)
    watch.on_save(None, at(3), control)
    assert kept_weights(tmp_path) == ["watch-2.safetensors"]
    watch.on_step_end(None, at(4), control)
    watch.on_step_end(None, at(6), control)
    assert kept_weights(tmp_path) == ["watch-2.safetensors", "watch-6.safetensors"]
    watch.on_train_end(None, at(8), control)
    assert kept_weights(tmp_path) == ["watch-6.safetensors"]


def test_a_reply_is_right_where_no_call_is_due(watched):
    watch, _ = watched(["Nothing fits.", RIGHT], ["", MALFORMED], examples=[NO_CALL_DUE, EXAMPLES[0]])
    watch.on_train_begin(None, at(0), SimpleNamespace())
    assert watch.best["score"] == 1.0
    watch, _ = watched([RIGHT, WRONG], examples=[NO_CALL_DUE, EXAMPLES[0]])
    watch.on_train_begin(None, at(0), SimpleNamespace())
    assert (watch.best["score"], watch.best["false_call"], watch.best["missed_call"]) == (0.0, 0.5, 0.0)


@pytest.mark.parametrize(("count", "expected"), [(3, [0, 3, 6]), (20, list(range(10)))])
def test_the_slice_is_even(count, expected):
    rows = [example(number, []) for number in range(10)]
    assert [int(row.id.split("-")[1]) for row in even_slice(rows, count)] == expected


def test_sharded_weights_are_not_watched(watched, tmp_path, monkeypatch):
    watch, _ = watched()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingError, match=r"^ckd: a watch scores in the first process alone, .*--set watch=null"):
        run_to_end(None, tmp_path, what="ckd", progress=or_quiet(None), watch=watch)
