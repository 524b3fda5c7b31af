"""Log-likelihood tasks on CPU at the nano size: ours against the LM Evaluation Harness's own Hugging Face backend.

    make bench-eval                      # or: python -m tests.bench.bench_eval --questions 24 --rounds 3

Both get the same token ids, made from Python's own documentation in the shapes of four tasks, and the same model (the nano
preset's shape, random weights: speed doesn't depend on them). The harness runs at each of several batch sizes and is
counted at its best. Ratios are paired within a round; scores must agree on every request.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from data_prep.sources import SourceSpec, documents
from data_prep.tokenizer import Tokenizer, train_unigram
from recipe.evaluate.loglikelihood import log_likelihoods
from recipe.evaluate.scorers import HuggingFaceScorer
from recipe.export.llama import llama_config
from recipe.load import load_recipe

# task → tokens of the context, tokens of each choice, choices: about what these tasks' questions have
SHAPES = {"hellaswag": (90, 28, 4), "arc": (32, 8, 4), "mmlu": (140, 1, 4), "boolq": (180, 1, 2)}
BATCH_SIZES = (1, 8, 32)
MAX_DIFFERENCE_NATS = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=24, help="of each task")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_unigram(_texts(3_000_000), out_dir=Path(folder), vocab_size=8192)
        model, theirs = _models(Path(folder) / "nano", tokenizer)
        scorer = HuggingFaceScorer(model)
        rows = []
        for name, shape in SHAPES.items():
            pairs = questions(tokenizer, shape, number=options.questions)
            rows.append((name, len(pairs), *_compare(scorer, theirs, pairs, rounds=options.rounds)))
    heads = ("task", "requests", "ours, s", "theirs, s", "at batch", "ratio", "largest difference")
    print("\n{:<12}{:>9}{:>10}{:>11}{:>10}{:>8}{:>20}".format(*heads))
    for name, number, ours_s, theirs_s, batch, ratio, difference in rows:
        print(f"{name:<12}{number:>9}{ours_s:>10.2f}{theirs_s:>11.2f}{batch:>10}{ratio:>8.2f}{difference:>15.1e} nats")
    total = sum(row[3] for row in rows) / sum(row[2] for row in rows)
    print(f"all tasks: {total:.2f} times as fast; the scores of every request agree")


def _compare(scorer: HuggingFaceScorer, theirs: Any, pairs: list, *, rounds: int) -> tuple[float, float, int, float, float]:
    """(our seconds, their seconds, their best batch size, ratio, largest difference of a score)."""
    requests = [(("", ""), context, tail) for context, tail in pairs]
    ours = timed(lambda: log_likelihoods(scorer, pairs, max_tokens=1024))
    sizes = {size: timed(lambda size=size: _harness(theirs, requests, size)) for size in BATCH_SIZES}
    best = min(sizes, key=lambda size: sizes[size][0])
    difference = max(abs(a[0] - b[0]) for a, b in zip(ours[1], sizes[best][1], strict=True))
    assert difference < MAX_DIFFERENCE_NATS, difference
    assert [greedy for _, greedy in ours[1]] == [greedy for _, greedy in sizes[best][1]]
    seconds = []
    for _ in range(rounds):
        first = timed(lambda: log_likelihoods(scorer, pairs, max_tokens=1024))[0]
        seconds.append((first, timed(lambda: _harness(theirs, requests, best))[0]))
    ratio = median(slow / quick for quick, slow in seconds)
    return median(quick for quick, _ in seconds), median(slow for _, slow in seconds), best, ratio, difference


def _harness(theirs: Any, requests: list, batch_size: int) -> list[tuple[float, bool]]:
    theirs.batch_size_per_gpu = batch_size
    return theirs._loglikelihood_tokens(requests, disable_tqdm=True)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def questions(tokenizer: Tokenizer, shape: tuple[int, int, int], *, number: int) -> list[tuple[list[int], list[int]]]:
    """Contexts with their choices, cut out of real text; lengths vary by a third around the task's."""
    context, choice, num_choices = shape
    rng = random.Random(context)
    tokens = [token for text in _texts(400_000) for token in tokenizer.encode(text)]

    def cut(length: int) -> list[int]:
        size = max(1, round(length * rng.uniform(0.67, 1.33)))
        start = rng.randrange(len(tokens) - size)
        return tokens[start : start + size]

    pairs = []
    for _ in range(number):
        asked = cut(context)
        pairs += [(asked, cut(choice)) for _ in range(num_choices)]
    return pairs


def _texts(num_bytes: int) -> list[str]:
    taken, texts = 0, []
    for document in documents(SourceSpec(name="docs", kind="python", what="docs")):
        texts.append(document.text)
        taken += len(document.text)
        if taken > num_bytes:
            break
    return texts


def _models(folder: Path, tokenizer: Tokenizer) -> tuple[Any, Any]:
    """The nano preset's shape as a Llama, and the harness's backend around the same weights."""
    from lm_eval.models.huggingface import HFLM
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from recipe.export.tokenizer_files import fast_tokenizer

    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**llama_config(load_recipe("nano").model, dtype="float32"))).eval()
    fast = PreTrainedTokenizerFast(tokenizer_object=fast_tokenizer(tokenizer), eos_token="</s>", pad_token="</s>")
    return model, HFLM(pretrained=model, tokenizer=fast, batch_size=1, max_length=1024)


if __name__ == "__main__":
    main()
