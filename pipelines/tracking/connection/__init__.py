"""Reaching MLflow: opening a store, waiting for a server, the watchdog of a driver, addresses and views for people.

May import: engine's failures and interrupts.
May not import: the rest of tracking/, which says what is recorded.
"""
