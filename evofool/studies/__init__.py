"""Studies: questions asked of finished or growing runs, one module for each; a study never imports another.

A study reads a run's tables, scores what it needs through the same pools as a run, and keeps its rows in
RUN/_studies/NAME.parquet, so that asking again scores only what is missing.
"""
