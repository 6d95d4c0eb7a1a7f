r"""Forms: what kind of thing an answer is, and when two of them are the same answer.

Paper: section 9, the relation itself.
Choices: forms of one kind compare member by member; between kinds only the customs of docs/GRADER.md hold
(`x=5` ~ `5`, `x \le 4` ~ `(-\infty,4]`, a list ~ the set of its members), each in both directions. `form_key`
gives equal keys only to equal answers, which spares collections most of their comparisons.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Hashable
from typing import NamedTuple

from mathref.grading import poly as polys
from mathref.grading import realsets
from mathref.grading.algebra import Normalizer
from mathref.grading.poly import INF, Poly, Undefined

_ROOT = re.compile(r"(?:[kmnprt-z]|\\lambda|\\theta)(?=_\d+$)")  # x_1, x_2; but a_1, a_2 is a sequence
COORDINATES = frozenset(("sym", letter) for letter in "xyz")  # names of assignments that have an order


class Form(NamedTuple):
    """One answer. `kind` says what `parts` holds; `name` is the variable an assignment or a condition speaks
    of, or for a list "or" where its members exclude each other.
    """

    kind: str
    parts: tuple
    name: Hashable = None


def scalar(poly: Poly) -> Form:
    """A number or expression; infinity stands alone or not at all."""
    if any(gen == INF for mono in poly for gen, _ in mono) and realsets.infinite(poly) == 0:
        raise Undefined("arithmetic with infinity")
    return Form("scalar", (poly,))


def _letter(name: Hashable) -> Form:
    """The form of a single letter, as the answer A to a multiple-choice question has it."""
    return scalar(polys.generator(("s", name)))


def lowest_terms(n: Normalizer, ratio: Form) -> Form:
    """The ratio divided by its first part, so that 2:4 and 1:2 are one."""
    zeros = [part.kind != "scalar" or not part.parts[0] for part in ratio.parts]
    if zeros[0] or sum(zeros) > len(zeros) - 2:  # nothing to compare: 5:00 is not 7:0
        return ratio._replace(kind="ratio")
    factor = n.inverse(ratio.parts[0].parts[0])
    return Form("ratio", tuple(scalar(n.mul(part.parts[0], factor)) for part in ratio.parts))


# ---------------------------------------------------------------- the relation
def same(n: Normalizer, a: Form, b: Form) -> bool:
    """Whether two forms are the same answer; symmetric by construction."""
    if a.kind == b.kind:
        return _same_kind(n, a, b)
    if a.kind > b.kind:  # the coercions below are written for one order of the pair
        a, b = b, a
    if "choice" in (a.kind, b.kind):
        choice, other = (a, b) if a.kind == "choice" else (b, a)
        return other == _letter(choice.name) or same(n, choice.parts[0], other)
    pair = (a.kind, b.kind)
    if pair == ("assign", "list") and names(b) and b.name != "or" and (assigned := _spelled_out(a)) is not a:
        return _same_lists(n, assigned, b)
    # y = 2x + 3 meets 2x - y + 3 = 0 as the equation that it also is.
    if pair == ("assign", "equation"):
        return a.parts[1] is not None and same(n, a.parts[1], b)
    if (
        a.kind == "assign"
        and b.kind not in ("reals", "orders", "relation")
        or pair == ("assign", "reals")
        and b.name is None
    ):
        return same(n, a.parts[0], b)
    for collection, other in ((a, b), (b, a)):  # {5} and 5,5 are 5
        if collection.kind in ("list", "set") and other.kind not in ("list", "set", "reals"):
            if len(set(names(collection))) > 1:  # x = 1, y = 1 says more than 1
                continue
            members = distinct(n, values(collection))
            if len(members) == 1:
                return same(n, members[0], other)
    if pair == ("list", "set"):
        return same_members(n, distinct(n, values(a)), b.parts)
    # x = 1, y = 2 may answer for the point (1, 2), and so may 1, 2; the order then counts.
    if pair == ("list", "tuple") and b.name == "()":
        return same_in_order(n, in_order(a), b.parts)
    if pair == ("ratio", "time"):  # 10:30 may be either
        return _same_kind(n, a, lowest_terms(n, b))
    # Alternatives that are intervals say which numbers answer: x < 1 or x > 2.
    if (
        pair == ("list", "reals")
        and a.name == "or"
        and all(item.kind in ("tuple", "reals") for item in a.parts)
    ):
        members = [realsets.of(n, item) for item in a.parts]
        if None not in members:
            return realsets.same(n, realsets.unite(n, tuple(itertools.chain(*members))), b.parts)
    # The last resort for whatever denotes a set of reals on both sides: (0,1) and 0 < x < 1.
    if pair == ("list", "reals"):
        a = Form("set", distinct(n, values(a)))
    if "reals" in pair:
        sets = realsets.of(n, a), realsets.of(n, b)
        return sets[0] is not None and sets[1] is not None and realsets.same(n, *sets)
    return False


def _same_kind(n: Normalizer, a: Form, b: Form) -> bool:
    """Two forms of one kind, member by member; what has an order keeps it."""
    if a.kind in ("scalar", "equation"):
        return n.difference_is_zero(a.parts[0], b.parts[0])
    if a.kind == "text":
        return a.parts == b.parts
    if a.kind == "list":
        return _same_lists(n, a, b)
    if a.kind in ("set", "union", "cases", "orders"):
        return same_members(n, a.parts, b.parts)
    if a.kind == "reals":
        return (
            None in (a.name, b.name)
            and realsets.same(n, a.parts, b.parts)
            or (a.name == b.name and realsets.same(n, a.parts, b.parts))
        )
    if a.kind == "assign":
        if a.name == b.name:
            return same(n, a.parts[0], b.parts[0])
        lists = _spelled_out(a), _spelled_out(b)
        if lists[0].kind == lists[1].kind == "list":
            return _same_lists(n, *lists)
        return a.parts[1] is not None and b.parts[1] is not None and same(n, a.parts[1], b.parts[1])
    if a.kind == "matrix":
        return len(a.parts) == len(b.parts) and all(
            len(x) == len(y) and all(map(lambda p, q: same(n, p, q), x, y))
            for x, y in zip(a.parts, b.parts, strict=True)
        )
    if a.name != b.name or len(a.parts) != len(b.parts):
        return False
    return all(map(lambda x, y: same(n, x, y), a.parts, b.parts))


def values(form: Form) -> tuple[Form, ...]:
    """The members of a list without the names they are assigned to."""
    return tuple(item.parts[0] if item.kind == "assign" else item for item in form.parts)


def names(form: Form) -> list[Hashable]:
    """The names in a list of assignments, or nothing unless every member has one."""
    found = [item.name for item in form.parts if item.kind == "assign"]
    return found if len(found) == len(form.parts) else []


def _spelled_out(form: Form) -> Form:
    """(a,b) = (2,-3) as the list a = 2, b = -3, which has no order; any other assignment as it is."""
    value = form.parts[0]
    if form.name[0] != "tuple" or value.kind != "tuple" or len(form.name[1]) != len(value.parts):
        return form
    pairs = zip(form.name[1], value.parts, strict=True)
    return Form("list", tuple(Form("assign", (part, None), name) for name, part in pairs))


def in_order(form: Form) -> tuple[Form, ...] | None:
    """The values of a list as a point has them: y = 3, x = 5 is (5, 3); None where it has no order."""
    called = names(form)
    if form.name == "or" or len(set(called)) < len(called):  # 1 or 2; x = 1, x = 2
        return None
    if called and COORDINATES.issuperset(called):
        return values(form._replace(parts=tuple(sorted(form.parts, key=lambda item: item.name))))
    return values(form)


def same_in_order(n: Normalizer, a: tuple[Form, ...] | None, b: tuple[Form, ...] | None) -> bool:
    """Whether two rows of answers match one by one."""
    if a is None or b is None:
        return False
    return len(a) == len(b) and all(map(lambda x, y: same(n, x, y), a, b))


def _roots(form: Form) -> Form:
    """The list with one name for all where its names number the values of one unknown: x_1 = 2, x_2 = -3."""
    called = names(form)
    stems = {_ROOT.match(name[1]) for name in called if name[0] == "sym"}
    letters = {match and match.group() for match in stems}
    if len(set(called)) < max(2, len(called)) or len(letters) != 1 or None in letters:
        return form
    if any(name[0] != "sym" for name in called):
        return form
    shared = ("sym", letters.pop())
    return form._replace(parts=tuple(Form("assign", (item.parts[0], None), shared) for item in form.parts))


def _same_lists(n: Normalizer, a: Form, b: Form) -> bool:
    """Unordered and without repetitions; names must agree where both sides have them, and where one side has
    several they stand for an order, unless they number the roots of an equation."""
    roots = _roots(a), _roots(b)
    if (roots[0] is a) != (roots[1] is b):  # numbered on both sides the names count
        a, b = roots
    left, right = names(a), names(b)
    if len(set(left or right)) > 1 and not (left and right):
        return same_in_order(n, in_order(a), in_order(b))
    if left and right:
        return same_members(n, distinct(n, a.parts), distinct(n, b.parts))
    return same_members(n, distinct(n, values(a)), distinct(n, values(b)))


def distinct(n: Normalizer, items: list[Form] | tuple[Form, ...]) -> tuple[Form, ...]:
    """The members without repetitions, in their order."""
    seen: set[Hashable] = set()
    unkeyed: list[Form] = []
    result = []
    for item in items:
        item_key = member_key(item)
        if item_key is None and any(_same_member(n, item, other) for other in unkeyed) or item_key in seen:
            continue
        if item_key is None:
            unkeyed.append(item)
        else:
            seen.add(item_key)
        result.append(item)
    return tuple(result)


def _same_member(n: Normalizer, a: Form, b: Form) -> bool:
    """As members of a collection {1} and 1 differ, while {1} alone may answer for 1."""
    if (a.kind == "set") != (b.kind == "set") and "reals" not in (a.kind, b.kind):
        return False
    return same(n, a, b)


def same_members(n: Normalizer, a: tuple[Form, ...], b: tuple[Form, ...]) -> bool:
    """Whether two collections match one to one: equal keys first, the rest pair by pair."""
    if len(a) != len(b):
        return False
    keys_a, keys_b = [member_key(x) for x in a], [member_key(y) for y in b]
    spare = Counter(k for k in keys_b if k is not None)
    left = []
    for item, item_key in zip(a, keys_a, strict=True):
        if item_key is not None and spare[item_key]:
            spare[item_key] -= 1
        else:
            left.append(item)
    right = []
    for item, item_key in zip(b, keys_b, strict=True):
        if item_key is None or spare[item_key]:
            right.append(item)
            if item_key is not None:
                spare[item_key] -= 1
    for item in left:
        for index, other in enumerate(right):
            if _same_member(n, item, other):
                del right[index]
                break
        else:
            return False
    return True


def form_key(form: Form) -> Hashable | None:
    """A key such that equal keys imply the same answer; None for forms that conventions or opaque parts tie
    up.
    """
    if form.kind == "scalar":
        return polys.canonical(form.parts[0])
    if form.kind in ("assign", "relation", "cases", "choice", "time") or (
        form.kind == "reals" and form.name is not None
    ):
        return None
    if form.kind == "text":
        return ("text", form.parts[0])
    if form.kind == "reals":
        return realsets.key(form.parts)
    if form.kind == "tuple" and (interval := realsets.interval_key(form)):
        return interval
    if form.kind == "equation":
        inner = polys.canonical(form.parts[0])
        return None if inner is None else ("equation", inner)
    if form.kind == "matrix":
        rows = tuple(tuple(form_key(cell) for cell in row) for row in form.parts)
        return None if any(None in row for row in rows) else ("matrix", rows)
    keys = tuple(member_key(part) for part in form.parts)
    if None in keys:
        return None
    if form.kind in ("list", "set"):
        if len(set(keys)) == 1 and form.parts[0].kind not in ("set", "list"):  # {{}} is not {}
            return keys[0]
        # 1,2 may answer for the point (1,2) and for the set {1,2}, which differ. 1 or 2 is no point, but
        # alternatives that are intervals are their union, too.
        tied = form.kind == "list" and (
            form.name != "or" or any(p.kind in ("tuple", "reals") for p in form.parts)
        )
        return None if tied else ("members", frozenset(keys))
    if form.kind in ("union", "orders"):
        return (form.kind, frozenset(Counter(keys).items()))
    return (form.kind, form.name, keys)


def member_key(form: Form) -> Hashable | None:
    """The key of a member of a collection, where a set of one is not its member."""
    if form.kind != "set":
        return form_key(form)
    keys = frozenset(map(member_key, form.parts))
    return None if None in keys else ("set", keys)


# ---------------------------------------------------------------- in words
def describe(form: Form) -> str:
    """A form as a person can read it, for the command line."""
    if form.kind == "scalar":
        return polys.describe(form.parts[0])
    if form.kind == "text":
        return f"the words {form.parts[0]!r}"
    if form.kind == "reals":
        parts = [
            "(["[closed] + f"{polys.describe(low)}, {polys.describe(high)}" + ")]"[high_closed]
            for low, closed, high, high_closed in form.parts
        ]
        return " u ".join(parts) or "no real number"
    if form.kind == "matrix":
        return "matrix " + "; ".join(", ".join(map(describe, row)) for row in form.parts)
    inner = ", ".join(describe(part) for part in form.parts if isinstance(part, Form))
    if form.kind == "tuple":
        return f"{form.name[0]}{inner}{form.name[-1]}"
    return f"{form.kind} of {inner}" if inner else f"empty {form.kind}"
