import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from star_edge.contracts import Checkpoint, TeacherCache, TeacherCacheConfig
from star_edge.errors import TeacherCacheError, TrainingError
from star_edge.models.load import tokenizer_fingerprint
from star_edge.models.sampling import vocabulary_size
from star_edge.progress import Progress
from star_edge.teacher import cache as module
from star_edge.teacher.cache import CacheFingerprint, build, check_compatible, open_cache, refuse_without_completions
from star_edge.teacher.rollout import LEFT_OUT
from star_edge.teacher.shards import read_shard, shard_entry

CONFIG = TeacherCacheConfig(rollouts=2, max_new_tokens=6, top_k=3, rows_per_forward=4, rows_per_shard=4)


@pytest.fixture(scope="module")
def make(chatty, codec, examples, tiny_student):
    """Build a cache of five prompts, two a shard, into a folder."""
    fingerprint = CacheFingerprint.of(
        Checkpoint(tiny_student, "base"),
        label="tiny",
        revision=None,
        tokenizer=tokenizer_fingerprint(tiny_student),
        template=chatty.template,
        config=CONFIG,
    )

    def run(out, **changes):
        given = {"config": CONFIG, "fingerprint": fingerprint, "seed": 3} | changes
        return build(lambda: chatty, codec, given.pop("asked", examples), out=out, **given)

    return run


@pytest.fixture(scope="module")
def built(make, tmp_path_factory):
    return make(tmp_path_factory.mktemp("cache"))


def test_reads_back_what_was_built(built, codec, examples):
    reader = open_cache(built.folder)
    assert len(reader.rows) == built.rows == reader.manifest["rows"] > 0
    assert sum(len(row.completion_ids) for row in reader.rows) == built.positions
    assert built.top_k == 3
    prompts = {example.id: tuple(codec.prompt_ids(example)) for example in examples}
    for row in reader.rows:
        assert row.prompt_ids == prompts[row.example_id]
        assert row.topk_ids.shape == row.topk_logprobs.shape == (len(row.completion_ids), 3)
        assert (row.topk_ids.dtype, row.topk_logprobs.dtype) == (torch.int32, torch.float16)


def test_what_is_left_out_is_counted_and_told(make, examples, tmp_path, capsys):
    cache = make(tmp_path, progress=Progress())
    lines = capsys.readouterr().err.splitlines()
    asked = len(examples) * CONFIG.rollouts
    manifest = open_cache(cache.folder).manifest
    left_out = manifest["left_out"]

    assert sum(left_out.values()) == asked - cache.rows > 0
    assert sum((Counter(shard["left_out"]) for shard in manifest["shards"]), Counter()) == left_out
    assert lines[-2].strip() == f"kept {cache.rows} of {asked} completions, {cache.positions} positions"
    assert all(f"{count} {LEFT_OUT[reason]}" in lines[-1] for reason, count in left_out.items())


def test_log_probabilities_are_those_of_a_teacher_forced_pass(built, chatty):
    for row in open_cache(built.folder).rows:
        ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
        logits = chatty.model(input_ids=ids).logits[0, len(row.prompt_ids) - 1 : -1]
        top = logits.log_softmax(-1).topk(3)
        assert torch.equal(row.topk_ids.long(), top.indices)
        torch.testing.assert_close(row.topk_logprobs.float(), top.values, rtol=2e-3, atol=2e-3)


def test_manifest_holds_the_fingerprint(built, tiny_student, chatty):
    fingerprint = open_cache(built.folder).manifest["fingerprint"]
    assert fingerprint["teacher"] == "tiny"
    assert fingerprint["adapter"] is None
    assert (fingerprint["top_k"], fingerprint["temperature"]) == (3, 1.0)
    assert len(fingerprint["weights"]) == len(fingerprint["template"]) == 64
    assert fingerprint["tokenizer"] == tokenizer_fingerprint(tiny_student)


def test_a_build_cut_short_goes_on_behind_its_last_whole_shard(make, built, tmp_path, monkeypatch):
    calls = []
    real = module.sample

    def dies_in_the_third_part(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "sample", dies_in_the_third_part)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    with pytest.raises(TeacherCacheError, match="no whole teacher cache"):
        open_cache(tmp_path)
    (tmp_path / ".shard-00002.safetensors.partial").write_bytes(b"cut short")
    make(tmp_path)
    assert len(calls) == 4
    assert not list(tmp_path.glob(".*.partial"))
    for shard in built.folder.glob("shard-*.safetensors"):
        assert shard.read_bytes() == (tmp_path / shard.name).read_bytes()


@pytest.fixture(scope="module")
def with_labels(make, examples, tmp_path_factory):
    """Two prompts that are asked, and three rows whose answers are read."""
    return make(tmp_path_factory.mktemp("labels"), asked=examples[:2], labelled=examples[2:])


def test_labels_are_rows_with_the_teachers_distribution_over_them(with_labels, codec, chatty, examples):
    reader = open_cache(with_labels.folder)
    expected = {example.id: codec.encode(example) for example in examples[2:]}
    labels = [row for row in reader.rows if row.example_id in expected]

    assert [row.example_id for row in labels] == list(expected)
    assert {row.example_id for row in reader.rows} - set(expected) <= {example.id for example in examples[:2]}
    assert (reader.manifest["prompts"], reader.manifest["labels"]) == (2, 3)
    for row in labels:
        encoded = expected[row.example_id]
        assert (row.prompt_ids, row.completion_ids) == (encoded.prompt_ids, encoded.completion_ids)
        logits = chatty.model(input_ids=torch.tensor([encoded.input_ids])).logits[0, encoded.prompt_length - 1 : -1]
        top = logits.log_softmax(-1).topk(3)
        assert torch.equal(row.topk_ids.long(), top.indices)
        torch.testing.assert_close(row.topk_logprobs.float(), top.values, rtol=2e-3, atol=2e-3)


def test_labels_alone_ask_the_teacher_nothing(make, examples, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "sample", None)
    cache = make(tmp_path, asked=(), labelled=examples)
    assert cache.rows == len(examples)


def test_labels_behind_whole_shards_are_read_when_a_build_goes_on(make, with_labels, examples, tmp_path, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    given = {"asked": examples[:2], "labelled": examples[2:]}
    with monkeypatch.context() as patched:
        patched.setattr(module, "read_labels", dies)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path, **given)
    monkeypatch.setattr(module, "sample", None)
    make(tmp_path, **given)
    for shard in with_labels.folder.glob("shard-*.safetensors"):
        assert shard.read_bytes() == (tmp_path / shard.name).read_bytes()
    with pytest.raises(TeacherCacheError, match="another teacher, data or setting"):
        make(tmp_path, asked=examples[:2], labelled=examples[2:4])


def test_a_finished_cache_is_not_sampled_again(make, built, monkeypatch):
    monkeypatch.setattr(module, "sample", None)
    assert make(built.folder) == built


def test_a_build_goes_on_with_another_share_of_the_gpus_memory(make, tmp_path, monkeypatch):
    cache = make(tmp_path)
    (tmp_path / "shard-00002.safetensors").unlink()
    (tmp_path / "cache.json").unlink()
    again = replace(CONFIG, vllm_memory_share=0.3)
    assert make(tmp_path, config=again) == cache
    assert again.deciding() == CONFIG.deciding() != replace(again, top_k=2).deciding()


@pytest.mark.parametrize("change", [{"seed": 4}, {"config": replace(CONFIG, temperature=0.7)}])
def test_a_folder_of_another_build_is_refused(make, built, change):
    with pytest.raises(TeacherCacheError, match="another teacher, data or setting"):
        make(built.folder, **change)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "missing or damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x55"), "missing or damaged"),
        (lambda path: path.unlink(), "missing or damaged"),
        (lambda path: path.with_name("cache.json").write_text("{"), "no whole teacher cache"),
        (lambda path: path.with_name("cache.json").unlink(), "no whole teacher cache"),
    ],
)
def test_a_damaged_cache_is_refused(make, tmp_path, damage, message):
    make(tmp_path)
    damage(tmp_path / "shard-00001.safetensors")
    with pytest.raises(TeacherCacheError, match=message):
        open_cache(tmp_path)


def test_a_damaged_shard_is_named_when_the_build_goes_on(make, tmp_path):
    make(tmp_path)
    (tmp_path / "shard-00001.safetensors").write_bytes(b"short")
    with pytest.raises(TeacherCacheError, match=r"shard-00001.safetensors: not a whole shard"):
        make(tmp_path)


def test_a_cache_fits_a_student_of_its_tokenizer_and_template(built, tiny_student, chatty, codec):
    manifest = json.loads((built.folder / "cache.json").read_text())
    fits = (tokenizer_fingerprint(tiny_student), chatty.template)
    vocabulary = vocabulary_size(codec.tokenizer)
    check_compatible(manifest, *fits, vocabulary)
    check_compatible(manifest, *fits, vocabulary + 64)  # more rows than tokens: padding
    for given, message in [
        (("another", fits[1], vocabulary), "tokenizer of tiny is not the student's"),
        ((fits[0], "{{ messages }}", vocabulary), "another chat template"),
        ((*fits, vocabulary - 1), "head has"),
    ]:
        with pytest.raises(TeacherCacheError, match=message):
            check_compatible(manifest, *given)


def test_top_k_is_clamped_to_the_vocabulary(make, tmp_path, codec):
    cache = make(tmp_path, config=replace(CONFIG, top_k=10_000, rows_per_shard=64))
    assert cache.top_k == vocabulary_size(codec.tokenizer)


@pytest.mark.parametrize(("rows", "labels"), [(0, 0), (5, 5)])
def test_a_teacher_that_says_nothing_worth_learning_is_refused_beside_labels_too(rows, labels, tmp_path):
    config = TeacherCacheConfig(least_reward=0.5, max_new_tokens=7)
    with pytest.raises(TrainingError, match=r"ends within cache.max_new_tokens \(7\), and earns .* \(0.5\)"):
        refuse_without_completions(TeacherCache(tmp_path, rows, 9, 3), labels=labels, config=config)
    refuse_without_completions(TeacherCache(tmp_path, rows + 1, 9, 3), labels=labels, config=config)


def test_a_shard_that_counts_nothing_is_still_read(built, tmp_path):
    whole = next(iter(sorted(built.folder.glob("shard-*"))))
    rows, old = read_shard(whole), tmp_path / whole.name
    save_file(load_file(whole), old, metadata={"example_ids": json.dumps([row.example_id for row in rows])})
    assert [row.example_id for row in read_shard(old)] == [row.example_id for row in rows]
    assert (shard_entry(old).rows, shard_entry(old).left_out) == (len(rows), {})
