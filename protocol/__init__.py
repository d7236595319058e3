"""The wire: frames and encoders without I/O, the server and its doors, the client."""
