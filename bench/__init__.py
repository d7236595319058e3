"""What the project costs, as ratios to the bare limit measured in the same run.

`python -m bench [names]` runs it. Each file `*_bench.py` is one measurement, `bare.py` the limit it
is held against. The server has one core and the load another; the sides take turns, round by round.
"""
