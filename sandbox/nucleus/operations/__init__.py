"""The operations of Greengrass IPC: one module for each service of the nucleus."""
