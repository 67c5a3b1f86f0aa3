"""What the commands of the study share: networks, norms, data, training, statistics, figures.

Nothing is imported here, so that a command loads (and a fingerprint covers) only what it uses.
"""
