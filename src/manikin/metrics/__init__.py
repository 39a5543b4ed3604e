"""The judge: scores of synthetic data against held-out real data."""
