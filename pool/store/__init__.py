"""Where sessions, turns, events and leases live: one contract (`base`), several stores."""
