"""Log-likelihood of continuations, fast: rows sorted by length, and what continuations share computed once.

Multiple-choice tasks ask for several continuations of one context. Where the model heeds an attention mask they become one
row: the context, then each continuation, which sees the context and itself, at the places it would have alone. Elsewhere
equal rows are run once (one-token choices such as A, B, C, D then share a row).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recipe.errors import RecipeError
from recipe.evaluate.scorers import Scorer
from recipe.evaluate.sharing import shared

if TYPE_CHECKING:
    from torch import Tensor

BATCH_TOKENS = 8192  # of one forward pass
MAX_ROW_TOKENS = 2048  # of a row that holds several continuations: its mask has that squared

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of context (at least one) and continuation (at least one)."""


class TaskError(RecipeError):
    """A task that can't be carried out."""


@dataclass
class Row:
    """Tokens of one forward row, and the positions whose predictions each request needs."""

    tokens: list[int]
    positions: list[int]
    context_tokens: int
    blocks: list[tuple[int, int]] = field(default_factory=list)
    """[start, end) of each continuation after the context."""
    requests: list[tuple[int, list[int], list[int]]] = field(default_factory=list)
    """(request, positions in the row, target ids)."""


def log_likelihoods(
    scorer: Scorer, pairs: Sequence[Pair], *, max_tokens: int, batch_tokens: int = BATCH_TOKENS
) -> list[tuple[float, bool]]:
    """Of each continuation after its context: sum of log probabilities, and whether it is what greedy decoding gives.

    Args:
        scorer: The model.
        pairs: Contexts and continuations; what is too long loses the beginning of its context.
        max_tokens: The model's context.
        batch_tokens: Padded tokens of one forward pass.
    """
    results: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
    rows = make_rows(pairs, max_tokens=max_tokens, trees=scorer.takes_trees)
    for outcomes in shared(list(batches(rows, batch_tokens=batch_tokens)), lambda batch: list(_run(scorer, batch))):
        for request, outcome in outcomes:
            results[request] = outcome
    return results


def make_rows(pairs: Sequence[Pair], *, max_tokens: int, trees: bool) -> list[Row]:
    """One row a context (trees), or one a different input."""
    rows: dict[tuple[int, ...], Row] = {}
    for request, (context, continuation) in enumerate(pairs):
        if not context or not continuation or len(continuation) > max_tokens:
            raise TaskError(
                f"a continuation of {len(continuation)} tokens after {len(context)}: the model's context of {max_tokens} holds "
                "continuations of 1 token to as many, after at least one"
            )
        kept = list(context)[max(0, len(context) + len(continuation) - 1 - max_tokens) :]
        tail = list(continuation[:-1])
        key = tuple(kept) if trees else (*kept, *tail)
        row = rows.get(key)
        if row is None or (trees and len(row.tokens) + len(tail) > max(MAX_ROW_TOKENS, len(kept) + len(tail))):
            row = rows[key] = _new_row(kept, rows, key)
        _add(row, request, len(kept), tail, list(continuation), trees=trees)
    return list(rows.values())


def _new_row(kept: list[int], rows: dict[tuple[int, ...], Row], key: tuple[int, ...]) -> Row:
    if key in rows:  # the row of this context is full: keep it under a name that no context has
        rows[(-len(rows) - 1,)] = rows.pop(key)
    return Row(list(kept), list(range(len(kept))), len(kept))


def _add(row: Row, request: int, context: int, tail: list[int], continuation: list[int], *, trees: bool) -> None:
    start = len(row.tokens)
    if not trees and row.blocks:  # the same input is there already
        start = row.blocks[0][0]
    elif trees and not tail:
        row.requests.append((request, [context - 1], continuation))
        return
    else:
        row.tokens += tail
        row.positions += range(context, context + len(tail))
        row.blocks.append((start, start + len(tail)))
    row.requests.append((request, [context - 1, *range(start, start + len(tail))], continuation))


def batches(rows: Sequence[Row], *, batch_tokens: int) -> Iterator[list[Row]]:
    """Rows of like length together, the longest first (what doesn't fit is known at once)."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: -len(row.tokens)):
        if batch and len(batch[0].tokens) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _run(scorer: Scorer, rows: list[Row]) -> Iterator[tuple[int, tuple[float, bool]]]:
    import torch

    length = len(rows[0].tokens)
    tokens, positions = torch.zeros(2, len(rows), length, dtype=torch.int64)
    for number, row in enumerate(rows):
        tokens[number, : len(row.tokens)] = torch.tensor(row.tokens)
        positions[number, : len(row.positions)] = torch.tensor(row.positions)
    places = [(number * length + at) for number, row in enumerate(rows) for _, where, _ in row.requests for at in where]
    wanted, back = torch.tensor(places).unique(return_inverse=True)
    logits = scorer.logits_at(tokens, wanted, positions=positions, mask=_mask(rows, length))
    targets = torch.tensor([target for row in rows for _, _, continuation in row.requests for target in continuation])
    chosen = logits[back, targets] - logits.logsumexp(dim=-1)[back]
    greedy = logits.argmax(dim=-1)[back] == targets
    start = 0
    for row in rows:
        for request, where, _ in row.requests:
            part = slice(start, start + len(where))
            yield request, (float(chosen[part].sum(dtype=torch.float64)), bool(greedy[part].all()))
            start += len(where)


def _mask(rows: list[Row], length: int) -> "Tensor | None":
    """bool [b, 1, s, s]: causal, but no continuation sees another; None where no row holds two."""
    import torch

    if all(len(row.blocks) < 2 for row in rows):
        return None
    mask = torch.ones(length, length, dtype=torch.bool).tril().repeat(len(rows), 1, 1)
    for number, row in enumerate(rows):
        for start, end in row.blocks:
            mask[number, start:end, row.context_tokens : start] = False
    return mask[:, None]
