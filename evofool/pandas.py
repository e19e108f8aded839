"""`import evofool.pandas` gives every DataFrame of elites its `.evofool`, also those that evofool did not read itself.

>>> import pandas as pd
>>> import evofool.pandas
>>> pd.read_parquet("runs/quickstart").evofool.gallery()   # doctest: +SKIP
"""

from evofool.report.accessor import Elites

__all__ = ["Elites"]
