-- Who takes part now.
--
-- KEYS: 1 ap:replicas  HASH name = until when it takes part, in ms, a space, its status
-- Answers: name, status, and so on
local all, found = call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local till, status = string.match(all[i + 1], '^(%d+) (.*)$')
  if tonumber(till) > now then
    found[#found + 1] = all[i]
    found[#found + 1] = status
  end
end
return found
