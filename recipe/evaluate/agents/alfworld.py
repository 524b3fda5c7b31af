"""ALFWorld (arXiv 2010.03768): household tasks in TextWorld, by the real package.

Games lie below `<data>/alfworld` as `alfworld-download` puts them: any `game.tw-pddl`. Needs `pip install alfworld`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipe.evaluate.agents.react import BadAction, Outcome
from recipe.evaluate.loglikelihood import TaskError

NOTHING = "Nothing happens."
INSTRUCTIONS = """Do a household task by turns of Thought, Action and Observation. Actions are plain commands:
go to, take … from, move … to, open, close, use, clean … with, heat … with, cool … with, look, inventory.

You are in the middle of a room. Looking quickly around you, you see a cabinet 1, and a desk 1.
Your task is to: put some pen in the cabinet.
Thought 1: A pen is likely on the desk.
Action 1: go to desk 1
Observation 1: You arrive at desk 1. On the desk 1, you see a pen 2.
Thought 2: I take it.
Action 2: take pen 2 from desk 1
Observation 2: You pick up the pen 2 from the desk 1.
Thought 3: Now to the cabinet.
Action 3: go to cabinet 1
Observation 3: You arrive at cabinet 1. The cabinet 1 is open. In it, you see nothing.
Thought 4: I put it in.
Action 4: move pen 2 to cabinet 1
Observation 4: You move the pen 2 to the cabinet 1."""


class AlfworldTask:
    """One game; success is its goal reached."""

    instructions = INSTRUCTIONS

    def __init__(self, game: Path) -> None:
        self.game = game
        self._env: Any = None

    def reset(self) -> str:
        self._env = _start(self.game)
        return str(self._env.reset().feedback).removeprefix("-= Welcome to TextWorld, ALFRED! =-").strip()

    def act(self, action: str) -> Outcome:
        assert self._env is not None, "reset first"
        state, _, done = self._env.step(action)
        if state.feedback.strip() == NOTHING:
            raise BadAction(NOTHING)
        return Outcome(state.feedback, done=bool(done), score=float(state["won"]))


def _start(game: Path) -> Any:
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredInfos

    infos = textworld.EnvInfos(won=True, admissible_commands=True)
    return textworld.start(str(game), infos, wrappers=[AlfredDemangler(), AlfredInfos])


def alfworld(data: Path) -> Iterator[AlfworldTask]:
    """Every game below the folder, in order of path; raises `TaskError` for a missing package or no game."""
    try:
        import alfworld.info  # noqa: F401
    except ImportError as error:
        raise TaskError("alfworld: the package is not installed; pip install alfworld") from error
    games = sorted((data / "alfworld").rglob("game.tw-pddl"))
    if not games:
        raise TaskError(
            f"{data / 'alfworld'}: no game.tw-pddl. Nothing is downloaded here; where there is a network: "
            f"ALFWORLD_DATA={data / 'alfworld'} alfworld-download"
        )
    for game in games:
        yield AlfworldTask(game)
