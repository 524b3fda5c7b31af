"""Models as scorers of chosen positions: the head, often most of a small model's work, runs only where it is asked."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Scorer(Protocol):
    """Logits where they are wanted."""

    takes_trees: bool
    """Whether `mask` and `positions` are heeded, so that continuations of one context can share its row."""

    def logits_at(self, tokens: "Tensor", wanted: "Tensor", *, positions: "Tensor", mask: "Tensor | None") -> "Tensor":
        """Scores some positions.

        Args:
            tokens: int64 [b, s], padded on the right.
            wanted: Flat indices into b·s, int64 [n].
            positions: Place of each token in its text, int64 [b, s].
            mask: Which tokens each may look at, bool [b, 1, s, s]; None for plain causal.

        Returns:
            fp32 logits [n, vocab_size].
        """
        ...


class HuggingFaceScorer:
    """A plain transformers Llama."""

    takes_trees = True

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    def logits_at(self, tokens: "Tensor", wanted: "Tensor", *, positions: "Tensor", mask: "Tensor | None") -> "Tensor":
        import torch

        with torch.inference_mode():
            given = {} if mask is None else {"attention_mask": mask}
            hidden = self.model.model(tokens, position_ids=positions, use_cache=False, **given).last_hidden_state
            return self.model.lm_head(hidden.flatten(0, 1)[wanted]).float()


class MegatronScorer:
    """A GPTModel in one process; plain causal rows only."""

    takes_trees = False

    def __init__(self, model: Any, *, vocab_size: int) -> None:
        self.model, self.vocab_size = model.eval(), vocab_size

    def logits_at(self, tokens: "Tensor", wanted: "Tensor", *, positions: "Tensor", mask: "Tensor | None") -> "Tensor":
        import torch

        assert mask is None
        num_rows, length = tokens.shape

        def select(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = inputs[0].transpose(0, 1).reshape(num_rows * length, -1)  # [s, b, h] → [b·s, h]
            return (hidden[wanted][:, None], *inputs[1:])

        handle = self.model.output_layer.register_forward_pre_hook(select)
        try:
            with torch.inference_mode():
                return self.model(tokens, positions, None)[0, :, : self.vocab_size].float()  # [1, n, v]
        finally:
            handle.remove()
