"""Models as evaluations see them: logits of chosen positions, and decoding with a cache of keys and values.

The head, often most of a small model's work, runs only where it is asked.
"""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Decoder(Protocol):
    """Rows that grow token by token; keys and values of what was fed are kept."""

    def feed(self, tokens: "Tensor") -> "Tensor":
        """Appends int64 [b, n] to the rows; returns fp32 logits after their last token, [b, vocab_size]."""
        ...


class Scorer(Protocol):
    """Logits where they are wanted; the same on all ranks of a layout."""

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

    def decoder(self, *, num_rows: int, max_tokens: int) -> Decoder:
        """For so many rows, each of at most so many tokens."""
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

    def decoder(self, *, num_rows: int, max_tokens: int) -> Decoder:
        return _HuggingFaceDecoder(self.model)


class _HuggingFaceDecoder:
    def __init__(self, model: Any) -> None:
        from transformers import DynamicCache

        self.model, self.cache = model, DynamicCache(config=model.config)

    def feed(self, tokens: "Tensor") -> "Tensor":
        import torch

        with torch.inference_mode():
            output = self.model(tokens, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
            return output.logits[:, -1].float()


class MegatronScorer:
    """A GPTModel in its layout: ranks of a tensor- and pipeline-parallel group run in step, and all get the logits."""

    takes_trees = False  # Megatron-Core's rotary embedding goes by the place in the row

    def __init__(self, model: Any, *, vocab_size: int) -> None:
        from megatron.core.pipeline_parallel import get_forward_backward_func

        self.model, self.vocab_size = model.eval(), vocab_size
        self._schedule = get_forward_backward_func()

    def logits_at(self, tokens: "Tensor", wanted: "Tensor", *, positions: "Tensor", mask: "Tensor | None") -> "Tensor":
        assert mask is None, "takes_trees is false"
        num_rows, length = tokens.shape

        def select(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = inputs[0].transpose(0, 1).reshape(num_rows * length, -1)  # [s, b, h] → [b·s, h]
            return (hidden[wanted.to(hidden.device)][:, None], *inputs[1:])

        if not self.model.post_process:
            return self._run(tokens, None, num_wanted=len(wanted))
        handle = self.model.output_layer.register_forward_pre_hook(select)
        try:
            return self._run(tokens, None, num_wanted=len(wanted))
        finally:
            handle.remove()

    def decoder(self, *, num_rows: int, max_tokens: int) -> Decoder:
        return _MegatronDecoder(self, num_rows=num_rows, max_tokens=max_tokens)

    def _run(self, tokens: "Tensor", context: Any, *, num_wanted: int) -> "Tensor":
        """One forward through all stages; logits [num_wanted, vocab_size] on every rank of the replica."""
        import torch
        from megatron.core import parallel_state as ps

        with torch.inference_mode():
            found = self._through_stages(tokens, context)
            if found is not None:  # the last stage: [1, n, v], decoding [b, 1, v]
                found = found[..., : self.vocab_size].float().reshape(num_wanted, self.vocab_size)
            if ps.get_pipeline_model_parallel_world_size() > 1:
                if found is None:
                    found = torch.empty(num_wanted, self.vocab_size, device=_device_of(self.model))
                source = ps.get_pipeline_model_parallel_last_rank()
                torch.distributed.broadcast(found, source, group=ps.get_pipeline_model_parallel_group())
        assert found is not None
        return found.cpu()

    def _through_stages(self, tokens: "Tensor", context: Any) -> "Tensor | None":
        import torch
        from megatron.core import parallel_state as ps

        device = _device_of(self.model)
        start = context.sequence_len_offset if context else 0
        end = start + tokens.shape[1]
        inputs: dict[str, Any] = {
            "input_ids": tokens.to(device), "position_ids": torch.arange(start, end, device=device).expand_as(tokens),
            "attention_mask": None, "runtime_gather_output": True,  # of logits, over the tensor-parallel ranks
        }
        if start:  # every new token sees all before it; without a mask attention would be causal from the row's beginning
            seen = torch.ones(tokens.shape[1], end, dtype=torch.bool, device=device).tril(diagonal=start)
            inputs["attention_mask"] = ~seen[None, None]
        if context is not None:
            inputs["inference_context"] = context
        if ps.get_pipeline_model_parallel_world_size() == 1:
            return self.model(**inputs)

        def step(_iterator: Any, chunk: Any) -> tuple[Any, Any]:
            return chunk(**inputs), lambda output, non_loss_data: output

        kept = self._schedule(
            forward_step_func=step, data_iterator=iter([0]), model=self.model, num_microbatches=1,
            seq_length=tokens.shape[1], micro_batch_size=tokens.shape[0], forward_only=True, collect_non_loss_data=True,
        )
        return kept[0] if kept else None


class _MegatronDecoder:
    def __init__(self, scorer: MegatronScorer, *, num_rows: int, max_tokens: int) -> None:
        from megatron.core.inference.contexts import StaticInferenceContext

        self.scorer, self.num_rows = scorer, num_rows
        self.context = StaticInferenceContext(num_rows, max_tokens)

    def feed(self, tokens: "Tensor") -> "Tensor":
        logits = self.scorer._run(tokens, self.context, num_wanted=self.num_rows)
        self.context.increment_sequence_len_offset(tokens.shape[1])
        return logits


def _device_of(model: Any) -> Any:
    return next(model.parameters()).device
