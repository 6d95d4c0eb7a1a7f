r"""The words and commands the answer reader knows: tables only.

Paper: section 9 (normalisation before comparison).
Choices: units and nouns after a number are dropped whatever they are when they stand in \text{}; outside
\text{} only the abbreviations listed here are units, since `5 m` may well be five times m.
"""

from __future__ import annotations

# Unicode spellings of LaTeX commands. A command ends with a blank so that what follows cannot join its name.
UNICODE = {
    **dict.fromkeys("−–—‐‑﹣－", "-"),
    **{"×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "∙": r"\cdot ", "÷": r"\div ", "∕": "/", "∗": "*"},
    **{
        "π": r"\pi ",
        "∞": r"\infty ",
        "√": r"\surd ",
        "±": r"\pm ",
        "∓": r"\mp ",
        "°": r"\degree ",
        "∅": r"\emptyset ",
    },
    **{
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "≈": r"\approx ",
        "∈": r"\in ",
        "∪": r"\cup ",
        "∩": r"\cap ",
    },
    **{
        "⩽": r"\le ",
        "⩾": r"\ge ",
        "∖": r"\setminus ",
        "ℝ": r"\mathbb{R}",
        "≡": r"\equiv ",
        "…": r"\ldots ",
        "′": "'",
    },
    **{"α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "θ": r"\theta ", "λ": r"\lambda "},
    **{
        "μ": r"\mu ",
        "φ": r"\phi ",
        "ω": r"\omega ",
        "σ": r"\sigma ",
        "ρ": r"\rho ",
        "ε": r"\epsilon ",
        "τ": r"\tau ",
    },
    **{
        "“": "",
        "”": "",
        "’": "'",
        "‘": "'",
        "⁄": "/",
        "£": "",
        "€": "",
        "₹": "",
        "¥": "",
        "¢": "",
        "％": "%",
        "↦": r"\mapsto ",
    },
    **{
        "⌊": r"\lfloor ",
        "⌋": r"\rfloor ",
        "⌈": r"\lceil ",
        "⌉": r"\rceil ",
        "⟨": r"\langle ",
        "⟩": r"\rangle ",
    },
}

TEXT_COMMANDS = (
    "textbf|textit|textrm|textnormal|textsf|texttt|text|mbox|hbox|mathrm|mathit|operatorname\\*?|rm".split(
        "|"
    )
)

# Commands that change looks only; a group after them is an ordinary group.
IGNORED_COMMANDS = frozenset(
    "mathbf boldsymbol bf it rm displaystyle textstyle scriptstyle limits nolimits mathsf mathcal"
    " boxed fbox $ %"
    " noindent ! , ; : cdotp nobreak bold mathit mathrm tt large Large LARGE huge Huge small"
    " footnotesize normalsize scriptsize tiny"
    " ensuremath strut allowbreak centering bm mathstrut".split()
) - {"%"}
IGNORED_COMMANDS = IGNORED_COMMANDS | {"%"}  # a percent sign is a unit and dropped

FUNCTIONS = {
    **{
        name: name
        for name in "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp".split()
    },
    **{"lg": "log", "asin": "arcsin", "acos": "arccos", "atan": "arctan", "arccot": "arccot"},
    **{name: name for name in "gcd lcm max min floor ceil abs det".split()},
    **{"Re": "re", "Im": "im", "cis": "cis", "re": "re", "im": "im"},
}

# Functions that are also written in \text{} or \operatorname{}; min and sec are units there.
UPRIGHT_NAMES = frozenset(
    "infinity pi sin cos tan cot log ln exp gcd lcm arcsin arccos arctan cis re im".split()
)

SYMBOL_COMMANDS = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi"
    " rho sigma tau"
    " upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar"
    " triangle angle"
    " star dagger nabla partial aleph Box square heartsuit spadesuit".split()
)

# Letters that name a function before a parenthesis anywhere; others only on the left-hand side of an
# equation.
CALLABLE_LETTERS = frozenset("fghFGH")

RELATIONS = {
    **{"=": "=", ":=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "lt": "<", "gt": ">"},
    **{
        "le": "<=",
        "leq": "<=",
        "leqslant": "<=",
        "ge": ">=",
        "geq": ">=",
        "geqslant": ">=",
        "leqq": "<=",
        "geqq": ">=",
    },
    **{
        "ne": "!=",
        "neq": "!=",
        "approx": "~",
        "simeq": "~",
        "in": "in",
        "equiv": "=",
        "to": "->",
        "mapsto": "->",
    },
    **{"rightarrow": "->", "parallel": "par", "perp": "perp", "sim": "sim", "cong": "cong"},
}

NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
        " sixteen"
        " seventeen eighteen nineteen".split()
    )
} | {
    word: 20 + 10 * k
    for k, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())
}

MULTIPLIERS = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}

FRACTION_WORDS = {
    **{
        "half": 2,
        "halves": 2,
        "third": 3,
        "thirds": 3,
        "quarter": 4,
        "quarters": 4,
        "fourth": 4,
        "fourths": 4,
    },
    **{
        "fifth": 5,
        "fifths": 5,
        "sixth": 6,
        "sixths": 6,
        "eighth": 8,
        "eighths": 8,
        "tenth": 10,
        "tenths": 10,
    },
}

# Words after a number that are no unit: they continue the sentence, or tell morning from evening.
NOT_UNITS = frozenset("and or am pm mod is not than but to by isn't no more less least most out from".split())

# Abbreviations that are units directly after a number even outside \text{}.
UNITS = frozenset(
    "mm cm km ft yd kg mg lb lbs oz ml mL cL sq hr hrs min mins sec secs mph kph kmh cents pct deg"
    " rad USD mi ms Hz kJ"
    " cc pm am PM AM in th st nd rd".split()
)

# Short words that would otherwise be read as products of letters.
WORDS = frozenset(
    "yes no and or odd not nor am pm none the of is by to if an at on for per are one two six ten"
    " all red blue boy girl"
    " man men day days mon tue wed thu fri sat sun jan feb mar apr jun jul aug sep oct nov dec cow"
    " pig dog cat west"
    " east true false even prime undefined cents feet foot dne infinity inch inches unit units square"
    " cubic cup cups pound pounds"
    " mile miles hour hours gram grams liter liters dollar dollars degree degrees percent percentage"
    " meter meters"
    " minute minutes second seconds year years week weeks month months point points people ways times"
    " bits bytes".split()
)
