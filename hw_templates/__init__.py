"""What it may run on: the `Accelerator` type and a YAML file per chip."""
