"""One module per topic; every public claim in them is found by `golden.claim.load_claims`."""
