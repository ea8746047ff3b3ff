"""Prices as the clouds publish them at this moment; one module a cloud, each gives a table for `judging`.

AWS is asked for machines, places and prices. Google's and Microsoft's price lists say nothing of sizes and zones: those are taken
from the former snapshot, so a machine type that is new there comes with the next release of Sailplane. Lambda publishes prices to
its customers only, and is not refreshed.
"""
