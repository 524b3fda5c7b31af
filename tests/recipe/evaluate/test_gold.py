"""Scores of right answers: accuracy is the harness's, bits those of the answer alone."""

from math import log
from pathlib import Path

import pytest
import torch

from data_prep.tokenizer import Tokenizer, load_tokenizer, train_unigram
from recipe.evaluate.gold import gold_questions, gold_score, uniform_score
from recipe.evaluate.loglikelihood import TaskError
from recipe.evaluate.scorers import HuggingFaceScorer
from recipe.evaluate.tasks import run_tasks
from tests.recipe.evaluate.fixtures import QUESTIONS, write_datasets

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the harness's own, where it is imported here
VOCAB, CONTEXT = 300, 256


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_datasets(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_unigram((f"{q} {' '.join(c)}" for q, c, _ in QUESTIONS * 20), out_dir=folder, vocab_size=VOCAB)
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def scorer() -> HuggingFaceScorer:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"vocab_size": VOCAB, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT}
    config = LlamaConfig(initializer_range=0.3, **shape)
    return HuggingFaceScorer(LlamaForCausalLM(config))


@pytest.mark.parametrize("name", ["arc_easy", "hellaswag", "winogrande", "boolq", "sciq"])
def test_accuracy_is_the_harnesss(name, scorer, tokenizer, data):
    questions = gold_questions(name, tokenizer=tokenizer, data=data)
    assert len(questions) == len(QUESTIONS)
    told = run_tasks(scorer, tokenizer, [name], data=data, max_tokens=CONTEXT)[name]
    assert gold_score(scorer, questions, max_tokens=CONTEXT).error_frac == pytest.approx(1 - told["value"])


def test_bits_are_those_of_the_right_answer_alone(scorer, tokenizer, data):
    questions = gold_questions("arc_easy", tokenizer=tokenizer, data=data, limit=2)
    nats = num_bytes = 0.0
    for question, (asked, choices, gold) in zip(questions, QUESTIONS):
        assert question.gold == gold
        context, answer = question.pairs[gold]
        assert tokenizer.decode([*context, *answer]) == f"Question: {asked}\nAnswer: {choices[gold]}"
        row = torch.tensor([[*context, *answer]])
        with torch.inference_mode():
            log_p = scorer.model(row[:, :-1]).logits[0, -len(answer) :].log_softmax(-1)
        nats -= float(log_p[torch.arange(len(answer)), torch.tensor(answer)].sum())
        num_bytes += len(f" {choices[gold]}".encode())
    assert gold_score(scorer, questions, max_tokens=CONTEXT).bits_per_byte == pytest.approx(nats / log(2) / num_bytes, rel=1e-5)


def test_answers_without_choices_have_bits_and_no_error(scorer, tokenizer, data):
    questions = gold_questions("gsm8k", tokenizer=tokenizer, data=data, limit=2)
    found = gold_score(scorer, questions, max_tokens=CONTEXT)
    assert found.error_frac == 0
    assert 0 < found.bits_per_byte < 10 * uniform_score(questions, vocab_size=VOCAB).bits_per_byte


def test_parts_of_a_task_count_together(tokenizer, data):
    assert len(gold_questions("mmlu", tokenizer=tokenizer, data=data, limit=1)) == 57


def test_programs_and_missing_data_are_refused(tokenizer, tmp_path):
    with pytest.raises(TaskError, match="humaneval: programs are judged by running them"):
        gold_questions("humaneval", tokenizer=tokenizer, data=tmp_path)
    with pytest.raises(TaskError, match=r"piqa: .*no data"):
        gold_questions("piqa", tokenizer=tokenizer, data=tmp_path)
