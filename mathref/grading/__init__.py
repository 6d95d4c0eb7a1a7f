"""The inside of the grader, from text to verdict: lexer, latex, commands (reading); algebra, functions,
numeric, calculus and its worker (values); answers, realsets (structure). `mathref.grader` is the way in.
"""
