"""`windtunnel decay`: a branch from a stable checkpoint."""

from typing import Annotated

import typer


def decay(
    run: Annotated[str, typer.Argument(help="Run directory.")],
    at: Annotated[str, typer.Option(help="Tokens at which the branch leaves: 20B. There must be a checkpoint.")],
    name: Annotated[str, typer.Option(help="Of the branch; at-<tokens> where absent.")] = "",
    override: Annotated[
        list[str], typer.Option("--override", "-o", help="Of the branch's recipe: stages.decay.tokens=4B; may be repeated.")
    ] = [],  # noqa: B006
    data_dir: Annotated[str, typer.Option(help="Where tokenizer and shards are, or are made.")] = "data",
    processes: Annotated[int, typer.Option(help="Ranks; as the run where absent.")] = 0,
    prepare_only: Annotated[bool, typer.Option("--prepare-only", help="Make the branch's directory; don't train.")] = False,
) -> None:
    """Branches a decay from any stable checkpoint: its own run directory below RUN/branches, trained here.

    Example: windtunnel decay runs/demo --at 1.6M --name short -o stages.decay.tokens=400K
    """
    from launch.local import train_here
    from launch.slurm.chain import branch_name
    from recipe.branch import create_branch
    from recipe.load import load_recipe
    from recipe.prepare import load_resolved
    from recipe.rundir import RunDir
    from recipe.units import parse_tokens

    parent = RunDir.existing(run)
    at_tokens = parse_tokens(at)
    num_processes = processes or load_resolved(parent).layout.world_size
    branch = create_branch(
        parent, load_recipe(str(parent.recipe), override), at_tokens=at_tokens, name=name or branch_name(at_tokens),
        world_size=num_processes, data_dir=data_dir,
    )
    print(branch.root)
    if not prepare_only:
        raise typer.Exit(train_here(branch, num_processes=num_processes))
