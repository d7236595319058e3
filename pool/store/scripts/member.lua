-- A replica takes part, and says how it is; who has been gone for long is forgotten. Should Redis have
-- lost the name of the layout, it is named again: whoever starts next looks for it.
--
-- KEYS: 1 ap:replicas              HASH name = until when it takes part, in ms, a space, its status
--       2 ap:{ap:replicas}:layout  STRING the layout
-- ARGV: name, status, and so on
for i = 1, #ARGV, 2 do
  call('HSET', KEYS[1], ARGV[i], int(now + LEASE_MS) .. ' ' .. ARGV[i + 1])
end
call('SET', KEYS[2], STORE_LAYOUT, 'NX')
local all = call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if tonumber(string.match(all[i + 1], '^%d+')) < now - 10 * LEASE_MS then
    call('HDEL', KEYS[1], all[i])
  end
end
