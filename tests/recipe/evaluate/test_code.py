"""The sandbox holds, and HumanEval's own solutions pass while wrong ones don't."""

import pytest

from recipe.evaluate.code import HUMANEVAL_STOPS, cut, evaluate_code, humaneval, judge, mbpp, pass_at_k
from recipe.evaluate.loglikelihood import TaskError
from recipe.evaluate.sandbox import Limits, run
from recipe.rundir import write_text

QUICK = Limits(seconds=2, memory_bytes=1 << 29, file_bytes=1 << 16)


@pytest.mark.parametrize(
    "program",
    [
        "assert sum(range(5)) == 10",
        "open('own.txt', 'w').write('x'); assert open('own.txt').read() == 'x'",
        "import collections, heapq, itertools, json, math, random, re, typing",
    ],
)
def test_honest_programs_pass(program: str) -> None:
    assert run(program, QUICK).passed


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert 1 == 2", "AssertionError"),
        ("def (", "SyntaxError: invalid syntax"),
        ("while True: pass", "timed out"),
        ("import time; time.sleep(60)", "timed out"),
        ("x = bytearray(1 << 30)", "MemoryError"),
        ("import os; os._exit(0)", "exit code 0"),
        ("raise SystemExit(0)", "exit code 0"),
        ("open('/tmp/outside', 'w')", "Permission denied"),
        ("import os; os.listdir('/var')", "Permission denied"),
        ("print(open('/etc/hostname').read())", "Permission denied"),
        ("open('big', 'w').write('x' * (1 << 20))", "File too large"),
        ("import socket; socket.create_connection(('127.0.0.1', 9), 1)", "Network is unreachable"),
        ("import os; os.kill(1, 9) if os.getpid() != 1 else exec('raise SystemExit(0)')", "exit code 0"),
    ],
)
def test_everything_else_does_not(program: str, reason: str) -> None:
    verdict = run(program, QUICK)
    assert not verdict.passed
    assert reason in verdict.reason


def test_children_die_with_the_program() -> None:
    import subprocess
    import time

    started = time.monotonic()
    assert run("import subprocess; subprocess.Popen(['sleep', '4321'])", QUICK).passed
    assert time.monotonic() - started < 10
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 4321" not in listed


def test_humaneval_is_the_real_one_and_its_solutions_pass() -> None:
    problems = humaneval()
    assert len(problems) == 164
    some = problems[::12]
    assert all(verdict.passed for verdict in judge(some, [problem.solution for problem in some]))
    assert not any(verdict.passed for verdict in judge(some, ["    return None\n"] * len(some)))


@pytest.mark.slow
def test_all_of_humanevals_solutions_pass() -> None:
    problems = humaneval()
    verdicts = judge(problems, [problem.solution for problem in problems])
    assert [p.name for p, verdict in zip(problems, verdicts) if not verdict.passed] == []


def test_pass_at_1_counts_what_passed_and_says_why_not() -> None:
    problems = humaneval()[:4]
    solutions = {problem.prompt: problem.solution for problem in problems[:3]}
    result = evaluate_code(problems, lambda prompt, stops: solutions.get(prompt, "    return 7\n\ndef more(): pass"))
    assert result["pass@1"] == 0.75
    assert result["reasons"] == {"passed": 3, "AssertionError": 1}


def test_completions_end_at_the_first_stop() -> None:
    assert cut("    return 1\n\ndef other():\n    pass\nclass C:", HUMANEVAL_STOPS) == "    return 1\n"


def test_pass_at_k_is_the_papers_estimate() -> None:
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(5, 2, 2) == pytest.approx(1 - 3 / 10)
    assert pass_at_k(4, 1, 4) == 1.0


def test_mbpp_from_a_folder(tmp_path) -> None:
    folder = tmp_path / "google-research-datasets" / "mbpp" / "full"
    row = (
        '{"task_id": %d, "text": "Add two numbers.", "code": "def add(a, b):\\n    return a + b", '
        '"test_list": ["assert add(1, 2) == 3"]}'
    )
    write_text(folder / "prompt.jsonl", "\n".join(row % number for number in (2, 3, 4)) + "\n")
    write_text(folder / "test.jsonl", row % 11 + "\n")
    problems = mbpp(tmp_path)
    assert problems[0].prompt.count("[DONE]") == 3
    assert evaluate_code(problems, lambda prompt, stops: problems[0].solution + "\n[DONE]")["pass@1"] == 1.0


def test_missing_data_says_how_to_get_it(tmp_path) -> None:
    with pytest.raises(TaskError, match=r"google-research-datasets/mbpp/full: no data.*load_dataset"):
        mbpp(tmp_path)
