r"""From trees to forms: structure before algebra.

Paper: section 9, step 4 of the published grader (tuples and intervals), extended to every family of answers.
Choices: a tree becomes a `Form`: a scalar, a list, set, tuple or interval, a set of reals, a matrix, an
equation, an inequality, an assignment, a ratio, words. Where none can be built (too large, undefined) the
answer is text and equals only its own spelling.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from fractions import Fraction

from mathref.grading import functions, names, phrases, realsets
from mathref.grading import poly as polys
from mathref.grading.algebra import Normalizer
from mathref.grading.forms import COORDINATES, Form, distinct, lowest_terms, scalar
from mathref.grading.poly import INF, Poly, TooHard, Undefined, add, constant
from mathref.grading.syntax import Node, num

MAX_SIGNS = 4  # plus-minus signs in one expression, hence at most 16 values
MAX_MEMBERS = 400

_ORDERS = frozenset(("<", ">", "<=", ">=", "!="))
_UNNAMED = ("sym", "?")


def build(n: Normalizer, node: Node) -> Form:
    """The form of a tree. Raises Undefined or TooHard where it has none."""
    variants = signs(node) if n.may_have_signs else [node]
    if len(variants) > 1:
        form = _collection(n, "list", variants, ",")
        return form._replace(name="or") if form.kind == "list" else form
    if variants[0] is not node:
        return build(n, variants[0])
    handler = _BUILDERS.get(node[0])
    return handler(n, node) if handler is not None else _value(n, node)


def _value(n: Normalizer, node: Node) -> Form:
    """A matrix or a scalar."""
    rows = matrix(n, node) if n.may_have_matrices else None
    if rows is not None:
        return Form("matrix", tuple(tuple(scalar(cell) for cell in row) for row in rows))
    return scalar(n.of(node))


# ---------------------------------------------------------------- plus-minus
def signs(node: Node) -> list[Node]:
    r"""The trees that a tree with plus-minus signs stands for; collections spread their members themselves,
    unless a \mp ties those of a list: x = 1 \pm 2, y = 1 \mp 2 are two pairs.
    """
    if node[0] in ("list", "set"):
        tied = node[0] == "list" and sum(_count_signs(part)[0] > 0 for part in node[1]) > 1
        if not tied or not _count_signs(node)[1]:
            return [node]
        node = ("tuple", "(", ")", node[1])
    count, has_minus_plus = _count_signs(node)
    if not count:
        return [node]
    if count > MAX_SIGNS:
        raise TooHard("too many plus-minus signs")
    if has_minus_plus:  # with \mp the signs go together: upper ones, then lower ones
        choices = [(1,) * count, (-1,) * count]
    else:
        choices = list(itertools.product((1, -1), repeat=count))
    return [_with_signs(node, iter(choice)) for choice in choices]


def _count_signs(node: object) -> tuple[int, bool]:
    r"""(number of plus-minus signs in a tree, whether one is \mp); those within a set are the set's."""
    if not isinstance(node, tuple) or not node or node[0] == "set":
        return 0, False
    own = (1, node[1] == -1) if node[0] == "pm" else (0, False)
    inner = [_count_signs(part) for part in node]
    return own[0] + sum(c for c, _ in inner), own[1] or any(m for _, m in inner)


def _with_signs(node: object, choice: object) -> Node:
    """The tree with one choice for each sign, in the order in which they stand."""
    if not isinstance(node, tuple) or not node or node[0] == "set":
        return node
    if node[0] == "pm":
        sign = next(choice) * node[1]
        body = _with_signs(node[2], choice)
        return body if sign > 0 else ("mul", (num(-1), body))
    return tuple(_with_signs(part, choice) for part in node)


# ---------------------------------------------------------------- collections
def _collection(n: Normalizer, kind: str, nodes: list[Node] | tuple[Node, ...], conjunction: str) -> Form:
    """Members of a list or set; inequalities in one variable become one set of reals."""
    if len(nodes) > MAX_MEMBERS:
        raise TooHard("too many members")
    items: list[Form] = []
    excluded = _excluded(nodes)
    if excluded != list(nodes):  # of x \ne 1 or 2, too, neither is left
        conjunction = ","
    for node in excluded:
        form = build(n, node)
        items += form.parts if form.kind == "list" else (form,)
    if kind == "set":
        return Form("set", distinct(n, items))
    items = _points_among_conditions(n, items)
    conditions = [item for item in items if item.kind == "reals" and item.name is not None]
    if len(conditions) == len(items) and len({item.name for item in items}) == 1:
        return _combine_conditions(n, conditions, conjunction)
    if items[0].kind == "assign" and all(item.kind not in ("assign", "equation") for item in items[1:]):
        name = items[0].name  # n = 1, 2, 3 names every member
        items = [items[0], *(Form("assign", (item, None), name) for item in items[1:])]
    return Form("list", tuple(items), "or" if conjunction == "or" else None)


def _excluded(nodes: list[Node] | tuple[Node, ...]) -> list[Node]:
    r"""The members with those behind x \ne 1 excluded as well, in x \ne 1, 2."""
    result: list[Node] = []
    for node in nodes:
        before = result[-1] if result else num(0)
        if before[0] == "chain" and before[1][1:-1] == ("!=",) and node[0] not in ("chain", "text"):
            node = ("chain", (*before[1][:2], node))
        result.append(node)
    return result


def _points_among_conditions(n: Normalizer, items: list[Form]) -> list[Form]:
    """In "x < 2 or x = 3" the equation is a condition too."""
    named = {item.name for item in items if item.kind == "reals" and item.name is not None}
    if len(named) != 1 or any(item.name not in named for item in items):
        return items
    members = [
        realsets.of(n, Form("set", item.parts[:1])) if item.kind == "assign" else item.parts for item in items
    ]
    if any(member is None for member in members):
        return items
    return [Form("reals", member, item.name) for item, member in zip(items, members, strict=True)]


def _combine_conditions(n: Normalizer, conditions: list[Form], conjunction: str) -> Form:
    """Inequalities in one variable: "or" unites; "and" and commas intersect, unless nothing would be left."""
    sets = [condition.parts for condition in conditions]
    result = sets[0]
    if conjunction != "or":
        for other in sets[1:]:
            result = realsets.intersect(n, result, other)
    if conjunction == "or" or not result:
        result = realsets.unite(n, tuple(itertools.chain(*sets)))
    return Form("reals", result, conditions[0].name)


def _list(n: Normalizer, node: Node) -> Form:
    return _collection(n, "list", node[1], node[2])


def _set(n: Normalizer, node: Node) -> Form:
    return _collection(n, "set", node[1], ",")


def _tuple(n: Normalizer, node: Node) -> Form:
    if len(node[3]) > MAX_MEMBERS:
        raise TooHard("too many members")
    return Form("tuple", tuple(build(n, part) for part in node[3]), node[1] + node[2])


def _ratio(n: Normalizer, node: Node) -> Form:
    """A ratio in lowest terms, unless it is spelled like a time of day."""
    parts = tuple(build(n, part) for part in node[1])
    return Form("time", parts) if node[2] else lowest_terms(n, Form("ratio", parts))


def _clock(n: Normalizer, node: Node) -> Form:
    return Form("clock", (build(n, node[1]),), node[2])


def _quantity(n: Normalizer, node: Node) -> Form:
    """A value with words that tell it apart, which count as an assigned name does."""
    return Form("assign", (build(n, node[1]), None), ("words", node[2]))


def _choice(n: Normalizer, node: Node) -> Form:
    return Form("choice", (build(n, node[2]),), node[1])


def _product(n: Normalizer, node: Node) -> Form:
    """A product, unless it is a point with its name, P(1,2)."""
    name, point = node[1][0], node[1][-1]
    if len(node[1]) == 2 and point[0] == "tuple" and point[1:3] == ("(", ")"):
        if name[0] == "sym" and len(name[1]) == 1 and name[1].isupper():
            return Form("assign", (build(n, point), None), name)
    return _value(n, node)


def _sum(n: Normalizer, node: Node) -> Form:
    r"""A sum, unless a set is taken away: \mathbb{R} - \{1\}."""
    last = node[1][-1]
    if len(node[1]) == 2 and last[0] == "mul" and last[1][0] == num(-1) and last[1][1][0] == "set":
        return _setop(n, ("setop", "setminus", node[1][0], last[1][1]))
    if any(part[0] == "tuple" or part[0] == "mul" and part[1][-1][0] == "tuple" for part in node[1]):
        return Form("tuple", tuple(map(scalar, _vector(n, node))), "()")
    return _value(n, node)


def _vector(n: Normalizer, node: Node) -> list[Poly]:
    """The coordinates of a point, a multiple of one or a sum of those: (1,2) + t(3,4)."""
    if node[0] == "add":
        vectors = [_vector(n, part) for part in node[1]]
        if len({len(vector) for vector in vectors}) > 1:
            raise Undefined("sum of unlike vectors")
        return [_total(cells) for cells in zip(*vectors, strict=True)]
    if node[0] == "mul":
        factor = n.of(("mul", node[1][:-1]))
        return [n.mul(factor, cell) for cell in _vector(n, node[1][-1])]
    if node[:3] != ("tuple", "(", ")"):
        raise TooHard("a sum with something else than points")
    return [n.of(cell) for cell in node[3]]


def _cases(n: Normalizer, node: Node) -> Form:
    """A piecewise definition: its rows in any order, each a pair of value and condition."""
    return Form("cases", tuple(Form("tuple", tuple(build(n, cell) for cell in row), "&") for row in node[1]))


def _setop(n: Normalizer, node: Node) -> Form:
    """Union, intersection or difference; of sets that are not real sets only unions are known."""
    a, b = build(n, node[2]), build(n, node[3])
    left, right = realsets.of(n, a), realsets.of(n, b)
    if left is None or right is None:
        if node[1] != "cup":
            raise TooHard("set operation on unknown sets")
        members = [form.parts if form.kind == "union" else (form,) for form in (a, b)]
        return Form("union", tuple(itertools.chain(*members)))
    combine = {
        "cup": lambda: realsets.unite(n, left + right),
        "cap": lambda: realsets.intersect(n, left, right),
    }
    if node[1] in combine:
        return Form("reals", combine[node[1]]())
    return Form("reals", realsets.intersect(n, left, realsets.complement(n, right)))


def _congruence(n: Normalizer, node: Node) -> Form:
    """x = 3 (mod 7): the difference of the sides, its rational part reduced by the modulus."""
    chain, modulus = node[1], polys.integer(n.of(node[2]))
    if not modulus or (chain[0] == "chain" and (len(chain[1]) != 3 or chain[1][1] != "=")):
        raise TooHard("congruence of unknown shape")
    if chain[0] == "chain":
        difference = add(n.of(chain[1][0]), n.of(chain[1][2]), -1)
    else:
        difference = n.of(chain)
    remainder = Fraction(difference.pop(polys.UNIT, 0)) % modulus
    # -x = 4 (mod 7) says the same as x = 3: of the two spellings the one with a positive term stays.
    if any(bool(c < 0) for c in difference.values()) and len(difference) == 1:
        difference, remainder = polys.scale(difference, -1), -remainder % modulus
    return Form("congruence", (scalar(add(difference, constant(remainder))),), modulus)


def matrix(n: Normalizer, node: Node) -> list[list[Poly]] | None:
    """The entries of a matrix expression: sums, products, scalar multiples and powers; None for scalars."""
    if node[0] == "matrix":
        return [[n.of(cell) for cell in row] for row in node[1]]
    if node[0] == "add":
        parts = [matrix(n, part) for part in node[1]]
        if all(part is None for part in parts):
            return None
        if any(part is None or _shape(part) != _shape(parts[0]) for part in parts):
            raise Undefined("sum of unlike matrices")
        return [[_total(cells) for cells in zip(*rows, strict=True)] for rows in zip(*parts, strict=True)]
    if node[0] == "pow" and (base := matrix(n, node[1])) is not None:
        if node[2] in (("sym", "T"), ("sym", "\\top")):
            return [list(column) for column in zip(*base, strict=True)]
        exponent = polys.integer(n.of(node[2]))
        if exponent is not None and exponent < 0 and len(base) == len(base[0]):
            base, exponent = _inverse(n, base), -exponent
        if exponent is None or not 1 <= exponent <= 20:
            raise TooHard("power of a matrix")
        result = base
        for _ in range(exponent - 1):
            result = _times(n, result, base)
        return result
    if node[0] == "mul":
        return _matrix_product(n, node)
    return None


def _inverse(n: Normalizer, rows: list[list[Poly]]) -> list[list[Poly]]:
    """By cofactors."""
    size = range(len(rows))
    factor = n.inverse(functions.determinant(n, rows))

    def cofactor(i: int, j: int) -> Poly:
        minor = [[rows[r][c] for c in size if c != i] for r in size if r != j]
        return n.mul(factor, polys.scale(functions.determinant(n, minor), -1 if (i + j) % 2 else 1))

    return [[cofactor(i, j) for j in size] for i in size]


def _matrix_product(n: Normalizer, node: Node) -> list[list[Poly]] | None:
    """Numbers and matrices in their order, since matrices do not commute."""
    factor, result = constant(1), None
    parts = [matrix(n, part) for part in node[1]]
    if all(part is None for part in parts):
        return None
    for part, tree in zip(parts, node[1], strict=True):
        if part is None:
            factor = n.mul(factor, n.of(tree))
        else:
            result = part if result is None else _times(n, result, part)
    return [[n.mul(factor, cell) for cell in row] for row in result or []]


def _shape(rows: list[list[Poly]]) -> tuple[int, int]:
    return len(rows), len(rows[0])


def _total(cells: tuple[Poly, ...]) -> Poly:
    total: Poly = {}
    for cell in cells:
        total = add(total, cell)
    return total


def _times(n: Normalizer, a: list[list[Poly]], b: list[list[Poly]]) -> list[list[Poly]]:
    """The product of two matrices."""
    if len(a[0]) != len(b):
        raise Undefined("product of unlike matrices")
    columns = list(zip(*b, strict=True))
    return [[_total(tuple(map(n.mul, row, column))) for column in columns] for row in a]


# ---------------------------------------------------------------- relations
def _chain(n: Normalizer, node: Node) -> Form:
    """Equations, inequalities, memberships; in a chain of equalities the last exact value counts."""
    parts = list(node[1])
    while len(parts) > 1 and "~" in parts[1:]:
        cut = parts.index("~")
        if cut == 1 and (parts[0] is None or names.of(parts[0]) is not None):
            parts[cut] = "="  # nothing but an approximation is given
        else:
            parts = parts[:cut]
    if parts[0] is None:
        if parts[1] in ("=", "in"):
            parts = parts[2:]
        elif parts[1] in _ORDERS:  # > 5 says so of an unknown without a name
            form = _inequality(n, [_UNNAMED, *parts[1:]])
            return form._replace(name=None) if form.kind == "reals" else form
        else:
            raise TooHard("a relation without its left side")
    if len(parts) == 1:
        return build(n, parts[0])
    operators = set(parts[1::2])
    if operators == {"="}:
        return _equality(n, parts[0::2])
    if operators <= {"in", "not in"} and len(parts) == 3:
        return _membership(n, parts)
    if operators <= _ORDERS:
        return _inequality(n, parts)
    sides = tuple(build(n, part) for part in parts[0::2])
    return Form("relation", sides, tuple(parts[1::2]))


def _in_order(left: Node, right: Node) -> tuple[Node, Node]:
    """The sides of (y,x) = (1,2) as those of (x,y) = (2,1)."""
    if left[0] == right[0] == "tuple" and len(left[3]) == len(right[3]) and COORDINATES.issuperset(left[3]):
        pairs = sorted(zip(left[3], right[3], strict=True), key=lambda pair: pair[0])
        return (*left[:3], tuple(a for a, _ in pairs)), (*right[:3], tuple(b for _, b in pairs))
    return left, right


def _equality(n: Normalizer, sides: list[Node]) -> Form:
    """An assignment where one side is a name, arithmetic where no side has unknowns, else an equation."""
    first, last = _in_order(sides[0], sides[-1])
    # 5 = x is read as x = 5, but only a plain name counts there: in 10 = |AB| the bars may be arithmetic.
    for left, right in ((first, last), (last, first)):
        name = names.of(left)
        if name is not None and (name[0] == "tuple" or not names.mentions(right, name)):
            if left is first or name[0] in ("sym", "call"):
                try:
                    equation = _equation(n, left, right)
                except (TypeError, TooHard, Undefined):
                    equation = None
                return Form("assign", (build(n, right), equation), name)
    name = names.of_vector(first, last)
    if name is not None and not names.mentions(last, name):
        return Form("assign", (build(n, last), None), name)
    left, right = build(n, first), build(n, last)
    if left.kind == right.kind == "scalar":
        if not _symbols(left.parts[0]) and not _symbols(right.parts[0]):
            return right  # 2+8 = 10
        if n.difference_is_zero(left.parts[0], right.parts[0]):
            return right  # (x+1)^2 = x^2+2x+1, true of every x, is a calculation too
        return _equation(n, first, last)
    if left.kind == "scalar" and not _symbols(left.parts[0]):
        return right
    return Form("relation", (left, right), ("=",))


def _symbols(poly: Poly) -> set[Hashable]:
    """The unknowns that a value depends on, at any depth of its generators."""
    found: set[Hashable] = set()
    stack: list[Hashable] = [gen for mono in poly for gen, _ in mono]
    while stack:
        gen = stack.pop()
        if isinstance(gen, tuple) and gen[:1] == ("s",) or isinstance(gen, tuple) and gen[:1] == ("call",):
            found.add(gen)
        elif isinstance(gen, tuple | frozenset):
            stack.extend(gen)
    return found


def _equation(n: Normalizer, left: Node, right: Node) -> Form:
    """left - right = 0, free of denominators and divided by its leading coefficient."""
    difference = add(n.of(left), n.of(right), -1)
    for mono in list(difference):
        for gen, exponent in mono:
            if gen[0] == "s" and exponent < 0:
                difference = n.mul(difference, polys.generator(gen, -exponent))
    cleared = n.clear_denominators(difference)
    return Form("equation", (_monic(n, difference if cleared is None else cleared),))


def _monic(n: Normalizer, poly: Poly) -> Poly:
    """poly divided by the constant in front of its leading symbolic part."""
    groups: dict[polys.Mono, Poly] = {}
    for mono, coefficient in poly.items():
        symbolic = frozenset(pair for pair in mono if _symbols({frozenset((pair,)): 1}))
        groups.setdefault(symbolic, {})[mono - symbolic] = coefficient
    if not groups:
        return {}
    leading = max(groups.items(), key=lambda item: polys.order((item[0], 1)))[1]
    return n.mul(poly, n.inverse(leading))


def _membership(n: Normalizer, parts: list) -> Form:
    """x in a set of numbers says x = 1, 2; in a set of reals, or outside of a set, it is a condition on x."""
    name, container = names.of(parts[0]), build(n, parts[2])
    if name is None:
        raise TooHard("membership of an expression")
    outside = parts[1] == "not in"
    if container.kind == "set" and container.parts and not outside:  # x in {1, 2} says x = 1, 2
        return Form("list", tuple(Form("assign", (item, None), name) for item in container.parts))
    members = realsets.of(n, container)
    if members is None and outside:
        raise TooHard("the complement of an unknown set")
    if members is None:
        return Form("assign", (container, None), name)
    return Form("reals", realsets.complement(n, members) if outside else members, name)


def _inequality(n: Normalizer, parts: list) -> Form:
    """A chain of inequalities: the set of its solutions, or its sides compared up to a positive factor."""
    pieces = []
    for left, operator, right in zip(parts[0::2], parts[1::2], parts[2::2], strict=False):
        difference = add(n.of(left), n.of(right), -1)
        if operator in (">", ">="):
            difference, operator = polys.scale(difference, -1), operator.replace(">", "<")
        pieces.append((difference, operator))
    # In one unknown the solutions are the meaning; in several the inequality itself is, up to a factor.
    unknowns = set().union(*(_symbols(difference) for difference, _ in pieces))
    if len(unknowns) == 1:
        unknown = unknowns.pop()
        sets = [realsets.solve(n, difference, operator, unknown) for difference, operator in pieces]
        if all(s is not None for s in sets):
            result = sets[0]
            for other in sets[1:]:
                result = realsets.intersect(n, result, other)
            return Form("reals", result, ("sym", unknown[1]) if unknown[0] == "s" else unknown)
    normal = []
    for difference, operator in pieces:
        if any(gen == INF for mono in difference for gen, _ in mono):
            raise TooHard("inequality with infinity")
        leading = min(difference.items(), key=polys.order)[1] if difference else 1
        factor = 1 / Fraction(abs(leading) if operator != "!=" else leading)
        normal.append(Form("order", (scalar(polys.scale(difference, factor)),), operator))
    return Form("orders", tuple(normal))


def _symbol(n: Normalizer, node: Node) -> Form:
    """The reals, or an unknown."""
    return Form("reals", realsets.EVERYTHING) if node[1] == r"\mathbb{R}" else scalar(n.of(node))


_BUILDERS = {
    **{"list": _list, "set": _set, "tuple": _tuple, "ratio": _ratio, "clock": _clock, "cases": _cases},
    **{"setop": _setop, "congruence": _congruence, "chain": _chain, "text": phrases.meaning},
    **{"choice": _choice, "quantity": _quantity, "mul": _product, "add": _sum, "sym": _symbol},
}
