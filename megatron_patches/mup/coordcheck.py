"""The coordinate check: do activations, and training's changes to them, keep their size as a model grows?

    verdicts = judge(measure(Mup("minicpm", ...), axis="width", sizes=(64, 128, 256, 512)))

A correct parametrisation gives a log-log slope near 0 for every module. A slope above 0 blows up with size, one below 0
stops learning with size (Yang et al., Tensor Programs V, section D.1). Measured on real text, after each of a few Adam
steps, over several seeds.
"""

import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from megatron_patches.errors import PatchError
from megatron_patches.mup.coordinates import MODULES, capture, root_mean_squares
from megatron_patches.mup.rules import Mup

VOCAB_SIZE = 256  # bytes
TOLERANCE = {"width": 0.25, "depth": 0.25}  # see README: correct rules stay within about half of it, mistakes are at 0.5


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained at every size.

    Attributes:
        head_dim: Fixed; heads grow with width.
        kv_share: Query heads for each key-value head.
    """

    steps: int = 10
    batch_seqs: int = 4
    seq_length_tokens: int = 64
    peak_lr: float = 0.01
    head_dim: int = 32
    kv_share: int = 1
    ffn_mult: float = 2.5
    tied: bool = True


class Trainer(Protocol):
    """Anything that trains a model on a layout; `LocalTrainer` here, the recipe's engine in the layout tests."""

    chunks: list[torch.nn.Module]

    def forward(self, tokens: Tensor) -> None:
        """A forward pass without gradients on [b, s + 1] tokens."""

    def train(self, tokens: Tensor) -> float:
        """One optimizer step; returns the loss."""


class LocalTrainer:
    """One process: GPTModel and torch's AdamW."""

    def __init__(self, mup: Mup, setting: Setting, seed: int) -> None:
        from megatron_patches.mup.groups import parameter_groups

        self.model = build(mup, setting, seed)
        self.chunks: list[torch.nn.Module] = [self.model]
        groups = parameter_groups(self.model, mup, setting.peak_lr, 0.0)
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))

    def _loss(self, tokens: Tensor) -> Tensor:
        x, y = tokens[:, :-1], tokens[:, 1:]
        return self.model(x, torch.arange(x.shape[1]).expand_as(x), None, labels=y).mean()

    def forward(self, tokens: Tensor) -> None:
        """See `Trainer`."""
        with torch.no_grad():
            self._loss(tokens)

    def train(self, tokens: Tensor) -> float:
        """See `Trainer`."""
        loss = self._loss(tokens)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def transformer_config(mup: Mup, setting: Setting) -> Any:
    """Upstream's config at the table's size."""
    from megatron.core.transformer.transformer_config import TransformerConfig

    from megatron_patches.cpu.config import CPU_CONFIG

    heads = mup.width // setting.head_dim
    on_cpu = {} if torch.cuda.is_available() else CPU_CONFIG
    return TransformerConfig(
        num_layers=mup.depth,
        hidden_size=mup.width,
        ffn_hidden_size=int(mup.width * setting.ffn_mult),
        num_attention_heads=heads,
        num_query_groups=max(1, heads // setting.kv_share),
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        normalization="RMSNorm",
        hidden_dropout=0.0,
        attention_dropout=0.0,
        perform_initialization=False,
        **on_cpu,
    )


def build(mup: Mup, setting: Setting, seed: int) -> torch.nn.Module:
    """A GPTModel of the table's size in a world of one process."""
    from megatron.core.models.gpt.gpt_model import GPTModel

    from megatron_patches.mup.init import initialise
    from megatron_patches.mup.model import attach, build_spec, configure

    config = configure(transformer_config(mup, setting), mup)
    model = GPTModel(
        config,
        build_spec(config, mup=mup),
        vocab_size=VOCAB_SIZE,
        max_sequence_length=setting.seq_length_tokens,
        position_embedding_type="rope",
        share_embeddings_and_output_weights=setting.tied,
    )
    initialise(attach(model, mup), mup, seed, config)
    return model


def text_batches(setting: Setting, *, seed: int) -> list[Tensor]:
    """`steps + 1` batches [b, s + 1] of bytes of the standard library's source; the first is the probe."""
    names = ("argparse.py", "datetime.py", "decimal.py", "inspect.py", "subprocess.py", "tarfile.py", "typing.py")
    folder = Path(sysconfig.get_path("stdlib"))
    text = b"".join((folder / name).read_bytes() for name in names if (folder / name).is_file())
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    length = setting.seq_length_tokens + 1
    generator = torch.Generator().manual_seed(seed)
    count = (setting.steps + 1) * setting.batch_seqs
    starts = torch.randint(0, len(data) - length, (count,), generator=generator).tolist()
    rows = torch.stack([data[start : start + length] for start in starts])
    return list(rows.split(setting.batch_seqs))


@dataclass(frozen=True)
class Measurement:
    """One training at one size.

    Attributes:
        initial: module -> root mean square at initialisation.
        updates: One dict a step: module -> root mean square of the change since initialisation.
    """

    axis: str
    size: int
    seed: int
    initial: dict[str, float]
    updates: list[dict[str, float]]
    losses: list[float]


def sized(mup: Mup, axis: str, size: int, setting: Setting) -> Mup:
    """The table at another width or depth."""
    if axis not in TOLERANCE:
        raise PatchError(f"axis={axis!r} is unknown; one of: width, depth")
    if axis == "width" and size % setting.head_dim:
        raise PatchError(f"width {size} is no multiple of the head size {setting.head_dim}")
    sized_mup = replace(mup, width=size) if axis == "width" else replace(mup, depth=size)
    return replace(sized_mup, head_dim=setting.head_dim)


def measure(
    mup: Mup,
    *,
    axis: str,
    sizes: Sequence[int],
    seeds: Sequence[int] = (1, 2, 3),
    setting: Setting | None = None,
    trainer: Callable[[Mup, Setting, int], Trainer] = LocalTrainer,
    progress: Callable[[str], None] = lambda _text: None,
) -> list[Measurement]:
    """Trains a model of each size and seed for a few steps."""
    setting = setting or Setting()
    out = []
    for size in sizes:
        for seed in seeds:
            made = trainer(sized(mup, axis, size, setting), setting, seed)
            out.append(measure_one(made, text_batches(setting, seed=seed), axis=axis, size=size, seed=seed))
            progress(f"{axis} {size} seed {seed}: loss {out[-1].losses[0]:.3f} -> {out[-1].losses[-1]:.3f}")
    return out


def measure_one(trainer: Trainer, batches: Sequence[Tensor], *, axis: str, size: int, seed: int) -> Measurement:
    """Trains on all batches but the first, which is the probe looked at after each step."""
    probe, *rest = batches
    with capture(trainer.chunks) as before:
        trainer.forward(probe)
    initial, updates, losses = root_mean_squares(before), [], []
    for batch in rest:
        losses.append(trainer.train(batch))
        with capture(trainer.chunks) as after:
            trainer.forward(probe)
        updates.append(root_mean_squares(after, minus=before))
    return Measurement(axis, size, seed, initial, updates, losses)


@dataclass(frozen=True)
class Verdict:
    """One module's slope.

    Attributes:
        quantity: `initial` (size of the activation) or `update` (of its change, averaged over the steps' logarithms).
        bound: `both` sides, or `above` only: logits may start out smaller in a larger model, as they do in theory.
    """

    module: str
    quantity: str
    slope: float
    tolerance: float
    bound: str
    passed: bool


def judge(measurements: Sequence[Measurement], *, tolerance: float | None = None) -> list[Verdict]:
    """A verdict per module and quantity.

    Raises:
        PatchError: Fewer than two sizes: no slope.
    """
    axis = measurements[0].axis
    allowed = TOLERANCE[axis] if tolerance is None else tolerance
    if len({m.size for m in measurements}) < 2:
        raise PatchError(f"a slope needs two {axis}s at least")
    out = []
    for module in (name for name in MODULES if all(name in m.initial for m in measurements)):
        for quantity in ("initial", "update"):
            slope = fit_slope(measurements, module, quantity)
            bound = "above" if (module, quantity) == ("logits", "initial") else "both"
            high = slope if bound == "above" else abs(slope)
            out.append(Verdict(module, quantity, slope, allowed, bound, not high > allowed and slope == slope))
    return out


def fit_slope(measurements: Sequence[Measurement], module: str, quantity: str) -> float:
    """Least-squares slope of log(size of the activation) against log(size of the model), over all seeds."""
    points = [(m.size, log_size(m, module, quantity)) for m in measurements]
    x = torch.tensor([float(size) for size, _ in points], dtype=torch.float64).log()
    y = torch.tensor([value for _, value in points], dtype=torch.float64)
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def log_size(measurement: Measurement, module: str, quantity: str) -> float:
    """Natural logarithm of a measured size; of an update, its mean over the steps."""
    values = [measurement.initial] if quantity == "initial" else measurement.updates
    return float(torch.tensor([value[module] for value in values], dtype=torch.float64).log().mean())


def as_json(mup: Mup, setting: Setting, measurements: Sequence[Measurement], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Everything, for a file."""
    table = {key: value for key, value in asdict(mup).items() if key != "mistake"}
    return {
        "mup": table,
        "setting": asdict(setting),
        "passed": all(verdict.passed for verdict in verdicts),
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "measurements": [asdict(measurement) for measurement in measurements],
    }
