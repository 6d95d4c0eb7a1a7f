"""The inside of the grader, from text to verdict; `mathref.grader` is the way in.

Reading: vocabulary, syntax, lexer, latex, commands. Values: poly, algebra, functions, numeric, calculus and
its worker. Structure: forms, realsets, answers. Each module uses only those before it, apart from imports
inside functions where a value needs a function of values.
"""
