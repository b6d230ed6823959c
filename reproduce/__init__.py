"""The reproduction: rows and claims that the papers' folders declare, and verdicts from results.

Reads `<paper>/reproduction.toml` and `results/`; imports no paper.
"""
