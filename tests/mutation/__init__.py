"""Mutation testing by hand: `python -m tests.mutation --seed 1 --sample 100 [--only GLOB]`.

Changes one decision at a time in a copy of the tree and runs the tests that answer for it. A mutant that no test notices is printed
with its line. What is mutated, and which tests answer for it, is the table in `tests/mutation/targets.py`.
"""
