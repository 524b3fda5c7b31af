"""An export's folder: whole or absent."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.atomic import sync_folder
from recipe.errors import RunError

MARK = "export.json"  # what an earlier export is known by


@contextmanager
def building(out_dir: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yields a folder beside `out_dir` that takes its place when the block ends without an exception.

    Raises:
        RunError: `out_dir` is there; with `overwrite`, only if it isn't an earlier export.
    """
    if out_dir.exists() and not overwrite:
        raise RunError(f"{out_dir}: is there already; choose another --out, or replace it with --overwrite")
    if out_dir.exists() and not (out_dir / MARK).is_file():
        raise RunError(f"{out_dir}: is no earlier export ({MARK} is missing), so --overwrite leaves it alone")
    folder = out_dir.with_name(f".{out_dir.name}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
        shutil.rmtree(out_dir, ignore_errors=True)
        folder.rename(out_dir)
        sync_folder(out_dir.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
