"""What the agent needs beside the network: histories, action queues, compiled steps."""
