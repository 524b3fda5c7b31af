"""What an export was made of and how it fared."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recipe.export.check import LogitsCheck
from recipe.export.fold import Factors
from recipe.export.tokenizer_files import Comparison
from recipe.units import format_bytes, format_count


@dataclass(frozen=True, kw_only=True)
class Export:
    """One export; `check` is None where nothing could be compared, `tokenizer` where there was nothing to convert."""

    folder: Path
    format: str
    dtype: str
    tokens: int
    stage: str
    factors: Factors
    check: LogitsCheck | None = None
    tokenizer: Comparison | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "format": self.format, "dtype": self.dtype, "tokens": self.tokens, "stage": self.stage,
            "factors": asdict(self.factors),
            "check": self.check.as_dict() if self.check else None,
            "tokenizer": asdict(self.tokenizer) if self.tokenizer else None,
        }

    def describe(self) -> str:
        """A few lines for a terminal."""
        size = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        lines = [f"{self.folder}: {self.format}, {self.dtype}, {format_bytes(size)}, after {format_count(self.tokens)} tokens"]
        if self.check:
            lines.append(
                f"logits as exported against training's, fp32: {self.check.relative:.1e} of the largest, "
                f"on {self.check.num_tokens} held-out tokens"
            )
            lines.append(f"loss on them: {self.check.loss_nats:.5f} nats")
            if (cost := self.check.bf16_cost_nats) is not None:
                lines[-1] += f"; {cost:+.5f} with weights rounded to bf16"
        if self.tokenizer:
            same = self.tokenizer.num_documents - self.tokenizer.num_different
            lines.append(f"tokenizer.json: SentencePiece's ids on {same} of {self.tokenizer.num_documents} held-out documents")
        return "\n".join(lines)
