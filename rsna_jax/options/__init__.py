"""The groups of config fields: each with its defaults and its checks.

`config` puts them together. A group is a module with `default()`, whose
comments document the fields, and `check(checks)`.
"""
