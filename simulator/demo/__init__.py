"""``edgewright-sim demo``: the whole loop on three simulated core devices, from the outside, as an operator would."""
