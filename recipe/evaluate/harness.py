"""The LM Evaluation Harness on our models: the live GPTModel of a run, or an export, through the same few lines."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs

from data_prep.tokenizer import Tokenizer
from recipe.evaluate.generate import decode
from recipe.evaluate.loglikelihood import log_likelihoods
from recipe.evaluate.scorers import Scorer
from recipe.evaluate.sharing import shared


class WindtunnelLM(TemplateLM):
    """What the harness calls a model."""

    def __init__(self, scorer: Scorer, tokenizer: Tokenizer, *, max_tokens: int, max_new_tokens: int = 256) -> None:
        super().__init__()
        self.scorer, self.ours = scorer, tokenizer
        self.max_length, self.max_new_tokens = max_tokens, max_new_tokens

    @property
    def eot_token_id(self) -> int:
        return self.ours.eod_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        return self.ours.encode(string)

    def _loglikelihood_tokens(self, requests: Sequence[Any], **kwargs: Any) -> list[tuple[float, bool]]:
        pairs = [(context, continuation) for _, context, continuation in requests]
        return log_likelihoods(self.scorer, pairs, max_tokens=self.max_length)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Whole texts, in windows that overlap by one token, each token predicted once."""
        pairs, owners = [], []
        for number, request in enumerate(requests):
            windows = utils.get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]), prefix_token=self.prefix_token_id, max_seq_len=self.max_length,
                context_len=1,
            )
            for window in map(utils.make_disjoint_window, windows):
                pairs.append(window)
                owners.append(number)
        totals = np.zeros(len(requests))
        for owner, (value, _) in zip(owners, log_likelihoods(self.scorer, pairs, max_tokens=self.max_length), strict=True):
            totals[owner] += value
        return totals.tolist()

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy, until one of the task's stop strings."""
        return shared([request.args for request in requests], lambda arguments: self._generate(*arguments))

    def _generate(self, context: str, options: dict[str, Any]) -> str:
        given = normalize_gen_kwargs(dict(options), default_max_gen_toks=self.max_new_tokens)
        stops = [stop for stop in given.get("until", []) if stop]
        return greedy_until(
            self.scorer, self.ours, context, stops=stops, max_new_tokens=int(given["max_gen_toks"]),
            context_tokens=self.max_length,
        )


def greedy_until(
    scorer: Scorer, tokenizer: Tokenizer, context: str, *, stops: Sequence[str], max_new_tokens: int, context_tokens: int
) -> str:
    """The likeliest continuation of a text, cut before the first stop string.

    A context that leaves less room than `max_new_tokens` loses its beginning, as in the harness's own backends.
    """
    import torch

    tokens = tokenizer.encode(context) or [tokenizer.eod_id]
    tokens = tokens[-max(context_tokens - max_new_tokens, 1) :]
    new: list[int] = []
    steps = decode(scorer, torch.tensor([tokens]), context_tokens=context_tokens, choose=lambda logits: logits.argmax(dim=-1))
    while len(new) < max_new_tokens and (token := int(next(steps))) != tokenizer.eod_id:
        new.append(token)
        text = tokenizer.decode(new)
        found = [text.index(stop) for stop in stops if stop in text]
        if found:
            return text[: min(found)]
    return tokenizer.decode(new)
