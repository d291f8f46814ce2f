"""Parts that users write."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PART = """
from newt.config.section import Section
from newt.extend import Feature


class LoudSettings(Section):
    loudness: int = 1


class Loud(Feature):
    name = "loud"
    Settings = (LoudSettings,)
    off = "loudness is not above 1"
    switches = ("loudness",)

    @classmethod
    def active(cls, cfg):
        return cfg[LoudSettings].loudness > 1

    def check(self):
        if self.cfg[LoudSettings].loudness > 11:
            yield self.problem("loudness", "goes to eleven.")

    def plan_train(self, plan):
        plan.args.fill(by=self.name, learning_rate=0.0)


class Nameless(Feature):
    pass


class Taken(Loud):
    name = "lora"


class SeedSettings(Section):
    seed: int = 1


class Greedy(Loud):
    name = "greedy"
    Settings = (SeedSettings,)


class Second(Loud):
    name = "second"


class Idle(Feature):
    name = "idle"


NOTHING = 1
"""

CONFIG = """\
base_model: m
learning_rate: 1e-3
micro_batch_size: 1
gradient_accumulation_steps: 1
datasets: [{path: rows.jsonl, type: chat_template}]
"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from newt.commands.shared import find_problems

    (tmp_path / "loud_parts.py").write_text(PART)
    (tmp_path / "broken_part.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "wrong_part.py").write_text("x = = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(text: str, overrides=()):
        Path("c.yml").write_text(CONFIG + text)
        made, problems = find_problems("c.yml", overrides, facts=False)
        return made, [str(problem) for problem in problems]

    yield run
    for name in ("loud_parts", "broken_part", "wrong_part"):
        sys.modules.pop(name, None)


def test_its_keys_join_the_config(check):
    run, problems = check("plugins: [loud_parts.Loud]\nloudness: 3\n")
    assert all("learning_rate" in problem for problem in problems)
    assert [part.name for part in run.features][-1] == "loud"
    run, problems = check("plugins: [loud_parts.Loud]\n")
    assert problems == []
    assert "loud" not in [part.name for part in run.features]


def test_its_checks_and_the_config_s_own(check):
    assert "c.yml:7: loudness: goes to eleven." in check("plugins: [loud_parts.Loud]\nloudness: 12\n")[1]
    problems = check("plugins: [loud_parts.Loud]\nloudnes: 3\n")[1]
    assert problems == ["c.yml:7: loudnes: unknown key. Did you mean loudness?"]
    assert "unknown key" in check("loudness: 3\n")[1][0]


def test_its_slots_collide_like_any_other(check):
    problems = check("plugins: [loud_parts.Loud]\nloudness: 3\n")[1]
    assert any("loud" in problem and "learning_rate" in problem for problem in problems)


def test_the_command_line_may_name_it(check):
    assert check("", {"plugins": "[loud_parts.Loud]", "loudness": "1"})[1] == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loud_prats.Loud", "there is no module loud_prats. Did you mean loud_parts.py?"),
        ("loud_parts.Lout", "loud_parts has no Lout. It has: Loud,"),
        ("loud_parts.NOTHING", "NOTHING is not a subclass of newt.extend.Feature."),
        ("loud_parts.Nameless", "it has no name."),
        ("loud_parts.Idle", "it does not say when it is active."),
        ("loud_parts.Taken", "its name 'lora' is taken by another Part."),
        ("loud_parts.Greedy", "its key seed belongs to the section RunControl."),
        ("broken_part.Loud", "its import failed: No module named 'nothing_of_this_name'."),
        ("wrong_part.Loud", "its import failed: SyntaxError: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(check, name, message):
    problems = check(f"plugins:\n  - {name}\n")[1]
    assert len(problems) == 1
    assert problems[0].startswith(f"c.yml:7: plugins.0: {name}: {message}")


def test_two_plugins_with_one_key(check):
    problems = check("plugins: [loud_parts.Loud, loud_parts.Second]\n")[1]
    assert problems == [
        "c.yml:6: plugins.1: loud_parts.Second: its key loudness belongs to the plugin loud_parts.Loud."
    ]


def test_names_of_the_field(check):
    for name in ("axolotl.integrations.nemo_gym.NemoGymPlugin", "NemoGymPlugin"):
        problems = check(f"plugins: [{name}]\n")[1]
        assert any("NemoGymPlugin is known, but Newt does not support it yet." in problem for problem in problems)
    problems = check("plugins: [axolotl.integrations.liger.LigerPlugn]\n")[1]
    assert any("Did you mean LigerPlugin?" in problem for problem in problems)
    problems = check("plugins: [axolotl.integrations.x.Xyzzy]\n")[1]
    assert any("unknown plugin" in problem for problem in problems)
