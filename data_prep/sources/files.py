"""Input files: patterns to paths, and bytes out of plain, gzip and zstd files."""

from __future__ import annotations

import glob
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from data_prep.errors import SourceError
from data_prep.sources.spec import SourceSpec

COMPRESSED = (".gz", ".zst")
Item = TypeVar("Item")


def expand(spec: SourceSpec, *, suffixes: tuple[str, ...] = ()) -> list[Path]:
    """Files that the source's paths name: a file as it is, a pattern's matches and a folder's files in sorted order.

    Args:
        spec: The source.
        suffixes: Only these are taken from folders (all if empty).

    Raises:
        SourceError: A path names nothing, or a file twice.
    """
    if not spec.paths:
        raise SourceError(f"source {spec.name}: no path is given")
    found: list[Path] = []
    for pattern in spec.paths:
        path = Path(pattern).expanduser()
        if path.is_dir():
            matches = sorted(p for p in path.rglob("*") if p.is_file() and _wanted(p.relative_to(path), suffixes))
        elif path.is_file():
            matches = [path]
        else:
            matches = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if os.path.isfile(p)]
        if not matches:
            raise SourceError(f"source {spec.name}: {pattern}: no such file (nor any that matches)")
        found += matches
    names = [str(p) for p in found]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"source {spec.name}: {twice} is named twice by {', '.join(spec.paths)}")
    return found


def _wanted(relative: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a file below a folder belongs to the corpus: hidden files never do."""
    if any(part.startswith(".") for part in relative.parts):
        return False
    return not suffixes or relative.name.endswith(suffixes)


def open_bytes(path: Path | str) -> BinaryIO:
    """Opens a file for reading, decompressed by its suffix (.gz, .zst, several frames too)."""
    name = str(path)
    try:
        if name.endswith(".gz"):
            from isal import igzip  # three times as fast as zlib

            return igzip.open(name, "rb")  # type: ignore[return-value]
        if name.endswith(".zst"):
            import zstandard

            return zstandard.ZstdDecompressor().stream_reader(
                open(name, "rb"), read_across_frames=True, closefd=True, read_size=1 << 20
            )
        return open(name, "rb", buffering=0)
    except OSError as error:
        raise SourceError(f"{name}: {error.strerror or error}") from error


def is_damage(error: Exception) -> bool:
    """Whether a decompressor says that its input is broken."""
    return type(error).__module__.startswith(("zstandard", "igzip"))


def read_up_to(file: BinaryIO, amount: int) -> bytes:
    """Reads ``amount`` bytes, fewer only at the end (raw and compressed streams may give less a call)."""
    parts = [file.read(amount)]
    left = amount - len(parts[0])
    while left > 0 and parts[-1]:
        parts.append(file.read(left))
        left -= len(parts[-1])
    return parts[0] if len(parts) == 1 else b"".join(parts)


def line_blocks(path: Path | str, *, start: int, end: int, block_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a file in blocks: (offset of the block, bytes that end with a newline or with the file).

    A line belongs to [start, end) if its first byte does. Compressed files are read whole (start 0).

    Raises:
        SourceError: The file vanished, cannot be read, or its compressed data is damaged; names the offset.
    """
    position = start
    try:
        with open_bytes(path) as file:
            rest = b""
            if start > 0:
                file.seek(start - 1)
                position, rest = _after_newline(file, start)
            while position < end:
                block = rest + read_up_to(file, max(block_bytes - len(rest), len(rest)))  # doubling, for long lines
                if not block:
                    return
                last = len(block) == len(rest)  # nothing more came
                cut = len(block) if last else block.rfind(b"\n") + 1
                if cut == 0:  # a line longer than the block: read on
                    rest = block
                    continue
                if position + cut > end:
                    cut = _line_end(block, end - position)
                    if cut == 0 and not last:  # the line that crosses the end is not whole yet
                        rest = block
                        continue
                    cut = cut or len(block)
                yield position, block[:cut]
                rest, position = block[cut:], position + cut
                if last:
                    return
    except (OSError, EOFError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read at about byte {position}: {error}") from error
    except Exception as error:
        if is_damage(error):
            raise SourceError(f"{path}: damaged at about byte {position}: {error}") from error
        raise


def _line_end(block: bytes, limit: int) -> int:
    """End of the line that holds byte ``limit - 1`` (its newline included); 0 if its newline is not in the block."""
    return block.find(b"\n", limit - 1) + 1


def _after_newline(file: BinaryIO, start: int) -> tuple[int, bytes]:
    """Position of the first line that starts at or after ``start``, and the bytes read beyond; file is at start - 1."""
    position, step = start - 1, 1 << 16
    while True:
        part = read_up_to(file, step)
        if not part:
            return position, b""
        cut = part.find(b"\n") + 1
        if cut:
            return position + cut, part[cut:]
        position += len(part)


def ahead(blocks: Iterator[Item], *, depth: int = 2) -> Iterator[Item]:
    """The same items, made by a thread that runs a little ahead, so that reading and decompressing hide behind encoding.

    Decompressors and the compiled encoder both let go of Python's lock.
    """
    ready: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(last: bool, item: Item | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put((last, item), timeout=0.2)
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in blocks:
                put(False, item)
                if stopped.is_set():
                    return
            put(True, None)
        except BaseException as error:  # handed to whoever reads
            put(True, error)

    thread = threading.Thread(target=make, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            last, item = ready.get()
            if isinstance(item, BaseException):
                raise item
            if last:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
