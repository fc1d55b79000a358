"""What several tests need: small bundles, cases, ready-made requests."""
