"""What a run would need and could reach on a machine that is not here.

topology.py     machines by name, and their devices
stand_in.py     shapes in place of text
lowering.py     the training step, compiled for them
collectives.py  what the compiled step sends between devices
bounds.py       how fast it can be at best
advice.py       what to change where it does not fit
report.py       all of it, printed
"""
