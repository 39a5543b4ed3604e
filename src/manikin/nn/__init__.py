"""The engine room: one training loop, objectives that know no modality, networks that know none."""
