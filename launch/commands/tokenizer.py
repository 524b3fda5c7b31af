"""`windtunnel tokenizer`: the recipe's tokenizer."""

from typing import Annotated

import typer


def tokenizer(
    recipe: Annotated[str, typer.Argument(help="Recipe file or preset.")],
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    data_dir: Annotated[str, typer.Option(help="Tokenizers and shards go here.")] = "data",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Trains the recipe's SentencePiece Unigram model on its sources' training documents, or finds the one that is there.

    Example: windtunnel tokenizer demo
    """
    import json
    import time

    from recipe.data import prepare_tokenizer
    from recipe.load import load_recipe

    started_s = time.monotonic()
    model = prepare_tokenizer(load_recipe(recipe, override), data_dir=data_dir)
    facts = {"path": str(model.path), "sha256": model.sha256, "vocab_size": model.vocab_size, "eod_id": model.eod_id}
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        print(f"{model.path}: {model.vocab_size} pieces, sha256 {model.hash12} ({time.monotonic() - started_s:.0f} s)")
