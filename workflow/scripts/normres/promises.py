"""What a job may train on by the word of config and scheduler, before anybody looks at the device.

Apart from options.py, since what trains a run imports it: other edits there change no number.
"""


def may_use_gpu(device: str, promised: int | None) -> bool:
    """Whether devices.choose_device may answer "cuda"."""
    return device == "cuda" or (device == "auto" and promised != 0)
