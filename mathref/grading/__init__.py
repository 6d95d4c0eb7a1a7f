"""The inside of the grader, from text to verdict; `mathref.grader` is the way in.

Reading: vocabulary, syntax, lexer, numerals, quantities, commands, latex. Values: poly, numeric, algebra,
functions, realsets, closed, calculus and its worker. Structure: forms, answers.
"""
