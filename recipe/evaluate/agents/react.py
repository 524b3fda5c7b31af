"""The ReAct loop (arXiv 2210.03629): thought, action, observation, until the environment says done or the limit is reached.

    played = play(environment, policy, max_steps=7)      # policy: (text so far, stop strings) → what comes next
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Policy = Callable[[str, Sequence[str]], str]
"""(text so far, stop strings) → continuation; a model's greedy decoding, or a script."""

ACTION = re.compile(r"^\s*Action(?: \d+)?:[ \t]*(.+?)\s*$", re.MULTILINE)
CALL = re.compile(r"^(\w+)\[(.*)\]$", re.DOTALL)


class BadAction(Exception):
    """An action that the environment doesn't have; the message is what the agent observes."""


@dataclass(frozen=True)
class Outcome:
    """What an action led to; `score` counts once `done`, from 0 to 1."""

    observation: str
    done: bool = False
    score: float = 0.0


class Environment(Protocol):
    """One task of one benchmark."""

    instructions: str
    """What actions there are, with a worked example."""

    def reset(self) -> str:
        """Starts the task and returns what the agent is asked."""
        ...

    def act(self, action: str) -> Outcome:
        """Carries out one action; raises `BadAction` for one that makes no sense here."""
        ...


@dataclass
class Episode:
    """How a task went; `ended` is done or limit."""

    score: float = 0.0
    num_steps: int = 0
    num_malformed: int = 0
    ended: str = "limit"
    transcript: list[str] = field(default_factory=list)


def play(environment: Environment, policy: Policy, *, max_steps: int) -> Episode:
    """One task from reset to its end. A malformed action is counted, observed as such, and takes a step."""
    episode = Episode()
    text = f"{environment.instructions.strip()}\n\n{environment.reset().strip()}\n"
    for step in range(1, max_steps + 1):
        text += f"Thought {step}:"
        said = policy(text, (f"\nObservation {step}:", f"\nThought {step + 1}:")).rstrip()
        episode.num_steps = step
        try:
            outcome = environment.act(parse_action(said))
        except BadAction as bad:
            episode.num_malformed += 1
            outcome = Outcome(str(bad))
        turn = f"{said}\nObservation {step}: {outcome.observation.strip()}\n"
        episode.transcript.append(f"Thought {step}:{turn}")
        text += turn
        if outcome.done:
            episode.score, episode.ended = outcome.score, "done"
            break
    return episode


def parse_action(said: str) -> str:
    """The first `Action:` line of what the agent said; raises `BadAction` where there is none."""
    found = ACTION.search(said)
    if found is None:
        raise BadAction("Invalid action: write a line that begins with Action:")
    return found.group(1)


def parse_call(action: str, known: Sequence[str]) -> tuple[str, str]:
    """`Search[Paris]` → ("search", "Paris"); raises `BadAction` naming the actions that there are."""
    found = CALL.match(action.strip())
    if found is None or found.group(1).lower() not in known:
        forms = ", ".join(f"{name}[...]" for name in known)
        raise BadAction(f"Invalid action: {action[:80]}. Actions are: {forms}")
    return found.group(1).lower(), found.group(2).strip()


def summary(episodes: Iterable[Episode], *, metric: str) -> dict[str, Any]:
    """Mean score, and how the episodes went."""
    played = list(episodes)
    steps = sum(episode.num_steps for episode in played)
    return {
        "value": sum(episode.score for episode in played) / len(played), "metric": metric, "num_questions": len(played),
        "mean_steps": steps / len(played), "malformed_frac": sum(episode.num_malformed for episode in played) / max(steps, 1),
        "ended": {kind: sum(episode.ended == kind for episode in played) for kind in ("done", "limit")},
    }
