"""Synthetic CT angiographies of the head with a known ischemic core and a known pose.

Made from the ICBM 2009a brain template and from drawn anatomy: for the demonstration, for training the demonstration
network, for the self-test and for the tests. No patient stands behind them.
"""
