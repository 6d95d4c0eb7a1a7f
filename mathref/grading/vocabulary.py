r"""The words and commands the answer reader knows: tables only.

Paper: section 9 (normalisation before comparison).
Choices: a noun after a number is dropped, whatever it is, unless it changes the value or tells answers apart
(quantities.py). Of abbreviations outside \text{} only those listed here are units, since `5 m` may well be
five times m.
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
        "∉": r"\notin ",
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
        "″": "''",
        "∶": ":",
        "℃": r"\degree C ",
        "℉": r"\degree F ",
        "∧": r"\land ",
        "∨": r"\lor ",
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
    **{"º": r"\degree ", "˚": r"\degree ", "∘": r"\circ ", "∠": r"\angle ", "•": r"\bullet ", "∴": ""},
    **{"∛": r"\cuberoot ", "∜": r"\fourthroot ", "≦": r"\le ", "≧": r"\ge ", "✓": "", "∎": ""},
    **{char: f"\\mathbb{{{letter}}}" for char, letter in zip("ℤℕℚℂ", "ZNQC", strict=True)},
    **{"ϕ": r"\phi ", "ϑ": r"\theta ", "ϵ": r"\epsilon ", "µ": r"\mu ", "ζ": r"\zeta ", "η": r"\eta "},
    **{"κ": r"\kappa ", "ν": r"\nu ", "ξ": r"\xi ", "χ": r"\chi ", "ψ": r"\psi ", "Γ": r"\Gamma "},
    **{"Δ": r"\Delta ", "Θ": r"\Theta ", "Λ": r"\Lambda ", "Ξ": r"\Xi ", "Π": r"\Pi ", "Σ": r"\Sigma "},
    **{"Φ": r"\Phi ", "Ψ": r"\Psi ", "Ω": r"\Omega "},
}

TEXT_COMMANDS = (
    "textbf|textit|textrm|textnormal|textsf|textsl|textsc|textup|texttt|text|emph|mbox|hbox|mathrm|mathit"
    r"|operatorname\*?|rm"
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

# Names of plain text that have a command; √ and sqrt cover a whole number there, \sqrt one digit.
PLAIN_NAMES = {
    **{name: name for name in (*FUNCTIONS, "pi", "infty", "mod")},
    **{"sqrt": "surd", "Pi": "pi", **dict.fromkeys(("infinity", "inf", "oo"), "infty")},
}

# Functions that are also written in \text{} or \operatorname{}; min and sec are units there.
UPRIGHT_NAMES = frozenset(
    "infinity pi sin cos tan cot log ln exp gcd lcm arcsin arccos arctan cis re im".split()
)

# Greek letters that plain text names without a backslash; mu, nu, xi and psi are left as they are.
GREEK_NAMES = frozenset(
    "alpha beta gamma delta epsilon zeta theta iota kappa lambda sigma omega rho tau phi"
    " Gamma Delta Theta Lambda Sigma Omega Phi".split()
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
        "notin": "not in",
        "equiv": "=",
        "to": "->",
        "mapsto": "->",
    },
    **{"rightarrow": "->", "parallel": "par", "perp": "perp", "sim": "sim", "cong": "cong"},
}

# Words in front of a value that say how exact it is, as \approx does.
PRECISION = {**dict.fromkeys("approximately about roughly around approx".split(), "~"), "exactly": "="}

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
    "quadrillion": 10**15,
    "quintillion": 10**18,
    "dozen": 12,
    "lakh": 10**5,
    "crore": 10**7,
}
MULTIPLIERS |= {f"{word}s": value for word, value in MULTIPLIERS.items()}  # 5 millions are no noun
MULTIPLIERS["tens"] = 10

_ORDINALS = {
    **{"third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12},
    **{f"{word}th": NUMBER_WORDS[word] for word in "six seven ten eleven".split()},
    **{f"{word}th": value for word, value in NUMBER_WORDS.items() if 13 <= value < 20},
    **{f"{word[:-1]}ieth": value for word, value in NUMBER_WORDS.items() if value >= 20},
    **{"hundredth": 100, "thousandth": 10**3, "millionth": 10**6},
}
ORDINALS = {"first": 1, "second": 2} | {word: n for word, n in _ORDINALS.items() if word != "quarter"}
FRACTION_WORDS = {"half": 2, "halves": 2, **_ORDINALS, **{f"{word}s": n for word, n in _ORDINALS.items()}}

# Words after a number that are no unit: they continue the sentence, or tell morning from evening.
NOT_UNITS = frozenset("and or am pm mod modulo is not than but to by isn't no least most out from".split())

# Words that change the value of what stands before them: never a unit.
VALUE_WORDS = frozenset(
    (*NUMBER_WORDS, *MULTIPLIERS, *FRACTION_WORDS)
    + ("plus", "minus", "divided", "over", "factorial", "doubled", "tripled", "halved")
)

# Words after a number that tell two answers apart although the question fixes the unit: directions, gains
# against losses, dates. Each line has the spellings of one meaning.
OPPOSITES = {
    word: line.split()[0]
    for line in (
        *("increase increased gain gains profit", "decrease decreased loss losses lost reduction"),
        *("north N", "south S", "east E", "west W", "northeast", "northwest", "southeast", "southwest"),
        *("up upward upwards", "down downward downwards", "left", "above", "below"),
        *(
            "more additional extra",
            "less fewer",
            "clockwise",
            "counterclockwise anticlockwise",
            "forward forwards",
            "backward backwards back",
        ),
        *("before", "after", "early earlier", "late later", "older", "younger", "faster", "slower"),
        *("higher taller", "lower shorter", "heavier", "lighter", "heads", "tails", "even", "odd"),
        *("positive", "negative", "true", "false", "correct right", "incorrect wrong", "inside", "outside"),
        *("hotter warmer", "colder cooler", "credit", "debit", "nearer closer", "farther further"),
        *("ahead", "behind", "fast", "slow", "wins won win", "ties tied tie", "draws drawn draw"),
        *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
        *("bc bce", "ad ce", "january jan", "february feb", "march mar", "april apr", "may", "june jun"),
        *("july jul", "august aug", "september sep", "october oct", "november nov", "december dec"),
    )
    for word in line.split()
}

# Abbreviations that are units directly after a number even outside \text{}.
UNITS = frozenset(
    "mm cm km ft yd kg mg lb lbs oz ml mL cL sq hr hrs min mins sec secs mph kph kmh cents pct deg"
    " rad USD mi ms Hz kJ"
    " cc pm am PM AM in th st nd rd yr yrs wk wks gal gals qt qts pt pts tsp tbsp kgs".split()
)

# Letters that are a unit (or a direction) in \text{}; any other letter there is a variable set upright.
UNIT_LETTERS = frozenset("mgshlLNJWVAKCFSE")

# Of units and words those that are a product of letters unless they stand apart: 2mg, at^2, ax+by.
AMBIGUOUS = frozenset("mg ms in st nd rd th at by an on yr wk qt pt pts".split())

ORDINAL_ENDINGS = ("st", "nd", "rd", "th")

# Units that are counted in others of their kind, 3 hours 20 minutes, and what is short for them.
MEASURES = frozenset(
    "hour minute second day week month year foot inch yard mile pound ounce gallon quart pint cup dollar cent"
    " km m cm mm kg g meter gram".split()
)
ABBREVIATIONS = dict(
    pair.split(":")
    for pair in "feet:foot ft:foot in:inch yd:yard mi:mile hr:hour min:minute sec:second yr:year lb:pound"
    " oz:ounce gal:gallon qt:quart".split()
)

# Short words that stand behind an operand without a blank, or behind \pi, and are no product either.
CONJUNCTIONS = frozenset("and or if to for is of per no not".split())

# Short words that would otherwise be read as products of letters.
WORDS = frozenset(
    "yes no and or odd not nor am pm none the of is by to if an at on for per are one two six ten"
    " all red blue boy girl"
    " man men day days mon tue wed thu fri sat sun jan feb mar apr jun jul aug sep oct nov dec cow"
    " pig dog cat west"
    " east true false even prime undefined cents feet foot dne infinity inch inches unit units square"
    " cubic cup cups pound pounds"
    " mile miles hour hours up gram grams liter liters dollar dollars degree degrees percent percentage"
    " meter meters"
    " minute minutes second seconds year years week weeks month months point points people ways times"
    " bits bytes".split()
)
