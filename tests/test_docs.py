"""README and docs are true of the code: file map, equation map, commands and figures' places."""

import re
import shlex
from pathlib import Path

import pytest

import rerank
import sample
import train
from mathref.fetch import DATASETS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
WALKTHROUGH = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")


def file_map(page: str) -> set[str]:
    """The files that a page's map lists."""
    return set(re.findall(r"^\s+([\w/]+\.py) ", page.split("## File map")[1].split("\n## ")[0], flags=re.M))


def test_every_module_and_command_is_in_the_file_map_and_the_reverse():
    inside = {
        f"grading/{name}" for name in file_map((ROOT / "docs" / "GRADER.md").read_text(encoding="utf-8"))
    }
    listed = file_map(README) | inside
    package = ROOT / "mathref"
    modules = {str(p.relative_to(package)) for p in package.rglob("*.py") if p.name != "__init__.py"}
    commands = {p.name for p in ROOT.glob("*.py")}
    assert listed == modules | commands


@pytest.mark.parametrize("target", re.findall(r"`((?:mathref/)?\w+\.py::\w+|tests/\w+\.py)`", WALKTHROUGH))
def test_every_target_of_the_equation_map_exists(target):
    file, _, name = target.partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not name or re.search(rf"^(def|class) {name}\b", text, flags=re.M)


def test_local_links_resolve():
    for document in (
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
    ):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), f"{document.name} -> {link}"


def test_requirements_and_package_metadata_name_the_same_torch():
    assert "torch==2.13.0" in (ROOT / "requirements.txt").read_text()
    assert "torch==2.13.0" in (ROOT / "pyproject.toml").read_text()


def test_flags_in_documents_exist():
    """Every --flag of a `python X.py` line in README and docs is known to that command's --help."""
    import subprocess
    import sys

    helps = {}
    names = ("RESULTS.md", "ADAPTERS.md", "DISTRIBUTED.md", "ENGINES.md")
    pages = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in names)
    for document in (README, WALKTHROUGH, *pages):
        for script, rest in re.findall(r"(?:python3?|torchrun .*?) (\w+\.py)([^\n`|]*)", document):
            if script not in helps:
                command = [sys.executable, script, "--help"]
                helps[script] = subprocess.run(
                    command, cwd=ROOT, capture_output=True, text=True, check=True
                ).stdout
            for flag in re.findall(r"(?<!\S)(--[a-z][a-z-]*)", rest):
                assert flag in helps[script], f"{script} {flag}"


def written(script: str, arguments: list[str]) -> list[Path]:
    """What a command of the README writes where it has no --out."""
    if script == "train.py":
        return [train.parse_args(arguments).out]
    if script == "sample.py":
        args = sample.parse_args(arguments)
        return [sample.default_out(args, Path(args.model or sample.GENERATOR).name)]
    if script == "rerank.py":
        return [rerank.default_out(rerank.parse_args(arguments))]
    if arguments[:1] == ["fetch"]:
        return [Path("data") / remote.name for remote in DATASETS[arguments[1]].files]
    return []


def test_every_file_that_a_readme_command_reads_is_written_by_one_before_it():
    """The real-data commands once ended in a file name that sample.py does not write."""
    commands = README.replace("\\\n", " ")
    there: set[Path] = set()
    read: set[Path] = set()
    for line in re.findall(r"(?:^ +|/)python ((?:\w+\.py|-m mathref\.data)(?: .*)?)$", commands, flags=re.M):
        script, *arguments = shlex.split(line.removeprefix("-m "), comments=True)
        inputs = [Path(word) for word in arguments if re.match(r"(samples|data|runs)/", word)]
        if "--out" in arguments:
            inputs.remove(Path(arguments[arguments.index("--out") + 1]))
        assert set(inputs) <= there, (
            f"{line}: {sorted(map(str, set(inputs) - there))} is written by no command before"
        )
        read |= set(inputs)
        there |= set(written(script, arguments))
    assert len(read) >= 8
