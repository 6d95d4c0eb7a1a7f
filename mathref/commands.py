"""The installed commands: mathref-train, mathref-sample, mathref-rerank, mathref-evaluate, mathref-study.

Paper: none. Each is the script of that name.
Choices [P]: the scripts lie at the top of a checkout, where they are read, and an installation has them in
mathref/scripts. They are no modules of their own there: names like `evaluate` belong to other packages.
"""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location

from mathref.runs import SCRIPTS, run_command


def _run(name: str) -> int:
    """Run the script `name`.py; returns the exit status."""
    spec = spec_from_file_location(f"mathref.scripts.{name}", SCRIPTS / f"{name}.py")
    assert spec and spec.loader
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    return run_command(script.main)


def train() -> int:
    return _run("train")


def sample() -> int:
    return _run("sample")


def rerank() -> int:
    return _run("rerank")


def evaluate() -> int:
    return _run("evaluate")


def study() -> int:
    from mathref.study import main

    return run_command(main)
