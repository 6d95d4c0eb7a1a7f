r"""Operands with a name: fractions, roots, functions, sums, limits, matrices, sets; labels and times of day.

Paper: section 9.
Choices: one function for each construct, called by the parser with itself behind the name of the command.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from mathref.grading import names
from mathref.grading.lexer import LOOK_AHEAD, Token
from mathref.grading.syntax import Node, ParseError, divide, in_radians, neg, num, product
from mathref.grading.vocabulary import FUNCTIONS, SYMBOL_COMMANDS

if TYPE_CHECKING:
    from mathref.grading.latex import Parser

_DIFFERENTIALS = (("sym", "d"), ("sym", r"\partial"))
_OF_SETS = frozenset(("max", "min", "gcd", "lcm"))
_TRIGONOMETRIC = frozenset(("sin", "cos", "tan", "cot", "sec", "csc", "cis"))


def choice_label(p: Parser) -> str | None:
    r"""Consume the label of a multiple-choice answer that goes on: `\textbf{(A)}\ 5`, `(A) 5`, `A) 5`.

    Without a style of its own the label has to stand apart, or it would be a factor: (A)(x+1).
    """
    start = 1 if p.tokens[0][1] == "(" else 0
    letter, end = p.peek(start), start + 1
    if letter.kind not in ("let", "word") or letter.text not in ("A", "B", "C", "D", "E"):
        return None
    if p.peek(end).text != ")" and (start or p.peek(end).text != "."):
        return None
    end += 1
    following = p.peek(end)
    if following.kind == "end" or (letter.kind == "let" and not following.spaced):
        return None
    if following.kind == "op" and following.text not in ("(", "[", "|", "{"):
        if following.text != "-" or p.peek(end + 1).spaced:
            return None
    if following.kind == "cmd" and following.text not in PRIMARY_COMMANDS:
        return None
    p.index = end
    return letter.text


def labelled(p: Parser, label: Node) -> Node:
    """A value behind words and a colon, `Total: 5`, which count as its name; what has a name is text then."""
    p.expect(":")
    value = p.chain()
    if value[0] in ("chain", "text", "congruence"):
        raise ParseError("a label before a statement")
    return ("chain", (names.of_words(label[1]), "=", value))


def time_of_day(p: Parser, start: int) -> bool:
    """Whether the tokens from there on are spelled like 3:30 or 12:05:10."""
    texts = [token.text for token in p.tokens[start : p.index]]
    return (
        texts[1::2] == [":"] * (len(texts) // 2)
        and all(text.isdigit() for text in texts[::2])
        and all(len(text) == 2 and text < "60" for text in texts[2::2])
        and len(texts[0]) <= 2
        and len(texts) <= 5
    )


def function(p: Parser, name: str) -> Node:
    """A named function with optional base and power: \\log_2 8, \\sin^2 x, \\cos\\frac{\\pi}{3}."""
    base = _base(p) if name == "log" and p.take("_") else None
    power = p.nested(p.exponent) if p.take("^", "**") else None
    if name == "log" and base is None and p.take("_"):
        base = _base(p)
    argument = function_argument(p)
    if name in _TRIGONOMETRIC:
        argument = in_radians(argument)
    if power is not None and power == num(-1) and name in _TRIGONOMETRIC:
        name, power = "arc" + name, None
    several = ("list", "set") if name in _OF_SETS else ("list",)
    arguments = (
        argument[1] if argument[0] in several else argument[3] if argument[0] == "tuple" else (argument,)
    )
    node = ("fn", name, (*arguments, base) if base else arguments)
    return node if power is None else ("pow", node, power)


def _base(p: Parser) -> Node:
    r"""The base of a logarithm: the whole number of log_10(5), but one digit of \log_28, where an argument
    has to be left; 1 is no base.
    """
    following = p.peek(1)
    operand = following.kind in ("num", "let") or following.text in PRIMARY_COMMANDS
    left = following.text in ("(", "{") or (following.spaced and operand)
    return p.argument(whole=left or p.peek().text.startswith("1"))


def function_argument(p: Parser) -> Node:
    """A bracket, or the product that follows up to the next sign, operator or function."""
    if p.at("(", "[", "{", "|"):
        opening = p.next().text
        node = p.nested(lambda: p.bracket(opening))
        return ("pow", node, p.nested(p.exponent)) if opening == "{" and p.take("^") else node
    if p.take("-"):
        return neg(function_argument(p))
    factors = [p.power()]
    while p.starts_factor() and not p.at("(", "[") and p.peek().text not in FUNCTIONS:
        if p.peek().kind == "num":
            break
        factors.append(p.power())
    return product(factors)


def _differential(node: Node) -> bool:
    r"""Whether a part of a fraction is spelled like that of a derivative: dy, d^2y, \partial f."""
    first = node[1][0] if node[0] == "mul" else node
    return node[0] == "mul" and (first[1] if first[0] == "pow" else first) in _DIFFERENTIALS


def fraction(p: Parser) -> Node:
    """\\frac and its sizes; \\frac{d}{dx} differentiates the term that follows."""
    if p.at("{") and [p.peek(k).text for k in (1, 2, 3, 4)] == ["d", "}", "{", "d"]:
        variable = p.peek(5)
        if variable.kind == "let" and p.peek(6).text == "}":
            p.index += 7
            return ("diff", variable.text, p.term())
    top, bottom = p.argument(), p.argument()
    if _differential(top) and _differential(bottom):
        return ("call", "derivative", (top, bottom))  # its d does not cancel
    if top[0] == bottom[0] == "num" and bottom[1]:
        return num(Fraction(top[1], bottom[1]))
    return divide(top, bottom)


def root(p: Parser, body: Callable[[], Node], degree: int = 2) -> Node:
    r"""\sqrt, or √ and sqrt of plain text, which cover a whole number; the degree may stand in brackets."""
    index = num(degree)
    if p.take("["):
        index = p.nested(p.sum)
        p.expect("]")
    return ("fn", "root", (body(), index))


def big_operator(p: Parser, kind: str) -> Node:
    """\\sum_{k=a}^{b} and \\prod; the body is the product that follows."""
    p.expect("_")
    bounds = p.argument()
    if (
        bounds[0] != "chain"
        or len(bounds[1]) != 3
        or bounds[1][1] != "="
        or bounds[1][0][0] not in ("sym", "const")
    ):
        raise ParseError("expected a lower bound such as k=1")
    variable = bounds[1][0][1]
    p.expect("^")
    high = p.nested(p.exponent)
    p.indices.add(variable)  # as an index, i is no imaginary unit
    body = p.nested(p.term)
    p.indices.discard(variable)
    return (kind, variable, bounds[1][2], high, body)


def limit(p: Parser) -> Node:
    r"""\lim_{x \to a}; the body is the product that follows."""
    p.expect("_")
    p.expect("{")
    variable = p.next().text
    if not p.take("to", "rightarrow"):
        raise ParseError("expected \\to")
    point = p.sum()
    p.expect("}")
    return ("lim", variable, point, p.nested(p.term))


def integral(p: Parser) -> Node:
    """\\int_a^b body dx; the differential ends the body."""
    low = p.argument() if p.take("_") else None
    high = p.nested(p.exponent) if p.take("^") else None
    end, depth = p.index, 0
    while not (depth == 0 and p.tokens[end].text == "d" and p.tokens[end + 1].kind == "let"):
        depth += p.tokens[end].text in ("{", "(")
        depth -= p.tokens[end].text in ("}", ")")
        end += 1
        if end >= len(p.tokens) - 1:
            raise ParseError("integral without differential")
    inner = type(p)([*p.tokens[p.index : end], *[Token("end", "", False)] * LOOK_AHEAD])
    inner.depth = p.depth
    body = inner.sum() if end > p.index else num(1)
    if inner.peek().kind != "end":
        raise ParseError("unexpected end of the integrand")
    p.index = end + 2
    return ("int", low, high, p.tokens[end + 1].text, body)


def environment(p: Parser) -> Node:
    """Matrices, arrays and cases."""
    p.expect("{")
    name = "".join(iter(lambda: p.next().text if not p.at("}") and p.peek().kind != "end" else "", ""))
    p.expect("}")
    if name == "array":
        while not p.take("}"):
            if p.next().kind == "end":
                raise ParseError("unclosed column specification")
    elif name not in ("pmatrix", "bmatrix", "matrix", "Bmatrix", "vmatrix", "smallmatrix", "cases"):
        raise ParseError(f"unknown environment {name}")
    rows: list[tuple[Node, ...]] = []
    while not p.at("end"):
        if p.take("hline", "\\"):  # a line, or a row without entries
            continue
        row = [p.nested(lambda: cell(p))]
        while p.take("&"):
            row.append(p.nested(lambda: cell(p)))
        rows.append(tuple(row))
        if not p.take("\\"):
            break
    p.expect("end")
    p.expect("{")
    while not p.take("}"):
        if p.next().kind == "end":
            raise ParseError("unclosed \\end")
    if name == "cases":
        return ("cases", tuple(rows))
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ParseError("rows of unequal length")
    return ("fn", "det", (("matrix", tuple(rows)),)) if name == "vmatrix" else ("matrix", tuple(rows))


def cell(p: Parser) -> Node:
    """One entry of a matrix or of a piecewise definition; there the last words are a condition."""
    if p.peek().kind == "word":
        words = []
        while p.peek().kind == "word":
            words.append(p.next().text)
        p.take(",", ".", ";")
        if p.at("&", "\\", "end"):
            return ("text", " ".join(words))
    node = p.chain()
    p.take(",", ".", ";")
    return node


def between(p: Parser, closing: str, name: str) -> Node:
    r"""What stands between a pair of bars that are commands, such as \lfloor and \rfloor."""
    node = p.sum()
    p.expect(closing)
    return ("fn", name, (node,))


EVERY = frozenset(("all", "any", "every"))
_NUMBERS = EVERY | frozenset("real reals number numbers value values x of for the".split())


def exceptions(p: Parser) -> Node | None:
    """`all real numbers except x = 1 and x = 2`: the reals without what is listed to the end."""
    end = p.index
    while p.tokens[end].text in _NUMBERS:
        end += 1
    if p.tokens[end].text not in ("except", "excluding"):
        return None
    p.index = end + 1
    excluded = p.answer()
    items = excluded[1] if excluded[0] == "list" else (excluded,)
    named = [item[0] == "chain" and item[1][0][0] == "sym" and item[1][1:-1] == ("=",) for item in items]
    values = [item[1][2] if is_named else item for item, is_named in zip(items, named, strict=True)]
    return ("setop", "setminus", ("sym", r"\mathbb{R}"), ("set", tuple(values)))


def such_that(first: Node, condition: Node) -> Node:
    r"""{x | x > 2} and {x in R | x > 2} say x > 2; in {2k | k in Z} and {x in Z | x > 2} both parts count."""
    if first[0] == "sym":
        return condition
    if first[0] == "chain" and first[1][1] != "in":
        return ("list", (first, condition), "and")
    if first[0] == "chain" and first[1][0][0] == "sym" and first[1][2][0] in ("tuple", "setop"):
        return ("list", (first, condition), "and")
    if first[0] == "chain" and first[1][0][0] == "sym" and first[1][2] == ("sym", r"\mathbb{R}"):
        return condition
    return ("chain", (first, "such that", condition))


def braces(p: Parser) -> Node:
    """\\{...\\}: a set by its members or by a condition."""
    if p.take("}"):
        return ("set", ())
    bars, p.bars, p.in_set_builder = p.bars, True, True  # in {x|x>2} the bar ends the first part
    first = order(p) or p.chain()
    p.bars = p.in_set_builder = False
    if p.take("mid", "|", ":"):
        node = such_that(first, p.answer())
    else:
        items = [first]
        while p.take(",", ";"):
            items.append(order(p) or p.chain())
        node = ("set", items[0][1] if len(items) == 1 and items[0][0] == "list" else tuple(items))
    p.expect("}")
    p.bars = bars
    return node


_AFTER_ORDER = frozenset(
    [
        ("end", ""),
        ("word", "and"),
        ("word", "or"),
        ("word", "only"),
        ("cmd", "}"),
        ("cmd", "sim"),
        ("cmd", "cong"),
    ]
    + [("op", sign) for sign in ",;)]"]
)


ROMAN = frozenset("II IV VI IX XI ii iii iv vi vii viii ix xi xii".split())  # longer ones are orders anyway
_PAIRS = frozenset("HT"), frozenset("TF")  # two tosses of a coin, two verdicts of true and false


def order(p: Parser) -> Node | None:
    """Letters as a whole element that a product would lose: an order of capitals, CBAD or C B A D or HT, and
    Roman numerals, II or (ii). Two other capitals than of a toss or a verdict are a segment.
    """
    if p.peek().kind != "let" and not p.at("("):
        return None
    small = not p.depth and (_small_numeral(p, 0) or _small_numeral(p, 1))
    letters = small or capitals(p)
    end = p.index + len(letters) + (2 if small and p.at("(") else 0)
    paired = len(letters) == 2 and any(pair.issuperset(letters) for pair in _PAIRS)
    if (
        not (len(letters) > 2 or letters in ROMAN or paired)
        or (p.tokens[end].kind, p.tokens[end].text) not in _AFTER_ORDER
    ):
        return None
    p.index = end + (p.tokens[end].text == "only")
    return ("text", letters.lower())


def _small_numeral(p: Parser, offset: int) -> str:
    """The small Roman numeral that stands next, or within the bracket that opens here; else nothing."""
    end = offset
    while p.peek(end).kind == "let" and p.peek(end).text in "ivx":
        end += 1
    letters = "".join(p.peek(k).text for k in range(offset, end))
    closed = not offset or (p.at("(") and p.peek(end).text == ")")
    return letters if letters in ROMAN and letters not in ("xi", "ix") and closed else ""  # x i is a product


def capitals(p: Parser) -> str:
    """The capitals that stand next."""
    end = 0
    while p.peek(end).kind == "let" and p.peek(end).text.isupper():
        end += 1
    return "".join(token.text for token in p.tokens[p.index : p.index + end])


def figure(p: Parser, name: str) -> Node:
    r"""\angle ABC, which is \angle CBA but not \angle BAC, and \triangle ABC with its corners in order."""
    letters = capitals(p)
    if len(letters) < 3:
        return ("sym", "\\" + name)
    p.index += len(letters)
    return ("sym", f"\\{name} {min(letters, letters[::-1]) if name == 'angle' else letters}")


def accented(p: Parser) -> Node:
    r"""\hat{p}, \vec{v}_1: what bears an accent that does not matter, and its index."""
    body = p.argument()
    return p.subscripted(body[1]) if body[0] == "sym" and p.take("_") else body


def arrow(p: Parser) -> Node:
    r"""\vec{v}, and \overrightarrow{AB}, which is not \overrightarrow{BA}."""
    body = accented(p)
    if body[0] == "mul" and all(n[0] == "sym" and n[1].isupper() for n in body[1]):
        return ("sym", "\\vec " + "".join(n[1] for n in body[1]))
    return body


def line(p: Parser) -> Node:
    """\\overline: a segment keeps its letters, three or more are digits, anything else is a conjugate."""
    body = p.argument()
    if body[0] == "mul" and all(n[0] == "sym" and n[1].isalpha() for n in body[1]):
        if len(body[1]) > 2:
            return ("sym", "\\overline " + "".join(n[1] for n in body[1]))
        if all(n[1].isupper() for n in body[1]):
            return body
    if body[0] == "text":  # of capitals in an order
        return ("sym", "\\overline " + body[1])
    return ("fn", "conj", (body,))


_ABOVE, _BELOW = (num(0), ("const", "inf")), (neg(("const", "inf")), num(0))
_UNBRACED = str.maketrans("", "", "{}")
_PARTS_OF_REALS = {
    **dict.fromkeys(("^+", "_>0"), ("tuple", "(", ")", _ABOVE)),
    **dict.fromkeys(("^-", "_<0"), ("tuple", "(", ")", _BELOW)),
    **dict.fromkeys(("_>=0", "_ge0", "_geq0", "_geqslant0"), ("tuple", "[", ")", _ABOVE)),
    **dict.fromkeys(("_<=0", "_le0", "_leq0", "_leqslant0"), ("tuple", "(", "]", _BELOW)),
    **dict.fromkeys(
        ("^*", "_ne0", "_neq0"), ("setop", "setminus", ("sym", r"\mathbb{R}"), ("set", (num(0),)))
    ),
}


def blackboard(p: Parser) -> Node:
    r"""\mathbb{R}, and its parts \mathbb{R}^+, \mathbb{R}_{\ge 0} and so on."""
    name = p.argument()
    braced = p.peek(1).text == "{"  # of ^+, ^{+} and _{>0}
    end = next((k for k in range(2, 6) if p.peek(k).text == "}"), 0) + 1 if braced else 2
    part = "".join(p.peek(k).text for k in range(end)).translate(_UNBRACED)
    if name == ("sym", "R") and part in _PARTS_OF_REALS:
        p.index += end
        return _PARTS_OF_REALS[part]
    return ("sym", f"\\mathbb{{{name[1]}}}") if name[0] == "sym" else name


def operand(p: Parser, name: str) -> Node:
    """Everything that begins with a backslash and is an operand."""
    if name in FUNCTIONS:
        return function(p, FUNCTIONS[name])
    if name in ("pi", "infty"):
        return ("const", "inf" if name == "infty" else name)
    if name in ("angle", "triangle", "Delta", "square", "Box"):
        if [p.peek(k).text for k in (0, 4)] == ["{", "}"] and all(p.peek(k).kind == "let" for k in (1, 2, 3)):
            p.index += 1
            node = figure(p, name)
            p.expect("}")
            return node
        if p.peek().kind == "let":
            return figure(p, name)
    if name in SYMBOL_COMMANDS:
        symbol = ("sym", "\\" + name)
        return p.subscripted("\\" + name) if p.take("_") else symbol
    if name in ("emptyset", "varnothing"):
        return ("set", ())
    if name in ("ldots", "dots", "cdots", "dotsc", "dotsb"):
        return ("sym", "...")
    handler = _COMMANDS.get(name)
    if handler is None:
        raise ParseError(f"unknown command \\{name}")
    return handler(p)


_COMMANDS: dict[str, Callable[[Parser], Node]] = {
    **dict.fromkeys(("frac", "dfrac", "tfrac", "cfrac", "nicefrac", "sfrac"), fraction),
    **dict.fromkeys(("binom", "dbinom", "tbinom"), lambda p: ("fn", "binom", (p.argument(), p.argument()))),
    "sqrt": lambda p: root(p, p.argument),
    "surd": lambda p: root(p, p.primary),
    "cuberoot": lambda p: root(p, p.primary, 3),
    "fourthroot": lambda p: root(p, p.primary, 4),
    "sum": lambda p: big_operator(p, "sum"),
    "prod": lambda p: big_operator(p, "prod"),
    "lim": limit,
    "int": integral,
    "begin": environment,
    "{": braces,
    "langle": lambda p: p.bracket("langle"),
    "lfloor": lambda p: between(p, "rfloor", "floor"),
    "lceil": lambda p: between(p, "rceil", "ceil"),
    "lvert": lambda p: between(p, "rvert", "abs"),
    **dict.fromkeys(("overline", "bar"), line),
    **dict.fromkeys(("overrightarrow", "vec"), arrow),
    "mathbb": blackboard,
    **dict.fromkeys(
        ("hat", "widehat", "underline", "mathring", "tilde", "widetilde"),
        accented,
    ),
}
PRIMARY_COMMANDS = (
    frozenset(_COMMANDS)
    | frozenset(FUNCTIONS)
    | SYMBOL_COMMANDS
    | {"pi", "infty", "ldots", "dots", "cdots", "emptyset", "varnothing"}
)
