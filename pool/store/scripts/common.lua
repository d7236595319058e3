-- What every script begins with. The store writes a line with its limits above it:
-- LEASE_MS, SESSION_MS, EVENTS_MS, UPKEEP_MS (milliseconds), TURNS_MAX, ENTRIES_MAX, BATCHES_MAX,
-- DEAD_MAX (how many of each are kept), SESSION_TTL, LOG_TTL (of an idle session without a time to live
-- of its own: milliseconds as a text), PREFIX (of all keys and channels), STORE_LAYOUT (the layout of
-- all that is kept), AHEAD_US (by how many microseconds the clock is ahead of Redis's: 0, but in
-- tests).
--
-- The clock is Redis's own: no process has to be trusted with the time.

local call = redis.call
local clock = call('TIME')
local now_us = clock[1] * 1000000 + clock[2] + AHEAD_US
local now = math.floor(now_us / 1000)

-- joined to a text a large number would become 1.7e+12
local function int(number)
  return string.format('%d', number)
end
