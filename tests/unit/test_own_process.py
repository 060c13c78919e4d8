import functools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from star_edge import engine, pipeline, recipe
from star_edge.engine import Run, Stage
from star_edge.errors import ModelError, TrainingError
from star_edge.own_process import OwnProcess
from star_edge.progress import Progress


def in_own_process(work, *args):
    return OwnProcess().run(work, *args)


def starts_another():
    """What a data loader does: a process around something that no pickle can hold."""
    number = 7
    receiver, sender = multiprocessing.Pipe(duplex=False)
    worker = multiprocessing.Process(target=lambda: sender.send(number + 1))
    worker.start()
    worker.join()
    return receiver.recv() if receiver.poll(5) else worker.exitcode


def told(*args):
    os.environ["LEFT_BEHIND"] = "1"
    return (os.getpid(), *args)


def refuses():
    raise ModelError("models/a: no weights; fetch it")


class Picky(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def fails():
    raise Picky("broken", 2)


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_result_comes_from_a_process_that_leaves_nothing_behind():
    pid, *args = in_own_process(told, "a", [1])
    assert (args, pid == os.getpid()) == (["a", [1]], False)
    assert "LEFT_BEHIND" not in os.environ
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_may_start_processes_that_cannot_be_pickled():
    assert in_own_process(starts_another) == 8


def test_expected_failures_keep_their_kind_and_their_line():
    with pytest.raises(ModelError) as caught:
        in_own_process(refuses)
    assert str(caught.value) == "models/a: no weights; fetch it"
    assert "in refuses" in caught.value.__notes__[0]


def test_an_error_that_cannot_travel_is_told():
    with pytest.raises(RuntimeError, match="Picky: broken"):
        in_own_process(fails)


def test_a_killed_process_is_one_clear_line():
    with pytest.raises(TrainingError, match="ended with status -9 and no result"):
        in_own_process(dies)


def starts_an_engine_and_dies(path):
    engine = subprocess.Popen(["sleep", "60"])
    Path(path).write_text(str(engine.pid))
    os.kill(os.getpid(), signal.SIGKILL)


def starts_an_engine(path):
    Path(path).write_text(str(subprocess.Popen(["sleep", "60"]).pid))


def test_what_it_started_ends_with_it(tmp_path):
    with pytest.raises(TrainingError, match="status -9"):
        in_own_process(starts_an_engine_and_dies, str(tmp_path / "killed"))
    in_own_process(starts_an_engine, str(tmp_path / "done"))
    for name in ("killed", "done"):
        wait_for(lambda name=name: not is_alive(int((tmp_path / name).read_text())))


def holds_the_pipe_and_dies():
    if os.fork() == 0:
        time.sleep(60)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_fork_that_holds_the_pipe_open_does_not_hide_the_end():
    began = time.monotonic()
    with pytest.raises(TrainingError, match="status -9"):
        in_own_process(holds_the_pipe_and_dies)
    assert time.monotonic() - began < 30


def test_it_ends_with_all_it_started_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, subprocess, time\nfrom pathlib import Path\nfrom star_edge.own_process import OwnProcess\n\n"
        "def child(path):\n    engine = subprocess.Popen(['sleep', '60'])\n"
        "    Path(path).write_text(f'{os.getpid()} {engine.pid} .')\n    time.sleep(60)\n\n"
        f"if __name__ == '__main__':\n    OwnProcess().run(child, {str(tmp_path / 'pid')!r})\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)])
    pids = wait_for(
        lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith(".") and pids_of(tmp_path)
    )
    parent.kill()
    parent.wait()
    for pid in pids:
        wait_for(lambda pid=pid: not is_alive(pid))


def pids_of(folder):
    return [int(word) for word in (folder / "pid").read_text().split()[:2]]


def is_alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_for(found, seconds=30):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("nothing happened")


def who(run, folder):
    return {"pid": os.getpid(), "keys": dict(run.keys), "quiet": run.progress._console.quiet}


@pytest.mark.parametrize(
    ("device", "world", "uses_gpu", "own"),
    [("cuda", "1", True, True), ("cpu", "1", True, False), ("cuda", "2", True, False), ("cuda", "1", False, False)],
)
def test_stages_on_a_gpu_have_a_process_of_their_own(tmp_path, monkeypatch, device, world, uses_gpu, own):
    monkeypatch.setenv("WORLD_SIZE", world)
    stage = Stage("train", "", lambda _: None, (), who, uses_gpu=uses_gpu)
    run = Run(None, tmp_path, device, Progress(quiet=True), {"train": "key"})
    with closing(engine._GpuProcesses([stage], run)) as processes:
        details = processes.details(stage, run, tmp_path)
    assert (details["pid"] != os.getpid()) is own
    assert (details["keys"], details["quiet"]) == ({"train": "key"}, True)


PREPARED = []


def prepares(path):
    PREPARED.append(os.getpid())
    Path(path).write_text(str(os.getpid()))


def prepared(run, folder):
    return {"pid": os.getpid(), "by": list(PREPARED)}


def waits_for_the_next(run, folder):
    """The next stage's process is prepared while this one runs."""
    return {"next": wait_for(lambda: (folder / "next").exists() and (folder / "next").read_text())}


def gpu_stage(name, work, prepare=None):
    return Stage(name, "", lambda _: None, (), work, uses_gpu=True, prepare=prepare)


def run_of(folder):
    return Run(SimpleNamespace(recipe=None), folder, "cuda", Progress(quiet=True), {})


def test_the_next_stages_process_is_prepared_while_a_stage_runs_and_none_is_left(tmp_path):
    def prepare(recipe):
        return functools.partial(prepares, str(tmp_path / "next"))

    first, third = gpu_stage("first", waits_for_the_next), gpu_stage("third", prepared)
    between = Stage("between", "", lambda _: None, (), lambda run, folder: {"pid": os.getpid()})
    second, run = gpu_stage("second", prepared, prepare), run_of(tmp_path)
    with closing(engine._GpuProcesses([first, between, second, third], run)) as processes:
        pid = int(processes.details(first, run, tmp_path)["next"])
        assert processes.details(between, run, tmp_path)["pid"] == os.getpid()
        assert processes.details(second, run, tmp_path) == {"pid": pid, "by": [pid]}
        waiting = processes._next._process.pid
        assert is_alive(waiting)
    assert not is_alive(waiting)


def test_a_process_that_was_killed_while_it_waited_is_started_anew(tmp_path):
    first, second, run = gpu_stage("first", who), gpu_stage("second", who), run_of(tmp_path)
    with closing(engine._GpuProcesses([first, second], run)) as processes:
        processes.details(first, run, tmp_path)
        waiting = processes._next._process
        os.kill(waiting.pid, signal.SIGKILL)
        waiting.join()
        assert processes.details(second, run, tmp_path)["pid"] != waiting.pid


def test_a_stage_that_fails_leaves_no_process(tmp_path):
    first, second, run = gpu_stage("first", refuses_stage), gpu_stage("second", who), run_of(tmp_path)
    with closing(engine._GpuProcesses([first, second], run)) as processes:
        with pytest.raises(ModelError):
            processes.details(first, run, tmp_path)
        waiting = processes._next._process.pid
        assert is_alive(waiting)
    assert not is_alive(waiting)


def refuses_stage(run, folder):
    refuses()


def test_a_process_that_nobody_wants_ends_without_a_word(capfd):
    for _ in range(5):
        process = OwnProcess(os.getpid)
        time.sleep(0.2)
        process.end()
        process.end()
    assert capfd.readouterr().err == ""


def test_what_fails_ahead_is_left_to_the_work_and_told_if_that_fails():
    assert OwnProcess(refuses).run(told, "a")[1:] == ("a",)
    with pytest.raises(RuntimeError, match="Picky") as caught:
        OwnProcess(refuses).run(fails)
    assert any("Importing ahead had failed: ModelError('models/a: no" in note for note in caught.value.__notes__)


def test_a_process_killed_while_it_waits_is_one_clear_line():
    process = OwnProcess(dies)
    with pytest.raises(TrainingError, match="ended with status -9 and no result"):
        process.run(told)


def test_every_stage_and_its_run_can_travel(tmp_path):
    loaded = recipe.load(recipe.find("quickstart"), ())
    run = Run(loaded, tmp_path, "cuda", Progress(), {"base": "key"})
    for stage in pipeline.STAGES:
        assert pickle.loads(pickle.dumps((stage.run, run)))[1].recipe == loaded.recipe


IDLE = ("adapt.warmup=null", "adapt.sim_rl.steps=0", "sim_rl.sim_rl.steps=0", "evaluate=null")
BUSY = ("adapt.warmup={}", "adapt.sim_rl.steps=3", "cache.use_vllm=true", "sim_rl.sim_rl.steps=3", "evaluate={}")


@pytest.mark.parametrize(
    ("settings", "stages", "engines"),
    [(IDLE, "cache ckd", ""), (BUSY, "warmup adapt cache ckd sim-rl evaluate", "cache evaluate")],
)
def test_stages_import_ahead_what_they_will_need(monkeypatch, settings, stages, engines):
    given = recipe.load(recipe.find("quickstart"), settings).recipe
    monkeypatch.setattr("star_edge.models.vllm_engine.import_vllm", lambda: started.append(name))
    monkeypatch.setattr(pipeline, "find_spec", lambda name: name)
    started, prepared = [], []
    for stage in pipeline.STAGES:
        assert (stage.prepare is not None) == stage.uses_gpu
        if stage.prepare is not None and (prepare := stage.prepare(given)) is not None:
            name = stage.name
            prepared.append(name)
            pickle.loads(pickle.dumps(prepare))()
    assert (prepared, started) == (stages.split(), engines.split())


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_speaks_in_the_other_process_too(quiet):
    assert pickle.loads(pickle.dumps(Progress(quiet=quiet)))._console.quiet is quiet
