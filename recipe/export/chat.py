"""The chat template that goes with a checkpoint: the one its instruction data was written with."""

from pathlib import Path

from recipe.config import RunConfig
from recipe.errors import RunError

BUILT_IN_PROMPT = "{%- if add_generation_prompt -%}{{ 'Assistant:\\n' }}{%- endif -%}\n"


def chat_template(config: RunConfig) -> str | None:
    """Jinja text; None for a run without instruction data."""
    sources = [source for source in config.sources.values() if source.kind == "sft" or source.what == "doctests"]
    if not sources:
        return None
    if sources[0].chat_template is None:
        import data_prep.sft

        built_in = Path(data_prep.sft.__file__).with_name("plain.jinja").read_text(encoding="utf-8")
        return built_in if "add_generation_prompt" in built_in else built_in.rstrip("\n") + "\n" + BUILT_IN_PROMPT
    path = Path(sources[0].chat_template)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: the chat template of this run can't be read: {error.strerror}") from error
