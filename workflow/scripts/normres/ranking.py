"""Which ranks the data allow a configuration, given that means of a few seeds are uncertain."""

import numpy as np
import pandas as pd
from scipy import stats

from normres.inference import ALPHA, ROUNDING, holm


def rank_intervals(mean: np.ndarray, sd: np.ndarray, n: np.ndarray) -> pd.DataFrame:
    """Rank means from the largest, and give each the ranks that the data do not exclude.

    Args:
        mean, sd, n: of K groups of independent runs, arrays (K,); NaN in `mean` where n = 0.

    Returns:
        The columns `rank` (1 is the largest mean; means that are equal but for rounding share the
        smaller rank), `rank_low` and `rank_high`, one row per group; NaN for a group without a
        mean. All K intervals hold at once with about 95 % where groups have as many runs, else
        perhaps with less: a group's ranks go from 1 + the number of groups significantly above it
        to K - the number of those below it, where all pairs are compared by Welch's test with
        Holm's adjustment. (Mogstad, Romano,
        Shaikh & Wilhelm 2024, Review of Economic Studies 91, section 3; Holm instead of their
        bootstrap, which few runs do not carry.) A group whose spread is not known (one run; equal
        runs, beside another number of others) excludes no rank.
    """
    mean, sd, n = (np.asarray(values, float) for values in (mean, sd, n))
    result = pd.DataFrame(np.nan, index=range(len(mean)), columns=["rank", "rank_low", "rank_high"])
    measured = np.flatnonzero(~np.isnan(mean))
    a, b = (measured[half] for half in np.triu_indices(len(measured), 1))
    with np.errstate(all="ignore"):  # of groups without a spread
        found = stats.ttest_ind_from_stats(mean[a], sd[a], n[a], mean[b], sd[b], n[b], False)
    one_side = ((sd[a] == 0) | (sd[b] == 0)) & (n[a] != n[b])  # as in inference.difference
    p = np.where(one_side | ((sd[a] == 0) & (sd[b] == 0)), np.nan, found.pvalue)
    differ = holm(p) < ALPHA
    above, below = np.zeros(len(mean)), np.zeros(len(mean))
    upper, lower = np.where(mean[a] > mean[b], (a, b), (b, a))
    np.add.at(above, lower[differ], 1)
    np.add.at(below, upper[differ], 1)
    known = mean[measured]
    larger = known[None, :] - known[:, None] > ROUNDING * np.abs(known).max(initial=0.0)
    result.loc[measured, "rank"] = 1 + larger.sum(axis=1)
    result.loc[measured, "rank_low"] = 1 + above[measured]
    result.loc[measured, "rank_high"] = len(measured) - below[measured]
    return result
