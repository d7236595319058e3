"""What a pool tells those who operate it: metrics, logs, and who blocks the loop. Each is
optional.
"""
