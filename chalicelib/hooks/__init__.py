"""Deploys from CI, the deciding part: whose word is it, what does it say, and what follows. No clock, no network, no store.

signatures   a delivery -> who it is from, or nothing
payloads     a delivery's body -> a push, or why it is none
following    a hook and what has become known -> the hook as it is to be written
pins         a repository's name and number -> whether it is the one that is meant
oidc         a CI job's identity token -> what it proves; which trusts cover that
"""
