"""The Triton code of the kernels, imported when a kernel is first launched: one file for each in the package above."""
