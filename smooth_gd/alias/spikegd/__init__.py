"""The neuron models under their published name: `spikegd.qif` is `smooth_gd.spikegd.qif`.

The modules are the same objects under both names, and so are their classes.
"""

import importlib
import sys

for _name in ("", ".models", ".qif", ".lif", ".theta", ".olif", ".utils", ".utils.plotting"):
    sys.modules[__name__ + _name] = importlib.import_module("smooth_gd.spikegd" + _name)
