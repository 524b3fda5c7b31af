"""The typed errors of this room; the command line turns each into one message on stderr and exit code 2."""

from __future__ import annotations


class DataError(Exception):
    """Something is wrong with the data: the message names the file and line, what is wrong, what would be right."""


class SourceError(DataError):
    """An input file, record or pattern cannot be used."""


class TokenizerError(DataError):
    """A tokenizer cannot be trained, loaded, or is not the one that the data was made with."""


class ShardError(DataError):
    """A shard or manifest is damaged, cut short, or of another tokenizer."""


class RejectLimitError(DataError):
    """Too many records could not be used: see the rejects file that the message names."""


class ExactnessError(DataError):
    """The fast encoder's ids differ from sentencepiece's on a sample: the job stops at once."""
