"""Receipts: a Merkle sum tree over the numbers of each engine boot and hour, and a log of roots.

``docs/check-your-receipt.md`` has the bytes of every record, and a program that checks them
without this package. The trees have the shape of RFC 6962, section 2.1.
"""
