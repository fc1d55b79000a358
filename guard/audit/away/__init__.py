"""The log past one machine: a stream of its entries to a broker, a copy of it in a bucket.

Nothing here is on the way of a call, and nothing writes to the log: both read what is signed.
"""
