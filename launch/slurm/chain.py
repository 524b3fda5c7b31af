"""The chain of jobs that carries a recipe from text to report: which links, in what order. Pure.

    tokenizer → tokenize (array) → verify → train → decay branches side by side → eval → export → report
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Until = Literal["data", "train", "report"]
TASK = "{task}"  # in a link's arguments: the index of the array's task


@dataclass(frozen=True, kw_only=True)
class Link:
    """One job, or one array of jobs.

    Attributes:
        name: Of its files and of the job.
        purpose: A line for people.
        arguments: Of `windtunnel`; empty for a link that trains.
        train: The run directory that the link trains, relative to the main one; None for a link that doesn't.
        after: Links that must have succeeded.
        num_tasks: Of an array; 0 for a single job.
        device: Needs an accelerator.
    """

    name: str
    purpose: str
    arguments: tuple[str, ...] = ()
    train: str | None = None
    after: tuple[str, ...] = ()
    num_tasks: int = 0
    device: bool = False


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for, as far as the chain depends on it.

    Attributes:
        recipe: The recipe as it was submitted: one file, presets and overrides merged.
        run_dir: Absolute.
        data_dir: Absolute.
        num_missing_shards: 0 when all shards are there; None when not known yet (no tokenizer).
        branches: Names of decay branches and the tokens at which each leaves.
    """

    recipe: Path
    run_dir: Path
    data_dir: Path
    has_tokenizer: bool = False
    num_missing_shards: int | None = None
    branches: dict[str, int] = field(default_factory=dict)
    max_tasks: int = 64
    until: Until = "report"


def branch_name(at_tokens: int) -> str:
    return f"at-{at_tokens}"


def build_chain(request: Request) -> list[Link]:
    """Links in an order in which each comes after those that it depends on."""
    data = _data_links(request)
    if request.until == "data":
        return data
    train = Link(
        name="train", purpose="all stages of the recipe; requeues itself until they are done", train=".",
        after=tuple(link.name for link in data[-1:]), device=True,
    )
    links = [*data, train]
    for name, at_tokens in request.branches.items():
        links.append(
            Link(
                name=f"decay-{name}", purpose=f"a decay branch from the checkpoint at {at_tokens} tokens",
                train=f"branches/{name}", after=("train",), device=True,
            )
        )
    if request.until == "train":
        return links
    return [*links, *_closing_links(request)]


def _data_links(request: Request) -> list[Link]:
    recipe, data = str(request.recipe), ("--data-dir", str(request.data_dir))
    links = []
    if not request.has_tokenizer:
        links.append(
            Link(name="tokenizer", purpose="trains the tokenizer on a sample", arguments=("tokenizer", recipe, *data))
        )
    if request.num_missing_shards != 0:
        wanted = request.max_tasks if request.num_missing_shards is None else request.num_missing_shards
        num_tasks = max(min(wanted, request.max_tasks), 1)
        share = ("--task", TASK, "--num-tasks", str(num_tasks))
        links.append(
            Link(
                name="tokenize", purpose="corpora to shards, only those that are missing", num_tasks=num_tasks,
                arguments=("tokenize", recipe, *data, *share), after=tuple(link.name for link in links),
            )
        )
    links.append(
        Link(
            name="verify", purpose="closes the shards with manifests and reads all of them again",
            arguments=("verify", str(request.data_dir), "--recipe", recipe), after=tuple(link.name for link in links[-1:]),
        )
    )
    return links


def _closing_links(request: Request) -> list[Link]:
    """Each trained run, the main one and the branches, is evaluated and exported by itself; one report shows all."""
    links = []
    trained = {"train": request.run_dir} | {f"decay-{name}": request.run_dir / "branches" / name for name in request.branches}
    for name, run in trained.items():
        suffix = name.removeprefix("train").removeprefix("decay")
        links += [
            Link(
                name=f"eval{suffix}", purpose="held-out loss beside counting models", arguments=("eval", str(run)),
                after=(name,), device=True,
            ),
            Link(
                name=f"export{suffix}", purpose="a plain Llama checkpoint", arguments=("export", str(run), "--overwrite"),
                after=(f"eval{suffix}",), device=True,
            ),
        ]
    runs = tuple(str(run) for run in trained.values())
    out = ("--out", str(request.run_dir / "report.html"))
    last = tuple(link.name for link in links if link.name.startswith("export"))
    return [*links, Link(name="report", purpose="one page about the run", arguments=("report", *runs, *out), after=last)]
