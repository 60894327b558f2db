"""The lab's glue: assembles kernels, boots them, runs and reports tests.

Everything here runs inside the lab root (see ci/lab/enter).
"""
