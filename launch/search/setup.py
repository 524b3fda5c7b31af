"""A study's folder from a recipe, and the workers that serve it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_prep.atomic import write_json, write_text
from data_prep.manifest import Manifest
from launch.search.array import array_workers
from launch.search.folder import Study
from launch.search.local import local_workers
from launch.search.owner import Owner, Run
from launch.search.trial import Result, Trial
from recipe.config import ParallelConfig, RunConfig, Section
from recipe.data import find_tokenizer, prepare
from recipe.prepare import versions, with_data
from recipe.resolve import resolve
from recipe.rundir import read_json

Found = TypeVar("Found")


def make_study(
    root: Path, config: RunConfig, spec: dict[str, Any], *, data_dir: Path | str, workers: int, eval_data: str = ""
) -> Study:
    """The folder with recipe, environment and data, or the one that is there, if it is of the same study.

    Raises:
        ConfigError: The recipe can't be carried out.
        SearchError: The folder holds another study.
    """
    resolved = resolve(config.model_copy(update={"parallel": ParallelConfig()}), world_size=1)
    study = Study(root)
    recipe = config.model_dump(mode="json")
    study.begin({**spec, "recipe": recipe})
    write_text(study.recipe, yaml.safe_dump(recipe, sort_keys=False))
    folders = prepare(config, data_dir=data_dir, workers=workers)
    tokenizer = find_tokenizer(config, data_dir=data_dir)
    assert tokenizer is not None  # prepare() made it
    pinned = with_data(resolved, folders, tokenizer)
    write_json(study.data, {
        "tokenizer_dir": pinned.tokenizer_dir, "tokenizer_sha256": pinned.tokenizer_sha256,
        "sources": {name: ref.model_dump(mode="json") for name, ref in pinned.data.items()},
        "eval_data": str(Path(eval_data).absolute()),
    })  # fmt: skip
    if not study.environment.is_file():
        digests = {name: ref.train_sha256 for name, ref in pinned.data.items()}
        write_json(study.environment, {"versions": versions(), "tokenizer": pinned.tokenizer_sha256, "data": digests})
    return study


def at_hand_tokens(study: Study) -> dict[str, int]:
    """Source → tokens of its train split."""
    return {name: Manifest.load(Path(ref["train"])).num_tokens for name, ref in read_json(study.data)["sources"].items()}


def carry_out(
    root: Path, config: RunConfig, spec: Section, conduct: Callable[[Study, Run], Found], *, data_dir: Path | str, workers: int,
    cluster: str, eval_data: str = "",
) -> tuple[Study, Found]:
    """A study from its folder to its kept results; `conduct` asks the trials and decides what comes next."""
    content = spec.model_dump(mode="json")
    study = make_study(root, config, content, data_dir=data_dir, workers=workers, eval_data=eval_data)
    with conducting(study, workers=workers, cluster=cluster) as run:
        found = conduct(study, run)
    study.keep_results()
    return study, found


@contextmanager
def conducting(study: Study, *, workers: int, cluster: str = "") -> Iterator[Run]:
    """Owns the study, with workers here (or as an array of a SLURM cluster); yields what runs its trials."""
    with Owner(study) as owner:
        crowd = array_workers(study, workers, cluster=cluster) if cluster else local_workers(study, workers)
        with crowd as hands:

            def run(trials: Sequence[Trial]) -> list[Result]:
                return owner.run(trials, watch=hands.watch)

            try:
                yield run
            finally:
                owner.dismiss()
