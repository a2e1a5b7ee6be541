"""Sums of updates of which nobody sees a single one (Bonawitz et al., 2017, https://doi.org/10.1145/3133956.3133982).

Pure: fixed-point numbers, masks and the sharing of secrets; no network, no files. Who says what to whom is in
:mod:`fedumm.federation.client.masking` and :mod:`fedumm.federation.server.masked_round`.
"""
