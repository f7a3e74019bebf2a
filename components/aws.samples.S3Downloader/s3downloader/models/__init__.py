"""The registry of the models on the device, and its named shadow."""
