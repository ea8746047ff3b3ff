"""Putting the control plane into an AWS account, changing it there and taking it out again. Runs on laptops and in CI only.

`deployment` and `package` say what is wanted, `account` what an account can do (`aws` does it), `bootstrap` and `teardown`
say in which order. All state is the account's: one CloudFormation stack, and keys beside it.
"""
