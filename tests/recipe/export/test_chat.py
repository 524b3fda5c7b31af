"""A conversation is put to the model in the very words that it was trained with."""

from data_prep.sft.records import Message
from data_prep.sft.template import ChatTemplate
from recipe.export.chat import chat_template
from tests.launch.tiny_run import tiny_config


def test_the_prompt_is_the_beginning_of_what_training_saw() -> None:
    source = chat_template(tiny_config(sources={"docs": {"path": "a.jsonl", "kind": "sft", "category": "math"}}))
    assert source is not None
    template = ChatTemplate(source, name="built-in")
    asked = [Message("system", "Be brief."), Message("user", "1 + 1?")]
    whole = "".join(segment.text for segment in template.render([*asked, Message("assistant", "2")]))
    assert whole == template.prompt(asked) + "2"


def test_a_run_without_instruction_data_has_no_template() -> None:
    assert chat_template(tiny_config()) is None
