"""A checkpoint in conversation with a terminal: text in, text out, a piece at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.sft.records import Message
from data_prep.sft.template import ChatTemplate
from data_prep.tokenizer import Tokenizer
from recipe.checkpoint.reader import CheckpointReader
from recipe.errors import RunError
from recipe.evaluate.generate import stream
from recipe.evaluate.live import run_scorer
from recipe.evaluate.scorers import Scorer
from recipe.evaluate.tokenizer import tokenizer_of
from recipe.export.chat import chat_template
from recipe.prepare import load_resolved
from recipe.rundir import RunDir


@dataclass
class Speaker:
    """A model with its tokenizer and how it is sampled."""

    scorer: Scorer
    tokenizer: Tokenizer
    template: str | None
    context_tokens: int
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int

    @classmethod
    def of(
        cls, run: RunDir, checkpoint: Path, *, max_new_tokens: int, temperature: float, top_p: float, seed: int
    ) -> "Speaker":
        """Loads a run's checkpoint."""
        resolved = load_resolved(run)
        model = resolved.config.model_at(CheckpointReader(checkpoint).state["stage"])
        return cls(
            scorer=run_scorer(run, checkpoint, vocab_size=model.vocab_size),
            tokenizer=tokenizer_of(resolved),
            template=chat_template(resolved.config),
            context_tokens=model.seq_length_tokens,
            max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed,
        )

    def say(self, text: str) -> Iterator[str]:
        """Continues a text; yields what each token adds, once it makes whole characters."""
        prompt = self.tokenizer.encode(text) or [self.tokenizer.eod_id]  # nothing to go on from: a new document
        tokens: list[int] = []
        said = ""
        for token in stream(
            self.scorer, prompt, max_new_tokens=self.max_new_tokens, context_tokens=self.context_tokens,
            temperature=self.temperature, top_p=self.top_p, seed=self.seed, stop_id=self.tokenizer.eod_id,
        ):
            tokens.append(token)
            whole = self.tokenizer.decode(tokens)
            if whole.endswith("\ufffd"):  # bytes of a character that isn't complete
                continue
            yield whole[len(said) :]
            said = whole


def converse(speaker: Speaker) -> None:
    """Reads turns from standard input until it ends; raises `RunError` for a run without instruction data."""
    if speaker.template is None:
        raise RunError("this run has no instruction data, so it knows no turns; use --prompt")
    template = ChatTemplate(speaker.template, name="of the run")
    messages: list[Message] = []
    while (line := _ask()) is not None:
        messages.append(Message("user", line))
        answer = ""
        for piece in speaker.say(template.prompt(messages)):
            answer += piece
            print(piece, end="", flush=True)
            if "\n\nUser:" in answer:  # the built-in template's next turn: the model speaks for the user
                break
        print()
        messages.append(Message("assistant", answer.split("\n\nUser:")[0]))


def _ask() -> str | None:
    try:
        return input("> ")
    except EOFError:
        return None
