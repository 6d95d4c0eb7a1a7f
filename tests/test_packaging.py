"""What the wheel and the source archive hold: commands that run without a checkout, one version, no tests."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import mathref
from mathref.runs import SCRIPTS, spelled

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("train", "sample", "rerank", "evaluate", "study")
LEFT_OUT = (".git", ".venv", ".*_cache", "__pycache__", "build", "*.egg-info", "runs", "samples", "data")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with wheel and sdist, built without network from a copy."""
    pytest.importorskip("setuptools", "77", reason="setuptools is not installed")
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*LEFT_OUT))
    code = "from setuptools import build_meta as b; b.build_wheel('../built'); b.build_sdist('../built')"
    subprocess.run([sys.executable, "-c", code], cwd=folder / "source", check=True, capture_output=True)
    return folder / "built"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """A folder with what the wheel puts into site-packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder


def run(installed: Path, code: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Python that sees the installed package and no checkout."""
    environment = dict(os.environ) | {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def command(name: str, before: str = "") -> str:
    """Code that calls the console command mathref-NAME as its wrapper does."""
    return (
        f"import sys; sys.argv[0] = '/bin/mathref-{name}'; {before}\n"
        "from importlib.metadata import entry_points\n"
        f"(entry,) = entry_points(group='console_scripts', name='mathref-{name}')\n"
        "sys.exit(entry.load()())"
    )


def test_the_wheel_holds_the_package_its_assets_and_the_scripts_but_no_tests(installed):
    held = {str(p.relative_to(installed)) for p in installed.rglob("*") if p.is_file()}
    info = f"mathref-{mathref.__version__}.dist-info"
    own = {n for n in held if not n.startswith(info)}
    source = {p.relative_to(ROOT) for p in (ROOT / "mathref").rglob("*") if p.is_file()}
    expected = {str(p) for p in source if "__pycache__" not in p.parts}
    assert own == expected | {f"mathref/scripts/{name}.py" for name in COMMANDS if name != "study"}
    assert f"{info}/licenses/LICENSE" in held
    assert {"mathref/py.typed", "mathref/assets/tiny/model.safetensors"} <= own


def test_the_source_archive_can_be_built_from_and_holds_no_tests(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "train.py"} <= names
    assert {"mathref/py.typed", "mathref/assets/small/tokenizer.model"} <= names
    assert not any(name.startswith(("tests", "bench", "runs")) for name in names)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_tells_its_version(installed, tmp_path, name):
    result = run(installed, command(name), tmp_path, "--version")
    assert (result.returncode, result.stdout) == (0, f"mathref {mathref.__version__}\n"), result.stderr
    helped = run(installed, command(name), tmp_path, "--help")
    assert helped.returncode == 0 and "usage: " in helped.stdout, helped.stderr


def test_commands_name_each_other_as_they_are_installed(installed, tmp_path):
    """`python sample.py` is of no use to somebody who has no checkout."""
    result = run(installed, command("sample"), tmp_path)
    assert result.returncode == 2 and result.stderr.startswith(
        "mathref-sample: error: runs/ssft is not there"
    )
    assert "`mathref-train --stage ssft`" in result.stderr
    alone = run(installed, command("train"), tmp_path, *"--stage ssft --parallel ddp".split())
    assert "start N of them with torchrun --nproc-per-node N --no-python mathref-train ..." in alone.stderr
    listed = run(installed, command("study"), tmp_path, "--list").stdout
    assert set(re.findall(r"^\S+", listed, flags=re.M)) == {
        f"mathref-{n}" for n in ("train", "sample", "rerank")
    }
    assert SCRIPTS == ROOT and spelled("sample.py") == "python sample.py"


def test_an_installed_study_finds_its_scripts(installed, tmp_path):
    """It looked for train.py beside the package, which is in nobody's site-packages."""
    code = (
        "from pathlib import Path; from mathref.study import Job, run\n"
        "run([Job('help', ('evaluate.py', '--help'), Path('logs'))], Path('.'), n_parallel=1)"
    )
    result = run(installed, code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "usage: evaluate.py" in (tmp_path / "logs" / "help.log").read_text()


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("torch", ("train", "--stage", "ssft")),
        ("numpy", ("evaluate", "samples.jsonl")),
        ("tqdm", ("study", "--quick")),
    ],
)
def test_a_missing_package_is_one_line_that_says_what_to_install(installed, tmp_path, package, line):
    name, *flags = line
    result = run(installed, command(name, f"sys.modules['{package}'] = None"), tmp_path, *flags)
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith(f"mathref-{name}: error: {package} is not installed")
    assert "pip install '.[all]'" in result.stderr


def test_results_do_not_claim_the_commit_of_a_repository_around_site_packages(installed, tmp_path):
    """git was asked for the commit of whatever repository the installation lay in."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    shutil.copytree(installed, tmp_path / "site")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", tmp_path, *identity, "commit", "-qm", "x", "--allow-empty"], check=True)
    code = "from mathref.runs import provenance; print(provenance()['commit'])"
    assert run(tmp_path / "site", code, tmp_path).stdout == "None\n"


def test_the_extras_are_requirements_txt():
    """The extras had older bounds than requirements.txt, so what a user got depended on how he installed."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = {*project["dependencies"], *extras["train"], *extras["all"], *extras["test"]}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert listed - {"mathref[train]"} == {line for line in lines if not line.startswith("#")}


def dependencies() -> list[list[str]]:
    """The rows of the table of docs/DEPENDENCIES.md: package, range, licence, reason."""
    page = (ROOT / "docs" / "DEPENDENCIES.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in page.splitlines() if "|" in line
    ]
    return rows[2:]


def test_every_requirement_stands_in_the_table_of_dependencies():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    rows = dependencies()
    assert [name + bounds for name, bounds, *_ in rows] == [ln for ln in lines if not ln.startswith("#")]
    assert all(len(row) == 4 and row[3] for row in rows)


# A licence of the table, and a word by which a package may state it.
STATED = {"BSD-3-Clause": "BSD", "Apache-2.0": "Apache", "MPL-2.0": "MPL", "MIT": "MIT"}
STATED |= {"PSF-2.0": "Python Software Foundation", "BSD-2-Clause": "BSD", "BSL-1.0": "BSL-1.0"}
STATED |= {"0BSD": "BSD", "Zlib": "Zlib", "CC0-1.0": "CC0"}


@pytest.mark.parametrize(("name", "licence"), [(row[0], row[2]) for row in dependencies()])
def test_the_licence_in_the_table_is_the_one_that_the_package_states(name, licence):
    metadata = importlib.metadata.metadata(name)
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License")]
    stated = " ".join([*(metadata[key] or "" for key in ("License-Expression", "License")), *classifiers])
    named = [key for key in STATED if re.search(rf"(?<![\w-]){re.escape(key)}", licence)]
    assert named and STATED[named[0]] in stated, stated
    if metadata["License-Expression"]:  # then all parts of it are named
        parts = {part for part in re.findall(r"[\w.-]+", stated) if part in STATED}
        assert parts <= set(named)


def test_version_and_date_are_the_same_everywhere():
    cited = (ROOT / "CITATION.cff").read_text()
    changes = (ROOT / "CHANGELOG.md").read_text()
    released = re.search(r"^date-released: (\S+)$", cited, flags=re.M)[1]
    assert f"\nversion: {mathref.__version__}\n" in cited
    assert f"\n## [{mathref.__version__}] - {released}\n" in changes
    assert changes.index("## [Unreleased]") < changes.index(f"## [{mathref.__version__}]")
