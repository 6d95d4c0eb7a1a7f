"""The process behind `calculus.py`: reads syntax trees as JSON lines, answers with closed forms in LaTeX.

Paper: section 9.
Choices: only trees of the grader's own parser come in, so that no text is ever evaluated; a tree sympy has no
closed form for is answered with null. The memory limit is set before sympy is imported.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from typing import Any

MEMORY_BYTES = 1 << 30


def to_sympy(node: Any) -> Any:
    """A JSON tree as a sympy expression; KeyError for what has no counterpart."""
    import sympy

    kind = node[0]
    if kind == "num":
        top, bottom = node[1]["q"].split("/")
        return sympy.Rational(int(top, 16), int(bottom, 16))
    if kind == "sym":
        return sympy.Symbol(node[1], real=True)
    if kind == "const":
        return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "inf": sympy.oo}[node[1]]
    if kind in ("add", "mul"):
        return {"add": sympy.Add, "mul": sympy.Mul}[kind](*map(to_sympy, node[1]))
    if kind == "pow":
        return sympy.Pow(to_sympy(node[1]), to_sympy(node[2]))
    if kind == "deg":
        return to_sympy(node[1])
    if kind == "fn":
        return _function(node[1], [to_sympy(part) for part in node[2]])
    variable = sympy.Symbol(node[3] if kind == "int" else node[1], real=True)
    if kind in ("sum", "prod"):
        index = sympy.Symbol(node[1], integer=True)
        body = to_sympy(node[4]).subs(variable, index)
        return (sympy.summation if kind == "sum" else sympy.product)(
            body, (index, to_sympy(node[2]), to_sympy(node[3]))
        )
    if kind == "lim":
        return sympy.limit(to_sympy(node[3]), variable, to_sympy(node[2]), "+-")  # ValueError if they differ
    if kind == "diff":
        return sympy.diff(to_sympy(node[2]), variable)
    if kind == "int":
        body = to_sympy(node[4])
        if node[1] is None:
            return sympy.integrate(body, variable)
        return sympy.integrate(body, (variable, to_sympy(node[1]), to_sympy(node[2])))
    raise KeyError(kind)


def _function(name: str, arguments: list[Any]) -> Any:
    """A named function as sympy's; KeyError for one that is not on the list."""
    import sympy

    if name == "root":
        return sympy.real_root(*arguments) if arguments[1] != 2 else sympy.sqrt(arguments[0])
    if name == "log" and len(arguments) == 1:
        return sympy.log(arguments[0], 10)
    names = {
        "ln": "log",
        "abs": "Abs",
        "fact": "factorial",
        "arcsin": "asin",
        "arccos": "acos",
        "arctan": "atan",
    }
    allowed = (
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "sinh",
        "cosh",
        "tanh",
        "exp",
        "log",
        "floor",
        "binomial",
    )
    name = names.get(name, name)
    if name not in (*allowed, *names.values()):
        raise KeyError(name)
    return getattr(sympy, name)(*arguments)


def answer(question: str) -> str | None:
    """The closed form of one tree as LaTeX, or None."""
    import sympy

    value = to_sympy(json.loads(question))
    unfinished = (
        sympy.Integral,
        sympy.Limit,
        sympy.Derivative,
        sympy.AccumBounds,
        sympy.Piecewise,
        sympy.Sum,
        sympy.Product,
    )
    if value.has(*unfinished) or value is sympy.nan or value.has(sympy.zoo):
        return None
    text = sympy.latex(value, ln_notation=True, fold_short_frac=False)
    return text if len(text) < 5000 else None


def serve() -> None:
    """Answer line by line until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # POSIX only; elsewhere the wall clock alone bounds the worker

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    import sympy

    sympy.limit(sympy.summation(sympy.Symbol("k"), ("k", 1, 2)), "x", 0)  # imports what it imports late
    sys.stdout.write('"ready"\n')
    sys.stdout.flush()
    for line in sys.stdin:
        try:
            result = answer(line)
        except Exception:  # any failure of sympy's means only that there is no closed form
            result = None
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
