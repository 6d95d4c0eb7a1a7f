"""mathref: a readable PyTorch reference of arXiv 2310.10047 (fine-tuning language models to solve math).

Nothing is imported here, so that `from mathref.grader import is_equivalent` costs no torch.
"""

__version__ = "0.1.0"
