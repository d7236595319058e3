-- Sessions with unfinished turns whose holder is gone, or that nobody holds.
--
-- KEYS: 1 ap:{p}:work   HASH <tenant>:<session id> = holder, or ""
--       2 ap:{p}:alive  HASH owner = until when its leases hold, in ms
-- ARGV: 1 how many
-- Answers: <tenant>:<session id> each
local LIMIT = tonumber(ARGV[1])
local work = call('HGETALL', KEYS[1])
if #work == 0 then
  return work
end
local alive, found = {}, {}
local owners = call('HGETALL', KEYS[2])
for i = 1, #owners, 2 do
  alive[owners[i]] = tonumber(owners[i + 1]) > now
end
for i = 1, #work, 2 do
  if #found < LIMIT and not alive[work[i + 1]] then
    found[#found + 1] = work[i]
  end
end
return found
