"""Full-text search over titled texts by BM25: SQLite's FTS5, in a file or in memory. No server, no network."""

import os
import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from recipe.evaluate.loglikelihood import TaskError

BATCH = 10_000


class SearchIndex:
    """Texts by title; the same words give the same order."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    @classmethod
    def in_memory(cls, rows: Iterable[tuple[str, str]]) -> "SearchIndex":
        """From (title, text) pairs."""
        index = cls(sqlite3.connect(":memory:"))
        index._fill(rows)
        return index

    @classmethod
    def in_file(cls, path: Path, rows: Iterable[tuple[str, str]]) -> "SearchIndex":
        """Opens a file, made from the rows where it isn't there; it appears whole or not at all."""
        if not path.is_file():
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.unlink(missing_ok=True)
            index = cls(sqlite3.connect(temporary))
            index._fill(rows)
            index.database.close()
            os.replace(temporary, path)
        try:
            opened = cls(sqlite3.connect(f"file:{path}?mode=ro", uri=True))
            opened.database.execute("SELECT count(*) FROM titles LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            raise TaskError(f"{path}: no search index ({error}); remove it, and it is made again") from error
        return opened

    def text_of(self, title: str) -> str | None:
        """The text under a title, capitals or not."""
        query = "SELECT body FROM pages JOIN titles ON pages.rowid = titles.page WHERE titles.title = ?"
        found = self.database.execute(query, (title.strip().lower(),)).fetchone()
        return found[0] if found else None

    def search(self, words: str, *, limit: int, offset: int = 0) -> list[str]:
        """Titles of the best matches, best first; words in the title count more."""
        terms = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", words.lower()))
        if not terms:
            return []
        query = "SELECT title FROM pages WHERE pages MATCH ? ORDER BY bm25(pages, 5.0, 1.0), rowid LIMIT ? OFFSET ?"
        return [title for (title,) in self.database.execute(query, (terms, limit, offset))]

    def _fill(self, rows: Iterable[tuple[str, str]]) -> None:
        self.database.execute("CREATE VIRTUAL TABLE pages USING fts5(title, body)")
        self.database.execute("CREATE TABLE titles (title TEXT, page INTEGER)")
        for number, (title, text) in enumerate(rows, start=1):
            self.database.execute("INSERT INTO pages (rowid, title, body) VALUES (?, ?, ?)", (number, title, text))
            self.database.execute("INSERT INTO titles VALUES (?, ?)", (title.strip().lower(), number))
            if number % BATCH == 0:
                self.database.commit()
        self.database.execute("CREATE INDEX by_title ON titles (title)")
        self.database.commit()
