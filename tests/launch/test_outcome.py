"""What an ended attempt leads to."""

import pytest

from launch.supervise.outcome import Action, decide, describe_exit, normal_exit_code


@pytest.mark.parametrize(
    ("exit_code", "starts", "tokens", "action"),
    [
        (0, [0], 640, Action.DONE),
        (0, [0, 0, 0], 0, Action.DONE),  # finished says more than the count
        (2, [0], 0, Action.STOP),
        (75, [0], 640, Action.AGAIN),
        (75, [640, 640, 640], 640, Action.STOP),  # a time limit too short for one checkpoint is a loop as well
        (1, [0], 640, Action.AGAIN),
        (1, [640], 640, Action.AGAIN),
        (1, [0, 640, 640], 640, Action.AGAIN),
        (1, [640, 640, 640], 640, Action.STOP),
        (1, [640, 640, 640], 1280, Action.AGAIN),  # the third one got on
        (None, [0, 0, 0], 0, Action.STOP),
        (137, [640, 0, 640, 640], 640, Action.AGAIN),  # an older checkpoint in between: counted from there
    ],
)
def test_decision(exit_code: int | None, starts: list[int], tokens: int, action: Action) -> None:
    assert decide(exit_code, reason="x", starts_tokens=starts, tokens=tokens).action is action


def test_stop_names_count_checkpoint_and_cause() -> None:
    decision = decide(1, reason="killed by SIGKILL", starts_tokens=[640] * 4, tokens=640)
    assert decision.reason == "4 attempts without getting past the checkpoint at 640 tokens; the last one: killed by SIGKILL"


@pytest.mark.parametrize(("code", "same"), [(0, 0), (75, 75), (-9, 137), (247, 137), (137, 137), (-15, 143), (1, 1)])
def test_signals_have_one_code(code: int, same: int) -> None:
    assert normal_exit_code(code) == same


def test_describe_exit() -> None:
    assert describe_exit(137) == "killed by SIGKILL"
    assert describe_exit(None) == "lost"
    assert describe_exit(3) == "failed with exit code 3"
