-- What scripts that give a session to somebody have behind session.lua.

-- who holds the session, or ''
local function holder()
  return it.held == 1 and lives(it.owner) and it.owner or ''
end

-- `since`: an epoch from before may have been given by a server that has forgotten it
local function later_epoch(since)
  return math.max(it.epoch + 1, now, since)
end
