-- An owner lives; who has been gone for long is forgotten.
--
-- KEYS: 1 ap:{p}:alive  HASH owner = until when its leases hold, in ms
-- ARGV: owners
for _, owner in ipairs(ARGV) do
  call('HSET', KEYS[1], owner, int(now + LEASE_MS))
end
local all = call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if tonumber(all[i + 1]) < now - 10 * LEASE_MS then
    call('HDEL', KEYS[1], all[i])
  end
end
