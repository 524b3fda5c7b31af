"""`windtunnel verify`: shards re-read independently of the writer."""

from typing import Annotated

import typer


def verify(
    data: Annotated[list[str], typer.Argument(help="Data directory, source, split, or any folder of Megatron shards.")],
    tokenizer: Annotated[str, typer.Option(help="Tokenizer that the data must be of (model file or folder).")] = "",
    recipe: Annotated[str, typer.Option(help="Recipe whose shards these are: its manifests are written first.")] = "",
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value of the recipe.")] = [],  # noqa: B006
    shard_bytes: Annotated[str, typer.Option(help="As it was for tokenize, with --recipe.")] = "2GiB",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Reads every byte: lengths, pointers, token range, end-of-document marks, digests, manifest and tokenizer hash.

    Without a manifest, any Megatron .bin/.idx pairs are verified by the format (and by the tokenizer, if one is given).

    Example: windtunnel verify data
    """
    import json
    from pathlib import Path

    from data_prep.errors import ShardError
    from data_prep.tokenizer import load_tokenizer
    from data_prep.verify import Expected
    from data_prep.verify import verify as verify_folder
    from recipe.errors import CheckFailed

    for folder in data:
        if not Path(folder).is_dir():
            raise ShardError(f"{folder}: no such folder; give a data directory, a source, a split, or any folder of shards")
    model = load_tokenizer(tokenizer) if tokenizer else None
    if recipe:
        from recipe import data as recipe_data
        from recipe.load import load_recipe
        from recipe.units import parse_bytes

        config = load_recipe(recipe, override)
        model = recipe_data.finish(config, data_dir=data[0], shard_bytes=parse_bytes(shard_bytes))
    expected = Expected(model.vocab_size, model.eod_id, model.dtype.name) if model else None
    sha256 = model.sha256 if model else None
    problems = [p for folder in data for p in verify_folder(folder, tokenizer_sha256=sha256, expected=expected)]
    if as_json:
        print(json.dumps({"ok": not problems, "problems": problems}, indent=2, ensure_ascii=False))
    else:
        print("\n".join(problems) or "ok")
    if problems:
        raise CheckFailed(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in {', '.join(data)}")
