-- What scripts that make a session have behind session.lua.

local INDEX, TENANTS = KEYS[10], KEYS[11]

-- A session without turns; what one of its name had that has expired goes.
local function make()
  local tenant, id = string.match(NAME, '^([^:]*):(.*)$')
  call('UNLINK', IDS, SAID, STATES, LOG, INBOX, WATCH)
  local newest = call('ZRANGE', INDEX, -1, -1, 'WITHSCORES')[2]
  call('ZADD', INDEX, math.max(now_us, (tonumber(newest) or 0) + 1), id)
  call('SADD', TENANTS, tenant)
  call('HSET', SESSION, 'c', int(now_us))
end

-- what it is then
local function nothing()
  return {
    accepted = 0, gone = 0, letters = 0, epoch = 0, end_epoch = 0, end_seq = 0, used = 0,
    kept = now_us, ttl = 0, held = 0, states = 0, watched = 0, besides = 0, owner = '', queue = '',
  }
end
