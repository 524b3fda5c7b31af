"""The report's agent benchmarks by name, played by a model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.tokenizer import Tokenizer
from recipe.evaluate.agents.alfworld import alfworld
from recipe.evaluate.agents.react import Environment, Episode, play, summary
from recipe.evaluate.agents.webshop import webshop
from recipe.evaluate.agents.wikipedia import fever, hotpotqa
from recipe.evaluate.loglikelihood import TaskError
from recipe.evaluate.scorers import Scorer
from recipe.evaluate.sharing import shared

MAX_TURN_TOKENS = 100  # of one thought and action, as in the ReAct paper's code


@dataclass(frozen=True)
class Benchmark:
    """Environments of one benchmark; limits of steps as in the ReAct paper; `reported` is Xmodel-2-1.2B's, per cent."""

    environments: Callable[[Path], Iterator[Environment]]
    max_steps: int
    metric: str
    reported: float


BENCHMARKS = {
    "hotpotqa": Benchmark(hotpotqa, 7, "exact_match", 13.70),
    "fever": Benchmark(fever, 5, "exact_match", 40.00),
    "alfworld": Benchmark(alfworld, 50, "success", 0.78),
    "webshop": Benchmark(webshop, 15, "success", 2.20),
}


def agent_names(wanted: str) -> list[str]:
    """`hotpotqa,fever` or `all` → names; raises `TaskError` for one that isn't known."""
    names = [name for part in wanted.split(",") if (name := part.strip())]
    for name in names:
        if name not in BENCHMARKS and name != "all":
            raise TaskError(f"--agents {name}: no such benchmark; there are: {', '.join(BENCHMARKS)}, all")
    return list(BENCHMARKS) if "all" in names else names


def run_agents(
    scorer: Scorer, tokenizer: Tokenizer, names: Sequence[str], *, data: Path, max_tokens: int, limit: int | None = None
) -> dict[str, dict[str, Any]]:
    """Benchmark → value, metric, steps and malformed actions; raises `TaskError` where data or a package is missing."""
    from recipe.evaluate.harness import greedy_until

    room = min(MAX_TURN_TOKENS, max_tokens // 2)

    def policy(text: str, stops: Sequence[str]) -> str:
        return greedy_until(scorer, tokenizer, text, stops=stops, max_new_tokens=room, context_tokens=max_tokens)

    loaded = {name: list(islice(BENCHMARKS[name].environments(data), limit)) for name in names}  # all are looked for first
    results = {}
    for name, environments in loaded.items():
        benchmark = BENCHMARKS[name]
        episodes: list[Episode] = shared(environments, partial(play, policy=policy, max_steps=benchmark.max_steps))
        results[name] = summary(episodes, metric=benchmark.metric)
    return results
