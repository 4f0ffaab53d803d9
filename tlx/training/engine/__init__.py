"""The one LightningModule and what fits it, stage by stage."""
