"""Training: the one LightningModule, stage by stage, with checkpoints and logs."""
