"""Fused kernels: each file holds the plain torch reference and the public function, ``fused/`` the Triton code.

:mod:`photophone.kernels.dispatch` has the one rule that chooses between them.
"""
