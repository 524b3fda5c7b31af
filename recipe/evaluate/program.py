"""One rank of an evaluation in the run's layout: `python -m recipe.evaluate.program RUN CHECKPOINT WANTED_JSON`.

Started by a launcher with as many processes as a multiple of TP × PP. Rank 0 writes the files and prints one line of JSON.
"""

import json
import os
import sys
from pathlib import Path

from data_prep.errors import DataError
from recipe.errors import RecipeError
from recipe.evaluate.run import Wanted, evaluate_checkpoint
from recipe.exits import BAD_INPUT
from recipe.rundir import RunDir


def main(root: str, checkpoint: str, wanted: str) -> int:
    import torch.distributed as dist

    options = json.loads(wanted)
    is_writer = os.environ.get("RANK", "0") == "0"
    try:
        result = evaluate_checkpoint(
            RunDir.existing(root), Path(checkpoint), Wanted(**options), is_writer=is_writer
        )
    except (RecipeError, DataError) as error:
        if is_writer:
            print(error, file=sys.stderr, flush=True)
        os._exit(BAD_INPUT)  # other ranks may wait in a collective that this one never joins
    if is_writer:
        print("\n" + json.dumps(result), flush=True)
    dist.barrier()
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
