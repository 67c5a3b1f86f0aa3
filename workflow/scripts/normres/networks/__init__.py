"""One file per network. The file's name is the network's name in config.yaml.

Each file holds the constants `CHANNELS` (the channel counts its norm layers see) and `MIN_SIDE`
(the smallest image side it admits, in pixels), and one function

    build(in_channels, side, classes, norm_layer, *, conv_bias=None, **options) -> nn.Module

that maps images (N, in_channels, side, side) to logits (N, classes). `norm_layer` takes a number of
channels; `conv_bias` is None for the architecture's own choice of biases. The keyword arguments
after it are the options of config.yaml that apply to this network.
"""
