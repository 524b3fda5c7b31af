"""Reads a run directory into what the page needs. Whatever a run hasn't got yet is None or empty, and the page says so."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data_prep.errors import DataError
from data_prep.manifest import Manifest
from data_prep.sources.python_doctests import CATEGORIES, MATERIAL
from recipe.evaluate.results import heldout_results, latest_samples, result_files
from recipe.prepare import load_resolved
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir, read_json, read_jsonl


@dataclass(frozen=True)
class RunView:
    """One run as the report sees it."""

    run: RunDir

    @property
    def name(self) -> str:
        return self.run.name

    @cached_property
    def resolved(self) -> ResolvedRun:
        return load_resolved(self.run)

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """One row per optimizer step; a step that was run again after a resume counts once, as run last."""
        by_step = {row["step"]: row for row in read_jsonl(self.run.metrics)}
        return [by_step[step] for step in sorted(by_step)]

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        return read_jsonl(self.run.events)

    @property
    def audited(self) -> list[int]:
        """Attempts whose live model passed the audit against the muP table; one that differs ends with an error instead."""
        return sorted({event["attempt"] for event in self.events if event["event"] == "audit"})

    @property
    def begun(self) -> list[int]:
        """Attempts that have begun."""
        return sorted({event["attempt"] for event in self.events if event["event"] in ("start", "resume")})

    @cached_property
    def coord_check(self) -> dict[str, Any] | None:
        """The coordinate check that was written into the run, if any."""
        return read_json(self.run.coord_check) if self.run.coord_check.is_file() else None

    @cached_property
    def heldout(self) -> list[dict[str, Any]]:
        return heldout_results(self.run)

    @cached_property
    def sampled(self) -> dict[str, Any]:
        """The last samples, with the tokens seen before them; empty where there are none."""
        return latest_samples(self.run) or {}

    @property
    def samples(self) -> list[dict[str, Any]]:
        return self.sampled.get("samples", [])

    @cached_property
    def branches(self) -> "list[RunView]":
        return [RunView(branch) for branch in self.run.branch_dirs() if branch.resolved.is_file()]

    @cached_property
    def recipe_text(self) -> str:
        return self.run.recipe.read_text(encoding="utf-8") if self.run.recipe.is_file() else ""

    def optional(self, name: str) -> Any:
        """`config/<name>.json`, or None."""
        path = self.run.config / f"{name}.json"
        return read_json(path) if path.is_file() else None

    def results(self, prefix: str) -> list[dict[str, Any]]:
        """Every `eval/<prefix>-*.json`, by tokens."""
        return result_files(self.run, prefix)

    @cached_property
    def manifests(self) -> dict[str, dict[str, int]]:
        """Source → tokens and documents on disk, for those whose shards are still there."""
        found = {}
        for name, ref in self.resolved.data.items():
            try:
                train = Manifest.load(ref.train)
            except DataError:  # a report is drawn long after the data went, too
                continue
            found[name] = {"num_tokens": train.num_tokens, "num_documents": train.num_documents}
        return found

    @cached_property
    def sft_categories(self) -> dict[str, dict[str, int | None]]:
        """Each category of instruction data → sources that hold some, with their pairs (None: their shards are gone).

        An empty dictionary is an empty category.
        """
        filled: dict[str, dict[str, int | None]] = {category: {} for category in CATEGORIES}
        drawn = {source for stage in self.resolved.config.stages for source in stage.mixture}
        for name, source in self.resolved.config.sources.items():
            pairs = self.manifests[name]["num_documents"] if name in self.manifests else None
            if source.category in filled and name in drawn and pairs != 0:
                filled[source.category][name] = pairs
        return filled

    def why_empty(self, category: str) -> str:
        """Why a category of instruction data has none."""
        named = [name for name, source in self.resolved.config.sources.items() if source.category == category]
        if named:
            return f"{', '.join(named)} had no pair, or no stage draws from it"
        doctests = any(source.what == "doctests" for source in self.resolved.config.sources.values())
        if doctests and category not in MATERIAL:
            return "Python's doctests hold none, and none is made up"
        return "the recipe has no source for it"

    @property
    def has_sft(self) -> bool:
        return any(source.category for source in self.resolved.config.sources.values())
