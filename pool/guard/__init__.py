"""Who may, how much, and at what cost: asked by the engine, whichever door a turn came by."""
