"""One file per norm. The file's name is the norm's name in config.yaml.

Each file holds one function `build(channels, *, ...) -> nn.Module`, a layer that maps
(N, channels, H, W) to the same shape. Its keyword arguments are the options of config.yaml that
apply to it. A norm that computes statistics over the images of a batch says so by
`USES_BATCH_STATISTICS = True`; one that cannot use maps of a single pixel, by `LEAST_PIXELS`, which
are those of all channels of a group together where it takes `groups`.
"""
