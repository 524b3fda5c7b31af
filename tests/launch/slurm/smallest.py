"""The smallest real recipe, on real text: source code of Python's standard library."""

import sysconfig
from pathlib import Path

import orjson

from recipe.config import RunConfig

MODULES = ("argparse", "ast", "difflib", "doctest", "inspect", "pickle", "shutil", "subprocess", "tarfile", "typing", "zipfile")


def write_corpus(path: Path) -> Path:
    """About a megabyte of JSON lines, a document for each top-level definition."""
    library = Path(sysconfig.get_paths()["stdlib"])
    with open(path, "wb") as file:
        for name in MODULES:
            for number, text in enumerate((library / f"{name}.py").read_text(encoding="utf-8").split("\n\n\n")):
                file.write(orjson.dumps({"text": text, "id": f"{name}-{number}"}) + b"\n")
    return path


def smallest_recipe(corpus: Path, *, num_steps: int = 60, **parallel: object) -> RunConfig:
    """5/6 of the steps are stable, the rest decays; 1024 tokens a step."""
    stable = num_steps * 5 // 6
    return RunConfig.model_validate({
        "name": "smallest",
        "model": {
            "num_layers": 2, "hidden_size": 32, "ffn_hidden_size": 64, "num_heads": 2, "num_kv_heads": 2,
            "seq_length_tokens": 64, "vocab_size": 400,
        },
        "mup": {"dim_model_base": 32},
        "tokenizer": {"train_on": {"code": 1}, "train_bytes": "300KB"},
        "sources": {"code": {"path": str(corpus), "heldout_frac": 0.05}},
        "stages": [
            {"name": "stable", "tokens": 1024 * stable, "mixture": {"code": 100}},
            {
                "name": "decay", "tokens": 1024 * (num_steps - stable), "mixture": {"code": 100},
                "lr": {"shape": "half_life", "half_life_tokens": 4096},
            },
        ],
        "optim": {"peak_lr": 0.01, "warmup_tokens": 4096},
        "batch": {"global_tokens": 1024},
        "parallel": parallel,
        "precision": "fp32",
        "checkpoint": {"every_tokens": 1024 * 10, "keep_every_tokens": 1024 * 10},
        "evaluate": {"heldout_tokens": 4096},
        "logging": {"tensorboard": False},
    })
