"""The set-up: pyproject.toml, the lock, environment.yml and CI agree, and `make` installs what they say, once."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [
    Requirement(text)
    for text in PROJECT["dependencies"] + [t for extra in PROJECT["optional-dependencies"].values() for t in extra]
]


def read_lock() -> dict[str, str]:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9.]+", line) for line in lines), "exact, and no local build"
    return dict(line.split("==") for line in lines)


LOCK = read_lock()


def needed_by(name: str, extras: set[str]) -> list[Requirement]:
    """Return what an installed package needs here; what only some builds of torch need is left to torch."""
    requirements = [Requirement(text) for text in metadata.requires(name) or []]
    return [
        r
        for r in requirements
        if not r.name.startswith(("nvidia-", "cuda-", "triton"))
        and (r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in extras))
    ]


def test_the_lock_has_a_fitting_version_of_everything_the_project_asks_for():
    for requirement in WANTED:
        assert LOCK[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_lock_has_everything_that_its_packages_need_and_nothing_else():
    extras = {name: {""} for name in LOCK}  # which extras of each package somebody asks for: grows to a fixed point
    for _ in range(5):
        asked = WANTED + [r for name in LOCK for r in needed_by(name, extras[name])]
        for requirement in asked:
            extras.get(canonicalize_name(requirement.name), set()).update(requirement.extras)
    wrong = [str(r) for r in asked if LOCK.get(canonicalize_name(r.name), "0") not in r.specifier]
    assert not wrong
    assert LOCK.keys() == {canonicalize_name(requirement.name) for requirement in asked}


def test_the_library_imports_only_what_the_project_asks_for():
    asked = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    provided_by = metadata.packages_distributions()
    for path in (ROOT / "diga_lib").rglob("*.py"):
        # At the top of a file; what is imported inside a function is for who has it.
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for module in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"diga_lib"}:
                providers = {canonicalize_name(name) for name in provided_by[module]}
                assert providers & asked, f"{path.name} imports {module}, which pyproject.toml does not ask for"


def test_what_is_installed_is_what_the_lock_says():
    installed = {name: metadata.version(name).split("+")[0] for name in LOCK}
    assert installed == LOCK


def test_conda_users_get_the_same_lock_and_a_python_that_the_project_allows():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in environment if isinstance(entry, dict)]
    (python,) = [entry for entry in environment if str(entry).startswith("python=")]
    assert pip == ["-r requirements.lock"]
    assert python.split("=")[1] in SpecifierSet(PROJECT["requires-python"])
    others = [entry for entry in environment if isinstance(entry, str) and entry not in ("pip", python)]
    assert not others, "a package that only conda users get"


def test_ci_runs_what_everybody_runs():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "set -eu" in lines
    assert lines[-1] == "make test"


def test_nothing_names_the_machine_it_was_made_on():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    places = re.compile(r"(?<![\w.])/(?:work|root|opt|home|Users)/\w")
    for name in tracked.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".yml", ".toml", ".ipynb", ".lock", ".json", ".jsonl"} and path.exists():
            found = places.findall(path.read_text())
            assert not found, f"{name}: {found[0]}"


@pytest.fixture
def copy(tmp_path):
    """A project with a stand-in for its Python, which writes down how it was called."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    python.chmod(0o755)
    (tmp_path / "calls").touch()
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_set_up_installs_once_and_again_only_when_the_lock_changes(copy):
    calls = copy / "calls"
    assert make(copy, "set-up").returncode == 0
    first, second = calls.read_text().splitlines()
    assert first.endswith("-r requirements.lock")
    assert second.endswith("--no-deps --no-build-isolation -e .")
    assert make(copy, "set-up").returncode == 0
    assert len(calls.read_text().splitlines()) == 2
    with open(copy / "requirements.lock", "a") as lock:
        lock.write("another==1\n")
    assert make(copy, "set-up").returncode == 0
    assert len(calls.read_text().splitlines()) == 4


def test_a_set_up_that_failed_is_tried_again(copy):
    python = copy / ".venv" / "bin" / "python"
    good = python.read_text()
    python.write_text("#!/bin/sh\nexit 1\n")
    assert make(copy, "set-up").returncode != 0
    python.write_text(good)
    assert make(copy, "set-up").returncode == 0
    assert len((copy / "calls").read_text().splitlines()) == 2


def test_a_machine_without_python_is_told_what_is_needed(copy):
    done = make(copy, "set-up", "PYTHON=", "VENV=none")
    assert done.returncode != 0
    assert "Python 3.11, 3.12 or 3.13 is needed" in done.stderr
