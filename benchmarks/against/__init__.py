"""The papers' published programs beside ours: a module a paper, with a training step of each side.

The published programs are no part of this project: they are imported from checkouts of the user's,
as they are. What they want of a machine is given to them where they are called (`common.theirs`).
"""
