"""The operations of Greengrass IPC, a module for each service of the nucleus."""
