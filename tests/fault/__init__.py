"""What happens when things break: real processes, a real Redis, real connections.

`replicas` starts servers on one store and kills them; `agents` is the agent that they serve, whose
inputs say what it does, and `runs` is where it notes that; `clients` talk to any of them, and keep
what they have `seen`; `audit` reads the store when all is over, and counts. A proxy and the Redis
servers are in `tests.support`.
"""
