"""The offline verifier: policy, checks, verdict."""
