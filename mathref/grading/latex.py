r"""A precedence parser for final answers: the text becomes a syntax tree, or one ParseError.

Paper: section 9 (the grading function has to read what problems and models write).
Choices: no eval, no generated grammar, no sympy. The whole string must be consumed, since accepting a parsed
prefix is how graders find `2` in `2,-1`. Length, token count and nesting are limited before anything is
built, so that reading is linear and bounded. `1/2x` is (1/2)x, `2^10` is 2^{10}, `\frac12` takes one
character each, as TeX does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from mathref.grading import commands, names, numerals, quantities
from mathref.grading.commands import PRIMARY_COMMANDS
from mathref.grading.lexer import MAX_LENGTH, Token, tokenize
from mathref.grading.numerals import literal
from mathref.grading.syntax import Node, ParseError, divide, neg, num, product
from mathref.grading.vocabulary import (
    CALLABLE_LETTERS,
    RELATIONS,
)

MAX_DEPTH = 60  # nested groups; each costs about ten Python frames

_SIGNS = ("op", "cmd")  # kinds of tokens that are known by their text
_PRODUCTS = {
    **dict.fromkeys(("*", "cdot", "times", "ast", "bullet"), "times"),
    **{"/": "by", "div": "by", "bmod": "mod", "mod": "mod"},
}
_UNSIGNED = ("num", "repeating", "let", "word")  # behind which a number is no factor: 3 5, x2
_MODULO = ("mod", "bmod", "modulo")
_LOGIC = {"lor": "or", "land": "and"}
_CLOSINGS = {
    **{"(": (")", "]", "["), "[": ("]", ")", "["), "]": ("[", "]")},
    **{"{": ("}",), r"\{": ("}",), "langle": ("rangle",)},
}
_OPENS, _CLOSES = {"langle": "(", "]": "("}, {"rangle": ")", "[": ")"}  # a reversed bracket is a round one


class Parser:
    """Recursive descent over the tokens of one answer; every method consumes what it returns."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.index = 0
        self.depth = 0
        self.indices: set[str] = set()  # summation variables in scope
        self.dropped: list[str] = []  # words after quantities so far
        self.bars = False  # whether |...| is open, where a bar in operator position closes
        # Beside \equiv a mod names the modulus of the statement; alone it is the remainder, 10 mod 7 = 3.
        self.congruent = any(token.text == "equiv" for token in tokens)

    # -- access
    def peek(self, offset: int = 0) -> Token:
        return self.tokens[self.index + offset]

    def next(self) -> Token:
        token = self.tokens[self.index]
        if token[0] != "end":  # the end is never passed
            self.index += 1
        return token

    def ended(self) -> bool:
        """Asked before a row of other questions: most answers are a single operand."""
        return self.tokens[self.index][0] == "end"

    def at(self, *texts: str) -> bool:
        token = self.tokens[self.index]
        return token[1] in texts and token[0] in _SIGNS  # by position: the innermost step of all reading

    def take(self, *texts: str) -> bool:
        token = self.tokens[self.index]
        if token[1] in texts and token[0] in _SIGNS:
            self.index += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise ParseError(f"expected {text}, found {self.peek().text or 'the end'}")

    def nested(self, rule: Callable[[], Node]) -> Node:
        """Run one rule a level deeper; the only way to recurse, hence the only place that counts."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ParseError(f"nested deeper than {MAX_DEPTH}")
        node = rule()
        self.depth -= 1
        return node

    # -- lists
    def answer(self) -> Node:
        """A list of elements, or its only element."""
        start, ends = self.index, [len(self.dropped)]
        groups: list[list[Node]] = [[self.member(ends)]]
        kind = ","
        while separator := self.separator():
            if self.peek().kind == "end" or self.at(")", "]", "}", r"}"):
                break
            if separator == ",":
                groups[-1].append(self.member(ends))
            else:
                kind = separator if separator != ";" else kind
                groups.append([self.member(ends)])
        size = len(groups[0])
        if len(groups) > 1 and size > 1 and all(len(g) == size and all(map(_assigns, g)) for g in groups):
            return ("list", tuple(("tuple", "(", ")", tuple(g)) for g in groups), ",")  # p=5,q=2; p=7,q=2
        items = tuple(item for group in groups for item in group)
        if len(items) == 1:
            return items[0]
        if any(item[0] == "sym" for item in items):
            if any(t.kind == "cmd" and t.text in _LOGIC for t in self.tokens[start : self.index]):
                raise ParseError("a formula of logic")
        words = [self.dropped[start:end] for start, end in itertools.pairwise(ends)]
        return ("list", quantities.told_apart(items, words), kind)

    def member(self, ends: list[int]) -> Node:
        """One element; where the words after its quantities end is added to `ends`."""
        node = self.element()
        ends.append(len(self.dropped))
        return node

    def separator(self) -> str | None:
        """Consume one separator; ", and" is a comma, a lone "and" binds looser than commas do."""
        if self.ended():
            return None
        if self.take(";"):
            return ";"
        comma = self.take(",")
        if self.peek().kind == "word" and self.peek().text in ("and", "or"):
            word = self.next().text
            return "," if comma and word == "and" else word
        if self.at(*_LOGIC):
            return _LOGIC[self.next().text]
        return "," if comma or quantities.at_smaller_unit(self) else None

    def element(self) -> Node:
        """One member of a list: words, or a chain of relations."""
        token = self.peek()
        if (
            token.text in ("a", "A")
            and self.peek(1).kind == "word"
            and self.peek(1).text not in ("and", "or")
        ):
            token = self.peek(1)  # a hyperbola
        if quantities.precision(self):
            return self.chain()
        if named := names.quantity(self):
            return self.chain(named)
        if token.text in commands.EVERY and (rest := commands.exceptions(self)):
            return rest
        if token.kind == "word" and len(token.text) > 1 and not numerals.words_ahead(self):
            words = quantities.words(self)
            if self.at(":") and not self.in_set_builder:
                return commands.labelled(self, words)
            return self.chain(names.of_words(words[1])) if self.relation() else words  # Area = 5
        return commands.order(self) or self.chain()

    def chain(self, named: Node | None = None) -> Node:
        r"""Expressions joined by =, <, \in and the like; `named` is a left-hand side that was read
        already.
        """
        named = named or names.function(self)
        parts: list[Any] = [named] if named else []
        if not named:
            parts.append(None if self.relation() else self.ratio())
        if not named and self.ended():
            return parts[0]
        while relation := self.relation():
            self.index += 1
            if relation in ("=", "~") and (rounded := numerals.broken_off(self)):
                parts += ["~", rounded]
                quantities.units(self)
                continue
            lettered = commands.order(self) if relation in ("sim", "cong") else None
            parts += [relation, lettered or self.ratio()]
        node = parts[0] if len(parts) == 1 else ("chain", tuple(parts))
        if self.take("pmod"):
            return ("congruence", node, self.argument(whole=True))
        if self.at("(") and self.peek(1).text in _MODULO:
            self.index += 2
            node = ("congruence", node, self.sum())
            self.expect(")")
        elif self.congruent and self.peek().text in _MODULO:
            self.index += 1
            node = ("congruence", node, self.sum())
        return node

    def relation(self) -> str | None:
        token = self.peek()
        if token.kind in _SIGNS:
            return None if token.text == "not" else RELATIONS.get(token.text)
        return quantities.precision(self)

    def ratio(self) -> Node:
        """`1:2:3`, also clock times."""
        start, words = self.index, len(self.dropped)
        items = [self.setwise()]
        if self.ended():
            return quantities.marked(self, items[0], words)
        while (self.at(":") and not self.in_set_builder) or (
            self.peek().kind == "word" and self.peek().text == "to"
        ):
            self.index += 1
            items.append(self.setwise())
        node = items[0] if len(items) == 1 else ("ratio", tuple(items), commands.time_of_day(self, start))
        if self.peek().kind == "word" and self.peek().text.replace(".", "") in ("am", "pm"):
            if node[0] == "num":  # 9 a.m. is 9:00 a.m.
                node = ("ratio", (node, num(0)), True)
            if node[0] == "ratio" and not node[2]:
                raise ParseError("no time of day")  # 2:5 p.m.
            return ("clock", node, self.next().text.replace(".", ""))
        quantities.units(self)
        return quantities.marked(self, node, words)

    in_set_builder = False

    def setwise(self) -> Node:
        """Unions, intersections and differences, left to right."""
        node = self.sum()
        while self.at("cup", "cap", "setminus", "backslash"):
            operator = self.next().text
            node = ("setop", "setminus" if operator == "backslash" else operator, node, self.sum())
        return node

    # -- arithmetic
    def sum(self) -> Node:
        terms = [self.signed_term()]
        while self.at("+", "-", "pm", "mp"):
            terms.append(self.signed_term())
        return terms[0] if len(terms) == 1 else ("add", tuple(terms))

    def signed_term(self) -> Node:
        if self.tokens[self.index][1] not in ("+", "-", "pm", "mp"):
            return self.term()
        if self.take("+"):
            return self.signed_term_again()
        if self.take("-"):
            return neg(self.signed_term_again())
        if self.at("pm", "mp"):
            sign = 1 if self.next().text == "pm" else -1
            return ("pm", sign, self.term())
        return self.term()

    def signed_term_again(self) -> Node:
        if not self.at("+", "-", "pm", "mp"):
            return self.term()
        return self.nested(self.signed_term)

    def term(self) -> Node:
        start, factors = self.index, [self.power()]
        quantities.units(self)
        while True:
            token = self.tokens[self.index]
            known = token[0] in _SIGNS or (token[0] == "word" and quantities.at_times(self))
            operator = _PRODUCTS.get(token[1], "") if known else ""
            if operator == "mod" and self.congruent:
                return product(factors)
            self.index += len(operator) > 0
            if operator == "times":
                factors.append(self.signed_factor())
            elif operator == "by":
                factors.append(("pow", self.signed_factor(), num(-1)))
            elif operator == "mod":
                factors = [("mod", product(factors), self.signed_factor())]
            elif self.at("(") and numerals.told_again(self, start, product(factors)):
                pass  # five (5)
            elif self.starts_factor() and not quantities.at_smaller_unit(self):
                before = self.tokens[self.index - 1]
                if token.kind == "num" and before.kind in _UNSIGNED and before.text != "i":
                    if before.kind == "word" or self.peek(1).text not in ("^", "**"):  # but 3 2^n, k 2^k
                        raise ParseError("two numbers side by side")
                factors.append(self.power())
            else:
                return product(factors)
            quantities.units(self)

    def signed_factor(self) -> Node:
        if self.take("-"):
            return neg(self.nested(self.signed_factor))
        if self.take("+"):
            return self.nested(self.signed_factor)
        return self.power()

    def starts_factor(self) -> bool:
        """Whether the next token begins a factor, so that juxtaposition multiplies."""
        token = self.tokens[self.index]
        if token[0] == "end":
            return False
        if token.kind in ("num", "let", "repeating", "digits"):
            return True
        if token.kind == "op":
            if token.text == "(" and self.peek(1).text in _MODULO:
                return False
            if token.text == "[":  # unless it closes: [0,1[
                return self.peek(1).kind != "end" and not self.at_closing(1)
            return token.text in ("(", "{") or (token.text == "|" and not self.bars)
        return token.kind == "cmd" and token.text in PRIMARY_COMMANDS

    def at_closing(self, offset: int) -> bool:
        """Whether the token there cannot begin an operand, so that a reversed bracket before it closes."""
        token = self.peek(offset)
        return token.text in ("cup", "cap", "setminus", ",", ";", ")", "]", "}") or token.kind == "word"

    def power(self) -> Node:
        """An operand with its exponent, and with the words that change its value."""
        node = self.raised()
        return quantities.in_words(self, node) if self.tokens[self.index][0] == "word" else node

    def raised(self) -> Node:
        node = self.postfix(self.primary())
        if self.tokens[self.index][1] not in ("^", "**"):
            return node
        self.index += 1
        if self.take("circ", "degree"):
            return self.postfix(self.degrees(node))
        if self.at("{") and self.peek(1).text in ("circ", "degree") and self.peek(2).text == "}":
            self.index += 3
            return self.postfix(self.degrees(node))
        start = self.index
        if self.at("{") and _ending(self.peek(1)) and self.peek(2).text == "}":  # 5^{\text{th}}
            self.index += 3
            return node
        if _ending(self.peek()):
            self.index += 1
            return node
        self.index = start
        return self.postfix(("pow", node, self.nested(self.exponent)))

    def degrees(self, node: Node) -> Node:
        """Degrees of an angle, or of a temperature, whose scale is a unit."""
        node = numerals.minutes(self, node)
        if (
            self.peek().kind in ("let", "word")
            and self.peek().text in ("C", "F")
            and self.peek(1).kind == "end"
        ):
            self.index += 1
        return ("deg", node)

    def exponent(self) -> Node:
        """What follows ^: a group, or in plain text a signed whole number (2^10, 10^-7) and its own
        exponent.
        """
        if self.take("-"):
            return neg(self.exponent())
        if self.take("+"):
            return self.exponent()
        if self.at("{"):
            return self.argument()
        node = self.postfix(self.primary())
        return ("pow", node, self.nested(self.exponent)) if self.take("^", "**") else node

    def postfix(self, node: Node) -> Node:
        while self.tokens[self.index][0] in _SIGNS:
            if self.take("!"):
                node = ("fn", "fact2" if self.take("!") else "fact", (node,))
            elif self.at("degree", "circ"):
                composed = self.next().text == "circ"
                node = self.degrees(node)
                if composed and self.starts_factor():
                    raise ParseError("a composition, which no product may stand for")
            elif not self.take("%"):
                break
        return node

    # -- primaries
    def primary(self) -> Node:
        token = self.peek()
        if token.kind in ("num", "repeating", "digits"):
            return numerals.number(self)
        if token.kind == "let" or (token.kind == "word" and len(token.text) == 1 and token.text.isalpha()):
            return self.letter()
        if token.kind == "word":
            return numerals.number_words(self)
        if token.kind == "cmd":
            self.index += 1
            return self.nested(lambda: commands.operand(self, token.text))
        if token.text in ("_", "^") or (token.text == "{" and self.peek(1).text == "}"):
            return self.nested(lambda: numerals.indexed_selection(self))
        if token.text in ("(", "[", "{", "|", "]"):
            self.index += 1
            return self.nested(lambda: self.bracket(token.text))
        raise ParseError(f"expected an operand, found {token.text or 'the end'}")

    def letter(self) -> Node:
        if self.peek(1).kind == "let" and (numeral := numerals.lettered(self)):
            return numeral
        name = self.next().text
        primes = 0
        while self.take("'"):
            primes += 1
        name += "'" * primes
        if self.at("_"):
            self.index += 1
            return self.subscripted(name)
        if name in CALLABLE_LETTERS and "".join(self.peek(k).text for k in range(6)) == "^{-1}(":
            self.index += 5
            name += "^-1"
        if name == "C" and (chosen := numerals.called_selection(self)):
            return chosen
        if name[0] in CALLABLE_LETTERS and self.at("("):
            self.index += 1
            inner = self.nested(lambda: self.bracket("("))
            return ("call", name, inner[3] if inner[0] == "tuple" else (inner,))
        if name in ("e", "i") and name not in self.indices:
            return ("const", name)
        return ("sym", name)

    def subscripted(self, name: str) -> Node:
        if self.at("{") and (self.peek(1).kind == "word" or self.peek(1).text in ("max", "min")):
            self.index += 1
            words = []
            while not self.take("}"):
                if self.peek().kind == "end":
                    raise ParseError("unclosed subscript")
                words.append(self.next().text)
            return ("sym", f"{name}_{' '.join(words)}")
        index = self.argument(whole=True)
        if index[0] == "num":
            return ("sym", f"{name}_{index[1]}")
        return ("call", name + "_", index[1] if index[0] == "list" else (index,))

    def argument(self, whole: bool = False) -> Node:
        """The argument of a command: a group, or by TeX's rule one character (\\frac12, \\sqrt2).

        In an index plain text means the `whole` number: a_10.
        """
        token = self.peek()
        if token.kind == "num" and len(token.text) > 1 and token.text[0].isdigit():
            return numerals.first_digits(self, whole)
        if token.kind == "op" and token.text == "{":
            self.index += 1
            return self.nested(lambda: self.bracket("{"))
        if token.kind == "let":
            self.index += 1
            return ("const", token.text) if token.text in ("e", "i") else ("sym", token.text)
        if token.kind == "num":
            self.index += 1
            return literal(token.text)
        return self.primary()

    def parted(self, top: Node) -> Node:
        r"""What \over or \choose makes of all before it and all behind it in a group."""
        if self.take("over"):
            return divide(top, self.answer())
        return ("fn", "binom", (top, self.answer())) if self.take("choose") else top

    def bracket(self, opening: str) -> Node:
        """What stands between brackets: one thing is a group, several are a tuple, an interval or a set."""
        bars, self.bars = self.bars, opening == "|"  # of bars outside a bracket none closes within
        node = self.sum() if self.bars else self.parted(self.answer())
        self.bars = bars
        if opening == "|":
            self.expect("|")
            return ("fn", "abs", (node,))
        closings = _CLOSINGS[opening]
        closing = self.next()
        if closing.text not in closings or closing.kind not in ("op", "cmd"):
            raise ParseError(f"expected {closings[0]}, found {closing.text or 'the end'}")
        if "]" == opening or "[" == closing.text:  # reversed brackets are for intervals only
            if node[0] != "list" or len(node[1]) != 2:
                raise ParseError("reversed brackets without two ends")
        if node[0] == "list" and opening != "{":
            return ("tuple", _OPENS.get(opening, opening), _CLOSES.get(closing.text, closing.text), node[1])
        if node[0] == "list" and node[2] == ",":
            return ("set", node[1])
        return node


def _ending(token: Token) -> bool:
    """Whether an exponent is a word, as that of an ordinal is, and no letter set upright."""
    return token.kind == "word" and len(token.text) > 1


def _assigns(node: Node) -> bool:
    return node[0] == "chain" and len(node[1]) == 3 and node[1][1] == "="


def parse(text: str) -> Node:
    """The tree of a cleaned answer; ParseError unless the whole text is one."""
    if len(text) > MAX_LENGTH:
        raise ParseError(f"longer than {MAX_LENGTH} characters")
    parser = Parser(tokenize(text))
    label = commands.choice_label(parser)
    try:
        node = parser.parted(parser.answer())
    except RecursionError:  # only where the caller is nested deeply itself; MAX_DEPTH is far below the limit
        raise ParseError("nested too deeply") from None
    if parser.peek().kind != "end":
        raise ParseError(f"unexpected {parser.peek().text}")
    return ("choice", label, node) if label else node
