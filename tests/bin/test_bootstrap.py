"""The scripts `bin/koe` and `bin/test`, in checkouts made for the purpose.

Nothing here reaches a network or the system's packages: what would be fetched is a
wheel made on the spot, the index is a closed port, and `apt-get` only takes notes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.real

SCRIPTS: Final = Path(__file__).parents[2] / "bin"

QUICK_PYTHON: Final = """
case "$*" in
*"-m venv "*)
    sleep "${VENV_TAKES_S:-0}"
    mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
*"-m pip "* | *"import ensurepip"*) ;;
*"import sounddevice"*) exit 1 ;;
*realpath*) echo "$0" ;;
*) exec %s "$@" ;;
esac
"""
# A Python that makes environments in no time, installs nothing and has no PortAudio.

TELL: Final = """
import os, sys
import greeting
print(sys.argv[1:], os.getcwd(), sys.stdin.read(), greeting.TEXT, sep="|")
sys.exit(42)
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout whose program tells how it was started and ends with 42."""

    root: Path
    elsewhere: Path

    def require(self, *requirements: str) -> None:
        """Write the setup.cfg that asks for these packages to run, none to test."""
        listed = "".join(f"\n    {requirement}" for requirement in requirements)
        extras = "[options.extras_require]\ntest =\n\n"
        text = f"[options]\ninstall_requires ={listed}\n\n{extras}"
        (self.root / "setup.cfg").write_text(text)

    def run(
        self, script: str, *arguments: str, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts from another directory."""
        return subprocess.run(
            [str(self.root / "bin" / script), *arguments],
            cwd=self.elsewhere,
            env=self.environment(environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def koe(
        self, *arguments: str, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run bin/koe."""
        return self.run("koe", *arguments, stdin=stdin, **environment)

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Give an environment in which apt-get is ours and nothing else can install."""
        ours = {
            "PATH": f"{self.elsewhere / 'stubs'}:{os.environ['PATH']}",
            "HOME": str(self.elsewhere),
            "KOE_PYTHON": str(self.quick_python),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": "http://127.0.0.1:9/",
            "PIP_RETRIES": "1",
        }
        return {**ours, **more}

    @property
    def quick_python(self) -> Path:
        """The stand-in for Python where nothing is really installed."""
        return self.elsewhere / "stubs/python-quick"

    def stub(self, name: str, script: str) -> Path:
        """Put a program on the PATH, before the real one."""
        program = self.elsewhere / "stubs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    def make_ready(self) -> None:
        """Make an environment as a finished set-up leaves it, in no time."""
        interpreter = self.root / ".venv/bin/python"
        interpreter.parent.mkdir(parents=True)
        interpreter.symlink_to(sys.executable)
        (self.root / ".venv/made-by").write_text(f"{self.quick_python}\n")
        stamps = (
            "root=$1; . bin/bootstrap.sh; cd .venv;"
            "wanted run >ready-run; wanted test >ready-test"
        )
        subprocess.run(["sh", "-c", stamps, "sh", "."], cwd=self.root, check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root, elsewhere = tmp_path / "a checkout", tmp_path / "elsewhere"
    (root / "bin").mkdir(parents=True)
    elsewhere.mkdir()
    for script in ("koe", "test", "bootstrap.sh"):
        shutil.copy(SCRIPTS / script, root / "bin")
    (root / "bin/__init__.py").touch()
    (root / "bin/__main__.py").write_text(TELL)
    (root / "greeting.py").write_text("TEXT = 'hello'\n")
    made = Checkout(root, elsewhere)
    made.require()
    made.stub("python-quick", QUICK_PYTHON % sys.executable)
    made.stub("apt-get", f'printf "%s\\n" "$*" >>"{elsewhere}/apt-calls"; exit 1')
    made.stub("sudo", f'printf "%s\\n" "$*" >>"{elsewhere}/sudo-calls"; exit 1')
    return made


@pytest.fixture
def wheel(tmp_path: Path) -> str:
    """Give the requirement for a package that needs no index."""
    path = tmp_path / "salutation-1.0-py3-none-any.whl"
    about = "salutation-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("salutation.py", "TEXT = 'from a wheel'\n")
        archive.writestr(
            f"{about}/METADATA",
            "Metadata-Version: 2.1\nName: salutation\nVersion: 1.0\n",
        )
        archive.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{about}/RECORD", "")
    return f"salutation @ {path.as_uri()}"


def test_a_ready_environment_is_used_in_silence(checkout: Checkout) -> None:
    checkout.make_ready()
    assert checkout.koe().stderr == ""


def test_arguments_input_directory_and_exit_status_pass_untouched(
    checkout: Checkout,
) -> None:
    checkout.make_ready()
    ended = checkout.koe("call", "a b", "*", "", "--x=\n", stdin="words")
    assert ended.returncode == 42
    told = ended.stdout.rstrip("\n").split("|")
    assert told[0] == repr(["call", "a b", "*", "", "--x=\n"])
    assert told[1:] == [str(checkout.elsewhere), "words", "hello"]


def test_a_module_in_the_working_directory_is_not_picked_up(checkout: Checkout) -> None:
    checkout.make_ready()
    (checkout.elsewhere / "greeting.py").write_text("TEXT = 'an impostor'\n")
    assert checkout.koe().stdout.rstrip("\n").endswith("|hello")


def test_it_can_be_started_through_a_symbolic_link(checkout: Checkout) -> None:
    checkout.make_ready()
    link = checkout.elsewhere / "koe"
    link.symlink_to(checkout.root / "bin/koe")
    ended = subprocess.run(
        [link], env=checkout.environment({}), stdin=subprocess.DEVNULL, check=False
    )
    assert ended.returncode == 42


def test_set_up_installs_what_setup_cfg_asks_for_and_then_runs(
    checkout: Checkout, wheel: str
) -> None:
    checkout.require(wheel)
    (checkout.root / "greeting.py").write_text("from salutation import TEXT\n")
    first = checkout.koe("x", stdin="kept", KOE_PYTHON=sys.executable)
    second = checkout.koe(KOE_PYTHON=sys.executable)
    assert first.stdout.rstrip("\n").endswith("|kept|from a wheel")
    assert first.returncode == 42
    assert "setting up Koe, once: Python packages (1 " in first.stderr
    assert second.stderr == ""


def test_sound_cards_missing_are_told_and_do_not_stop_it(checkout: Checkout) -> None:
    ended = checkout.koe()
    assert "no sound cards without PortAudio" in ended.stderr
    assert ended.returncode == 42


def test_new_requirements_are_installed_into_the_environment_there_is(
    checkout: Checkout, wheel: str
) -> None:
    checkout.koe()
    kept = checkout.root / ".venv/kept"
    kept.touch()
    checkout.require(wheel)
    ended = checkout.koe()
    assert "Python packages (1 " in ended.stderr
    assert "virtual environment" not in ended.stderr
    assert kept.exists()


@pytest.mark.parametrize("damage", ["unfinished", "no interpreter"])
def test_a_half_made_environment_is_made_again(checkout: Checkout, damage: str) -> None:
    checkout.make_ready()
    left_over = checkout.root / ".venv/left-over"
    left_over.touch()
    if damage == "unfinished":
        (checkout.root / ".venv/unfinished").touch()
    else:
        (checkout.root / ".venv/bin/python").unlink()
    ended = checkout.koe()
    assert "a virtual environment in" in ended.stderr
    assert ended.returncode == 42
    assert not left_over.exists()


def test_two_first_starts_at_once_set_up_once(checkout: Checkout) -> None:
    both = [
        subprocess.Popen(
            [checkout.root / "bin/koe"],
            env=checkout.environment({"VENV_TAKES_S": "0.3"}),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = "".join(one.communicate()[1] for one in both)
    assert [one.returncode for one in both] == [42, 42]
    assert told.count("a virtual environment in") == 1
    assert told.count("waiting for another set-up to end") == 1


def test_a_python_named_by_the_user_and_too_old_is_refused(checkout: Checkout) -> None:
    old = checkout.stub("python-old", "exit 1")
    ended = checkout.koe(KOE_PYTHON=str(old))
    assert ended.returncode == 1
    assert "error K891" in ended.stderr
    assert str(old) in ended.stderr


def test_without_any_python_it_says_what_to_install(checkout: Checkout) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        checkout.stub(name, "exit 1")
    ended = checkout.koe(KOE_PYTHON="")
    assert ended.returncode == 1
    assert "error K891" in ended.stderr
    assert "apt install python3 python3-venv" in ended.stderr


def test_a_python_without_venv_says_which_package_has_it(checkout: Checkout) -> None:
    bare = checkout.stub(
        "bare",
        'case "$*" in *ensurepip*|*"-m venv"*) exit 1;; esac\n'
        f'case "$*" in *realpath*) echo "$0"; exit;; esac\nexec {sys.executable} "$@"',
    )
    ended = checkout.koe(KOE_PYTHON=str(bare))
    package = f"python3.{sys.version_info.minor}-venv"
    assert ended.returncode == 1
    assert "error K893" in ended.stderr
    assert f"apt install {package}" in ended.stderr


def test_without_a_network_it_says_so_and_where_the_log_is(checkout: Checkout) -> None:
    checkout.require("salutation")
    ended = checkout.koe(KOE_PYTHON=sys.executable)
    assert ended.returncode == 6
    assert "error K894" in ended.stderr
    assert str(checkout.root / ".venv/set-up.log") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_any_other_failure_of_pip_shows_the_end_of_its_log(checkout: Checkout) -> None:
    checkout.require("salutation @ file:///nowhere/salutation-1.0-py3-none-any.whl")
    ended = checkout.koe(KOE_PYTHON=sys.executable)
    assert ended.returncode == 1
    assert "error K895" in ended.stderr
    assert "  | " in ended.stderr
    assert "nowhere" in ended.stderr


def test_apt_is_never_asked_for_a_password(checkout: Checkout) -> None:
    checkout.stub("id", "echo 1000")
    assert checkout.koe().returncode == 42
    assert (checkout.elsewhere / "sudo-calls").read_text() == "-n true\n"
    assert not (checkout.elsewhere / "apt-calls").exists()


def test_every_code_of_the_set_up_is_documented() -> None:
    used = re.findall(
        r"\bfail(?:_with_log)? (\d{3}) ", (SCRIPTS / "bootstrap.sh").read_text()
    )
    documented = (SCRIPTS.parent / "docs/exit-codes.md").read_text()
    assert used
    assert [code for code in used if f"- K{code} " not in documented] == []


@pytest.fixture
def tools(checkout: Checkout) -> Checkout:
    """Give a ready checkout whose tools tell their names; lint-imports is unhappy."""
    checkout.make_ready()
    for tool in ("ruff", "mypy", "lint-imports", "pytest"):
        program = checkout.root / ".venv/bin" / tool
        status = 1 if tool == "lint-imports" else 0
        program.write_text(f'#!/bin/sh\necho "ran {tool} $*"\nexit {status}\n')
        program.chmod(0o755)
    return checkout


def test_the_first_check_that_finds_something_ends_the_tests(tools: Checkout) -> None:
    ended = tools.run("test")
    assert ended.returncode == 1
    ran = [line for line in ended.stdout.splitlines() if line.startswith("ran ")]
    assert [line.split()[1] for line in ran] == ["ruff", "ruff", "mypy", "lint-imports"]
    assert "bin/test: lint-imports found something" in ended.stderr


def test_with_arguments_bin_test_is_pytest_alone(tools: Checkout) -> None:
    ended = tools.run("test", "tests/nat", "-k", "a b")
    assert ended.stdout == "ran pytest tests/nat -k a b\n"
    assert ended.returncode == 0
