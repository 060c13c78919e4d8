"""Whether the longest rows that a recipe allows fit the positions of its models.

transformers reads on behind the last position, where no model was trained, and the loss alone tells; vLLM refuses, but
only when it starts, hours into a run.
"""

from __future__ import annotations

from star_edge.contracts import ModelConfig, Recipe
from star_edge.errors import RecipeError
from star_edge.models.folder import CONFIG, read_model_json
from star_edge.models.sources import find_source
from star_edge.recipe import LoadedRecipe


def check_positions(loaded: LoadedRecipe) -> None:
    """Refuse prompts and completions that together may be longer than the teacher or student can read.

    Of a GGUF file only the header is read, from a hub only the config is fetched.

    Raises:
        RecipeError: one line with both keys and the model.
        ModelError: a model cannot be found, or its config or header cannot be read.
        RuntimeMissing: a GGUF file, and the gguf package is not installed.
    """
    recipe = loaded.recipe
    prompt = recipe.data.max_prompt_tokens
    for name, model in {"teacher": recipe.teacher, "student": recipe.student}.items():
        key, completion = max(_completions(recipe, name).items(), key=lambda item: item[1])
        room = positions(model)
        if room is not None and prompt + completion > room:
            raise RecipeError(
                f"recipe {loaded.path}: data.max_prompt_tokens ({prompt}) and {key} ({completion}) are more than the "
                f"{room} tokens that the {name} ({model.source}) can read; lower one, or choose another model"
            )


def _completions(recipe: Recipe, name: str) -> dict[str, int]:
    """The most tokens that may follow a prompt of one of the models, by their keys."""
    found = {
        "data.max_completion_tokens": recipe.data.max_completion_tokens,
        "cache.max_new_tokens": recipe.cache.max_new_tokens,  # drawn by the teacher, learnt by the student
    }
    key, sim_rl = ("adapt", recipe.adapt.sim_rl) if name == "teacher" else ("sim_rl", recipe.sim_rl.sim_rl)
    return {**found, f"{key}.sim_rl.max_new_tokens": sim_rl.max_new_tokens} if sim_rl.steps else found


def positions(model: ModelConfig) -> int | None:
    """The most tokens that a model can read at once; None where its config does not say.

    Raises: ModelError: it cannot be found, or its config or header cannot be read.
    """
    source = find_source(model, hub_files=(CONFIG,))
    if source.kind == "gguf":
        # Only this branch needs the optional gguf package.
        from star_edge.models.gguf_file import GgufFile
        from star_edge.models.gguf_header import read_header

        return read_header(GgufFile(source.path)).context_length
    stated: int | None = read_model_json(source.path, CONFIG).get("max_position_embeddings")
    return stated
