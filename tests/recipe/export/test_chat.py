"""A conversation is put to the model in the very words that it was trained with."""

from jinja2.sandbox import ImmutableSandboxedEnvironment

from recipe.evaluate.speak import without_generation_tags
from recipe.export.chat import chat_template
from tests.launch.tiny_run import tiny_config


def test_the_prompt_is_the_beginning_of_what_training_saw() -> None:
    template = chat_template(tiny_config(sources={"docs": {"path": "a.jsonl", "kind": "sft", "category": "math"}}))
    assert template is not None
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    rendered = environment.from_string(without_generation_tags(template))
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    prompt = rendered.render(messages=asked, add_generation_prompt=True)
    whole = rendered.render(messages=[*asked, {"role": "assistant", "content": "2"}], add_generation_prompt=False)
    assert whole == prompt + "2"


def test_a_run_without_instruction_data_has_no_template() -> None:
    assert chat_template(tiny_config()) is None
